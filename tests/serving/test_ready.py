"""Model, registry, definitions and store that disagree make the service not ready, and not dead."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from feature_repo.store import open_store
from lifecycle.registry import open_registry
from serving.service import service_app
from serving.settings import read_settings
from tests.conftest import World
from tests.serving.core_kit import running
from tests.serving.models_kit import Place, copied, place_of, registered

Fault = Callable[[FastAPI, Place], None]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small_world: World) -> Place:
    """Read only."""
    return place_of(small_world, tmp_path_factory.mktemp("ready") / "place")


@pytest.fixture
def own(place: Place, tmp_path: Path) -> Iterator[Place]:
    yield copied(place, tmp_path / "own", store=True)


def app_of(own: Place, **changed: Any) -> FastAPI:
    """As `python -m serving` runs it, with the registry's champion."""
    settings = read_settings(
        model="qos@champion", registry_uri=own.uri, repo=own.repo, data=own.folder / "data",
        store_s=5.0, log_level="error", rates_on=False, **changed,
    )  # fmt: skip
    return service_app(settings)


def checks(client: httpx.Client) -> tuple[int, dict[str, str], dict[str, str]]:
    """Status, and of each check its state and what it tells."""
    reply = client.get("/health/ready")
    found = reply.json()["checks"]
    states = {one["name"]: one["state"] for one in found}
    return reply.status_code, states, {one["name"]: one["told"] for one in found}


def another_catalog(app: FastAPI, own: Place) -> None:
    live = app.state.service.live
    bundle = replace(live.bundle, manifest=live.bundle.manifest | {"catalog_hash": "0" * 16})
    app.state.service.live = replace(live, bundle=bundle)


def another_service(app: FastAPI, own: Place) -> None:
    store = open_store("embedded", own.repo)
    service = store.get_feature_service("qos_v1")
    service.feature_view_projections.pop(0)
    store.registry.apply_feature_service(service, store.project)


def another_champion(app: FastAPI, own: Place) -> None:
    registered(own.uri, seed=6, alias="champion")


def another_bundle(app: FastAPI, own: Place) -> None:
    client = open_registry(own.uri).client
    client.set_model_version_tag("qos", "1", "bundle_digest", "other")


def no_store(app: FastAPI, own: Place) -> None:
    (own.repo.parent / ".qos" / "online.db").write_bytes(b"no database" * 10_000)


@pytest.mark.parametrize(
    ("fault", "check", "told"),
    [
        (another_catalog, "catalog", "model: 0000000000000000, definitions: "),
        (another_service, "service", "feature store: service 'qos_v1' has "),
        (another_champion, "registry", "qos@champion now means version 2, qos/1 answers"),
        (another_bundle, "registry", "it has no qos/1 with the bundle in use"),
        (no_store, "store", "it gives no features: "),
    ],
)
def test_a_disagreement_is_not_ready_says_which_and_stays_alive(
    own: Place, fault: Fault, check: str, told: str
) -> None:
    app = app_of(own)
    fault(app, own)
    with running(app) as client:
        status, states, why = checks(client)
        assert status == 503
        assert [name for name, state in states.items() if state == "bad"] == [check]
        assert why[check].startswith(told)
        live = client.get("/health/live")
        assert (live.status_code, live.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize(
    ("fresh_s", "state", "status"), [(0.001, "bad", 503), (1e9, "ok", 200), (0.0, "ok", 200)]
)
def test_the_newest_rows_age_is_held_against_the_setting(
    own: Place, fresh_s: float, state: str, status: int
) -> None:
    with running(app_of(own, fresh_s=fresh_s)) as client:
        found, states, why = checks(client)
        assert (found, states["freshness"]) == (status, state), why
        assert client.get("/health/live").status_code == 200
