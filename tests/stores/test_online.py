"""Laws of both online stores, each on the real thing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from feast import FeatureStore
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from stores.redis import BulkRedisOnlineStore, BulkRedisOnlineStoreConfig
from tests.stores.example import NOON, online, open_example, read, trips, write

PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = 1, 3, 4
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)

Open = Callable[..., FeatureStore]


@pytest.fixture(params=["sqlite", "redis"])
def open_with(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the example on one of the stores, empty, with further settings."""
    if request.param == "redis":
        host, port = request.getfixturevalue("redis_address").split(":")
        redis.Redis(host=host, port=int(port)).flushall()

    def opened(project: str = "rides", **settings: Any) -> FeatureStore:
        settings = {"age_from": "newest"} | settings
        if request.param == "sqlite":
            kind = {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": str(tmp_path / "on.db")}
        else:
            kind = {
                "type": "stores.redis.BulkRedisOnlineStore",
                "connection_string": request.getfixturevalue("redis_address"),
            }
        return open_example(tmp_path, kind | settings, project)

    return opened


def test_what_was_written_is_read_to_the_microsecond(open_with: Open) -> None:
    store = open_with()
    late = NOON + 3 * MICROSECOND
    write(store, (1, 5, late, NOON), (2, None, NOON, None))
    assert read(store, 1, 2, 1) == [(5, PRESENT, late), (None, PRESENT, NOON), (5, PRESENT, late)]


def test_absent_is_not_found(open_with: Open) -> None:
    store = open_with()
    write(store, (1, 5, NOON, NOON))
    assert read(store, 9)[0][:2] == (None, NOT_FOUND)


@pytest.mark.parametrize(
    ("past_ttl", "answer"),
    [(0 * MICROSECOND, (5, PRESENT)), (MICROSECOND, (None, OUTSIDE_MAX_AGE))],
)
def test_ttl_ends_after_its_last_instant(
    open_with: Open, past_ttl: timedelta, answer: tuple[int | None, int]
) -> None:
    store = open_with()
    write(store, (1, 5, NOON, NOON), (2, 6, NOON + HOUR + past_ttl, None))
    assert read(store, 1) == [(*answer, NOON)]


def test_stock_behaviour_on_request(open_with: Open) -> None:
    store = open_with(enforce_ttl=False)
    write(store, (1, 5, NOON, NOON), (2, 6, NOON + 9 * HOUR, None))
    assert read(store, 1) == [(5, PRESENT, NOON)]


def test_ages_count_to_now_unless_told(open_with: Open) -> None:
    store = open_with(age_from="now")
    now = datetime.now(UTC)
    write(store, (1, 5, now - HOUR / 2, None), (2, 6, now - 2 * HOUR, None))
    assert [status for _, status, _ in read(store, 1, 2)] == [PRESENT, OUTSIDE_MAX_AGE]


@pytest.mark.parametrize(
    ("event", "created", "wins"),
    [
        (NOON + MICROSECOND, NOON - HOUR, True),  # newer event
        (NOON, NOON + MICROSECOND, True),  # correction
        (NOON, NOON, False),  # the same again
        (NOON, NOON - MICROSECOND, False),  # an earlier version
        (NOON, None, False),  # not known when
        (NOON - MICROSECOND, NOON + HOUR, False),  # late row of an older event
    ],
)
@pytest.mark.parametrize("in_one_batch", [False, True])
def test_newer_wins_and_older_never_overwrites(
    open_with: Open, event: datetime, created: datetime | None, wins: bool, in_one_batch: bool
) -> None:
    store = open_with()
    first, second = (1, 5, NOON, NOON), (1, 6, event, created)
    if in_one_batch and (event, created) != (NOON, NOON):
        write(store, second, first)
    else:
        write(store, first)
        write(store, second)
    assert read(store, 1)[0][0] == (6 if wins else 5)


def test_teardown_and_deletes_leave_a_neighbour_alone(open_with: Open) -> None:
    ours, neighbour = open_with("prod"), open_with("myprod")
    for store in (ours, neighbour):
        write(store, (1, 5, NOON, NOON), (91, 6, NOON, NOON), (42, 7, NOON, NOON))
    online(ours).update(ours.config, [ours.get_feature_view("trips")], [], [], [], False)
    online(ours).update(ours.config, [], [ours.get_feature_view("trips")], [], [], False)
    assert [status for _, status, _ in read(ours, 1, 91, 42)] == [NOT_FOUND] * 3
    assert [count for count, _, _ in read(neighbour, 1, 91, 42)] == [5, 6, 7]
    write(ours, (1, 5, NOON, NOON))
    view = ours.get_feature_view("trips")
    online(ours).teardown(ours.config, [view], [])
    online(ours).update(ours.config, [], [view], [], [], False)
    assert read(ours, 1)[0][1] == NOT_FOUND
    assert [count for count, _, _ in read(neighbour, 1, 91, 42)] == [5, 6, 7]


def test_stock_feast_reads_ours_and_we_read_stock(open_with: Open) -> None:
    store = open_with()
    stock: Any = (
        RedisOnlineStore()
        if isinstance(online(store), BulkRedisOnlineStore)
        else SqliteOnlineStore()
    )
    view = store.get_feature_view("trips")
    write(store, (1, 5, NOON, NOON))
    key = online_key(1)
    time, values = stock.online_read(store.config, view, [key], ["count", "mean_km"])[0]
    assert time == NOON
    assert (values["count"].int64_val, values["mean_km"].double_val) == (5, 2.5)
    write(store, (1, 8, NOON + HOUR, None), (2, 9, NOON + HOUR, None), writer=stock)
    assert read(store, 1, 2) == [(8, PRESENT, NOON + HOUR), (9, PRESENT, NOON + HOUR)]
    write(store, (1, 4, NOON + HOUR / 2, NOON + 2 * HOUR))
    assert read(store, 1)[0][0] == 8


def online_key(driver: int) -> Any:
    return EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=driver)])


def test_redis_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "${SOME_REDIS:-127.0.0.1:6379},db=2"
    assert BulkRedisOnlineStoreConfig(connection_string=text).connection_string == (
        "127.0.0.1:6379,db=2"
    )
    monkeypatch.setenv("SOME_REDIS", "redis.example:6380")
    assert BulkRedisOnlineStoreConfig(connection_string=text).connection_string == (
        "redis.example:6380,db=2"
    )


def test_a_feature_added_later_is_never_taken_from_an_older_row(
    open_with: Open, tmp_path: Path
) -> None:
    store = open_with()
    write(store, (1, 5, NOON, NOON))
    view = trips(tmp_path)
    assert [field.name for field in view.features] == ["count", "mean_km"]
    older = [(online_key(1), {"speed": _double(3.0)}, NOON - HOUR, None)]
    online(store).online_write_batch(store.config, store.get_feature_view("trips"), older, None)
    _, values = online(store).online_read(
        store.config, store.get_feature_view("trips"), [online_key(1)], ["count", "speed"]
    )[0]
    assert values is not None
    assert values["count"].int64_val == 5
    assert "speed" not in values or values["speed"].WhichOneof("val") is None


def _double(value: float) -> Any:
    return Value(double_val=value)
