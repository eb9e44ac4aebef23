"""What other cells would have given: the chosen one gives what was given, draw by draw."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import SimulatorParams, campaign, counterfactual, handover, network, trace
from schemas.errors import QosError

SMALL = SimulatorParams(ues=8, concurrent=4, sessions=2, minutes=5, spread_hours=6)
VALUES = ["downlink_mbps", "downlink_delay_ms", "packet_loss_ratio"]


@pytest.fixture(scope="module")
def stage() -> Any:
    return campaign.world(SMALL)


@pytest.fixture(scope="module")
def happened(stage: Any) -> Any:
    return campaign.play(stage)


def everybody(stage: Any, every: int) -> Any:
    """Decisions of all sessions every so many seconds."""
    tick, session = np.meshgrid(
        np.arange(0, SMALL.wave_ticks, every), np.arange(stage.sessions.wave.size)
    )
    return counterfactual.Decisions(tick.ravel(), session.ravel())


def as_happened(stage: Any, happened: Any, rows: pl.DataFrame, horizon: int) -> Any:
    """Means of the real run after each decision, and whether the UE was then handed over."""
    where = {name: number for number, name in enumerate(stage.names.session_id)}
    found, moved = [], []
    for session_id, when in rows.select("session_id", "event_timestamp").iter_rows():
        session = where[session_id]
        start = stage.names.wave_us[stage.sessions.wave[session]] + stage.names.phase_us[session]
        tick = (round(when.timestamp() * 1e6) - start) // 1_000_000
        end = min(tick + horizon, stage.sessions.last[session] - 1)
        parts = (happened.downlink_mbps, happened.downlink_delay_ms, happened.loss)
        found.append([part[tick + 1 : end + 1, session].mean() for part in parts])
        moved.append(np.ptp(happened.serving[tick + 1 : end + 1, session]) > 0)
    return np.array(found), np.array(moved)


@pytest.mark.parametrize("horizon", [1, 10])
def test_the_chosen_cell_gives_what_was_given(stage: Any, happened: Any, horizon: int) -> None:
    rows = counterfactual.outcomes(
        stage, everybody(stage, 7), candidates=3, horizon_s=horizon, hold=False
    )
    chosen = rows.filter("chosen")
    assert chosen.height > 300
    assert rows.group_by("session_id", "event_timestamp").agg(pl.col("chosen").sum())[
        "chosen"
    ].to_list() == [1] * chosen.height  # fmt: skip
    expected, moved = as_happened(stage, happened, chosen, horizon)
    assert chosen.select(VALUES).to_numpy() == pytest.approx(expected, rel=1e-12)
    held = counterfactual.outcomes(stage, everybody(stage, 7), candidates=3, horizon_s=horizon)
    stayed = held.filter("chosen").filter(pl.Series(~moved)).select(VALUES).to_numpy()
    assert stayed == pytest.approx(expected[~moved], rel=1e-12)
    assert moved.any() == (horizon > 1)


def replayed(stage: Any, at: int, who: int, cell: int) -> Any:
    """The whole campaign once more, all waves, one UE sent to a cell after one second: plain loops."""
    draws = []
    quantiles = np.random.default_rng(SMALL.seed)

    def keep(seen: Any, state: Any, targets: Any, drawn: Any) -> None:
        draws.append(drawn.again(quantiles.random(state.rate.size)))

    campaign.play(stage, watch=keep)
    sessions, count = stage.sessions, stage.sessions.wave.size
    senders = network.Senders.of(sessions.wave, sessions.profile)
    state = network.State.fresh(count, SMALL.waves, stage.topology.cells)
    rule = handover.A3.fresh(
        count, stage.topology.cells, SMALL.hysteresis_db, SMALL.time_to_trigger_s
    )
    given = []
    for tick in range(at + 12):
        now = trace.at(tick, stage.air, stage.background, stage.offered_mbps)
        begins, ends = sessions.first == tick, sessions.last == tick
        handover.attach(state.attached, tick, now.measured_dbm, begins, ends)
        active = (sessions.first <= tick) & (tick < sessions.last)
        given.append(
            network.second(state, senders, now, begins, active, stage.air.prbs, SMALL, draws[tick])
        )
        state.attached.serving[sessions.last == tick + 1] = handover.NOBODY
        targets = rule.targets(state.attached.serving, now.measured_dbm)
        if tick >= at:
            targets[who] = cell if tick == at else handover.STAY
        handover.move(state.attached, tick, targets, given[-1].sinr_db, draws[tick].accesses())
    return given[at + 1 : at + 11]


@given(st.data())
@settings(max_examples=3, deadline=None)
def test_another_cell_gives_what_a_whole_campaign_with_it_gives(stage: Any, data: Any) -> None:
    who = data.draw(st.integers(0, stage.sessions.wave.size - 1))
    first, last = stage.sessions.first[who], stage.sessions.last[who]
    at = data.draw(st.integers(int(first), int(last) - 12))
    decision = counterfactual.Decisions(np.array([at]), np.array([who]))
    rows = counterfactual.outcomes(stage, decision, candidates=2)
    for row in rows.iter_rows(named=True):
        given = replayed(stage, at, who, stage.topology.cell_ids.index(row["cell_id"]))
        assert row["seconds"] == 10
        for column, name in zip(
            VALUES, ("downlink_mbps", "downlink_delay_ms", "loss"), strict=True
        ):
            mean = np.mean([getattr(one, name)[who] for one in given])
            assert row[column] == pytest.approx(mean, rel=1e-9)


def test_decisions_need_a_cell_and_a_next_second(stage: Any) -> None:
    last, first = stage.sessions.last[0] - 1, stage.sessions.first[0]
    rows = counterfactual.outcomes(
        stage, counterfactual.Decisions(np.array([first - 1, last, last - 4]), np.zeros(3, int))
    )
    assert set(rows["seconds"]) == {4} and rows["event_timestamp"].n_unique() == 1


def test_the_cell_that_the_rule_keeps_is_mostly_the_best(stage: Any) -> None:
    rows = counterfactual.outcomes(stage, counterfactual.at_requests(stage))
    mean = rows.group_by("rank").agg(pl.col("downlink_mbps").mean()).sort("rank")["downlink_mbps"]
    assert mean[0] > 1.5 * mean[1]
    best = rows.group_by("session_id", "event_timestamp").agg(
        pl.col("chosen").get(pl.col("packet_loss_ratio").arg_min())
    )
    assert 0.5 < best["chosen"].mean() < 0.98  # type: ignore[operator]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"horizon_s": 0}, "horizon_s: 0, must be at least 1"),
        ({"candidates": 1}, "candidates: 1, must be at least 2"),
    ],
)
def test_a_question_without_an_answer_is_refused(stage: Any, wrong: Any, says: str) -> None:
    with pytest.raises(QosError, match=says):
        counterfactual.outcomes(stage, counterfactual.at_requests(stage), **wrong)
