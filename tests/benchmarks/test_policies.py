"""The comparison of policies: no look-ahead, seeds kept apart, and a verdict that tells the truth."""

import io
import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks import policies
from benchmarks.forecast_policy import Reports, forecasting, reporting
from benchmarks.selector_policy import Lately, Log, Rules, exploring, pairs_of, selecting
from models.selector import FEATURES, features
from nef.simulator import closed_loop
from nef.simulator.closed_loop import NOBODY
from schemas.errors import QosError

TINY = policies.Size(ues=12, sites=3, seconds=60, learn=4, tune=1, seeds=2)


@pytest.fixture(scope="module")
def found() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policies, "HYSTERESIS_DB", (1.0, 3.0))
        patch.setattr(policies, "TIME_TO_TRIGGER_S", (0,))
        patch.setattr(policies, "MARGINS", ((0.02, 0.1, 0.0),))
        patch.setattr(policies, "EXPECTED_DB", (2.0,))
        return policies.measure(TINY, Progress(disable=True))


def test_the_result_has_every_policy_with_intervals_and_rates(found: Any) -> None:
    names = policies.policies_in(found)
    assert set(names) == {
        "strongest", "a3", "tuned_a3", "forecast_a3", "selector", "selector_gated"
    }  # fmt: skip
    for name in names:
        for kind in ("default", "all"):
            one = found[name][kind]
            assert 0.0 <= one["low"] <= one["qos_satisfaction"] <= one["high"] <= 1.0
        assert found[name]["seeds"] == 2
        assert 0.0 <= found[name]["ping_pong_rate"] <= 1.0 and 0.0 <= found[name]["outage"] <= 1.0
    more = (
        found["selector"]["all"]["qos_satisfaction"] - found["tuned_a3"]["all"]["qos_satisfaction"]
    )
    assert found["difference"]["qos_satisfaction"]["mean"] == pytest.approx(more, abs=3e-5)
    assert 0.0 <= found["calibration"]["expected_calibration_error"] <= 1.0
    json.dumps(found, allow_nan=False)


def test_it_is_shown_and_drawn(found: Any, tmp_path: Any) -> None:
    written = io.StringIO()
    policies.show(found, Console(file=written, width=80))
    assert max(map(len, written.getvalue().splitlines())) <= 80
    assert "…" not in written.getvalue()
    assert all(name in written.getvalue() for name in policies.policies_in(found))
    assert policies.plot(found, tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_no_seed_is_compared_on_that_was_learned_or_tuned_on() -> None:
    size = policies.Size()
    ranges = [
        range(policies.LEARN_FROM, policies.LEARN_FROM + size.learn),
        range(policies.TUNE_FROM, policies.TUNE_FROM + size.tune),
        range(policies.ECE_FROM, policies.ECE_FROM + 1),
        range(policies.TEST_FROM, policies.TEST_FROM + size.seeds),
    ]
    every = [seed for one in ranges for seed in one]
    assert len(every) == len(set(every)) and size.seeds >= 20


@pytest.mark.parametrize(
    ("low", "high", "swings", "says"),
    [
        (0.01, 0.03, -0.1, "meets more requests than tuned A3, without more ping-pong"),
        (0.01, 0.03, 0.1, "meets more requests than tuned A3, with more ping-pong"),
        (-0.03, -0.01, 0.0, "meets FEWER requests than tuned A3, without"),
        (-0.01, 0.01, 0.0, "cannot be told apart"),
    ],
)
def test_the_verdict_is_plain(low: float, high: float, swings: float, says: str) -> None:
    swing = {"mean": swings, "low": swings, "high": swings}
    more = {"mean": (low + high) / 2, "low": low, "high": high}
    assert says in policies.verdict({"qos_satisfaction": more, "ping_pong_rate": swing})


def test_one_seed_has_no_interval() -> None:
    with pytest.raises(QosError, match="at least 2"):
        policies.measure(policies.Size(seeds=1), Progress(disable=True))


class Coin:
    """Stands for a selector: a probability of each pair from what is known of it."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def probability(self, matrix: Any) -> Any:
        return self.of({name: matrix[:, number] for number, name in enumerate(FEATURES)})


def outcome(of: Any, rules: Rules) -> Any:
    return closed_loop.run(selecting(Coin(of), rules), TINY.params(7), TINY.seconds)  # type: ignore[arg-type]


def test_a_gated_selector_without_a_preference_is_event_a3() -> None:
    same = outcome(lambda c: np.full(c["rsrp_dbm"].size, 0.4), Rules(confident=True))
    rule = closed_loop.run(closed_loop.a3(1.0, 0), TINY.params(7), TINY.seconds)
    assert same == rule and rule.handovers_per_minute > 0.0


def test_a_selector_goes_where_it_is_sure_and_no_further() -> None:
    def keen(c: Any) -> Any:
        return np.where(c["clear_db"] > 0, 0.97, 0.2)

    def content(c: Any) -> Any:
        return np.where(c["serving"] > 0, 0.97, 0.2)

    free, gated = outcome(keen, Rules()), outcome(keen, Rules(confident=True))
    stays = outcome(content, Rules())
    assert free.handovers_per_minute > stays.handovers_per_minute
    assert gated.handovers_per_minute > stays.handovers_per_minute
    best = closed_loop.run(closed_loop.strongest, TINY.params(7), TINY.seconds)
    assert free.handovers_per_minute == best.handovers_per_minute


def test_going_back_at_once_takes_more_than_going() -> None:
    def keen(c: Any) -> Any:
        return np.where(c["clear_db"] > 0, 0.5, 0.4)

    easy = outcome(keen, Rules(margin=0.05, return_margin=0.05))
    hard = outcome(keen, Rules(margin=0.05, return_margin=0.2))
    assert easy.ping_pong_rate > hard.ping_pong_rate
    assert easy.handovers_per_minute > hard.handovers_per_minute


def test_the_best_is_of_those_that_swing_no_more() -> None:
    def one(met: float, swings: float) -> Any:
        return [closed_loop.Outcome({"embb": met}, {"embb": 10}, 1.0, swings, 0.0, 0)]

    found = {"calm": one(0.5, 0.1), "keen": one(0.6, 0.4), "poor": one(0.4, 0.0)}
    assert policies.best_of(found) == "keen"
    assert policies.best_of(found, 0.2) == "calm"
    assert policies.best_of({"keen": found["keen"]}, 0.2) == "keen"


def test_what_is_seen_at_a_decision_does_not_depend_on_what_comes_after() -> None:
    def seen(seconds: int) -> Any:
        matrices: list[Any] = []

        def maker(ues: int, cells: int) -> Any:
            lately, rule = Lately(), closed_loop.a3(2.0, 0)(ues, cells)

            def policy(choices: Any) -> Any:
                lately.see(choices)
                pairs, ue, place = pairs_of(choices, lately)
                matrices.append(features(pairs))
                assert (choices.serving[ue] != NOBODY).all()
                assert ((choices.cell[ue, place] == choices.serving[ue]) == pairs.serving).all()
                assert np.array_equal(pairs.rsrp_dbm, choices.rsrp_dbm[ue, place])
                return rule(choices)

            return policy

        closed_loop.run(maker, TINY.params(3), seconds)
        return matrices

    short, long = seen(32), seen(60)
    for one, other in zip(short, long, strict=False):
        assert np.array_equal(one, other, equal_nan=True)


def test_labels_are_of_the_seconds_after_the_decision_as_one_loop_says() -> None:
    log, seconds = Log(), 2 * TINY.seconds
    closed_loop.run(exploring(closed_loop.a3(2.0, 0), log, 5), TINY.params(5), seconds)
    matrix, met = log.learned()
    expected = []
    for ues, ticks, asked in zip(log.ue, log.tick, log.asked, strict=True):
        for place, (ue, tick) in enumerate(zip(ues, ticks, strict=True)):
            after = [log.given[tick + 1 + k] for k in range(log.horizon_s)
                     if tick + 1 + k < seconds]  # fmt: skip
            if len(after) < log.horizon_s:
                continue
            mean = [np.mean([one[part][ue] for one in after]) for part in range(3)]
            expected.append(
                mean[0] >= asked[0][place] and mean[1] <= asked[1][place]
                and mean[2] <= asked[2][place]
            )  # fmt: skip
    assert met.tolist() == [int(one) for one in expected]
    assert len(matrix) == len(met) > 40
    assert 0.2 < (matrix[:, FEATURES.index("serving")] == 1.0).mean() < 0.9


def test_the_forecast_learns_from_the_seconds_after_as_one_loop_says() -> None:
    reports = Reports(4)
    closed_loop.run(reporting(closed_loop.a3(2.0, 0), reports), TINY.params(4), TINY.seconds)
    matrix, change = reports.learned(3)
    levels, expected = reports.measured_dbm, []
    for ticks, ues, cells in reports.places:
        for tick, ue, cell in zip(ticks, ues, cells, strict=True):
            if tick + 3 < TINY.seconds:
                after = np.mean([levels[tick + one][ue, cell] for one in (1, 2, 3)])
                expected.append(after - levels[tick][ue, cell])
    assert np.allclose(change, expected, atol=1e-3)
    assert len(matrix) == len(change) > 200


class Same:
    """Stands for a forecast that expects no change, or the same one of every cell."""

    def __init__(self, change_db: float) -> None:
        self.change = change_db

    def change_db(self, matrix: Any) -> Any:
        return np.full(len(matrix), self.change)


def test_a_forecast_of_no_change_is_event_a3() -> None:
    rule = closed_loop.run(closed_loop.a3(1.0, 0), TINY.params(7), TINY.seconds)
    same = closed_loop.run(
        forecasting(Same(0.0), 1.0), TINY.params(7), TINY.seconds  # type: ignore[arg-type]
    )  # fmt: skip
    assert same == rule and rule.handovers_per_minute > 0.0


def test_reports_are_written_down_without_a_change_of_what_happens() -> None:
    base = closed_loop.a3(1.0, 0)
    watched = closed_loop.run(reporting(base, Reports(1)), TINY.params(7), TINY.seconds)
    assert watched == closed_loop.run(base, TINY.params(7), TINY.seconds)


class Amplified(Same):
    """Expects each level to rise by half its height above -140 dBm."""

    def change_db(self, matrix: Any) -> Any:
        return 0.5 * (matrix[:, 0] + 140.0)


def test_amplified_levels_with_an_amplified_hysteresis_are_event_a3() -> None:
    rule = closed_loop.run(closed_loop.a3(2.0, 0), TINY.params(7), TINY.seconds)
    louder = forecasting(Amplified(0.0), 3.0)  # type: ignore[arg-type]
    assert closed_loop.run(louder, TINY.params(7), TINY.seconds) == rule
    other = forecasting(Amplified(0.0), 2.0)  # type: ignore[arg-type]
    assert closed_loop.run(other, TINY.params(7), TINY.seconds) != rule
