"""Each task on rows written by hand, against loops on random ones, and what may see the future."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.label import Params, label
from pipelines.tasks import (
    COLUMNS,
    TASKS,
    Handover,
    Labelled,
    LatencyLoss,
    QosMet,
    Throughput,
)  # fmt: skip
from schemas.errors import QosError
from schemas.tables import EVENT_KINDS, TABLES, dtypes
from tests.pipelines import label_oracle

START = datetime(2024, 3, 1, tzinfo=UTC)
Row = dict[str, Any]
PARAMS = {
    "throughput": Throughput(), "handover": Handover(), "latency_loss": LatencyLoss(),
    "qos_met": QosMet(),
}  # fmt: skip
WHY = "future not whole or not measured"


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def row(second: float, late: float = 0.0, **columns: Any) -> Row:
    plain = {"ue_id": "a", "session_id": "s", "five_qi": 9}
    times = {"event_timestamp": at(second), "arrival_timestamp": at(second + late)}
    return plain | times | columns


def tables(**rows: Sequence[Row]) -> dict[str, pl.DataFrame]:
    """All canonical tables, those not named empty."""
    return {
        name: pl.DataFrame(
            [{k: v for k, v in r.items() if k in dtypes(name)} for r in rows.get(name, ())],
            schema=dtypes(name),
        )
        for name in TABLES
    }


def flow(column: str, values: dict[int, float | None], **columns: Any) -> list[Row]:
    return [row(second, **{column: value}, **columns) for second, value in values.items()]


def labels(found: Labelled) -> dict[float, int]:
    """Second of the decision to label."""
    rows = found.rows.select("event_timestamp", "label").iter_rows()
    return {(time - START).total_seconds(): value for time, value in rows}


CAPACITY = "downlink_capacity_mbps"
RATE = Throughput(requested_downlink_mbps=10.0, horizon_s=4)


def test_throughput_is_the_mean_of_the_seconds_ahead_against_what_is_asked() -> None:
    rates = dict(enumerate([99, 8, 9, 11, 12, 0, 0, 0]))
    found = TASKS["throughput"](tables(ue_flow=flow(CAPACITY, rates)), RATE)
    assert labels(found) == {0: 1, 1: 0, 2: 0, 3: 0}  # at 0 s: (8 + 9 + 11 + 12) / 4 is just 10
    assert found.rows["label_value"].to_list() == [10.0, 8.0, 5.75, 3.0]
    assert found.rows["persistence_value"].to_list() == [99, 53.5, 116 / 3, 127 / 4]
    assert found.left_out == {WHY: 4}
    assert found.rows["label_until"].to_list() == [at(s) for s in (4, 5, 6, 7)]


def test_throughput_takes_no_second_in_which_the_application_was_the_limit() -> None:
    rows = flow(CAPACITY, {0: 20, 1: 20, 2: None, 3: None, 4: 20, 5: None, 6: None, 7: None, 8: 1})
    for r in rows:
        r["downlink_mbps"] = 0.1
    found = TASKS["throughput"](tables(ue_flow=rows), RATE)
    # Decisions are at 0, 1, 4 and 8 s; from 1 s on fewer than half of the seconds are measured.
    assert labels(found) == {0: 1} and found.left_out == {WHY: 3}
    assert found.rows["label_value"].to_list() == [20.0]


def test_a_second_ahead_counts_up_to_the_horizon_and_the_decisions_own_does_not() -> None:
    rates = dict(enumerate([0.0] * 10)) | {5: 1000.0}
    found = TASKS["throughput"](tables(ue_flow=flow(CAPACITY, rates)), RATE)
    assert labels(found) == {0: 0, 1: 1, 2: 1, 3: 1, 4: 1, 5: 0}


def radio(seconds: range, **columns: Any) -> list[Row]:
    return [row(second, **columns) for second in seconds]


EACH_SECOND = Handover(horizon_s=3, stride_s=1)


def test_a_handover_counts_from_after_the_decision_to_the_horizon_and_no_further() -> None:
    events = [row(5, kind="nr_handover", ordinal=0)]
    found = TASKS["handover"](tables(ue_radio=radio(range(11)), network_event=events), EACH_SECOND)
    assert labels(found) == {0: 0, 1: 0, 2: 1, 3: 1, 4: 1, 5: 0, 6: 0, 7: 0}
    assert found.left_out == {WHY: 3}  # 8, 9 and 10 s: the session ends at 10 s
    assert found.rows["persistence_score"].to_list() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert found.rows["five_qi"].unique().to_list() == [9]


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_only_handovers_are_handovers(kind: str) -> None:
    events = [row(5, kind=kind, ordinal=0), row(50, kind="nr_handover", ordinal=0, ue_id="z")]
    found = TASKS["handover"](tables(ue_radio=radio(range(11)), network_event=events), EACH_SECOND)
    assert (4 in labels(found)) and labels(found)[4] == ("failure" not in kind)


def test_a_late_decision_asks_for_seconds_after_its_own_time() -> None:
    """A row known 1 s late decides 1 s later: what happened in between is no future."""
    events = [row(5, kind="nr_handover", ordinal=0)]
    rows = [row(second, late=1.0) for second in range(11)]
    found = TASKS["handover"](tables(ue_radio=rows, network_event=events), EACH_SECOND)
    assert {s for s, value in labels(found).items() if value} == {2, 3, 4}
    assert min(labels(found)) == 1 and max(labels(found)) == 7


@pytest.mark.parametrize("task", ["throughput", "handover", "latency_loss"])
def test_the_end_of_a_session_is_no_quiet_future_even_if_the_ue_comes_again(task: str) -> None:
    columns = {CAPACITY: 20.0, "downlink_delay_ms": 5.0}
    first = [row(s, **columns) for s in range(15)]
    second = [row(s, session_id="t", **columns) for s in range(100, 115)]
    given_tables = tables(
        ue_radio=first + second,
        ue_flow=first + second,
        network_event=[row(101, kind="nr_handover", ordinal=0, session_id="t")],
    )
    horizon = PARAMS[task].horizon_s
    found = TASKS[task](given_tables, PARAMS[task])
    assert max(s for s in labels(found) if s < 50) <= 14 - horizon
    assert found.rows["event_timestamp"].max() <= at(114 - horizon)  # type: ignore[operator]


def test_sessions_and_ues_do_not_bleed_into_each_other() -> None:
    """Three quiet recordings side by side with a stormy one of another UE, session or flow."""
    quiet = {"downlink_delay_ms": 5.0, CAPACITY: 50.0}
    storm = {"downlink_delay_ms": 500.0, CAPACITY: 0.0}
    rows = [row(s, **quiet) for s in range(30)]
    rows += [row(s, **storm, ue_id="b", session_id="t") for s in range(30)]
    rows += [row(s, **storm, five_qi=1) for s in range(30)]
    rows += [row(s, **storm, session_id="u") for s in range(30, 60)]
    events = [row(s, kind="nr_handover", ordinal=0, ue_id="b", session_id="t") for s in range(30)]
    given_tables = tables(ue_flow=rows, ue_radio=rows, network_event=events)
    mine = (pl.col("ue_id") == "a") & (pl.col("session_id") == "s")
    for task, wanted in (("throughput", 1), ("latency_loss", 0)):
        found = TASKS[task](given_tables, PARAMS[task]).rows.filter(mine & (pl.col("five_qi") == 9))
        assert found["label"].unique().to_list() == [wanted], task
    found = TASKS["handover"](given_tables, PARAMS["handover"]).rows
    assert found.filter(mine)["label"].sum() == 0 and found.filter(~mine)["label"].sum() > 0


def test_latency_loss_is_one_lost_or_late_packet_among_the_seconds_ahead() -> None:
    params = LatencyLoss(delay_ms=100.0, horizon_s=3, stride_s=1)
    rows = [row(s, downlink_delay_ms=20.0, downlink_lost_packets=0.0) for s in range(13)]
    rows[4]["downlink_delay_ms"] = 100.0  # just what is allowed
    rows[8]["uplink_delay_ms"] = 100.1
    rows[11] |= {"downlink_lost_packets": 1.0}
    found = TASKS["latency_loss"](tables(ue_flow=rows), params)
    assert labels(found) == dict(enumerate([0, 0, 0, 0, 0, 1, 1, 1, 1, 1]))
    assert found.rows["label_value"].to_list() == [20, 100, 100, 100, 20, *[100.1] * 3, 20, 20]
    assert found.left_out == {WHY: 3}


def test_latency_loss_is_not_guessed_where_a_second_is_missing() -> None:
    params = LatencyLoss(horizon_s=3, stride_s=1)
    rows = [row(s, downlink_delay_ms=20.0, downlink_lost_packets=0.0) for s in range(10) if s != 5]
    found = TASKS["latency_loss"](tables(ue_flow=rows), params)
    assert sorted(labels(found)) == [0, 1, 6]


ASKED = {"ue_id": "a", "request_id": "r", "requested_downlink_mbps": 10.0}


@pytest.mark.parametrize(
    ("asked", "met"),
    [
        ({}, 1),
        ({"requested_downlink_mbps": 12.0}, 1),  # the mean is 12
        ({"requested_downlink_mbps": 12.1}, 0),
        ({"requested_delay_ms": 30.0}, 1),
        ({"requested_delay_ms": 29.9}, 0),
        ({"requested_loss_ratio": 0.1}, 1),  # 0.4 in one of four seconds
        ({"requested_loss_ratio": 0.09}, 0),
        ({"requested_downlink_mbps": None, "requested_delay_ms": 30.0}, 1),
    ],
)
def test_a_request_is_met_if_all_that_it_asks_is_kept(asked: Row, met: int) -> None:
    rows = [row(s, downlink_mbps=12.0, downlink_delay_ms=30.0, packet_loss_ratio=0.0)
            for s in range(12)]  # fmt: skip
    rows[6]["packet_loss_ratio"] = 0.4
    requests = [row(4, **(ASKED | asked))]
    found = TASKS["qos_met"](tables(ue_flow=rows, qos_request=requests), QosMet(horizon_s=4))
    assert labels(found) == {4: met}
    assert found.rows["label_value"].to_list() == [12.0]


def test_a_request_for_what_was_not_measured_has_no_label_and_is_counted() -> None:
    rows = [row(s, downlink_mbps=12.0) for s in range(12)]
    requests = [row(4, **ASKED), row(5, **ASKED | {"requested_delay_ms": 30.0}), row(9, **ASKED)]
    found = TASKS["qos_met"](tables(ue_flow=rows, qos_request=requests), QosMet(horizon_s=4))
    assert labels(found) == {4: 1} and found.left_out == {WHY: 2}


def _random_tables(seed: int) -> dict[str, pl.DataFrame]:
    random = np.random.default_rng(seed)

    def maybe(value: float) -> float | None:
        return None if random.random() < 0.2 else round(value, 2)

    rows, events, requests = [], [], []
    for ue, session, start in (("a", "s", 0), ("a", "t", 15.25), ("b", "u", 3)):
        for second in (start + np.arange(random.integers(4, 24))).tolist():
            plain = {"ue_id": ue, "session_id": session, "five_qi": int(random.choice([1, 9]))}
            late = float(random.choice([0, 0, 0, 0.5, 6]))
            if random.random() < 0.9:
                rows.append(row(
                    second, late, **plain, downlink_mbps=maybe(random.uniform(0, 20)),
                    downlink_capacity_mbps=maybe(random.uniform(0, 20)),
                    downlink_delay_ms=maybe(random.uniform(0, 110)),
                    uplink_delay_ms=maybe(random.uniform(0, 101)),
                    downlink_lost_packets=maybe(float(random.integers(0, 10) == 9)),
                    packet_loss_ratio=maybe(random.uniform(0, 0.01)),
                ))  # fmt: skip
            if random.random() < 0.2:
                kind = str(random.choice(EVENT_KINDS))
                events.append(row(second, late, **plain, kind=kind, ordinal=0))
            if random.random() < 0.3:
                asked = {
                    n: maybe(random.uniform(0, high)) for n, high in label_oracle.ASKED.items()
                }
                requests.append(row(second, 0.1, **plain, request_id=f"{ue}{second}", **asked))
    return tables(ue_flow=rows, ue_radio=rows, network_event=events, qos_request=requests)


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_each_task_is_what_loops_over_the_rows_say(task: str, seed: int) -> None:
    given_tables = _random_tables(seed)
    params = PARAMS[task]
    plain = {name: rows.to_dicts() for name, rows in given_tables.items()}
    wanted, left_out = label_oracle.TASKS[task](plain, params)
    found = TASKS[task](given_tables, params)
    assert found.left_out.get(WHY, 0) == left_out
    keys = ("session_id", "ue_id", "five_qi", "event_timestamp")
    got = {tuple(r[k] for k in keys): r for r in found.rows.iter_rows(named=True)}
    assert set(got) == set(wanted)
    for key, (label_, value, score) in wanted.items():
        assert got[key]["label"] == label_, key
        assert got[key]["label_value"] == (None if value is None else pytest.approx(value)), key
        assert got[key]["persistence_score"] == (
            None if score is None else pytest.approx(score, abs=1e-9)
        ), key


def _write(folder: Path, given_tables: dict[str, pl.DataFrame]) -> Path:
    for name, rows in given_tables.items():
        rows.write_parquet(folder / f"{name}.parquet")
    return folder


def test_the_stage_uses_tasks_with_both_labels_and_says_what_became_of_each(tmp_path: Path) -> None:
    rows = flow(CAPACITY, {s: 20.0 * (s % 40 < 20) for s in range(200)})
    admitted = _write(tmp_path, tables(ue_flow=rows, ue_radio=rows))
    found = label(admitted, Params(min_rows=100))
    assert found.labels["task"].unique().to_list() == ["throughput"]
    assert dict(found.labels.schema) == {n: t for n, t in COLUMNS.items()}
    assert found.metrics["throughput"] == {
        "decisions": 190, "left_out": {WHY: 10}, "used": True,
        "positives": int(found.labels["label"].sum()),
    }  # fmt: skip
    unused = {"decisions": 0, "left_out": {}, "positives": 0, "used": False}
    assert found.metrics["handover"] == unused
    with pytest.raises(QosError, match=r"no task has 500 labelled decisions of both kinds"):
        label(admitted, Params())
    with pytest.raises(QosError, match=r"label\.tasks: unknown \['hangover'\]; known"):
        label(admitted, Params(tasks=("hangover",)))


def _with_another_future(world: dict[str, pl.DataFrame], cut: datetime) -> dict[str, pl.DataFrame]:
    """The world in which every measured quantity that arrives after `cut` is 1."""
    late = pl.col("arrival_timestamp") > cut
    numbers = cs.float()
    return {
        name: rows.with_columns(pl.when(late).then(1.0).otherwise(numbers).name.keep())
        for name, rows in world.items()
    }


@pytest.mark.parametrize("task", TASKS)
def test_what_changes_with_the_future_is_called_label(task: str) -> None:
    """Whatever happens after a decision moves columns of that name and no other."""
    cut, keys = at(9), ["session_id", "ue_id", "five_qi", "event_timestamp"]
    compared, moved = 0, set()
    for seed in range(12):
        world = _random_tables(seed)
        one, other = (
            TASKS[task](either, PARAMS[task]).rows
            for either in (world, _with_another_future(world, cut))
        )
        if one.is_empty():
            continue
        both = one.filter(pl.col("event_timestamp") <= cut).join(other, on=keys, suffix="_other")
        compared += len(both)
        moved |= {
            name
            for name in set(COLUMNS) - set(keys)
            if not both[name].equals(both[f"{name}_other"])
        }
    assert compared > 5
    assert {name for name in moved if not name.startswith("label")} == set()
    assert "label_value" in moved or task == "handover"
