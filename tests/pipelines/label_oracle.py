"""The tasks as loops over plain rows, nothing shared with `pipelines/tasks.py` but the columns' names."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]
Key = tuple[str, str, int, datetime]
Wanted = tuple[dict[Key, tuple[int, float | None, float | None]], int]
Judged = tuple[int, float | None, float | None]
ASKED = {"requested_downlink_mbps": 12.0, "requested_delay_ms": 200.0, "requested_loss_ratio": 0.01}
_FAILURES = ("radio_link_failure", "scg_failure")
_EPOCH = datetime(1970, 1, 1)


def _time(row: Row) -> datetime:
    time: datetime = row["arrival_timestamp"]
    return time


def _decisions(rows: list[Row], keys: tuple[str, ...], stride_s: int) -> list[Row]:
    """The first arrival of each flow in each slot; of equal arrivals the row with the latest event."""
    chosen: dict[tuple[Any, ...], Row] = {}
    for row in sorted(rows, key=lambda r: (_time(r), r["event_timestamp"])):
        slot = int((_time(row).replace(tzinfo=None) - _EPOCH).total_seconds() // stride_s)
        key = (*(row[k] for k in keys), slot)
        if key not in chosen or _time(chosen[key]) == _time(row):
            chosen[key] = row
    return list(chosen.values())


def _ahead(rows: list[Row], of: Row, keys: tuple[str, ...], horizon_s: int) -> list[Row]:
    start, end = _time(of), _time(of) + timedelta(seconds=horizon_s)
    same = [r for r in rows if all(r[k] == of[k] for k in keys)]
    return [r for r in same if start < r["event_timestamp"] <= end]


def _before(rows: list[Row], of: Row, keys: tuple[str, ...], span_s: int) -> list[Row]:
    start, end = _time(of) - timedelta(seconds=span_s), _time(of)
    same = [r for r in rows if all(r[k] == of[k] for k in keys)]
    return [r for r in same if start < r["event_timestamp"] <= end and _time(r) <= end]


def _whole(recorded: list[Row], of: Row, horizon_s: int) -> bool:
    mine = [r["event_timestamp"] for r in recorded if r["session_id"] == of["session_id"]]
    return bool(mine) and max(mine) >= _time(of) + timedelta(seconds=horizon_s)


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _known(rows: list[Row], column: str) -> list[float]:
    return [r[column] for r in rows if r[column] is not None]


def _p95(values: list[float]) -> float | None:
    if not values:
        return None
    ordered, place = sorted(values), 0.95 * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _judge(
    decisions: list[Row],
    recorded: list[Row],
    horizon_s: int,
    judge: Callable[[Row], Judged | None],
    five_qi: Callable[[Row], int] = lambda row: row["five_qi"],
) -> Wanted:
    wanted, left_out = {}, 0
    for row in decisions:
        found = judge(row) if _whole(recorded, row, horizon_s) else None
        if found is None:
            left_out += 1
        else:
            wanted[row["session_id"], row["ue_id"], five_qi(row), _time(row)] = found
    return wanted, left_out


FLOW = ("ue_id", "five_qi")
OWN = (*FLOW, "session_id")


def throughput(tables: dict[str, list[Row]], params: Any) -> Wanted:
    column = "downlink_capacity_mbps"
    rows = [r for r in tables["ue_flow"] if r[column] is not None]

    def judge(row: Row) -> Judged | None:
        rates = _known(_ahead(rows, row, OWN, params.horizon_s), column)
        if len(rates) < params.horizon_s / 2:
            return None
        mean = _mean(rates) or 0.0
        past = _mean(_known(_before(rows, row, FLOW, 5), column))
        return int(mean >= params.requested_downlink_mbps), mean, past

    decisions = _decisions(rows, FLOW, params.stride_s)
    return _judge(decisions, tables["ue_flow"], params.horizon_s, judge)


def handover(tables: dict[str, list[Row]], params: Any) -> Wanted:
    events = [r for r in tables["network_event"] if r["kind"] not in _FAILURES]
    radio = tables["ue_radio"]
    if not events:
        return {}, 0

    def judge(row: Row) -> Judged | None:
        ahead = _ahead(events, row, ("ue_id", "session_id"), params.horizon_s)
        past = _before(events, row, ("ue_id",), params.horizon_s)
        return int(bool(ahead)), None, float(len(past))

    def newest_flow(row: Row) -> int:
        known = [
            r for r in tables["ue_flow"] if r["ue_id"] == row["ue_id"] and _time(r) <= _time(row)
        ]
        return int(sorted(known, key=_time)[-1]["five_qi"]) if known else 9

    decisions = _decisions(radio, ("ue_id",), params.stride_s)
    return _judge(decisions, radio, params.horizon_s, judge, newest_flow)


def _worst(row: Row) -> float | None:
    delays = [row[n] for n in ("downlink_delay_ms", "uplink_delay_ms") if row[n] is not None]
    return max(delays, default=None)


def latency_loss(tables: dict[str, list[Row]], params: Any) -> Wanted:
    rows = [r for r in tables["ue_flow"] if _worst(r) is not None]
    losses = ("downlink_lost_packets", "uplink_lost_packets", "packet_loss_ratio")

    def bad(row: Row) -> bool:
        lost = any(row[n] is not None and row[n] > 0 for n in losses)
        return lost or (_worst(row) or 0.0) > params.delay_ms

    def judge(row: Row) -> Judged | None:
        ahead = _ahead(rows, row, OWN, params.horizon_s)
        if len(ahead) < params.horizon_s:
            return None
        past = _mean([float(bad(r)) for r in _before(rows, row, FLOW, params.horizon_s)])
        return int(any(map(bad, ahead))), max(_worst(r) or 0.0 for r in ahead), past

    decisions = _decisions(rows, FLOW, params.stride_s)
    return _judge(decisions, tables["ue_flow"], params.horizon_s, judge)


def _measured(rows: list[Row]) -> tuple[float | None, float | None, float | None]:
    return (
        _mean(_known(rows, "downlink_mbps")),
        _p95(_known(rows, "downlink_delay_ms")),
        _mean(_known(rows, "packet_loss_ratio")),
    )


def qos_met(tables: dict[str, list[Row]], params: Any) -> Wanted:
    rows = tables["ue_flow"]

    def judge(row: Row) -> Judged | None:
        ahead = _ahead(rows, row, OWN, params.horizon_s)
        asked = tuple(row[name] for name in ASKED)
        rate, delay, loss = _measured(ahead)
        if len(ahead) < params.horizon_s / 2:
            return None
        tests = [
            None if kept is None else kept >= wish if place == 0 else kept <= wish
            for place, (kept, wish) in enumerate(zip((rate, delay, loss), asked, strict=True))
            if wish is not None
        ]
        if None in tests and False not in tests:  # what is broken is broken, whatever was not seen
            return None
        past_rate, past_delay, past_loss = _measured(_before(rows, row, FLOW, 5))
        shares = []
        if asked[0] is not None and past_rate is not None:
            shares.append(past_rate / asked[0])
        if asked[1] is not None and past_delay is not None:
            shares.append(asked[1] / past_delay)
        if asked[2] is not None and past_loss is not None:
            shares.append((asked[2] + 1e-6) / (past_loss + 1e-6))
        score = min((min(2.0, max(0.0, s)) for s in shares), default=None)
        return int(False not in tests), rate, score

    return _judge(tables["qos_request"], rows, params.horizon_s, judge)


TASKS: dict[str, Callable[[dict[str, list[Row]], Any], Wanted]] = {
    "throughput": throughput,
    "handover": handover,
    "latency_loss": latency_loss,
    "qos_met": qos_met,
}
