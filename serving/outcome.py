"""What became of a decision, as others tell it, and whether the request was met."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from serving.record import ARRIVAL, EVENT, DecisionRecord

Kind = Literal["handover", "qos"]
KINDS: tuple[Kind, ...] = ("handover", "qos")


@dataclass(frozen=True)
class Outcome:
    """Times are UTC microseconds since 1970; ue_id is the decision's pseudonym.

    kind: handover (did what was decided succeed) or qos (what the flow then got); observed_us: when it
    was true; late: told past the time that outcomes are waited for; met: whether the request was met,
    None: nobody observed enough to say so. What was not observed is None.
    """

    decision_id: str
    kind: Kind
    ue_id: str
    service_class: str
    observed_us: int
    late: bool
    met: bool | None
    success: bool | None = None
    cell_id: str | None = None
    downlink_mbps: float | None = None
    downlink_delay_ms: float | None = None
    jitter_ms: float | None = None
    packet_loss_ratio: float | None = None


_TIME = pa.timestamp("us", tz="UTC")
_PLAIN: dict[str, pa.DataType] = {
    "decision_id": pa.string(),
    "kind": pa.string(),
    "ue_id": pa.string(),
    "service_class": pa.string(),
    "late": pa.bool_(),
    "met": pa.bool_(),
    "success": pa.bool_(),
    "cell_id": pa.string(),
    "downlink_mbps": pa.float64(),
    "downlink_delay_ms": pa.float64(),
    "jitter_ms": pa.float64(),
    "packet_loss_ratio": pa.float64(),
}
SCHEMA = pa.schema([(EVENT, _TIME), (ARRIVAL, _TIME), *_PLAIN.items()])
"""A row an outcome: `event_timestamp` is when it was true, `arrival_timestamp` when it was written."""


def columns(outcomes: Sequence[Outcome], written_us: int) -> Iterator[tuple[str, pa.Array]]:
    """The outcomes as columns of `SCHEMA`, one after the other."""
    yield EVENT, pa.array([one.observed_us for one in outcomes], pa.int64()).cast(_TIME)
    yield ARRIVAL, pa.array([written_us] * len(outcomes), pa.int64()).cast(_TIME)
    for name, kind in _PLAIN.items():
        yield name, pa.array([getattr(one, name) for one in outcomes], kind)


def from_table(table: pa.Table) -> list[Outcome]:
    """The outcomes of rows of `SCHEMA`."""
    times = table[EVENT].cast(pa.int64()).to_pylist()
    rows = table.select(list(_PLAIN)).to_pylist()
    return [Outcome(observed_us=at, **row) for row, at in zip(rows, times, strict=True)]


def violations(
    record: DecisionRecord,
    downlink_mbps: float | None,
    downlink_delay_ms: float | None,
    packet_loss_ratio: float | None,
    jitter_ms: float | None,
) -> tuple[list[str], list[str]]:
    """The thresholds of the decision that were not kept, and those that nobody observed."""
    asked = {
        "downlink_mbps": (record.requested_downlink_mbps, downlink_mbps),
        "delay_ms": (record.requested_delay_ms, downlink_delay_ms),
        "loss_ratio": (record.requested_loss_ratio, packet_loss_ratio),
        "jitter_ms": (record.requested_jitter_ms, jitter_ms),
    }
    broken, unobserved = [], []
    for name, (limit, got) in asked.items():
        if limit is None:
            continue
        if got is None:
            unobserved.append(name)
        elif got < limit if name == "downlink_mbps" else got > limit:
            broken.append(name)
    return broken, unobserved


def met_of(record: DecisionRecord, broken: Sequence[str], unobserved: Sequence[str]) -> bool | None:
    """False where a threshold was not kept, None where one was not observed or none was asked."""
    asked = (
        record.requested_downlink_mbps,
        record.requested_delay_ms,
        record.requested_loss_ratio,
        record.requested_jitter_ms,
    )
    if broken:
        return False
    return None if unobserved or all(one is None for one in asked) else True
