"""What the processes of test_crash.py do: fill a store in rounds, and read it all the time."""

import random
import warnings
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import polars as pl
from feast import FeatureStore
from feast.repo_config import RepoConfig

from tests.stores.example import NOON
from tests.stores.fillable import EMPTY, HOUR, repository

DRIVERS = 1500
ENGINE = {"type": "stores.engine.BulkComputeEngine", "batch_rows": 40}


def round_end(number: int) -> Any:
    """Event time of the rows of a round."""
    return NOON + number * HOUR


def write_round(folder: Path, number: int) -> None:
    """The source after a round: a row of every driver in each of the last two rounds."""
    parts = [
        pl.DataFrame({"driver_id": range(DRIVERS)}).with_columns(
            pl.lit(round_end(n)).dt.cast_time_unit("us").alias("event"),
            pl.lit(round_end(n)).dt.cast_time_unit("us").alias("created"),
            (pl.col("driver_id") + 10_000 * n).alias("count"),
            ((pl.col("driver_id") + 10_000 * n) / 2).alias("mean_km"),
        )
        for n in range(max(0, number - 1), number + 1)
    ]
    rows = pl.concat(parts).select(EMPTY["trips"].keys())
    rows.write_parquet(folder / "trips.parquet")
    visits = rows.select(
        "driver_id", pl.lit("a").alias("zone_id"), "event", pl.col("count").cast(pl.String).alias("stay")
    )  # fmt: skip
    visits.write_parquet(folder / "visits.parquet")


def configured(folder: Path, settings: dict[str, Any]) -> FeatureStore:
    """Opens what `applied` has applied."""
    config = RepoConfig(
        project="rides",
        provider="local",
        offline_store={"type": "stores.asof.AsofOfflineStore"},
        batch_engine=ENGINE,
        entity_key_serialization_version=3,
        repo_path=folder,
        **settings,
    )
    return FeatureStore(repo_path=str(folder), config=config)


def applied(folder: Path, settings: dict[str, Any]) -> FeatureStore:
    """Applies the two views."""
    return repository(folder, only=["trips", "visits"], batch_engine=ENGINE, **settings)


def materialize(
    folder: Path, settings: dict[str, Any], number: int, started: Event, views: list[str]
) -> None:
    """One round, from an own process; `started` is set when it begins."""
    warnings.simplefilter("ignore")
    store = configured(folder, settings)
    store.list_feature_views()
    started.set()
    store.materialize(NOON, round_end(number), views)


def read_all_the_time(
    folder: Path, settings: dict[str, Any], ready: Event, stop: Event, report: Any
) -> None:
    """Puts (reads, what was wrong) into the report once told to stop."""
    warnings.simplefilter("ignore")
    store = configured(folder, settings)
    draw, seen = random.Random(5), [0] * DRIVERS
    reads = 0
    wrong: list[str] = []
    while not stop.is_set() and len(wrong) < 5:
        drivers = [draw.randrange(DRIVERS) for _ in range(20)]
        try:
            answer = store.get_online_features(
                ["trips:count", "trips:mean_km", "visits:stay"],
                [{"driver_id": driver, "zone_id": "a"} for driver in drivers],
            ).to_dict()
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
            continue
        for driver, count, mean, stay in zip(
            drivers, answer["count"], answer["mean_km"], answer["stay"], strict=True
        ):
            if count is None or stay is None or mean is None:
                wrong.append(f"driver {driver}: nothing")
            elif mean != count / 2 or count % 10_000 != driver:
                wrong.append(f"driver {driver}: {count} with {mean}")
            elif count < seen[driver]:
                wrong.append(f"driver {driver}: {count} after {seen[driver]}")
            else:
                seen[driver] = count
        reads += 1
        ready.set()
    ready.set()
    report.put((reads, wrong))


def online_rows(store: FeatureStore) -> list[tuple[Any, ...]]:
    """What every driver's rows answer: count, mean, stay."""
    rows = [{"driver_id": driver, "zone_id": "a"} for driver in range(DRIVERS)]
    answer = store.get_online_features(["trips:count", "trips:mean_km", "visits:stay"], rows)
    found = answer.to_dict()
    return list(zip(found["count"], found["mean_km"], found["stay"], strict=True))


def expected_rows(number: int) -> list[tuple[Any, ...]]:
    """What a clean run of a round leaves."""
    counts = [driver + 10_000 * number for driver in range(DRIVERS)]
    return [(count, count / 2, str(count)) for count in counts]
