"""The sides of the online benchmark: each a function from keys to an answer, on one filled Redis."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import redis
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.types import Float64, Int64

from stores.reader import open_reader

VIEWS = 3
PROJECT = "online"
Side = Callable[[Sequence[int]], Any]


def open_store(folder: Path, kind: str, address: str, features: int) -> FeatureStore:
    """Three views of one entity; every fifth feature is an integer."""
    config = RepoConfig(
        project=PROJECT, provider="local", registry=str(folder / f"{kind[:6]}.db"),
        repo_path=folder, offline_store={"type": "stores.asof.AsofOfflineStore"},
        online_store={"type": kind, "connection_string": address},
        entity_key_serialization_version=3,
    )  # fmt: skip
    store = FeatureStore(repo_path=str(folder), config=config)
    entity = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
    views = [
        FeatureView(
            name=f"view_{view}",
            entities=[entity],
            ttl=timedelta(days=365),
            source=FileSource(
                name=f"file_{view}", path=str(folder / f"{view}.parquet"), timestamp_field="event"
            ),
            schema=[
                Field(name="key", dtype=Int64),
                *(
                    Field(name=name, dtype=Float64 if i % 5 else Int64)
                    for i, name in enumerate(names_of(view, features))
                ),
            ],
        )
        for view in range(VIEWS)
    ]
    store.apply([entity, *views])
    return store


def names_of(view: int, features: int) -> list[str]:
    """The features of a view."""
    return [f"f{view}_{i:02d}" for i in range(features)]


def refs_of(features: int) -> list[str]:
    """All features of all views."""
    return [f"view_{view}:{name}" for view in range(VIEWS) for name in names_of(view, features)]


def fill(store: FeatureStore, keys: int, features: int) -> None:
    """Every key in every view, one value in fifty null, seeded; written by our store."""
    random = np.random.default_rng(7)
    online: Any = store._get_provider().online_store
    now = datetime.now(UTC)
    for view in range(VIEWS):
        table = store.get_feature_view(f"view_{view}")
        names = names_of(view, features)
        rows = []
        for key in range(keys):
            drawn = random.random(features).tolist()
            values = {
                name: Value()
                if drawn[i] < 0.02
                else Value(double_val=drawn[i])
                if i % 5
                else Value(int64_val=int(drawn[i] * 1e6))
                for i, name in enumerate(names)
            }
            rows.append((entity_key(key), values, now - timedelta(seconds=key % 600), None))
        online.online_write_batch(store.config, table, rows, None)


def entity_key(key: int) -> EntityKey:
    """Feast's key of an entity."""
    return EntityKey(join_keys=["key"], entity_values=[Value(int64_val=key)])


def ours(store: FeatureStore, features: int) -> Side:
    """The reader, to a matrix with status and ages."""
    reader = open_reader(store, refs_of(features))

    def read(keys: Sequence[int]) -> Any:
        answer = reader.read({"key": keys})
        return answer.matrix, answer.status, answer.age_s

    return read


def raw(host: str, port: int, features: int, merged: bool) -> Side:
    """redis-py's pipeline of HMGETs with ready keys and fields, nothing decoded.

    merged: one HMGET an entity; else one an entity and view, as Feast asks.
    """
    client = redis.Redis(host=host, port=port)
    fields = [
        [*(_mmh3(f"view_{view}:{name}") for name in names_of(view, features)), f"_ts:view_{view}"]
        for view in range(VIEWS)
    ]
    asked = [[field for some in fields for field in some]] if merged else fields
    ready: dict[int, bytes] = {}

    def read(keys: Sequence[int]) -> Any:
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                for some in asked:
                    pipe.hmget(ready[key], some)  # type: ignore[arg-type]
            return pipe.execute()

    def prepared(keys: Sequence[int]) -> Any:
        for key in keys:
            if key not in ready:
                ready[key] = _redis_key(PROJECT, entity_key(key))
        return read

    read.prepare = prepared  # type: ignore[attr-defined]
    return read


def feast(store: FeatureStore, features: int) -> Side:
    """Feast's own get_online_features on its own Redis store, to its response."""
    refs = refs_of(features)
    return lambda keys: store.get_online_features(refs, [{"key": key} for key in keys])


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    return float(p50), float(p99)
