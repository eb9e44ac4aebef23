"""A repository with every case a read can meet: types, a pair of keys, aliases, on-demand views."""

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    RequestSource,
    ValueType,
)
from feast.on_demand_feature_view import on_demand_feature_view
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.type_map import python_values_to_proto_values
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp

TTL = timedelta(hours=1)
KEYS: dict[str, ValueType] = {"driver_id": ValueType.INT64, "zone_id": ValueType.STRING}
TYPES: dict[str, dict[str, Any]] = {
    "trips": {"km": Float64, "count": Int64, "busy": Bool, "rate": Float32, "rank": Int32},
    "zones": {"size": Float64, "label": String, "shape": Array(Float64)},
    "visits": {"last": UnixTimestamp, "code": Bytes, "minutes": Float64},
    "weather": {"rain": Float64, "size": Float64},
}
KEYS_OF = {
    "trips": ["driver_id"],
    "zones": ["zone_id"],
    "visits": ["driver_id", "zone_id"],
    "weather": [],
}


def open_wide(folder: Path, online_store: dict[str, Any]) -> FeatureStore:
    """The repository applied, with the services `all` and `numbers`."""
    config = RepoConfig(
        project="wide",
        provider="local",
        registry=str(folder / "wide.db"),
        offline_store={"type": "stores.asof.AsofOfflineStore"},
        online_store=online_store,
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    entities = {
        key: Entity(name=key.removesuffix("_id"), join_keys=[key], value_type=kind)
        for key, kind in KEYS.items()
    }
    views = {name: _view(folder, name, entities) for name in TYPES}
    asked = RequestSource(name="asked", schema=[Field(name="hour", dtype=Int64)])

    @on_demand_feature_view(
        sources=[views["trips"], asked],
        schema=[Field(name="km_an_hour", dtype=Float64)],
        mode="python",
    )
    def pace(inputs: dict[str, Any]) -> dict[str, Any]:
        km = inputs.get("km", inputs.get("trips__km"))
        return {
            "km_an_hour": [
                None if d is None else d / h for d, h in zip(km, inputs["hour"], strict=True)
            ]
        }

    @on_demand_feature_view(
        sources=[views["zones"]], schema=[Field(name="double_size", dtype=Float64)], mode="pandas"
    )
    def doubled(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"double_size": inputs["size"].astype("float64") * 2})

    store = FeatureStore(repo_path=str(folder), config=config)
    everything = FeatureService(
        name="all",
        features=[
            views["visits"],
            views["trips"],
            views["zones"],
            pace,
            doubled,
            views["weather"][["rain"]],
        ],
    )
    twice = FeatureService(
        name="twice",
        features=[
            views["zones"].with_name("origin").with_join_key_map({"zone_id": "origin_id"}),
            views["trips"][["rank", "busy"]],
            views["zones"].with_name("destination").with_join_key_map({"zone_id": "target_id"}),
        ],
    )
    numbers = FeatureService(
        name="numbers", features=[views["trips"], views["zones"][["size"]], pace]
    )
    with warnings.catch_warnings():  # that on-demand views are experimental
        warnings.simplefilter("ignore", RuntimeWarning)
        store.apply(
            [*entities.values(), *views.values(), pace, doubled, everything, twice, numbers]
        )
    return store


def write_row(
    store: FeatureStore, view: str, key: list[Any], values: dict[str, Any], event: Any
) -> None:
    """One row, straight into the online store; a None is stored as null."""
    kinds = [KEYS[name] for name in KEYS_OF[view]] or [ValueType.STRING]
    names = KEYS_OF[view] or ["__dummy_id"]
    entity = EntityKey(
        join_keys=names,
        entity_values=[
            python_values_to_proto_values([value], kind)[0]
            for value, kind in zip(key or [""], kinds, strict=True)
        ],
    )
    row = {
        name: Value()
        if value is None
        else python_values_to_proto_values([value], TYPES[view][name].to_value_type())[0]
        for name, value in values.items()
    }
    online: Any = store._get_provider().online_store  # type: ignore[attr-defined]
    online.online_write_batch(
        store.config, store.get_feature_view(view), [(entity, row, event, None)], None
    )


def _view(folder: Path, name: str, entities: dict[str, Entity]) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[entities[key] for key in KEYS_OF[name]],
        ttl=None if name == "weather" else TTL,
        schema=[
            *(Field(name=k, dtype=Int64 if k == "driver_id" else String) for k in KEYS_OF[name]),
            *(Field(name=k, dtype=v) for k, v in TYPES[name].items()),
        ],
        source=FileSource(
            name=f"{name}_file",
            path=str(folder / f"{name}.parquet"),
            timestamp_field="event",
        ),
    )
