"""What is removed from both online stores, and above all what is not."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from feast import FeatureStore, FeatureView, Field, FileSource
from feast.types import Int64
from hypothesis import given
from hypothesis import strategies as st

from stores.cleanup import UNKNOWN, Finding, cleanup, join_keys_of
from stores.redis import BulkRedisOnlineStore
from tests.stores.example import NOON, online
from tests.stores.fillable import (
    DRIVER,
    HOUR,
    counts,
    repository,
    trip,
    write_source,
    write_sources,
)

TTL = 400 * 24 * HOUR
START, END = NOON - 2 * TTL, NOON + HOUR
Open = Callable[..., FeatureStore]


@pytest.fixture(params=["sqlite", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the repository of a project, its sources written, on one server or file."""
    settings: dict[str, Any]
    if request.param == "sqlite":
        settings = {
            "type": "stores.sqlite.BulkSqliteOnlineStore",
            "path": str(tmp_path / "online.db"),
        }
    else:
        address = request.getfixturevalue("redis_address")
        host, port = address.split(":")
        redis.Redis(host=host, port=int(port)).flushall()
        settings = {
            "type": "stores.redis.BulkRedisOnlineStore",
            "connection_string": address,
        }
    write_sources(tmp_path)

    def open_project(project: str = "rides") -> FeatureStore:
        return repository(tmp_path, settings | {"age_from": "newest"}, project=project)

    return open_project


def is_redis(store: FeatureStore) -> bool:
    """Which of the two it is."""
    return isinstance(online(store), BulkRedisOnlineStore)


def contents(store: FeatureStore) -> dict[Any, Any]:
    """All that the server or the file holds, of every project."""
    target: Any = online(store)
    if is_redis(store):
        client = target._get_client(store.config.online_store)
        kinds = {key: client.type(key) for key in client.keys()}
        return {
            key: client.hgetall(key) if kind == b"hash" else client.get(key)
            for key, kind in kinds.items()
        }
    with closing(sqlite3.connect(store.config.online_store.path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            (name, row[:2]): row
            for (name,) in names
            for row in connection.execute(f'SELECT * FROM "{name}"')
        }


def narrow(folder: Path) -> FeatureView:
    """The view trips, now with one feature of two."""
    return FeatureView(
        name="trips",
        entities=[DRIVER],
        ttl=TTL,
        schema=[Field(name="driver_id", dtype=Int64), Field(name="count", dtype=Int64)],
        source=FileSource(
            name="trips_file",
            path=str(folder / "trips.parquet"),
            timestamp_field="event",
            created_timestamp_column="created",
        ),
    )


def test_a_store_without_anything_to_remove_is_left_alone(opened: Open) -> None:
    store = opened()
    store.materialize(START, END)
    before = contents(store)
    assert before
    assert cleanup(store, apply=True, grace=timedelta(0)) == []
    assert contents(store) == before


def test_expired_rows_go_once_their_grace_is_over(opened: Open, tmp_path: Path) -> None:
    store = opened()
    grace = 2 * HOUR
    newest = NOON + HOUR
    edge = newest - TTL - grace
    microsecond = timedelta(microseconds=1)
    write_source(
        tmp_path,
        "trips",
        [trip(1, 10, newest, newest), trip(200, 20, edge, edge), trip(201, 30, edge - microsecond, edge)],
    )  # fmt: skip
    store.materialize(START, END)
    before = contents(store)
    found = cleanup(store, apply=False, grace=grace)
    kinds = {(one.kind, one.view): one.keys for one in found}
    vanish = {("empty entity", ""): 1} if is_redis(store) else {}
    assert kinds == {("expired", "trips"): 1} | vanish
    assert contents(store) == before
    assert cleanup(store, apply=True, grace=grace) == found
    assert cleanup(store, apply=False, grace=grace) == []
    assert counts(store, 1, 200, 201) == [10, None, None]
    times = store.get_online_features(
        ["trips:count"], [{"driver_id": 200}, {"driver_id": 201}]
    ).proto.results
    stamps = [vector.event_timestamps for vector in times if len(vector.event_timestamps) == 2][-1]
    assert [stamp.seconds > 0 for stamp in stamps] == [True, False]


def test_a_feature_that_is_no_longer_registered_goes(opened: Open, tmp_path: Path) -> None:
    store = opened()
    store.materialize(START, END)
    store.apply([DRIVER, narrow(tmp_path)])
    name = UNKNOWN if is_redis(store) else "trips"
    assert cleanup(store, apply=False) == [Finding("orphaned feature", name, 130, 130)]
    assert cleanup(store, apply=True) == [Finding("orphaned feature", name, 130, 130)]
    assert cleanup(store, apply=False) == []
    assert counts(store, 0, 129) == [100, 229]


def test_a_view_that_is_no_longer_registered_goes(opened: Open) -> None:
    store = opened()
    store.materialize(START, END)
    store.registry.delete_feature_view("trips", "rides")
    fields = 130 * 4 if is_redis(store) else 130 * 2
    vanish = [Finding("empty entity", "", 125, 0)] if is_redis(store) else []
    expected = [*vanish, Finding("orphaned view", "trips", 130, fields)]
    assert cleanup(store, apply=False) == expected
    assert cleanup(store, apply=True) == expected
    assert cleanup(store, apply=False) == []
    stars = store.get_online_features(["ratings:stars"], [{"driver_id": 3}]).to_dict()["stars"]
    assert stars == [0.3]


@pytest.mark.parametrize("neighbour", ["myrides", "rides_2", "ride", "s"])
def test_neighbouring_projects_are_never_touched(opened: Open, neighbour: str) -> None:
    theirs = opened(neighbour)
    theirs.materialize(START, END)
    before = contents(theirs)
    assert before
    ours = opened("rides")
    ours.materialize(START, END)
    for name in ("trips", "visits", "fleet", "ratings"):
        ours.registry.delete_feature_view(name, "rides")
    found = cleanup(ours, apply=True)
    assert {one.view for one in found if one.kind == "orphaned view"} == {
        "trips", "visits", "fleet", "ratings"
    }  # fmt: skip
    after = contents(theirs)
    assert {key: after.get(key) for key in before} == before
    left = {b"newest_row:rides"} if is_redis(ours) else {("newest_row", "rides")}
    added = {key if is_redis(ours) else (key[0], key[1][0]) for key in set(after) - set(before)}
    assert added == left
    assert counts(theirs, 0, 129) == [100, 229]


def test_foreign_keys_and_fields_are_left_alone(opened: Open) -> None:
    store = opened()
    store.materialize(START, END)
    if not is_redis(store):
        with sqlite3.connect(store.config.online_store.path) as connection:
            connection.execute("CREATE TABLE rides_notes (text TEXT)")
            connection.execute("INSERT INTO rides_notes VALUES ('mine')")
        assert cleanup(store, apply=True) == []
        assert sqlite3.connect(store.config.online_store.path).execute(
            "SELECT text FROM rides_notes"
        ).fetchall() == [("mine",)]
        return
    client: Any = online(store)._get_client(store.config.online_store)  # type: ignore[attr-defined]
    client.set("notes:rides", "mine")
    client.hset("hash of rides", "abcd", "mine")
    key = next(k for k in client.keys() if k.endswith(b"rides") and k[:1] == b"\1")
    client.hset(key, "a note", "mine")
    assert cleanup(store, apply=True) == []
    assert client.get("notes:rides") == b"mine"
    assert client.hget("hash of rides", "abcd") == b"mine"
    assert client.hget(key, "a note") == b"mine"


@pytest.mark.parametrize("opened", ["redis"], indirect=True)
def test_a_row_written_meanwhile_stays(opened: Open, tmp_path: Path) -> None:
    store = opened()
    old = NOON - 2 * TTL + HOUR
    write_source(tmp_path, "trips", [trip(1, 10, old, old), trip(2, 20, NOON, NOON)])
    store.materialize(START, END, ["trips"])
    target: Any = online(store)
    client = target._get_client(store.config.online_store)
    original = client.register_script

    def late(script: str) -> Any:
        run = original(script)

        def written_first(**named: Any) -> Any:
            write_source(tmp_path, "trips", [trip(1, 11, NOON, NOON)])
            store.materialize(START, END, ["trips"])
            return run(**named)

        return written_first

    client.register_script = late
    try:
        assert cleanup(store, apply=True) == []
    finally:
        client.register_script = original
    assert counts(store, 1) == [11]


def test_a_negative_grace_and_a_stock_store_are_refused(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="grace is -1 day"):
        cleanup(opened(), apply=False, grace=timedelta(days=-1))
    stock = repository(
        tmp_path,
        {"type": "sqlite", "path": str(tmp_path / "stock.db")},
        project="other",
        batch_engine="local",
    )
    with pytest.raises(TypeError, match="SqliteOnlineStore is not one of"):
        cleanup(stock, apply=False)


@given(st.binary(max_size=80), st.binary(max_size=8))
def test_no_bytes_break_the_reading_of_keys(key: bytes, suffix: bytes) -> None:
    names = join_keys_of(key, suffix)
    assert names is None or key.endswith(suffix)
