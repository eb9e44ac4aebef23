"""A repository of four small views, filled by the bulk engine: what materialisation is tried on."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Float64, Int64, String

from tests.stores.example import DRIVER, NOON, trips

ZONE = Entity(name="zone", join_keys=["zone_id"], value_type=ValueType.STRING)
HOUR = timedelta(hours=1)
ENGINE = {"type": "stores.engine.BulkComputeEngine", "batch_rows": 50}


def views(folder: Path) -> list[FeatureView]:
    """trips: created times; visits: two keys; fleet: none; ratings: other names in its source."""
    return [
        trips(folder, ttl=400 * 24 * HOUR),
        FeatureView(
            name="visits",
            entities=[DRIVER, ZONE],
            ttl=400 * 24 * HOUR,
            schema=[
                Field(name="driver_id", dtype=Int64),
                Field(name="zone_id", dtype=String),
                Field(name="stay", dtype=String),
            ],
            source=FileSource(
                name="visits_file", path=str(folder / "visits.parquet"), timestamp_field="event"
            ),
        ),
        FeatureView(
            name="fleet",
            entities=[],
            ttl=400 * 24 * HOUR,
            schema=[Field(name="cars", dtype=Int64)],
            source=FileSource(
                name="fleet_file", path=str(folder / "fleet.parquet"), timestamp_field="event"
            ),
        ),
        FeatureView(
            name="ratings",
            entities=[DRIVER],
            ttl=400 * 24 * HOUR,
            schema=[Field(name="driver_id", dtype=Int64), Field(name="stars", dtype=Float64)],
            source=FileSource(
                name="ratings_file",
                path=str(folder / "ratings.parquet"),
                timestamp_field="seen",
                created_timestamp_column="known",
                field_mapping={"driver": "driver_id", "value": "stars", "at": "seen"},
            ),
        ),
    ]


def write_source(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Replaces a view's file by these rows; its columns are those of `EMPTY`."""
    pl.DataFrame(list(rows), schema=EMPTY[name]).write_parquet(folder / f"{name}.parquet")


_TIME = pl.Datetime("us", "UTC")
EMPTY: dict[str, dict[str, Any]] = {
    "trips": {
        "driver_id": pl.Int64,
        "event": _TIME,
        "created": _TIME,
        "count": pl.Int64,
        "mean_km": pl.Float64,
    },
    "visits": {"driver_id": pl.Int64, "zone_id": pl.String, "event": _TIME, "stay": pl.String},
    "fleet": {"event": _TIME, "cars": pl.Int64},
    "ratings": {"driver": pl.Int64, "at": _TIME, "known": _TIME, "value": pl.Float64},
}


def trip(driver: int, count: int | None, event: datetime, created: datetime) -> dict[str, Any]:
    """A row of trips."""
    mean = None if count is None else count / 2
    return {
        "driver_id": driver, "event": event, "created": created, "count": count, "mean_km": mean
    }  # fmt: skip


def write_sources(folder: Path) -> None:
    """One hour and a half of rows in every view: 130 drivers, the newest trip of a driver 100 + id."""
    write_source(
        folder,
        "trips",
        [
            trip(i, 100 * newer + i, NOON + newer * HOUR, NOON + newer * HOUR)
            for newer in (1, 0)
            for i in range(130)
        ],
    )
    write_source(
        folder,
        "visits",
        [
            {
                "driver_id": i % 3,
                "zone_id": "ab"[i % 2],
                "event": NOON + i * HOUR / 60,
                "stay": f"{i}",
            }
            for i in range(30)
        ],
    )
    write_source(folder, "fleet", [{"event": NOON + i * HOUR, "cars": 7 + i} for i in range(2)])
    write_source(
        folder,
        "ratings",
        [{"driver": i, "at": NOON, "known": NOON, "value": i / 10} for i in range(5)],
    )


def repository(
    folder: Path,
    online_store: dict[str, Any],
    *,
    project: str = "rides",
    registry: dict[str, Any] | str | None = None,
    only: Sequence[str] = (),
    **settings: Any,
) -> FeatureStore:
    """The repository applied; `only`: the views to apply, all where none is named."""
    config = RepoConfig(
        project=project,
        provider="local",
        registry=registry or str(folder / f"{project}.db"),
        offline_store=settings.pop("offline_store", {"type": "stores.asof.AsofOfflineStore"}),
        online_store=online_store,
        entity_key_serialization_version=3,
        repo_path=folder,
        **({"batch_engine": ENGINE} | settings),
    )
    store = FeatureStore(repo_path=str(folder), config=config)
    chosen = [view for view in views(folder) if not only or view.name in only]
    store.apply([DRIVER, ZONE, *chosen])
    return store


def counts(store: FeatureStore, *drivers: int) -> list[int | None]:
    """The online trip count of each driver."""
    rows = [{"driver_id": driver} for driver in drivers]
    found: list[int | None] = store.get_online_features(["trips:count"], rows).to_dict()["count"]
    return found
