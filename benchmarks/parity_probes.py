"""The world of the parity run: four views full of edges, and the probes that stand on them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from tests.stores.conformance.world import View

START = datetime(2026, 3, 29, tzinfo=UTC)  # Europe's clocks change within the day
MICROSECOND = timedelta(microseconds=1)
DRIVERS, ZONES = 120, ("", "a", "a|b", "é", "11", "1")
TTLS = {
    "trips": timedelta(hours=1),
    "meetings": timedelta(minutes=30),
    "profiles": None,
    "blinks": timedelta(milliseconds=500),
    "weather": timedelta(hours=2),
}
KEYS = {
    "trips": ("driver_id",),
    "meetings": ("driver_id", "zone"),
    "profiles": ("driver_id",),
    "blinks": ("driver_id",),
    "weather": (),
}


def instants(count: int) -> list[datetime]:
    """Times that are probed, half an hour apart and a bit."""
    return [START + n * timedelta(minutes=30, microseconds=7) for n in range(count)]


def make_probes(count: int, times: list[datetime], seed: int) -> list[dict[str, Any]]:
    """Random (driver_id, zone, at); some drivers have no rows at all."""
    random = np.random.default_rng(seed)
    return [
        {
            "driver_id": int(random.integers(0, DRIVERS + 5)),
            "zone": ZONES[random.integers(0, len(ZONES))],
            "at": times[random.integers(0, len(times))],
        }
        for _ in range(count)
    ]


def make_views(rows: int, times: list[datetime], seed: int) -> list[View]:
    """Each view with about that many rows, of which many are duplicates, late or corrections."""
    random = np.random.default_rng(seed + 1)
    return [_view(name, rows, times, random) for name in TTLS]


def _view(name: str, count: int, times: list[datetime], random: np.random.Generator) -> View:
    rows = []
    for _ in range(count):
        event = _event(times[random.integers(0, len(times))], TTLS[name], random)
        row = {
            "driver_id": int(random.integers(0, DRIVERS)) if random.random() > 0.01 else None,
            "zone": ZONES[random.integers(0, len(ZONES))],
            "event": event if random.random() > 0.01 else None,
            "created": _created(event, random),
            "count": int(random.integers(0, 2**62)) if random.random() > 0.1 else None,
            "km": float(random.random()) if random.random() > 0.1 else None,
            "word": str(random.integers(0, 999)) if random.random() > 0.1 else None,
        }
        rows.append(row)
        if random.random() < 0.1:
            rows.append(dict(row))
        if random.random() < 0.2:
            later = event + timedelta(minutes=int(random.integers(1, 180)))
            rows.append(row | {"created": later, "count": int(random.integers(0, 2**62))})
    kinds: dict[str, Any] = {
        "driver_id": pl.Int64, "zone": pl.String, "event": pl.Datetime("us", "UTC"),
        "created": pl.Datetime("us", "UTC"), "count": pl.Int64, "km": pl.Float64, "word": pl.String,
    }  # fmt: skip
    keys = KEYS[name]
    frame = pl.DataFrame(rows, schema=kinds).rename(
        {c: f"{name}_{c}" for c in ("count", "km", "word")}
    )
    frame = frame.drop(c for c in ("driver_id", "zone") if c not in keys)
    frame = frame.sample(fraction=1.0, shuffle=True, seed=3)
    order = [*keys, "event", "created"]
    tied = frame.unique(keep="first", maintain_order=True).filter(
        pl.struct(order).is_first_distinct()
    )
    whole = frame.join(tied, on=frame.columns, how="semi", nulls_equal=True)
    table = whole.to_arrow(compat_level=pl.CompatLevel.oldest())
    texts = [pa.string() if f.type == pa.large_string() else f.type for f in table.schema]
    table = table.cast(pa.schema(zip(table.column_names, texts, strict=True)))
    return View(name, table, keys, TTLS[name])


def _event(time: datetime, ttl: timedelta | None, random: np.random.Generator) -> datetime:
    """On an edge of what a probe at this time sees, a microsecond beside it, or anywhere."""
    near = int(random.integers(-1, 2)) * MICROSECOND
    kind = random.random()
    if kind < 0.3:
        return time + near
    if kind < 0.6 and ttl:
        return time - ttl + near
    return time - timedelta(microseconds=int(random.integers(0, 3 * 3_600_000_000)))


def _created(event: datetime, random: np.random.Generator) -> datetime | None:
    """Mostly at once, at times hours late, at times not stated."""
    kind = random.random()
    if kind < 0.05:
        return None
    late = 0 if kind < 0.6 else int(random.integers(0, 2 * 3_600_000_000))
    return event + timedelta(microseconds=late)
