"""Writes data/: a week of trips, a file a day, and ratings. Some rows arrive late, some are corrected."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

START = datetime(2026, 1, 5, tzinfo=UTC)
DAYS, DRIVERS = 7, 50


def main(folder: Path) -> None:
    """Makes the same tables each time."""
    random = np.random.default_rng(1)
    (folder / "trips").mkdir(parents=True, exist_ok=True)
    for day in range(DAYS):
        hours = [START + timedelta(days=day, hours=h) for h in range(24)]
        _rows(hours, random).write_parquet(folder / "trips" / f"{hours[0].date()}.parquet")
    each_day = [START + timedelta(days=day) for day in range(DAYS)]
    ratings = _rows(each_day, random).select("driver_id", "event_timestamp", "created")
    stars = pl.Series("rating", 1 + 4 * random.random(len(ratings)))
    ratings.with_columns(stars).write_parquet(folder / "ratings.parquet")


def _rows(times: list[datetime], random: np.random.Generator) -> pl.DataFrame:
    rows = pl.DataFrame({"driver_id": range(DRIVERS)}).join(
        pl.DataFrame({"event_timestamp": times}), how="cross"
    )
    late = pl.Series(random.choice([0, 0, 0, 45], len(rows)))
    rows = rows.with_columns(
        (pl.col("event_timestamp") + pl.duration(minutes=late)).alias("created"),
        pl.Series("trip_count", random.integers(0, 6, len(rows))),
        pl.Series("mean_km", 1 + 9 * random.random(len(rows))),
    )
    corrected = rows.sample(fraction=0.05, seed=1).with_columns(
        pl.col("created") + timedelta(hours=1), pl.col("trip_count") + 1
    )
    return pl.concat([rows, corrected])


if __name__ == "__main__":
    main(Path(__file__).with_name("data"))
