"""A Feast repository of many dtypes, two keys, aliases and on-demand features, and servers of it."""

import contextlib
import json
import os
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.data_source import RequestSource
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import (
    BytesList,
    FloatList,
    Int64List,
    StringList,
    Value,
)
from feast.transformation.pandas_transformation import PandasTransformation
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    UnixTimestamp,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
ZONE = Entity(name="zone", join_keys=["zone_id"], value_type=ValueType.STRING)

DTYPES: dict[str, Any] = {
    "f64": (Float64, Value(double_val=0.1), Value(double_val=float("nan"))),
    "f32": (Float32, Value(float_val=0.1), Value(float_val=float("inf"))),
    "i64": (Int64, Value(int64_val=-(2**62)), Value(int64_val=7)),
    "i32": (Int32, Value(int32_val=-5), Value(int32_val=300)),
    "truth": (Bool, Value(bool_val=True), Value(bool_val=False)),
    "text": (String, Value(string_val="né\n"), Value(string_val="")),
    "raw": (Bytes, Value(bytes_val=b"\x00\xff"), Value(bytes_val=b"a")),
    "time": (UnixTimestamp, Value(unix_timestamp_val=1_700_000_000), Value()),
    "floats": (
        Array(Float32),
        Value(float_list_val=FloatList(val=[0.5, 2.0])),
        Value(float_list_val=FloatList()),
    ),
    "ints": (Array(Int64), Value(int64_list_val=Int64List(val=[1, 2])), Value()),
    "texts": (Array(String), Value(string_list_val=StringList(val=["a", "b"])), Value()),
    "raws": (Array(Bytes), Value(bytes_list_val=BytesList(val=[b"x"])), Value()),
}


def _source(folder: Path, name: str) -> FileSource:
    return FileSource(name=name, path=str(folder / f"{name}.parquet"), timestamp_field="event")


def views(folder: Path) -> tuple[FeatureView, FeatureView, FeatureView]:
    """everything: all dtypes of a driver; ride: of a driver in a zone; city: of no entity."""
    everything = FeatureView(
        name="everything",
        entities=[DRIVER],
        ttl=HOUR,
        schema=[
            Field(name="driver_id", dtype=Int64),
            *(Field(name=name, dtype=kind) for name, (kind, *_) in DTYPES.items()),
        ],
        source=_source(folder, "everything"),
    )
    ride = FeatureView(
        name="ride",
        entities=[DRIVER, ZONE],
        ttl=None,
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="zone_id", dtype=String),
            Field(name="km", dtype=Float64),
            Field(name="rides", dtype=Int64),
        ],
        source=_source(folder, "ride"),
    )
    city = FeatureView(
        name="city",
        entities=[],
        ttl=None,
        schema=[Field(name="load", dtype=Float64)],
        source=_source(folder, "city"),
    )
    return everything, ride, city


def _margin(asked: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"margin": asked["km"] - asked["wanted_km"], "far": asked["km"] > 5})


def margins(ride: FeatureView) -> OnDemandFeatureView:
    """km over what the request wants."""
    return OnDemandFeatureView(
        name="margins",
        sources=[
            ride,
            RequestSource(name="wish", schema=[Field(name="wanted_km", dtype=Float64)]),
        ],
        schema=[Field(name="margin", dtype=Float64), Field(name="far", dtype=Bool)],
        feature_transformation=PandasTransformation(_margin, "margin"),
        mode="pandas",
    )


def open_rides(folder: Path, online_store: dict[str, Any]) -> FeatureStore:
    """Applied and filled: drivers 1 and 2 at noon, 3 aged, 9 absent; rides of 1 in a, 2 in b."""
    profile = {
        "project": "rides",
        "provider": "local",
        "registry": {"path": str(folder / "rides.db"), "cache_ttl_seconds": 600},
        "offline_store": {"type": "stores.asof.AsofOfflineStore"},
        "online_store": online_store,
        "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(json.dumps(profile), encoding="utf-8")
    store = FeatureStore(repo_path=str(folder))
    everything, ride, city = views(folder)
    margin = margins(ride)
    service = FeatureService(
        name="all",
        features=[everything[["f64", "i64", "text"]], ride[["km"]], margin, city],
    )
    aliased = FeatureService(
        name="two_drivers",
        features=[
            everything[["f64", "i64"]].with_name("mine"),
            everything[["f64", "i64"]]
            .with_name("other")
            .with_join_key_map({"driver_id": "other_id"}),
        ],
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "On demand feature view is", RuntimeWarning)
        store.apply([DRIVER, ZONE, everything, ride, city, margin, service, aliased])
    put(store, "everything", [({"driver_id": 1}, _row(1), NOON + timedelta(microseconds=1500))])
    put(store, "everything", [({"driver_id": 2}, _row(2), NOON)])
    put(store, "everything", [({"driver_id": 3}, _row(1), NOON - 2 * HOUR)])
    for driver, zone, km in ((1, "a", 4.0), (2, "b", 6.5)):
        values = {"km": Value(double_val=km), "rides": Value(int64_val=driver)}
        put(
            store,
            "ride",
            [({"driver_id": driver, "zone_id": zone}, values, NOON + timedelta(milliseconds=20))],
        )
    put(store, "city", [({"__dummy_id": ""}, {"load": Value(double_val=0.5)}, NOON)])
    return store


def _row(which: int) -> dict[str, Value]:
    return {name: values[which] for name, values in DTYPES.items()}


def put(
    store: FeatureStore,
    view: str,
    rows: list[tuple[dict[str, Any], dict[str, Value], datetime]],
) -> None:
    """(keys, values, event time) rows, straight into the online store."""
    table = store.get_feature_view(view)
    data = []
    for keys, values, event in rows:
        names = sorted(keys)
        proto = EntityKey(join_keys=names, entity_values=[_key(keys[name]) for name in names])
        data.append((proto, values, event, event))
    store._get_provider().online_store.online_write_batch(  # type: ignore[attr-defined]
        store.config, table, data, None
    )


def _key(value: Any) -> Value:
    return Value(int64_val=value) if isinstance(value, int) else Value(string_val=value)


def free_port() -> int:
    """A port of this host that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], port: int, seconds: float = 150) -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own, from when its port answers."""
    place = {"PYTHONPATH": str(Path(__file__).parents[2]), "FEAST_USAGE": "False"}
    with subprocess.Popen(
        command,
        env=os.environ | place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            _wait_for(running, port, time.monotonic() + seconds)
            yield running
        finally:
            running.terminate()
            running.communicate(timeout=60)


def _wait_for(running: subprocess.Popen[str], port: int, deadline: float) -> None:
    while time.monotonic() < deadline:
        if running.poll() is not None:
            raise AssertionError(running.communicate()[1][-2000:])
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


@contextlib.contextmanager
def feast_serve(folder: Path) -> Iterator[str]:
    """The address of Feast's own server of this repository."""
    port = free_port()
    command = ["feast", "-c", str(folder), "serve", "--port", str(port), "--no-access-log"]
    with process([*command, "--workers", "1", "--max-requests", "1000000"], port):
        yield f"http://127.0.0.1:{port}"
