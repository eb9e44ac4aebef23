"""A small Feast repository without any QoS: what both online stores are tried on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.types import Float64, Int64

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)


def trips(folder: Path, ttl: timedelta | None = timedelta(hours=1)) -> FeatureView:
    """A view of two features over one file, stamped and created."""
    return FeatureView(
        name="trips",
        entities=[DRIVER],
        ttl=ttl,
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="count", dtype=Int64),
            Field(name="mean_km", dtype=Float64),
        ],
        source=FileSource(
            name="trips_file",
            path=str(folder / "trips.parquet"),
            timestamp_field="event",
            created_timestamp_column="created",
        ),
    )


def open_example(
    folder: Path, online_store: dict[str, Any], project: str = "rides"
) -> FeatureStore:
    """The repository applied, with the online store of this configuration."""
    config = RepoConfig(
        project=project,
        provider="local",
        registry=str(folder / f"{project}.db"),
        offline_store={"type": "stores.asof.AsofOfflineStore"},
        online_store=online_store,
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    store = FeatureStore(repo_path=str(folder), config=config)
    store.apply([DRIVER, trips(folder)])
    return store


def online(store: FeatureStore) -> OnlineStore:
    """The online store itself."""
    return store._get_provider().online_store  # type: ignore[attr-defined, no-any-return]


def write(
    store: FeatureStore,
    *rows: tuple[int, int | None, datetime, datetime | None],
    writer: OnlineStore | None = None,
) -> None:
    """(driver, count, event, created) rows, straight into the online store."""
    view = store.get_feature_view("trips")
    data = [
        (
            EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=driver)]),
            {
                "count": Value() if count is None else Value(int64_val=count),
                "mean_km": Value() if count is None else Value(double_val=count / 2),
            },
            event,
            created,
        )
        for driver, count, event, created in rows
    ]
    (writer or online(store)).online_write_batch(store.config, view, data, None)


def read(store: FeatureStore, *drivers: int) -> list[tuple[int | None, int, datetime]]:
    """(count, status, event time) of each driver."""
    answer = store.get_online_features(
        ["trips:count", "trips:mean_km"], entity_rows=[{"driver_id": driver} for driver in drivers]
    ).proto
    vector = answer.results[list(answer.metadata.feature_names.val).index("count")]
    return [
        (value.int64_val if value.WhichOneof("val") else None, status, time.ToDatetime(UTC))
        for value, status, time in zip(
            vector.values, vector.statuses, vector.event_timestamps, strict=True
        )
    ]
