"""The plan of a materialisation, against what then happens on real servers."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import redis
from feast import FeatureStore

from benchmarks.redis_process import redis_server
from stores.arrival import read_watermark
from stores.plan import PlannedView, plan
from tests.stores.example import NOON, online
from tests.stores.fillable import HOUR, counts, repository, trip, write_source, write_sources

START, END = NOON - HOUR, NOON + 30 * HOUR
KEYS = 6_000


def many(folder: Path, keys: int = KEYS) -> None:
    """Two rows of every driver in trips; a rating of every third."""
    write_sources(folder)
    times = [NOON, NOON + HOUR]
    write_source(
        folder, "trips", [trip(i, i % 1000, at, at) for at in times for i in range(keys)]
    )  # fmt: skip
    write_source(
        folder,
        "ratings",
        [{"driver": i, "at": NOON, "known": NOON, "value": i / 7} for i in range(0, keys, 3)],
    )


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    """A server of the test's own, whose memory nobody else moves."""
    with redis_server(tmp_path_factory.mktemp("plan")) as address:
        host, port = address.split(":")
        with redis.Redis(host=host, port=int(port)) as client:
            yield client


@pytest.fixture
def in_redis(server: redis.Redis, tmp_path: Path) -> FeatureStore:
    """The repository over an empty Redis."""
    many(tmp_path)
    place = server.connection_pool.connection_kwargs
    return repository(tmp_path, redis_store(f"{place['host']}:{place['port']}"))


def redis_store(address: str) -> dict[str, Any]:
    """The configuration of the online store there."""
    return {
        "type": "stores.redis.BulkRedisOnlineStore",
        "connection_string": address,
        "age_from": "newest",
    }


def contents(server: Any) -> dict[bytes, bytes]:
    """Every key with its bytes."""
    return {key: server.dump(key) for key in server.keys()}


def by_view(lines: list[PlannedView]) -> dict[str, PlannedView]:
    """The lines of a plan by their view."""
    return {line.view: line for line in lines}


def grown(store: FeatureStore, server: redis.Redis) -> tuple[int, float]:
    """Bytes by which a materialisation grows the server, and the seconds of the engine."""
    before = used(store, server)
    seconds: list[float] = []
    engine: Any = store._get_provider().batch_engine  # type: ignore[attr-defined]
    original = engine.materialize

    def timed(*given: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        jobs = original(*given, **named)
        seconds.append(time.perf_counter() - begun)
        return jobs

    engine.materialize = timed
    store.materialize(START, END)
    engine.materialize = original
    return used(store, server) - before, sum(seconds)


def used(store: FeatureStore, server: redis.Redis) -> int:
    """Bytes in use, without the buffers of the store's connections."""
    target: Any = online(store)
    target._get_client(store.config.online_store).connection_pool.disconnect()
    deadline = time.monotonic() + 10
    facts: Any = server.info()
    while time.monotonic() < deadline and facts["connected_clients"] > 1:
        time.sleep(0.05)
        facts = server.info()
    assert facts["connected_clients"] == 1, "someone else is at work on the server"
    return int(facts["used_memory"])


def test_bytes_keys_and_seconds_are_those_of_the_run(
    in_redis: FeatureStore, server: redis.Redis
) -> None:
    lines = plan(in_redis, START, END)
    planned = by_view(lines)
    assert {name: (one.rows, one.keys, one.written) for name, one in planned.items()} == {
        "trips": (2 * KEYS, KEYS, KEYS),
        "visits": (30, 6, 6),
        "fleet": (2, 1, 1),
        "ratings": (KEYS // 3, KEYS // 3, KEYS // 3),
    }
    size, seconds = grown(in_redis, server)
    assert sum(line.bytes for line in lines) == pytest.approx(size, rel=0.2)
    planned_s = sum(line.seconds for line in lines)
    assert (
        seconds / 30 < planned_s < max(30 * seconds, 5)
    )  # both sides are timed, maybe on a busy machine
    assert counts(in_redis, 5) == [5]


def test_a_plan_leaves_nothing_behind(in_redis: FeatureStore, server: redis.Redis) -> None:
    in_redis.materialize(START, END, ["fleet"])
    before = contents(server)
    plan(in_redis, START, END)
    assert contents(server) == before


def test_a_second_run_is_planned_to_write_nothing(in_redis: FeatureStore) -> None:
    in_redis.materialize(START, END)
    lines = plan(in_redis, START, END)
    assert {(line.view, line.written, line.bytes) for line in lines} == {
        ("trips", 0, 0), ("visits", 0, 0), ("fleet", 0, 0), ("ratings", 0, 0)
    }  # fmt: skip
    assert sum(line.written for line in plan(in_redis, None, END)) == 0


def test_what_is_replaced_or_added_to_is_not_counted_anew(
    in_redis: FeatureStore, server: redis.Redis, tmp_path: Path
) -> None:
    in_redis.materialize(START, END)
    newer = [trip(i, i % 1000, NOON + 2 * HOUR, NOON + 2 * HOUR) for i in range(KEYS + 900)]
    write_source(tmp_path, "trips", newer)
    rated = [{"driver": i, "at": NOON, "known": NOON, "value": 0.5} for i in range(0, KEYS, 2)]
    write_source(tmp_path, "ratings", rated)
    lines = by_view(plan(in_redis, START, END))
    assert lines["trips"].written == KEYS + 900
    assert lines["ratings"].written == KEYS // 2 - KEYS // 6
    size, _ = grown(in_redis, server)
    assert sum(line.bytes for line in lines.values()) == pytest.approx(size, rel=0.2)


def test_a_late_row_is_planned_by_its_arrival(in_redis: FeatureStore, tmp_path: Path) -> None:
    in_redis.materialize(START, END)
    rows = pl.read_parquet(tmp_path / "trips.parquet")
    late = trip(KEYS + 5, 1, NOON - 99 * HOUR, NOON + 9 * HOUR)
    write_source(tmp_path, "trips", [*rows.to_dicts(), late])
    (line,) = plan(in_redis, None, END + HOUR, ["trips"])
    assert line.written == 1


def test_a_plan_moves_no_watermark(in_redis: FeatureStore) -> None:
    plan(in_redis, START, END)
    view = in_redis.get_feature_view("trips")
    assert read_watermark(online(in_redis), in_redis.config, view) is None
    assert in_redis.get_feature_view("trips").most_recent_end_time is None


def test_sqlite_grows_as_planned(tmp_path: Path) -> None:
    many(tmp_path)
    path = tmp_path / "online.db"
    settings = {
        "type": "stores.sqlite.BulkSqliteOnlineStore",
        "path": str(path),
        "age_from": "newest",
    }
    store = repository(tmp_path, settings)
    lines = plan(store, START, END)
    connection = online(store)._get_conn(store.config)  # type: ignore[attr-defined]

    def size() -> int:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        return int(pages) * 4096

    before = size()
    store.materialize(START, END)
    assert sum(line.bytes for line in lines) == pytest.approx(size() - before, rel=0.2)
    assert [line.written for line in plan(store, START, END)] == [0, 0, 0, 0]
    assert not list(tmp_path.glob("*plan*"))


def test_what_cannot_be_planned_is_said(in_redis: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no feature view \['trip'\] in project rides"):
        plan(in_redis, START, END, ["trip"])
    stock = repository(
        tmp_path, {"type": "sqlite", "path": str(tmp_path / "s.db")}, batch_engine="local"
    )
    with pytest.raises(TypeError, match="needs batch_engine BulkComputeEngine"):
        plan(stock, START, datetime.now(UTC))
