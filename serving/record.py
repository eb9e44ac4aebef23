"""What is kept of a decision, and its columns in Arrow.

A record holds what the request said, which rows of history the online store answered with (the event
time of every view), the vectors that were made of both, and what the model said of them: enough to
rebuild vector and score (`serving.replay`), and to join decisions with outcomes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.uint8]

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@dataclass(frozen=True, eq=False)
class DecisionRecord:
    """A decision. Times are UTC microseconds since 1970; ue_id is a pseudonym; thresholds that were not
    asked are None; model_version as `name/number`, or the name of a bundle's folder.

    request: what was said beside the overrides, as JSON of a `PredictRequest` without ue_id and features;
    overrides: model features by name that replaced the store's. clock_us: the instant that ages counted
    to, None where nothing was read. The arrays have a row a cell; all are empty (0 rows) where nothing
    was scored. event_us, view_status: a column a view of `views` (0: not found); vectors, statuses: a
    column a feature of the model, in its order, NaN = unknown, status a code of `serving.vectors`.
    scores: a column a name of `SCORES`, NaN = no model tells, or not asked.
    """

    decision_id: str
    decided_us: int
    ue_id: str
    five_qi: int
    service_class: str
    priority: int
    requested_downlink_mbps: float | None
    requested_delay_ms: float | None
    requested_loss_ratio: float | None
    requested_jitter_ms: float | None
    connected_to: str | None
    cells: tuple[str, ...]
    chosen_cell: str | None
    decision: str
    reason: str
    required_confidence: float
    observed_confidence: float | None
    model_version: str
    model_digest: str
    service: str
    catalog_hash: str
    request: str
    overrides: dict[str, float]
    clock_us: int | None
    views: tuple[str, ...]
    event_us: Ints
    view_status: Codes
    vectors: Floats
    statuses: Codes
    scores: Floats

    @property
    def scored(self) -> bool:
        """Whether a model said something of it."""
        return len(self.vectors) > 0


SCORES = (
    "met", "disturbed", "confidence", "downlink_kept", "delay_kept", "loss_kept",
    "downlink_mbps_p10", "downlink_mbps_p50", "downlink_mbps_p90",
    "delay_ms_p10", "delay_ms_p50", "delay_ms_p90",
)  # fmt: skip

EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"
_TIME = pa.timestamp("us", tz="UTC")
_ROWS: dict[str, pa.DataType] = {  # arrays of a row a cell
    "event_us": pa.int64(),
    "view_status": pa.uint8(),
    "vectors": pa.float64(),
    "statuses": pa.uint8(),
    "scores": pa.float64(),
}
_PLAIN: dict[str, pa.DataType] = {
    "decision_id": pa.string(),
    "ue_id": pa.string(),
    "five_qi": pa.int64(),
    "service_class": pa.string(),
    "priority": pa.int64(),
    "requested_downlink_mbps": pa.float64(),
    "requested_delay_ms": pa.float64(),
    "requested_loss_ratio": pa.float64(),
    "requested_jitter_ms": pa.float64(),
    "connected_to": pa.string(),
    "cells": pa.list_(pa.string()),
    "chosen_cell": pa.string(),
    "decision": pa.string(),
    "reason": pa.string(),
    "required_confidence": pa.float64(),
    "observed_confidence": pa.float64(),
    "model_version": pa.string(),
    "model_digest": pa.string(),
    "service": pa.string(),
    "catalog_hash": pa.string(),
    "request": pa.string(),
    "overrides": pa.map_(pa.string(), pa.float64()),
    "clock_us": pa.int64(),
    "views": pa.list_(pa.string()),
}
SCHEMA = pa.schema(
    [
        (EVENT, _TIME),
        (ARRIVAL, _TIME),
        *_PLAIN.items(),
        *((name, pa.list_(pa.list_(kind))) for name, kind in _ROWS.items()),
    ]
)
"""A row a decision: `event_timestamp` is when it was made, `arrival_timestamp` when it was written."""


def columns(records: Sequence[DecisionRecord], written_us: int) -> Iterator[tuple[str, pa.Array]]:
    """The records as columns of `SCHEMA`, one after the other."""
    yield EVENT, pa.array([one.decided_us for one in records], pa.int64()).cast(_TIME)
    yield ARRIVAL, pa.array([written_us] * len(records), pa.int64()).cast(_TIME)
    for name, kind in _PLAIN.items():
        values: list[Any] = [getattr(one, name) for one in records]
        if name == "overrides":
            values = [list(one.items()) for one in values]
        yield name, pa.array(values, kind)
    for name, kind in _ROWS.items():
        yield name, _nested([getattr(one, name) for one in records], kind)


def from_table(table: pa.Table) -> list[DecisionRecord]:
    """The records of rows of `SCHEMA`."""
    times = table[EVENT].cast(pa.int64()).to_pylist()
    rest = table.select([name for name in table.column_names if name not in (EVENT, ARRIVAL)])
    return [_record(row, at) for row, at in zip(rest.to_pylist(), times, strict=True)]


def decided_us_of(decision_id: str) -> int | None:
    """When the decision was made, to the millisecond, as its id tells; None for what is no such id."""
    if not _ID.fullmatch(decision_id):
        return None
    return int(decision_id[:8] + decision_id[9:13], 16) * 1000


def day_of(us: int) -> str:
    """The UTC day of a time, as `2026-01-31`."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).date().isoformat()


def _nested(matrices: Sequence[NDArray[Any]], kind: pa.DataType) -> pa.Array:
    rows = np.cumsum([0, *(len(one) for one in matrices)], dtype=np.int32)
    widths = [one.shape[1] for one in matrices for _ in range(len(one))]
    starts = np.cumsum([0, *widths], dtype=np.int32)
    flat = [np.ascontiguousarray(one).reshape(-1) for one in matrices]
    values = pa.array(np.concatenate(flat) if flat else [], kind)
    inner = pa.ListArray.from_arrays(pa.array(starts), values)
    return pa.ListArray.from_arrays(pa.array(rows), inner)


def _record(row: dict[str, Any], decided_us: int) -> DecisionRecord:
    made: dict[str, Any] = {"decided_us": decided_us} | row
    for name in ("cells", "views"):
        made[name] = tuple(row[name])
    made["overrides"] = dict(row["overrides"])
    for name, (dtype, width) in _shapes(row).items():
        made[name] = np.array(row[name], dtype).reshape(len(row[name]), width)
    return DecisionRecord(**{one.name: made[one.name] for one in fields(DecisionRecord)})


def _shapes(row: dict[str, Any]) -> dict[str, tuple[Any, int]]:
    def width(name: str) -> int:
        return len(row[name][0]) if row[name] else 0

    kinds = {"event_us": np.int64, "view_status": np.uint8, "statuses": np.uint8}
    return {name: (kinds.get(name, np.float64), width(name)) for name in _ROWS}
