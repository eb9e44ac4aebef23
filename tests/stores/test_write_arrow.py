"""Laws of writing Arrow rows, on both online stores, each on the real thing."""

import asyncio
import copy
import itertools
import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType, types
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import _convert_arrow_to_proto
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stores.errors import StoreError
from tests.stores.example import NOON, online, open_example, read

TIME = pa.timestamp("us", tz="UTC")
SECOND = timedelta(seconds=1)
FRESH = itertools.count(1_000_000)

Given = tuple[int, int | None, datetime, datetime | None]
Open = Callable[..., FeatureStore]


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the example on one of the stores, empty at first; each call a writer of its own."""
    address = ""
    if request.param == "redis":
        address = request.getfixturevalue("redis_address")
        redis.Redis.from_url(f"redis://{address}").flushall()

    def opened(**more: Any) -> FeatureStore:
        kind = {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": str(tmp_path / "on.db")}
        if address:
            kind = {"type": "stores.redis.BulkRedisOnlineStore", "connection_string": address}
        return open_example(tmp_path, kind | {"enforce_ttl": False, "age_from": "newest"} | more)

    return opened


@pytest.fixture
def store(open_store: Open) -> FeatureStore:
    """The example on one of the stores, empty."""
    return open_store()


def rows_of(*rows: Given) -> pa.Table:
    drivers, counts, events, createds = zip(*rows, strict=True)
    halves = [None if count is None else count / 2 for count in counts]
    return pa.table(
        {
            "driver_id": pa.array(drivers, pa.int64()),
            "count": pa.array(counts, pa.int64()),
            "mean_km": pa.array(halves, pa.float64()),
            "event_timestamp": pa.array(events, TIME),
            "created_timestamp": pa.array(createds, TIME),
        }
    )


def put(store: FeatureStore, rows: pa.Table, view: FeatureView | None = None) -> int:
    writer: Any = online(store)
    return int(writer.write_arrow(store.config, view or store.get_feature_view("trips"), rows))


def counts(store: FeatureStore, *drivers: int) -> list[int | None]:
    return [count for count, _, _ in read(store, *drivers)]


def test_no_chunk_is_lost_and_a_rerun_writes_nothing(store: FeatureStore) -> None:
    rows = pa.concat_tables(rows_of((n, n, NOON, NOON)) for n in range(20))
    assert rows["count"].num_chunks == 20
    assert put(store, rows) == 20
    assert counts(store, *range(20)) == list(range(20))
    assert put(store, rows) == 0


def test_a_feature_that_came_to_the_view_is_filled(store: FeatureStore) -> None:
    rows = rows_of((1, 7, NOON, NOON), (2, 8, NOON + SECOND, NOON))
    view = store.get_feature_view("trips")
    narrow = copy.copy(view)
    narrow.features = [feature for feature in view.features if feature.name != "count"]
    assert put(store, rows, narrow) == 2
    assert counts(store, 1, 2) == [None, None]
    older = rows_of((1, 70, NOON - SECOND, NOON))
    assert put(store, older, view) == 0
    assert put(store, rows, view) == 2
    assert counts(store, 1, 2) == [7, 8]
    assert put(store, rows, view) == 0


def test_no_slice_is_lost(store: FeatureStore) -> None:
    rows = rows_of(*((n, n, NOON, NOON) for n in range(23_000)))
    assert put(store, rows) == 23_000
    asked = [0, 9_999, 10_000, 19_999, 20_000, 22_999]
    assert counts(store, *asked) == asked
    later = rows_of(*((n, -n, NOON + SECOND, NOON) for n in range(22_000, 24_000)))
    assert put(store, pa.concat_tables([rows, later])) == 2_000
    assert counts(store, 21_999, 22_000, 23_999) == [21_999, -22_000, -23_999]


def test_no_rows_at_all(store: FeatureStore) -> None:
    assert put(store, rows_of((1, 1, NOON, NOON)).slice(0, 0)) == 0
    writer: Any = online(store)
    assert writer.newest_us(store.config) is None


def test_of_equal_rows_of_a_key_the_last_counts(store: FeatureStore) -> None:
    rows = [(1, 5, NOON, NOON), (2, 1, NOON, None), (1, 6, NOON, NOON), (1, 7, NOON, None)]
    assert put(store, rows_of(*rows)) == 2
    assert counts(store, 1, 2) == [6, 1]


def test_the_clock_goes_with_the_newest_row_and_never_back(store: FeatureStore) -> None:
    writer: Any = online(store)
    put(store, rows_of((1, 5, NOON, NOON + SECOND), (2, 5, NOON - SECOND, None)))
    newest = int((NOON + SECOND).timestamp() * 1e6)
    assert writer.newest_us(store.config) == newest
    put(store, rows_of((3, 5, NOON - SECOND, None)))
    assert writer.newest_us(store.config) == newest


EDGES = [datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(1970, 1, 1), datetime(1901, 2, 3)]
MOMENTS = st.sampled_from(
    [
        edge.replace(tzinfo=NOON.tzinfo) + step * timedelta(microseconds=1)
        for edge in (*EDGES, datetime(2026, 1, 1), datetime(2999, 1, 1))
        for step in (0, 1, 127, 1_000_000)
    ]
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    histories=st.lists(
        st.lists(st.tuples(MOMENTS, st.none() | MOMENTS), min_size=4, max_size=4),
        min_size=8,
        max_size=8,
    )
)
def test_the_greatest_event_then_created_time_stands(
    store: FeatureStore, histories: list[list[tuple[datetime, datetime | None]]]
) -> None:
    drivers = [next(FRESH) for _ in histories]
    stands: dict[int, tuple[tuple[datetime, float], int]] = {}
    for turn in range(4):
        rows, written = [], 0
        for driver, history in zip(drivers, histories, strict=True):
            event, created = history[turn]
            order = (event, float("-inf") if created is None else created.timestamp())
            if driver not in stands or order > stands[driver][0]:
                stands[driver] = (order, turn)
                written += 1
            rows.append((driver, turn, event, created))
        assert put(store, rows_of(*rows)) == written
    assert counts(store, *drivers) == [stands[driver][1] for driver in drivers]


def test_writers_at_once_leave_the_newest(open_store: Open) -> None:
    def work(store: FeatureStore, turns: list[int]) -> int:
        return sum(
            put(store, rows_of(*((n, turn, NOON + turn * SECOND, NOON) for n in range(300))))
            for turn in turns
        )

    turns = [random.Random(seed).sample(range(seed, 40, 2), 20) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        written = sum(pool.map(work, [open_store(), open_store()], turns))
    assert set(counts(open_store(), *range(300))) == {39}
    assert written >= 300


def wide_view(folder: Path, features: list[Field], keys: dict[str, ValueType]) -> FeatureView:
    kinds = {ValueType.INT32: types.Int32, ValueType.INT64: types.Int64}
    return FeatureView(
        name="wide",
        entities=[Entity(name=k, join_keys=[k], value_type=kind) for k, kind in keys.items()],
        schema=[
            *(Field(name=k, dtype=kinds.get(kind, types.String)) for k, kind in keys.items()),
            *features,
        ],
        source=FileSource(
            name="wide_file",
            path=str(folder / "wide.parquet"),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        ),
    )


def wide_rows() -> tuple[list[Field], pa.Table]:
    columns: dict[str, tuple[Any, pa.Array]] = {
        "zone": (None, pa.array([1, 2, 1], pa.int32())),
        "cell": (None, pa.array(["ä", "", "'; --"])),
        "double": (types.Float64, pa.array([1e-7, None, -0.0])),
        "float": (types.Float32, pa.array([0.1, 3.0, None], pa.float32())),
        "int": (types.Int64, pa.array([-(2**63), 0, None])),
        "it's": (types.Int32, pa.array([-1, 2**31 - 1, None], pa.int32())),
        "truth": (types.Bool, pa.array([True, False, None])),
        "text": (types.String, pa.array(["", "\0é", None])),
        "bytes": (types.Bytes, pa.array([b"a", b"\r\n$5", None])),
        "time": (types.UnixTimestamp, pa.array([NOON, EDGES[0], NOON], TIME)),
        "list": (types.Array(types.Float64), pa.array([[1.0], [2.0, 0.5], None])),
    }
    many = {f"many_{n}": (types.Int64, pa.array([n, n + 1, None])) for n in range(450)}
    fields = [Field(name=n, dtype=kind) for n, (kind, _) in (columns | many).items() if kind]
    times = {
        "event_timestamp": pa.array([NOON, NOON + SECOND, NOON], TIME),
        "created_timestamp": pa.array([NOON, None, NOON], TIME),
    }
    return fields, pa.table({n: cells for n, (_, cells) in (columns | many).items()} | times)


def test_every_type_is_written_as_feasts_own_rows_are_and_stock_reads_it(
    store: FeatureStore, tmp_path: Path
) -> None:
    fields, rows = wide_rows()
    view = wide_view(tmp_path, fields, {"zone": ValueType.INT32, "cell": ValueType.STRING})
    writer: Any = online(store)
    stock: Any = SqliteOnlineStore() if "Sqlite" in type(writer).__name__ else RedisOnlineStore()
    names = [field.name for field in fields]
    keys = [
        EntityKey(
            join_keys=["cell", "zone"], entity_values=[Value(string_val=c), Value(int32_val=z)]
        )
        for z, c in zip(rows["zone"].to_pylist(), rows["cell"].to_pylist(), strict=True)
    ]
    found = []
    for _ in range(2):
        writer.update(store.config, [], [view], [], [], False)
        if not found:
            assert put(store, rows, view) == 3
        else:
            kinds = {f.name: f.dtype.to_value_type() for f in view.entity_columns}
            data = _convert_arrow_to_proto(rows, view, kinds)
            writer.online_write_batch(store.config, view, data, None)
        found.append(
            [
                (event, {n: values[n].SerializeToString() for n in names})
                for reader in (stock, writer)
                for event, values in reader.online_read(store.config, view, keys, list(names))
            ]
        )
        writer.update(store.config, [view], [], [], [], False)
    assert found[0] == found[1]
    assert [event for event, _ in found[0]][3:] == [NOON, NOON + SECOND, NOON]
    assert found[0][0][1]["double"] == Value(double_val=1e-7).SerializeToString()
    assert set(found[0][2][1].values()) - {b""} == {found[0][2][1][n] for n in ("double", "time")}


def test_a_view_without_entities(store: FeatureStore, tmp_path: Path) -> None:
    view = FeatureView(
        name="all", entities=[], schema=[Field(name="count", dtype=types.Int64)],
        source=FileSource(name="all_file", path=str(tmp_path / "a.parquet"), timestamp_field="event"),
    )  # fmt: skip
    store.apply([view])
    rows = rows_of((1, 5, NOON, None), (2, 6, NOON + SECOND, None))
    assert put(store, rows, store.get_feature_view("all")) == 1
    found = store.get_online_features(["all:count"], entity_rows=[{"driver_id": 1}]).to_dict()
    assert found["count"] == [6]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop_columns("count"), "view trips: column count: is missing"),
        (lambda rows: rows.drop_columns("driver_id"), "column driver_id: is missing"),
        (lambda rows: rows.drop_columns("created_timestamp"), "created_timestamp: is missing"),
        (
            lambda rows: rows.set_column(0, "driver_id", pa.array([1, None])),
            "view trips: join key driver_id: 1 nulls; first in row 1",
        ),
        (
            lambda rows: rows.set_column(0, "driver_id", pa.array(["1", "2"])),
            "view trips: join key driver_id: string where INT64",
        ),
        (
            lambda rows: rows.set_column(1, "count", pa.array(["1", "two"])),
            "view trips: column count: ",
        ),
        (
            lambda rows: rows.set_column(3, "event_timestamp", pa.array([NOON, None], TIME)),
            "column event_timestamp: 1 of 2 rows have none",
        ),
        (
            lambda rows: rows.set_column(3, "event_timestamp", pa.array([1, 2])),
            "column event_timestamp: is int64, not a timestamp",
        ),
    ],
)
def test_wrong_rows_are_refused_before_anything_is_written(
    store: FeatureStore, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    rows = change(rows_of((1, 5, NOON, NOON), (2, 6, NOON, NOON)))
    with pytest.raises(StoreError, match=message):
        put(store, rows)
    assert counts(store, 1, 2) == [None, None]


def test_a_value_that_does_not_fit_says_how_far_it_came(
    store: FeatureStore, tmp_path: Path
) -> None:
    fields = [Field(name="count", dtype=types.Int32)]
    view = wide_view(tmp_path, fields, {"driver_id": ValueType.INT64})
    online(store).update(store.config, [], [view], [], [], False)
    rows = rows_of(*((n, 2**40 if n == 15_000 else n, NOON, NOON) for n in range(30_000)))
    with pytest.raises(StoreError, match=r"after 10000 of 30000 rows: view wide: column count: "):
        put(store, rows, view)


def test_pushed_rows_obey_the_same_law(store: FeatureStore) -> None:
    writer: Any = online(store)
    view = store.get_feature_view("trips")
    key = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=4)])
    some = {"count": Value(int64_val=9), "mean_km": Value(double_val=4.5)}
    seen: list[int] = []
    rows = [(key, some, NOON, None), (key, some, NOON, None)]
    if writer.async_supported.write:
        asyncio.run(writer.online_write_batch_async(store.config, view, rows, seen.append))
    else:
        writer.online_write_batch(store.config, view, rows, seen.append)
    assert seen == [2]
    assert put(store, rows_of((4, 8, NOON, None))) == 0
    assert put(store, rows_of((4, 8, NOON, NOON))) == 1
    assert counts(store, 4) == [8]


def test_a_missing_table_is_said(tmp_path: Path) -> None:
    kind = {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": str(tmp_path / "on.db")}
    store = open_example(tmp_path, kind)
    view = wide_view(tmp_path, [Field(name="count", dtype=types.Int64)], {"driver_id": INT})
    with pytest.raises(
        StoreError, match=r"on\.db: view wide: stopped after 0 of 1 rows: no such t"
    ):
        put(store, rows_of((1, 5, NOON, NOON)), view)


INT = ValueType.INT64


def test_stock_words_stand_beside_the_values(tmp_path: Path) -> None:
    import sqlite3

    kind = {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": str(tmp_path / "on.db")}
    store = open_example(tmp_path, kind)
    put(store, rows_of((1, 5, NOON, NOON), (2, None, NOON, NOON)))
    with sqlite3.connect(tmp_path / "on.db") as connection:
        found = connection.execute("SELECT value_text FROM rides_trips").fetchall()
    connection.close()
    assert json.dumps(sorted(word or "" for (word,) in found)) == '["", "", "2.5", "5"]'
