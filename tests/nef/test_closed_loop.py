"""Policies in the loop: the same city for all, what they see is true, what they come to is counted."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import city, closed_loop, services
from nef.simulator.closed_loop import STAY
from schemas.errors import QosError
from schemas.service_class import SERVICE_CLASSES, class_of_5qi

SECONDS = 120


def params(seed: int = 3) -> Any:
    return city.city_params(24, 3, SECONDS, seed=seed, mmtc_share=0.2)


def never(ues: int, cells: int) -> Any:
    return lambda choices: np.full(ues, STAY)


@pytest.fixture(scope="module")
def found() -> Any:
    makers = {
        "strongest": closed_loop.strongest, "a3": closed_loop.a3(2.5, 1),
        "stubborn": closed_loop.a3(6.0, 3), "never": never,
    }  # fmt: skip
    return closed_loop.compare(makers, [1, 2, 3], params, SECONDS)


def test_a3_as_a_policy_is_the_networks_own_a3(found: Any) -> None:
    for seed, outcome in zip((1, 2, 3), found["a3"], strict=True):
        events = [e for _, h in city.play(params(seed), SECONDS) for e in h.events]
        moves, returns = closed_loop.handovers_of(events)
        assert outcome.handovers_per_minute == moves / (24 * SECONDS / 60.0) > 0.0
        assert outcome.ping_pong_rate == pytest.approx(returns / moves)


def test_the_same_seed_is_the_same_run_and_all_policies_get_the_same_requests(found: Any) -> None:
    assert closed_loop.run(closed_loop.a3(2.5, 1), params(2), SECONDS) == found["a3"][1]
    for one, other in zip(found["a3"], found["never"], strict=True):
        assert one.requests == other.requests and sum(one.requests.values()) > 200


def test_who_moves_more_readily_moves_more(found: Any) -> None:
    moves = [
        np.mean([one.handovers_per_minute for one in found[name]])
        for name in ("never", "stubborn", "a3", "strongest")
    ]
    assert moves[0] == 0.0 and (np.diff(moves) > 0.0).all()
    returns = [
        np.mean([one.ping_pong_rate for one in found[name]])
        for name in ("stubborn", "a3", "strongest")
    ]
    assert (np.diff(returns) > 0.0).all()


def test_never_moving_costs_service(found: Any) -> None:
    told = closed_loop.summary(found)
    better, worse = (told[name]["all"]["qos_satisfaction"] for name in ("a3", "never"))
    assert better > worse and told["never"]["outage"] > told["a3"]["outage"]


def test_what_a_policy_is_told_is_true() -> None:
    seen = []
    last: Any = {}

    def maker(ues: int, cells: int) -> Any:
        rule = closed_loop.a3(2.5, 1)(ues, cells)

        def policy(choices: Any) -> Any:
            seen.append(choices)
            return rule(choices)

        return policy

    closed_loop.run(maker, params(), SECONDS, candidates=4)
    assert [one.tick for one in seen] == list(range(SECONDS))
    asked = [one.asked for one in city.stretches(params(), SECONDS)]
    wishes = {
        (int(tick), int(ue)): mbps
        for part in asked
        for tick, ue, mbps in zip(part.tick, part.session, part.mbps, strict=True)
    }
    for one in seen:
        served = one.serving != closed_loop.NOBODY
        assert one.cell.shape == one.rsrp_dbm.shape == (24, 4)
        assert (one.cell == one.serving[:, None]).any(axis=1)[served].all()
        known = one.cell != closed_loop.NOBODY
        assert (np.isnan(one.rsrp_dbm) == ~known).all()
        assert (one.prb_used_ratio[known] <= 1.0).all() and (one.active_ue_count[known] >= 0).all()
        rows, places = np.nonzero(known)
        assert np.array_equal(
            one.rsrp_dbm[rows, places], one.measured_dbm[rows, one.cell[rows, places]]
        )
        best = one.measured_dbm.argmax(axis=1)
        assert np.array_equal(one.cell[served, 0], best[served])
        assert np.isnan(one.sinr_db[~served]).all()
        for ue in range(24):
            last[ue] = wishes.get((one.tick, ue), last.get(ue, 0.0))
            assert one.requested_downlink_mbps[ue] == last[ue]
    for before, after in itertools.pairwise(seen):
        same = before.serving == after.serving
        assert (after.since_s == np.where(same, before.since_s + 1, 0)).all()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            lambda n: np.full(n, 9),
            r"the policy answers 9 at second 0; asked for is a cell 0..8",
        ),
        (lambda n: np.full(n, -2), r"answers -2"),
        (lambda n: np.full(3, 0), r"answers an array of \(3,\)"),
    ],
)
def test_an_answer_that_names_no_cell_is_refused(answer: Any, says: str) -> None:
    with pytest.raises(QosError, match=says):
        closed_loop.run(lambda ues, cells: lambda _: answer(ues), params(), SECONDS)


def test_a_run_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(QosError, match=r"closed_loop.seconds: 10, must be above 10"):
        closed_loop.run(never, params(), 10)


def obvious_returns(moves: Any) -> Any:
    """Every handover against every earlier one of the same UE: two loops."""
    returns = 0
    for number, (tick, ue, _, target) in enumerate(moves):
        earlier = [one for one in moves[:number] if one[1] == ue]
        if earlier and earlier[-1][2] == target and tick - earlier[-1][0] <= 5:
            returns += 1
    return len(moves), returns


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 3)), max_size=40))
@settings(max_examples=80, deadline=None)
def test_ping_pongs_are_counted_as_two_loops_do(steps: Any) -> None:
    at, tick, moves, events = {0: 0, 1: 0, 2: 0}, 0, [], []
    for gap, ue, by in steps:
        tick += gap
        target = (at[ue] + by) % 4
        moves.append((tick, ue, at[ue], target))
        events.append((tick, "nr_handover", *(np.array([v]) for v in (ue, at[ue], target))))
        events.append((tick, "cell_change", *(np.array([v]) for v in (ue, target, at[ue]))))
        at[ue] = target
    assert closed_loop.handovers_of(events) == obvious_returns(moves)  # type: ignore[arg-type]


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_requests_are_met_as_one_loop_says(seed: int) -> None:
    random = np.random.default_rng(seed)
    profile = random.integers(0, len(services.PROFILES), 4)
    mbps, loss = random.uniform(0.0, 6.0, (40, 4)), random.uniform(0.0, 0.02, (40, 4))
    delay = random.uniform(0.0, 200.0, (40, 4))
    asked = services.Requests(
        random.integers(0, 4, 30), random.integers(0, 40, 30), np.zeros(30),
        random.uniform(0.0, 4.0, 30),
    )  # fmt: skip
    met, five_qi = closed_loop.requests_met(asked, profile, mbps, delay, loss)
    expected = []
    for ue, tick, _, wish in zip(asked.session, asked.tick, asked.after_s, asked.mbps, strict=True):
        if tick + 10 >= 40:
            continue
        window = slice(tick + 1, tick + 11)
        qi, budget, most = (part[0] for part in closed_loop.promised(profile[[ue]]))
        good = mbps[window, ue].mean() >= wish and delay[window, ue].mean() <= budget
        expected.append((bool(good and loss[window, ue].mean() <= most), int(qi)))
    assert list(zip(met.tolist(), five_qi.tolist(), strict=True)) == expected


def test_the_summary_has_an_interval_for_each_class_and_the_seeds(found: Any) -> None:
    told = closed_loop.summary(found)["a3"]
    assert {"urllc", "embb", "mmtc", "default", "all"} < set(told)
    for name in ("embb", "mmtc", "default", "all"):
        one: Any = told[name]
        assert 0.0 <= one["low"] <= one["qos_satisfaction"] <= one["high"] <= 1.0
    assert told["seeds"] == 3 and 0.0 <= told["ping_pong_rate"] <= 1.0  # type: ignore[operator]
    more = closed_loop.difference(found, "strongest", "a3")
    assert more["handovers_per_minute"]["low"] > 0.0
    assert closed_loop.difference(found, "a3", "a3")["qos_satisfaction"]["high"] == 0.0


def test_the_interval_is_students() -> None:
    assert closed_loop.interval([1.0, 2.0, 3.0]) == {
        "qos_satisfaction": 2.0, "low": round(2.0 - 4.302653 / 3**0.5, 5),
        "high": round(2.0 + 4.302653 / 3**0.5, 5),
    }  # fmt: skip
    assert closed_loop.interval([0.4]) == {"qos_satisfaction": 0.4, "low": 0.4, "high": 0.4}


def test_tuning_finds_a_rule_of_the_grid_that_beats_a_bad_one() -> None:
    best = closed_loop.tuned_a3([1], params, 60, hysteresis_db=(2.0, 30.0), time_to_trigger_s=(1,))
    assert best == (2.0, 1)


def test_every_application_has_a_service_class() -> None:
    assert set(closed_loop.CLASS_OF_5QI) == {one.five_qi for one in services.PROFILES}
    for name, one in SERVICE_CLASSES.items():
        assert closed_loop.CLASS_OF_5QI[one.five_qi] == class_of_5qi(one.five_qi) == name
    assert [class_of_5qi(value) for value in (1, 2, 7)] == ["default", "embb", "embb"]
    with pytest.raises(QosError, match="unknown 5QI 999; known: 1"):
        class_of_5qi(999)
