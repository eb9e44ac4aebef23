"""The network's exposure function and the decision service, each real, over HTTP."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from models.bundle import Bundle
from nef.server.decision import question
from serving.keys import key_hash, new_key
from serving.service import service_app
from serving.settings import read_settings
from tests.conftest import World
from tests.nef.server_kit import Server, nef_server
from tests.serving.core_kit import wired_on

PATH = "/api/v1/ml/handover"


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, small_world: World
) -> dict[str, Any]:
    """Settings of a service with a small model and a filled store."""
    return wired_on(tmp_path_factory.mktemp("meeting"), bundle, small_world)


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def service_on(port: int, places: dict[str, Any]) -> Iterator[str]:
    """The decision service at that port; left, nobody listens there any more."""
    app = service_app(read_settings(**places))
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_config=None, access_log=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the service did not end"


def counted(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    return sum(
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    )


def fallbacks(nef: Server, reason: str) -> float:
    text = nef.client.get("/metrics").text
    return counted(text, "nef_handover_fallback_total", reason=reason)


def ask(nef: Server, supi: str) -> dict[str, Any]:
    """What the network decides about a UE."""
    reply = nef.client.post(PATH, params={"ue_id": supi})
    assert reply.status_code == 200, reply.text
    return reply.json()  # type: ignore[no-any-return]


def all_asked(nef: Server) -> list[dict[str, Any]]:
    """The same of every UE that is served."""
    states = nef.client.get("/api/v1/ue_movement/state-ues").json()
    return [ask(nef, supi) for supi, state in states.items() if state["cell_id_hex"]]


@contextmanager
def network(port: int, **changes: Any) -> Iterator[Server]:
    """A network of which nothing moves by itself, that asks the service at the port."""
    with nef_server(
        decision_url=f"http://127.0.0.1:{port}/api/predict-with-qos", network_handovers=False,
        speed=0, decision_timeout_s=20.0, ues=16, **changes,
    ) as server:  # fmt: skip
        server.pass_seconds(5)
        yield server


@pytest.fixture
def nef(port: int) -> Iterator[Server]:
    """Such a network, without a key."""
    with network(port) as server:
        yield server


def asked_directly(nef: Server, url: str, supi: str) -> dict[str, Any]:
    """What the service answers to the network's own question."""
    reply = httpx.post(f"{url}/api/predict-with-qos", json=question(nef.nef, supi), timeout=20)
    assert reply.status_code == 200, reply.text
    return reply.json()  # type: ignore[no-any-return]


def test_the_service_decides_a_handover(nef: Server, places: dict[str, Any], port: int) -> None:
    with service_on(port, places) as url:
        found = all_asked(nef)
        metrics = httpx.get(f"{url}/metrics").text
        decided = [one for one in found if one["by"] == "decision_service"]
        moved = next(one for one in decided if one["applied"])
        answer = asked_directly(nef, url, moved["ue_id"])
    assert counted(metrics, "ml_prediction_requests_total", status="decided") == len(found)
    assert {view["status"] for view in answer["features"].values()} >= {"present"}
    scored = {one["cell_id"]: one["confidence"] for one in answer["candidates"]}
    assert moved["confidence"] == pytest.approx(scored[moved["to"]], abs=1e-9)
    assert scored[moved["to"]] == max(scored.values()) > scored[moved["from"]]
    assert moved["confidence"] >= answer["required_confidence"]
    nef.pass_seconds(2)
    state = nef.client.get(f"/api/v1/UEs/{moved['ue_id']}/state").json()
    assert state["cell_id_hex"] == moved["to"] != moved["from"]


def test_a_service_that_is_not_sure_leaves_it_to_a3(
    nef: Server, places: dict[str, Any], port: int
) -> None:
    with service_on(port, places | {"confidence_floor": 0.99}):
        found = all_asked(nef)
    unsure = [one for one in found if one["by"] == "a3"]
    assert unsure and {one["reason"] for one in unsure} == {"qos_compliance"}
    assert fallbacks(nef, "qos_compliance") == len(unsure)
    assert fallbacks(nef, "unavailable") == 0


def test_without_the_service_a3_decides_until_it_is_back(
    nef: Server, places: dict[str, Any], port: int
) -> None:
    with service_on(port, places):
        assert "decision_service" in {one["by"] for one in all_asked(nef)}
    before = fallbacks(nef, "unavailable")
    nef.pass_seconds(20)
    away = all_asked(nef)
    assert before == 0 and len(away) >= 8
    assert {(one["by"], one["reason"], one["confidence"]) for one in away} == {
        ("a3", "unavailable", None)
    }
    assert fallbacks(nef, "unavailable") == len(away)
    with service_on(port, places):
        back = all_asked(nef)
    assert "decision_service" in {one["by"] for one in back}
    assert "unavailable" not in {one["reason"] for one in back}
    assert fallbacks(nef, "unavailable") == len(away)


def test_a_service_with_keys_decides_for_the_network_that_has_one(
    places: dict[str, Any], port: int
) -> None:
    key = new_key()
    keys = {"nef": {"roles": ["predict"], "sha256": key_hash(key)}}
    with service_on(port, places | {"auth": "on", "api_keys": keys}) as url:
        with network(port, decision_key=key) as nef:
            found = all_asked(nef)
            assert fallbacks(nef, "not_allowed") == 0
        anonymous = httpx.post(f"{url}/api/predict-with-qos", json={"ue_id": "a"}, timeout=20)
    assert anonymous.status_code == 401
    assert "decision_service" in {one["by"] for one in found}
    assert {one["reason"] for one in found} <= {None, "qos_compliance"}


@pytest.mark.parametrize("roles", [None, ["feedback"]], ids=["unknown key", "key of another role"])
def test_with_a_wrong_key_a3_decides_and_it_is_counted(
    places: dict[str, Any], port: int, roles: list[str] | None
) -> None:
    right, wrong = new_key(), new_key()
    keys = {"nef": {"roles": ["predict"], "sha256": key_hash(right)}}
    if roles is not None:
        keys["other"] = {"roles": roles, "sha256": key_hash(wrong)}
    with service_on(port, places | {"auth": "on", "api_keys": keys}):
        with network(port, decision_key=wrong) as nef:
            found = all_asked(nef)
            assert len(found) >= 8 and fallbacks(nef, "not_allowed") == len(found)
    assert {(one["by"], one["reason"], one["confidence"]) for one in found} == {
        ("a3", "not_allowed", None)
    }
