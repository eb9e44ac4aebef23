"""Bad input through Feast's API: one clear error that names the thing, and never a null in its place."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore

from tests.stores.conformance.harness import (
    Harness,
    OnlineHarness,
    entity_frame,
    quiet,
    read_online,
)  # fmt: skip
from tests.stores.conformance.stores import harness
from tests.stores.conformance.world import HOUR, MICROSECOND, NOON, US, trips

VIEW = trips((1, NOON, NOON, 5))
FRAME = pd.DataFrame({"driver_id": [1], "event_timestamp": [NOON]})
COUNT = ["trips:count"]


@pytest.fixture
def asof(tmp_path: Path) -> Harness:
    return harness("asof", tmp_path)


@pytest.fixture(params=["sqlite", "redis"])
def online(request: pytest.FixtureRequest, tmp_path: Path, redis_address: str) -> OnlineHarness:
    found = harness(request.param, tmp_path, redis_address)
    assert isinstance(found, OnlineHarness)
    return found


def _source(store: FeatureStore) -> Path:
    return VIEW.path_in(Path(str(store.config.repo_path)))


BAD_FRAMES: list[tuple[str, Any, str]] = [
    ("no time", FRAME.drop(columns="event_timestamp"), "no event_timestamp.*driver_id"),
    ("two times", FRAME.assign(a=NOON, b=NOON).drop(columns="event_timestamp"), r"\['a', 'b'\]"),
    ("a number for a time", FRAME.assign(event_timestamp=5), "event_timestamp: Int64"),
    ("words for a time", FRAME.assign(event_timestamp="noonish"), "event_timestamp.*'noonish'"),
    ("no key", FRAME.drop(columns="driver_id"), r"trips: .*no key column \['driver_id'\]"),
    ("a string key", FRAME.assign(driver_id="1"), "key 'driver_id' is String .* Int64"),
    ("a float key", FRAME.assign(driver_id=1.5), "key 'driver_id' is Float64 .* Int64"),
    ("a key twice", pd.concat([FRAME, FRAME[["driver_id"]]], axis=1), r"more than one .*driver_id"),
    (
        "a key twice in Arrow",
        pa.table(
            [pa.array([1]), pa.array([2]), pa.array([NOON], US)],
            names=["driver_id", "driver_id", "event_timestamp"],
        ),
        r"more than one .*driver_id",
    ),
    ("a column named as a feature", FRAME.assign(count=7), r"\['count'\].* requested features"),
    ("a list", [1], "entity_df is a list"),
    ("a query", "SELECT 1", "entity_df is a str"),
    ("a path to nothing", "nowhere.parquet", "nowhere.parquet"),
]


@pytest.mark.parametrize(
    ("frame", "said"), [bad[1:] for bad in BAD_FRAMES], ids=[bad[0] for bad in BAD_FRAMES]
)
def test_a_bad_entity_frame_is_named(asof: Harness, frame: Any, said: str) -> None:
    store = asof.open([VIEW])
    with pytest.raises((ValueError, FileNotFoundError), match=f"(?s){said}"):
        asof.history(store, frame, COUNT)


def _lacks(column: str) -> Callable[[Path], None]:
    return lambda path: pq.write_table(VIEW.table.drop([column]), path)


def _empty(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _number_for_time(path: Path) -> None:
    pq.write_table(VIEW.table.set_column(1, "event", pa.array([5])), path)


BAD_SOURCES: list[tuple[Callable[[Path], Any], str]] = [
    (_lacks("driver_id"), r"trips: .*no column \['driver_id'\]"),
    (_lacks("count"), r"trips: .*no column \['count'\]"),
    (_lacks("event"), r"trips: .*no column \['event'\]"),
    (_lacks("created"), r"trips: .*no column \['created'\]"),
    (_number_for_time, "event: Int64"),
    (Path.unlink, "trips_file: .*trips.parquet does not exist"),
    (_empty, "trips.parquet: the folder holds no .parquet file"),
    (lambda path: path.write_text("no Parquet"), "trips_file: .*trips.parquet cannot be read"),
]
SOURCE_NAMES = [
    "no key", "no feature", "no event time", "no created time", "a number for a time", "absent",
    "empty folder", "another format",
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "said"), BAD_SOURCES, ids=SOURCE_NAMES)
def test_a_bad_source_is_named_offline(
    asof: Harness, spoil: Callable[[Path], Any], said: str
) -> None:
    store = asof.open([VIEW])
    spoil(_source(store))
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        asof.history(store, FRAME, COUNT)


@pytest.mark.parametrize(("spoil", "said"), BAD_SOURCES, ids=SOURCE_NAMES)
def test_a_bad_source_is_named_when_materialised_and_changes_nothing(
    online: OnlineHarness, spoil: Callable[[Path], Any], said: str
) -> None:
    store = online.open([VIEW], registry=_serving(online))
    online.materialize_as_at(store, [VIEW], NOON)
    spoil(_source(store))
    with pytest.raises(Exception, match=said), quiet():
        store.materialize(NOON - HOUR, NOON)


def _serving(online: OnlineHarness) -> dict[str, Any]:
    return {"path": str(online.folder / "registry.db"), "cache_ttl_seconds": 0}


@pytest.mark.parametrize("feature", ["trips:nothing", "nothing:count", "nothing"])
def test_an_unknown_feature_is_named(asof: Harness, online: OnlineHarness, feature: str) -> None:
    with pytest.raises(Exception, match="nothing"):
        asof.history(asof.open([VIEW]), FRAME, [feature])
    with pytest.raises(Exception, match="nothing"):
        online.open([VIEW]).get_online_features([feature], [{"driver_id": 1}])


BAD_REQUESTS: list[tuple[list[dict[str, Any]], str]] = [
    ([{"driver_id": "1"}], "key 'driver_id' is str '1' in row 0 .* INT64"),
    ([{"driver_id": 1}, {"driver_id": 1.5}], "key 'driver_id' is float 1.5 in row 1"),
    ([{"driver_id": True}], "key 'driver_id' is bool True"),
    ([{"driver_id": None}], "key 'driver_id' is null in row 0"),
    ([{"driver_id": 1}, {}], "key 'driver_id' is null in row 1"),
    ([{"rider": 1}], "driver_id"),
    ([{}], "row 0 .* names no key"),
    ([], "entity_rows is empty"),
]


@pytest.mark.parametrize(("rows", "said"), BAD_REQUESTS)
def test_a_bad_request_is_named(
    online: OnlineHarness, rows: list[dict[str, Any]], said: str
) -> None:
    store = online.open([VIEW])
    online.materialize_as_at(store, [VIEW], NOON)
    with pytest.raises((ValueError, KeyError), match=said):
        store.get_online_features(COUNT, rows)


@pytest.mark.parametrize("micros", [500_000, 1, 1_500_000])
def test_a_ttl_below_a_second_is_exact(asof: Harness, online: OnlineHarness, micros: int) -> None:
    ttl = timedelta(microseconds=micros)
    view = trips((1, NOON, NOON, 5), ttl=ttl)
    store = asof.open([view])
    assert store.get_feature_view("trips").ttl == ttl
    times = [NOON + ttl + n * MICROSECOND for n in (0, 1)]
    asks = [{"driver_id": 1, "at": at} for at in times]
    found = asof.history(store, entity_frame([view], asks), COUNT)
    assert found["count"].to_pylist() == [5, None]
    opened = online.open([view])
    online.materialize_as_at(opened, [view], NOON)
    read = [read_online(opened, COUNT, [{"driver_id": 1}], at) for at in times]
    assert read == [[(5,)], [(None,)]]
