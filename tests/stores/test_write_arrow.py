"""Laws of writing Arrow rows, on both online stores, each on the real thing."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis
from feast import FeatureStore

from tests.stores.example import NOON, online, open_example, read

Open = Callable[..., FeatureStore]
TIME = pa.timestamp("us", tz="UTC")


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStore:
    """The example on one of the stores, empty."""
    kind = {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": str(tmp_path / "on.db")}
    if request.param == "redis":
        address = request.getfixturevalue("redis_address")
        redis.Redis.from_url(f"redis://{address}").flushall()
        kind = {"type": "stores.redis.BulkRedisOnlineStore", "connection_string": address}
    return open_example(tmp_path, kind | {"enforce_ttl": False})


def rows_of(*rows: tuple[int, int | None, datetime, datetime | None]) -> pa.Table:
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


def put(store: FeatureStore, rows: pa.Table) -> int:
    writer: Any = online(store)
    return int(writer.write_arrow(store.config, store.get_feature_view("trips"), rows))


def test_no_chunk_is_lost_and_a_rerun_writes_nothing(store: FeatureStore) -> None:
    rows = pa.concat_tables(rows_of((n, n, NOON, NOON)) for n in range(20))
    assert put(store, rows) == 20
    assert [count for count, _, _ in read(store, *range(20))] == list(range(20))
    assert put(store, rows) == 0
