"""Case 20: what a time may look like, on both sides."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pyarrow as pa

from tests.stores.conformance.cases import Variants, case
from tests.stores.conformance.harness import Harness
from tests.stores.conformance.world import HOUR, MICROSECOND, NOON, US, View, references, trips

NANOSECONDS = pa.timestamp("ns", tz="UTC")
SOURCE_KINDS = {
    "seconds": pa.timestamp("s", tz="UTC"),
    "milliseconds": pa.timestamp("ms", tz="UTC"),
    "microseconds": US,
    "nanoseconds": NANOSECONDS,
    "naive": pa.timestamp("us"),
    "naive nanoseconds": pa.timestamp("ns"),
    "Tokyo": pa.timestamp("us", tz="Asia/Tokyo"),
    "Berlin": pa.timestamp("ms", tz="Europe/Berlin"),
}
FRAME_KINDS: dict[str, Callable[[list[datetime]], Any]] = {
    "UTC": lambda times: pd.Series(times, dtype="datetime64[us, UTC]"),
    "naive": lambda times: pd.Series(times).dt.tz_localize(None),
    "Tokyo": lambda times: pd.Series(times).dt.tz_convert("Asia/Tokyo"),
    "seconds": lambda times: pd.Series(times, dtype="datetime64[s, UTC]"),
    "milliseconds": lambda times: pd.Series(times, dtype="datetime64[ms, UTC]"),
    "nanoseconds": lambda times: pd.Series(times, dtype="datetime64[ns, UTC]"),
    "string with Z": lambda times: [t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in times],
    "string without zone": lambda times: [t.strftime("%Y-%m-%d %H:%M:%S") for t in times],
    "mixed offsets": lambda times: pd.Series(
        [t.astimezone(timezone(timedelta(hours=n))) for n, t in enumerate(times)], dtype="object"
    ),
}  # fmt: skip
SPRING = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)  # Berlin goes from 02:00 to 03:00
AUTUMN = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)  # Berlin goes from 03:00 to 02:00


@case("times of every unit, zone and spelling on both sides mean the same instant")
def case_20_kinds_of_time(harness: Harness) -> None:
    variants = Variants("kinds of time")
    for name, kind in SOURCE_KINDS.items():
        with variants.variant(f"source in {name}"):
            _both_edges(harness, _in_kind(kind), timedelta(seconds=1))
    with variants.variant("source of dates"):
        days = [(1, date(2026, 1, 1), 5), (1, date(2026, 1, 2), 6)]
        view = _in_kind(pa.date32(), rows=days, ttl=24 * HOUR)
        asks = [{"driver_id": 1, "at": NOON + n * 12 * HOUR} for n in (0, 1)]
        found = harness.check([view], asks)
        assert found == [(5,), (6,)], f"{found}"
    with variants.variant("a source before 1970"):
        early = datetime(1950, 6, 1, tzinfo=UTC)
        view = trips((1, early, early, 5), (1, early + HOUR, early, 6))
        asks = [{"driver_id": 1, "at": early + n * HOUR - MICROSECOND} for n in (0, 1, 2)]
        harness.check([view], asks)
    for name, change in {"spring": SPRING, "autumn": AUTUMN}.items():
        with variants.variant(f"the hour that Berlin changes in {name}"):
            rows = [(1, change + n * HOUR / 2, 10 + n) for n in range(-3, 4)]
            view = _in_kind(pa.timestamp("us", tz="Europe/Berlin"), rows=rows)
            asks = [{"driver_id": 1, "at": change + n * HOUR / 4} for n in range(-6, 8, 3)]
            harness.check([view], asks)
    with variants.variant("a process in another zone"), process_zone("America/New_York"):
        _both_edges(harness, _in_kind(pa.timestamp("us")), MICROSECOND)
    if not harness.online:
        for name, spell in FRAME_KINDS.items():
            with variants.variant(f"entity rows in {name}"):
                _frame(harness, spell)
    variants.settle()


def _in_kind(
    kind: pa.DataType,
    rows: list[tuple[int, Any, int]] | None = None,
    ttl: timedelta | None = HOUR,
) -> View:
    rows = rows or [(1, NOON, 5), (2, NOON - HOUR, 6)]
    keys, times, values = zip(*rows, strict=True)
    if pa.types.is_timestamp(kind) and kind.tz is None:
        times = tuple(t.replace(tzinfo=None) for t in times)
    columns = {
        "driver_id": pa.array(keys, pa.int64()),
        "event": pa.array(times, kind),
        "count": pa.array(values, pa.int64()),
    }
    return trips(created=None, table=pa.table(columns), ttl=ttl)


def _both_edges(harness: Harness, view: View, step: timedelta) -> None:
    asks = [{"driver_id": d, "at": NOON + n * step} for d in (1, 2) for n in (-1, 0, 1)]
    found = harness.check([view], asks)
    assert found == [(None,), (5,), (5,), (6,), (6,), (None,)]


def _frame(harness: Harness, spell: Callable[[list[datetime]], Any]) -> None:
    times = [NOON - timedelta(seconds=1), NOON, NOON + HOUR, NOON + HOUR + timedelta(seconds=1)]
    view = trips((1, NOON, NOON, 5))
    store = harness.open([view])
    frame = pd.DataFrame({"driver_id": [1] * 4, "event_timestamp": spell(times), "n": range(4)})
    found = harness.history(store, frame, references([view])).to_pylist()
    counts = [row["count"] for row in sorted(found, key=lambda row: row["n"])]
    assert counts == [None, 5, 5, None], f"{counts}"


@contextmanager
def process_zone(name: str) -> Iterator[None]:
    """The local time of this process in another zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()
