"""The feature server answers as Feast's own, on real stores."""

from pathlib import Path

import httpx
import pytest
from feast import FeatureStore

from stores.server import FeatureServer, Limits
from tests.stores.example import NOON, open_example, write

PATH = "/get-online-features"


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    opened = open_example(
        tmp_path,
        {
            "type": "stores.sqlite.BulkSqliteOnlineStore",
            "path": str(tmp_path / "on.db"),
            "age_from": "newest",
        },
    )
    write(opened, (1, 5, NOON, NOON), (2, None, NOON, NOON))
    return opened


def client(store: FeatureStore, **limits: float) -> httpx.AsyncClient:
    app = FeatureServer(store, Limits(**limits))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


async def _ask(store: FeatureStore, **request: object) -> httpx.Response:
    async with client(store) as ours:
        return await ours.post(PATH, json=request)


def test_present_null_and_missing(store: FeatureStore) -> None:
    import asyncio

    found = asyncio.run(
        _ask(store, features=["trips:count"], entities={"driver_id": [1, 2, 9]})
    ).json()
    assert found["metadata"]["feature_names"] == ["driver_id", "count"]
    assert found["results"][1]["values"] == [5, None, None]
    assert found["results"][1]["statuses"] == ["PRESENT", "PRESENT", "NOT_FOUND"]
