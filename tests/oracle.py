"""Slow, obvious windows: two loops over plain Python values, nothing shared with the fast path."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]


def feature_rows(
    rows: list[Row], clock: list[Row], keys: tuple[str, ...], windows: dict[str, Any],
    tick: timedelta | None = None,
) -> list[Row]:  # fmt: skip
    """One dict per emission. `windows`: name -> (column, op, span); see `feature_repo.compute`."""
    result = []
    for key in sorted(
        {tuple(r[k] for k in keys) for r in clock if all(r[k] is not None for k in keys)}
    ):
        mine = [r for r in rows if tuple(r[k] for k in keys) == key]
        asks = [r for r in clock if tuple(r[k] for k in keys) == key]
        for known_at in sorted({_ask_time(r["arrival_timestamp"], tick) for r in asks}):
            arrived = [r for r in asks if r["arrival_timestamp"] <= known_at]
            end = known_at if tick else max(r["event_timestamp"] for r in arrived)
            out: Row = dict(zip(keys, key, strict=True))
            out |= {"event_timestamp": end, "arrival_timestamp": known_at}
            for name, (column, op, span) in windows.items():
                inside = [
                    (r["event_timestamp"], r[column])
                    for r in mine
                    if end - span < r["event_timestamp"] <= end
                    and r["arrival_timestamp"] <= known_at
                    and r[column] is not None
                ]
                out[name] = OPS[op](sorted(inside), end)
            result.append(out)
    return result


def _ask_time(arrival: datetime, tick: timedelta | None) -> datetime:
    if tick is None:
        return arrival
    epoch = datetime(1970, 1, 1, tzinfo=arrival.tzinfo)
    ticks = -((epoch - arrival) // tick)  # rounded up
    return epoch + ticks * tick


Values = list[tuple[datetime, float]]


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _std(values: list[float]) -> float | None:
    if len(values) < 2:
        return None
    middle = _mean(values) or 0.0
    return math.sqrt(math.fsum((v - middle) ** 2 for v in values) / len(values))


def _quantile(values: list[float], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _slope(pairs: Values) -> float | None:
    if len({time for time, _ in pairs}) < 2:
        return None
    seconds = [(time - pairs[-1][0]).total_seconds() for time, _ in pairs]
    at, value = _mean(seconds) or 0.0, _mean([v for _, v in pairs]) or 0.0
    up = math.fsum((s - at) * (v - value) for s, (_, v) in zip(seconds, pairs, strict=True))
    return up / math.fsum((s - at) ** 2 for s in seconds)


OPS: dict[str, Callable[[Values, datetime], float | None]] = {
    "last": lambda pairs, end: pairs[-1][1] if pairs else None,
    "mean": lambda pairs, end: _mean([v for _, v in pairs]),
    "min": lambda pairs, end: min((v for _, v in pairs), default=None),
    "max": lambda pairs, end: max((v for _, v in pairs), default=None),
    "std": lambda pairs, end: _std([v for _, v in pairs]),
    "slope": lambda pairs, end: _slope(pairs),
    "count": lambda pairs, end: float(len(pairs)),
    "since_s": lambda pairs, end: (end - pairs[-1][0]).total_seconds() if pairs else None,
    "p10": lambda pairs, end: _quantile([v for _, v in pairs], 0.10),
    "p95": lambda pairs, end: _quantile([v for _, v in pairs], 0.95),
    "share_below_0": lambda pairs, end: _mean([float(v < 0) for _, v in pairs]),
}
