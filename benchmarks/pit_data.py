"""The files of the point-in-time benchmark: rows of a key come at random times, seeded."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

VIEWS, FEATURES, TTL = 3, 6, timedelta(hours=2)
START = datetime(2026, 1, 1, tzinfo=UTC)
SPAN_S = 14 * 86_400
ROWS_A_KEY = 2_000
SHAPES = ("even", "skewed", "composite", "late")


def make_data(folder: Path, feature_rows: int, entity_rows: int, shape: str = "even") -> None:
    """view_<n>.parquet and entities.parquet.

    skewed: half of all rows on one key; composite: a text beside the number; late: a third of the
    feature rows was created up to an hour after its event.
    """
    random = np.random.default_rng(7)
    each = feature_rows // VIEWS
    keys = max(each // ROWS_A_KEY, 1)
    for number in range(VIEWS):
        event = _times(random, each)
        late = random.integers(-7_200, 3_600, each).clip(0) if shape == "late" else 0
        values = {f"f{number}_{i}": random.random(each, dtype=np.float64) for i in range(FEATURES)}
        rows = _keyed(random, each, keys, shape) | {
            "event": event,
            "created": event + late * 1_000_000,
        }
        _write(pl.DataFrame(rows | values), folder / f"view_{number}.parquet", "event", "created")
    asked = _keyed(random, entity_rows, keys, shape) | {
        "event_timestamp": _times(random, entity_rows)
    }
    _write(pl.DataFrame(asked), folder / "entities.parquet", "event_timestamp")


def _times(random: np.random.Generator, rows: int) -> NDArray[np.int64]:
    return int(START.timestamp() * 1e6) + random.integers(0, SPAN_S * 1_000_000, rows)


def _keyed(
    random: np.random.Generator, rows: int, keys: int, shape: str
) -> dict[str, NDArray[np.int64] | pl.Series]:
    key = random.integers(0, keys, rows)
    if shape == "skewed":
        key[random.random(rows) < 0.5] = 0
    if shape == "composite":
        texts = pl.Series([f"part-{i}" for i in range(8)])
        return {"key": key // 8, "part": texts.gather(pl.Series(key % 8))}
    return {"key": key}


def _write(rows: pl.DataFrame, path: Path, *times: str) -> None:
    rows.with_columns(
        pl.from_epoch(c, time_unit="us").dt.replace_time_zone("UTC") for c in times
    ).write_parquet(path)
