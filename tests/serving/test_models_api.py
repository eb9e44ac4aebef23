"""Which models there are, what proves them, and whether the service is ready, over real HTTP."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from serving.models_api import importance
from serving.models_part import ModelsPart
from serving.state import Service
from tests.conftest import World
from tests.serving.core_kit import NAMES, small_bundle
from tests.serving.models_kit import Place, copied, place_of, registered, served


@pytest.fixture(scope="module")
def place(small_world: World, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place_of(small_world, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def running_service(place: Place) -> Iterator[tuple[httpx.Client, Service]]:
    with served(place) as found:
        yield found


@pytest.fixture
def client(running_service: tuple[httpx.Client, Service]) -> httpx.Client:
    return running_service[0]


def checks(client: httpx.Client) -> tuple[int, dict[str, str]]:
    reply = client.get("/health/ready")
    return reply.status_code, {one["name"]: one["state"] for one in reply.json()["checks"]}


def test_the_models_are_those_of_the_registry_and_the_live_one_is_marked(
    client: httpx.Client,
) -> None:
    content = client.get("/api/models").json()
    assert content["live"]["name"] == "qos" and content["live"]["version"] == "1"
    assert content["live"]["service"] == "qos_v1"
    assert [(one["version"], one["aliases"], one["live"]) for one in content["versions"]] == [
        (1, ["champion"], True)
    ]
    assert content["versions"][0]["digest"] == content["live"]["digest"]


@pytest.mark.parametrize("version", ["1", "champion", "live"])
def test_a_version_is_found_by_number_alias_or_as_the_live_one(
    client: httpx.Client, version: str
) -> None:
    content = client.get(f"/api/models/{version}").json()
    assert content["entry"]["version"] == 1 and content["features"] == NAMES
    assert content["metrics"]["qos_met"]["gain_low"] == 0.05
    assert content["parts"]["qos_met"]["train"]["rows"] == 100


@pytest.mark.parametrize("version", ["2", "challenger", "1e9", "a'b", "%2e%2e", "ⅷ", "x" * 300])
def test_an_unknown_version_is_a_404_that_says_so(client: httpx.Client, version: str) -> None:
    reply = client.get(f"/api/models/{version}")
    assert reply.status_code == 404, reply.text
    assert reply.headers["content-type"] == "application/problem+json"


def test_importance_is_the_share_of_the_gain_in_order(client: httpx.Client) -> None:
    content = client.get("/api/feature-importance", params={"task": "qos_met", "top": 5}).json()
    shares = [one["gain"] for one in content["features"]]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
    every = importance(small_bundle(), "qos_met")
    assert np.isclose(sum(one.gain for one in every), 1.0)
    assert {one.feature for one in every} == set(NAMES)
    assert every[0].feature == content["features"][0]["feature"]
    assert client.get("/api/feature-importance?task=none").status_code == 404
    assert client.get("/api/feature-importance?top=0").status_code == 422


def test_a_proven_model_is_said_to_be_proven(client: httpx.Client) -> None:
    content = client.get("/api/model-health").json()
    assert (content["status"], content["reasons"]) == ("proven", [])
    assert content["age_s"] >= 0 and content["registered_at"].endswith("Z")
    assert (content["drift"], content["outcomes"]) == (None, None)  # nobody watches here


def test_a_service_in_agreement_is_ready_and_well(client: httpx.Client) -> None:
    assert checks(client) == (
        200,
        {name: "ok" for name in ("model", "registry", "catalog", "service", "store", "freshness")},
    )
    content = client.get("/api/health").json()
    assert (content["status"], content["version"]) == ("ok", "qos/1")
    assert client.get("/health/live").json() == {"status": "alive"}


def test_another_champion_or_another_bundle_is_not_ready(place: Place, tmp_path: Path) -> None:
    own = copied(place, tmp_path / "a")
    with served(own) as (client, service):
        assert checks(client)[0] == 200
        registered(own.uri, seed=6, alias="champion")
        forget(service)
        status, found = checks(client)
        assert status == 503 and found["registry"] == "bad"
        told = [one["told"] for one in client.get("/health/ready").json()["checks"]]
        assert "qos@champion now means version 2, qos/1 answers" in told
        assert client.get("/api/health").json()["status"] == "degraded"
        assert client.get("/api/models").json()["versions"][0]["version"] == 2
        with sqlite3.connect(tmp_path / "a" / "mlflow.db") as database:
            database.execute("UPDATE model_version_tags SET value = 'other' WHERE version = 1")
        database.close()
        forget(service)
        assert checks(client)[1]["registry"] == "bad"
        told = [one["told"] for one in client.get("/health/ready").json()["checks"]]
        assert "it has no qos/1 with the bundle in use" in told


def test_a_registry_that_is_away_is_a_503_of_its_routes_and_no_reason_to_stop(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "broken.db").write_text("no database" * 100)
    with served(copied(place, tmp_path / "b")) as (client, service):
        part_of(service).readiness.registered.uri = f"sqlite:///{tmp_path}/broken.db"
        reply = client.get("/api/models")
        assert reply.status_code == 503 and reply.headers["retry-after"] == "5"
        assert reply.headers["content-type"] == "application/problem+json"
        status, found = checks(client)
        assert (status, found["registry"]) == (200, "unknown")
        content = client.get("/api/model-health").json()
        assert content["status"] == "unknown"
        assert content["reasons"][0].startswith("the registry does not answer")


def test_a_stale_store_or_one_that_is_away_is_not_ready(place: Place, tmp_path: Path) -> None:
    own = copied(place, tmp_path / "c", store=True)
    with served(own) as (client, service):
        readiness = part_of(service).readiness
        assert checks(client)[0] == 200
        readiness.fresh_s = -1.0
        forget(service)
        status, found = checks(client)
        assert (status, found["freshness"], found["store"]) == (503, "bad", "ok")
        (own.repo.parent / ".qos" / "online.db").write_bytes(b"no database" * 10_000)
        forget(service)
        status, found = checks(client)
        assert status == 503 and found["store"] == "bad"


def test_a_model_of_another_catalog_is_not_ready(place: Place, tmp_path: Path) -> None:
    own = copied(place, tmp_path / "d")
    with served(own) as (client, service):
        service.live.bundle.manifest["catalog_hash"] = "0" * 16
        forget(service)
        status, found = checks(client)
        assert (status, found["catalog"]) == (503, "bad")


def part_of(service: Service) -> ModelsPart:
    return next(
        owner
        for start in service.started
        if isinstance(owner := getattr(start, "__self__", None), ModelsPart)
    )


def forget(service: Service) -> None:
    """What was remembered of registry and checks, so that a test need not wait for it to pass."""
    readiness = part_of(service).readiness
    readiness._until = 0.0
    readiness.registered._kept.clear()
