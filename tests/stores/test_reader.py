"""The reader on both stores: what it answers, and what it refuses."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from feast import FeatureStore

from stores.reader import Answer, BadRequest, OnlineReader, open_reader
from tests.stores.example import NOON, open_example, write

PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = 1, 3, 4
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
