"""The reader on both stores: what it answers, and what it refuses."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from feast import FeatureStore

from stores.reader import Answer, BadRequest, OnlineReader, OnlineStoreAway, open_reader
from tests.stores.example import NOON, open_example, trips, write
from tests.stores.wide_example import open_wide, write_row

PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = 1, 3, 4
NOW = datetime.now(UTC).replace(microsecond=0)  # as Feast keeps a time that is a value
REFS = ["trips:count", "trips:mean_km"]


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStore:
    kind: dict[str, Any] = {
        "type": "stores.sqlite.BulkSqliteOnlineStore",
        "path": str(tmp_path / "on.db"),
    }
    if request.param == "redis":
        address = request.getfixturevalue("redis_address")
        host, port = address.split(":")
        redis.Redis(host=host, port=int(port)).flushall()
        kind = {"type": "stores.redis.BulkRedisOnlineStore", "connection_string": address}
    return open_example(tmp_path, kind | {"age_from": "newest"})


async def once(reader: OnlineReader, entities: dict[str, Any]) -> Answer:
    answer = await reader.read_async(entities)
    await reader.close_async()
    return answer


def test_values_status_and_age_of_each_row(store: FeatureStore) -> None:
    write(store, (1, 5, NOON, NOON), (2, None, NOON, None), (3, 7, NOON - timedelta(hours=2), None))
    reader = open_reader(store, REFS)
    for answer in (
        reader.read({"driver_id": [1, 2, 3, 9, 1]}),
        asyncio.run(once(reader, {"driver_id": [1, 2, 3, 9, 1]})),
    ):
        nan = np.nan
        assert answer.names == ("count", "mean_km")
        np.testing.assert_array_equal(
            answer.matrix, [[5, 2.5], [nan, nan], [nan, nan], [nan, nan], [5, 2.5]]
        )
        assert answer.matrix.flags.c_contiguous
        assert answer.status[:, 0].tolist() == [
            PRESENT,
            PRESENT,
            OUTSIDE_MAX_AGE,
            NOT_FOUND,
            PRESENT,
        ]
        np.testing.assert_array_equal(answer.age_s[:, 1], [0, 0, 7200, nan, 0])
        assert answer.to_arrow().to_pydict()["count"] == [5, None, None, None, 5]
        assert answer.to_dict()["mean_km"] == [2.5, None, None, None, 2.5]
    reader.close()


@pytest.mark.parametrize(
    ("entities", "said"),
    [
        ({}, "missing driver_id; needed: driver_id; given: nothing"),
        ({"driver": [1]}, "missing driver_id; needed: driver_id; given: driver"),
        ({"driver_id": [1, None]}, "join key driver_id: row 1 is null; allowed: INT64"),
        ({"driver_id": [1, "a"]}, "join key driver_id: row 1 is 'a' of type str; allowed: INT64"),
        ({"driver_id": [2**63]}, "join key driver_id: row 0 is 9223372036854775808 of type int"),
    ],
)
def test_a_bad_request_names_the_thing(
    store: FeatureStore, entities: dict[str, Any], said: str
) -> None:
    reader: OnlineReader = open_reader(store, REFS)
    with pytest.raises(BadRequest, match=said):
        reader.read(entities)


def test_no_rows_are_an_empty_answer(store: FeatureStore) -> None:
    with open_reader(store, REFS) as reader:
        answer = reader.read({"driver_id": []})
        shapes = [a.shape for a in (answer.matrix, answer.status, answer.event_us, answer.age_s)]
        assert shapes == [(0, 2)] * 4
        assert (answer.to_arrow().num_rows, answer.to_dict()) == (0, {"count": [], "mean_km": []})


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_keys_may_be_an_array_and_other_columns_are_left_alone(
    store: FeatureStore, kind: Any
) -> None:
    write(store, (1, 5, NOON, NOON))
    with open_reader(store, REFS) as reader:
        answer = reader.read({"driver_id": np.array([1, 2], kind), "label": ["a"]})
        assert answer.status[:, 0].tolist() == [PRESENT, NOT_FOUND]
        assert reader.read({"driver_id": (np.int64(1),)}).matrix.tolist() == [[5, 2.5]]


def test_features_come_in_the_order_asked(store: FeatureStore) -> None:
    write(store, (1, 5, NOON, NOON))
    with open_reader(store, REFS[::-1], full_feature_names=True) as reader:
        assert reader.names == ("trips__mean_km", "trips__count")
        answer = reader.read({"driver_id": [1]})
        assert answer.matrix.tolist() == [[2.5, 5]]
        assert answer.matrix.flags.c_contiguous


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (["trips:speed"], "speed"),
        (["flights:count"], "flights"),
        ("serviced", "serviced"),
        ([], "No features"),
    ],
)
def test_what_is_not_registered_is_named(store: FeatureStore, features: Any, said: str) -> None:
    with pytest.raises(Exception, match=said):
        open_reader(store, features)


def test_a_changed_definition_makes_a_reader_stale(store: FeatureStore, tmp_path: Path) -> None:
    with open_reader(store, REFS) as reader:
        write(store, (1, 5, NOON, NOON))
        assert not reader.stale(store)
        store.apply([trips(tmp_path, ttl=timedelta(hours=2))])
        assert reader.stale(store)
        assert not open_reader(store, REFS).stale(store)


def test_only_numbers_make_a_matrix_and_others_are_typed(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "wide_on.db")
    wide = open_wide(tmp_path, {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": path})
    write_row(wide, "zones", ["a"], {"size": 2.0, "label": "x", "shape": [1.0, 2.0]}, NOW)
    write_row(wide, "visits", [1, "a"], {"last": NOW, "code": b"\x00", "minutes": 3.0}, NOW)
    refs = ["zones:label", "zones:shape", "visits:last", "visits:code", "zones:size"]
    with open_reader(wide, refs) as reader:
        answer = reader.read({"driver_id": [1, 1], "zone_id": ["a", "b"]})
        with pytest.raises(TypeError, match=r"no numbers: label \(STRING\), shape \(DOUBLE_LIST\)"):
            _ = answer.matrix
        found = answer.to_arrow()
        assert [str(kind) for kind in found.schema.types] == [
            "string",
            "list<item: double>",
            "timestamp[us, tz=UTC]",
            "binary",
            "double",
        ]
        assert found.to_pylist()[0] == {
            "label": "x",
            "shape": [1.0, 2.0],
            "last": NOW,
            "code": b"\x00",
            "size": 2.0,
        }
        assert set(found.to_pylist()[1].values()) == {None}
    with open_reader(wide, ["weather:rain"]) as reader:  # a view without an entity
        assert reader.read({}).status.tolist() == [[NOT_FOUND]]
        write_row(wide, "weather", [], {"rain": 0.5}, NOW)
        assert reader.read({"any": [1, 2, 3]}).matrix.tolist() == [[0.5]] * 3


def test_request_data_is_asked_for_by_name(tmp_path: Path) -> None:
    path = str(tmp_path / "wide_on.db")
    wide = open_wide(tmp_path, {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": path})
    with open_reader(wide, "numbers") as reader:
        with pytest.raises(BadRequest, match="missing hour; needed: driver_id, zone_id, hour"):
            reader.read({"driver_id": [1], "zone_id": ["a"]})
        with pytest.raises(BadRequest, match=r"columns of different lengths: .*'hour': 2"):
            reader.read({"driver_id": [1], "zone_id": ["a"], "hour": [1, 2]})


def test_a_missing_file_or_table_is_away(tmp_path: Path) -> None:
    path = tmp_path / "wide_on.db"
    kind = {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": str(path)}
    wide = open_wide(tmp_path, kind)
    with open_reader(wide, ["weather:rain"]) as reader:
        online: Any = wide._get_provider().online_store
        with online._get_conn(wide.config) as connection:
            connection.execute("DROP TABLE wide_weather")
        with pytest.raises(
            OnlineStoreAway, match=r"wide_on.db is away.*no such table: wide_weather"
        ):
            reader.read({})
    wide.config.online_store.path = str(tmp_path / "nowhere.db")
    with (
        open_reader(wide, ["weather:rain"]) as reader,
        pytest.raises(OnlineStoreAway, match=r"nowhere.db is away.*unable to open database file"),
    ):
        reader.read({})


def test_threads_read_sqlite_while_it_is_written(tmp_path: Path) -> None:
    kind = {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": str(tmp_path / "on.db")}
    store = open_example(tmp_path, kind | {"age_from": "newest"})
    write(store, (1, 0, NOON, NOON))
    reader = open_reader(store, REFS)

    def work() -> list[float]:
        seen = []
        for _ in range(100):
            count, mean = reader.read({"driver_id": [1]}).matrix[0].tolist()
            assert mean == count / 2  # a row is either before or after
            seen.append(count)
        reader.close()
        return seen

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(work) for _ in range(8)]
        for turn in range(1, 30):
            write(store, (1, turn, NOON + turn * timedelta(seconds=1), None))
        for done in asked:
            assert done.result() == sorted(done.result())


def test_a_hidden_input_of_the_same_name_is_not_mistaken(tmp_path: Path) -> None:
    kind = {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": str(tmp_path / "on.db")}
    wide = open_wide(tmp_path, kind)
    write_row(wide, "zones", ["a"], {"size": 2.0, "label": "x", "shape": [1.0]}, NOW)
    write_row(wide, "weather", [], {"rain": 0.5, "size": 9.0}, NOW)
    for refs in (["weather:size", "doubled:double_size"], ["doubled:double_size", "weather:size"]):
        with open_reader(wide, refs) as reader:
            answer = reader.read({"zone_id": ["a", "b"]})
            wanted = {"size": [9.0, 9.0], "double_size": [4.0, None]}
            assert answer.to_dict() == wanted
            assert answer.to_arrow().to_pydict() == wanted
            assert answer.matrix[:, refs.index("weather:size")].tolist() == [9, 9]


def test_a_reader_of_any_type_is_not_stale_by_itself(tmp_path: Path) -> None:
    kind = {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": str(tmp_path / "on.db")}
    wide = open_wide(tmp_path, kind)
    with open_reader(wide, "all") as reader:
        assert not reader.stale(wide)
        assert not reader.stale(FeatureStore(repo_path=str(tmp_path), config=wide.config))
        wide.delete_feature_service("all")
        assert reader.stale(wide)
