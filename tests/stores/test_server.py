"""The feature server answers as Feast's own does, on the same stores."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
import redis
from feast import FeatureStore
from feast.errors import FeatureViewNotFoundException
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from stores.http_json import parse
from stores.served import CompiledRead, FeastRead, Reads
from stores.server import Limits
from stores.server_app import FeatureServer
from tests.served import served
from tests.stores.server_example import DTYPES, NOON, feast_serve, open_rides

PATH = "/get-online-features"
EVERY = [f"everything:{name}" for name in DTYPES]
REQUESTS: dict[str, dict[str, Any]] = {
    "present, null, aged and missing, all dtypes": {
        "features": EVERY,
        "entities": {"driver_id": [1, 2, 3, 9]},
    },
    "one row": {"features": EVERY, "entities": {"driver_id": [1]}},
    "the same key again": {"features": EVERY, "entities": {"driver_id": [2, 1, 2, 9, 1, 9] * 9}},
    "full names": {
        "features": ["everything:f64", "ride:km"],
        "entities": {"driver_id": [1, 2], "zone_id": ["a", "c"]},
        "full_feature_names": True,
    },
    "a service with on-demand features": {
        "feature_service": "all",
        "entities": {
            "driver_id": [1, 2, 2],
            "zone_id": ["a", "b", "c"],
            "wanted_km": [1.0, 9.5, 0.0],
        },
    },
    "its full names": {
        "feature_service": "all",
        "entities": {"driver_id": [1, 2], "zone_id": ["a", "b"], "wanted_km": [1.0, 9.5]},
        "full_feature_names": True,
    },
    "aliases": {
        "feature_service": "two_drivers",
        "entities": {"driver_id": [1, 2], "other_id": [2, 9]},
        "full_feature_names": True,
    },
    "columns that no feature needs": {
        "features": ["ride:rides"],
        "entities": {"zone_id": ["a"], "driver_id": [1], "colour": ["red"]},
    },
    "an entity by its name": {"features": ["everything:i64"], "entities": {"driver": [1, 9]}},
    "versions": {
        "features": ["everything:i64", "ride:km"],
        "entities": {"driver_id": [1], "zone_id": ["a"]},
        "include_feature_view_version_metadata": True,
    },
    "no entity": {"features": ["city:load"], "entities": {"driver_id": [1, 2]}},
}


@pytest.fixture(scope="module", params=["redis", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("rides")
    kind: dict[str, Any] = {
        "type": "stores.sqlite.BulkSqliteOnlineStore",
        "path": str(folder / "on.db"),
    }
    if request.param == "redis":
        address = request.getfixturevalue("redis_address")
        redis.Redis.from_url(f"redis://{address}").flushall()
        kind = {"type": "stores.redis.BulkRedisOnlineStore", "connection_string": address}
    return open_rides(folder, kind | {"age_from": "newest"})


@pytest.fixture(scope="module")
def feasts(store: FeatureStore) -> Iterator[str]:
    with feast_serve(store.repo_path) as address:
        yield address


@pytest.fixture(scope="module")
def ours(store: FeatureStore) -> Iterator[str]:
    with served(FeatureServer(store, Limits())) as address:
        yield address


def columns(answer: dict[str, Any]) -> dict[str, Any]:
    names = answer["metadata"]["feature_names"]
    return dict(zip(names, answer["results"], strict=True))


@pytest.mark.filterwarnings("ignore:Using entity name is deprecated")
@pytest.mark.parametrize("request_name", REQUESTS)
def test_answers_are_those_of_feasts_server(feasts: str, ours: str, request_name: str) -> None:
    asked = REQUESTS[request_name]
    expected, found = (httpx.post(address + PATH, json=asked) for address in (feasts, ours))
    assert (expected.status_code, found.status_code) == (200, 200), (expected.text, found.text)
    assert found.headers["content-type"] == expected.headers["content-type"]
    assert found.json().keys() == expected.json().keys()
    assert columns(found.json()) == columns(expected.json())
    views = [answer.json()["metadata"].get("feature_view_metadata") for answer in (expected, found)]
    assert sorted(views[0] or [], key=str) == sorted(views[1] or [], key=str)


@pytest.mark.filterwarnings("ignore:Using entity name is deprecated")
def test_feasts_read_and_the_compiled_one_agree(store: FeatureStore) -> None:
    async def both(request: dict[str, Any]) -> list[Any]:
        asked = parse(json.dumps(request).encode(), 99)
        reads = Reads(store, 64)
        compiled = await reads.of(asked)
        assert isinstance(compiled, CompiledRead)
        feasts = FeastRead(store, asked.features, asked.full_feature_names)
        found = [await read.answer(asked) for read in (compiled, feasts)]
        await reads.close()
        return [columns(orjson.loads(served.body)) for served in found]

    for request in REQUESTS.values():
        compiled, feasts = asyncio.run(both(request))
        assert compiled == feasts


def test_no_rows_are_an_empty_answer(ours: str) -> None:
    asked = {"features": ["everything:i64"], "entities": {"driver_id": []}}
    found = httpx.post(ours + PATH, json=asked).json()
    assert columns(found)["i64"] == {"values": [], "statuses": [], "event_timestamps": []}


def test_whole_numbers_among_request_data_leave_the_others_whole(ours: str) -> None:
    asked = {
        "features": ["margins:margin"],
        "entities": {"driver_id": [1, 2], "zone_id": ["a", "b"], "wanted_km": [1, 9.5]},
    }
    found = httpx.post(ours + PATH, json=asked).json()
    assert columns(found)["margin"]["values"] == [3.0, -3.0]


@pytest.fixture
def remote(store: FeatureStore, ours: str) -> FeatureStore:
    """Feast's own client of a remote online store, on our server."""
    profile = store.repo_path / "remote.yaml"
    online = {"online_store": {"type": "remote", "path": ours}}
    text = (store.repo_path / "feature_store.yaml").read_text(encoding="utf-8")
    profile.write_text(json.dumps(json.loads(text) | online), encoding="utf-8")
    return FeatureStore(repo_path=str(store.repo_path), fs_yaml_file=profile)


def test_feasts_remote_store_reads_through_ours(store: FeatureStore, remote: FeatureStore) -> None:
    rows = {"driver_id": [1, 2, 3, 9], "zone_id": ["a", "b", "b", "b"], "wanted_km": [1.0] * 4}
    service = store.get_feature_service("all")
    expected = store.get_online_features(service, rows)
    found = remote.get_online_features(service, rows)
    names = ["driver_id", "zone_id", "i64", "km", "margin", "load"]
    assert {n: found.to_dict()[n] for n in names} == {n: expected.to_dict()[n] for n in names}

    def statuses(answer: Any) -> dict[str, list[int]]:
        names = answer.metadata.feature_names.val
        return {n: list(v.statuses) for n, v in zip(names, answer.results, strict=True)}

    assert statuses(found.proto) == statuses(expected.proto)


def test_feasts_remote_store_reads_single_views(store: FeatureStore, remote: FeatureStore) -> None:
    view = store.get_feature_view("everything")
    keys = [
        EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=driver)])
        for driver in (1, 9)
    ]
    online: Any = remote._get_provider().online_store
    (time, values), (_, missing) = online.online_read(remote.config, view, keys, ["i64", "text"])
    assert time == NOON + timedelta(microseconds=1500)
    assert (values["i64"].int64_val, values["text"].string_val) == (-(2**62), "né\n")
    assert missing["i64"].WhichOneof("val") is None


def test_feasts_remote_store_raises_feasts_own_errors(remote: FeatureStore) -> None:
    with pytest.raises(FeatureViewNotFoundException, match="nope"):
        remote._get_provider().get_online_features(  # type: ignore[attr-defined]
            remote.config, ["nope:f"], {"driver_id": [1]}, remote.registry, remote.project
        )
