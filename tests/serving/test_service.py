"""The whole service as `python -m serving` runs it, asked through the client, over loopback."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from lifecycle.pseudonym import pseudonym
from models.bundle import Bundle
from serving.client import (
    Access,
    AsyncDecisionClient,
    Call,
    DecisionClient,
    DecisionServiceError,
    explain,
    get,
    post,
    tell_qos,
)
from serving.requests import PredictRequest
from serving.service import service_app
from serving.settings import read_settings
from tests.conftest import World
from tests.serving.core_kit import KEY, busiest, running, wired_on
from tests.serving.guard_kit import KEYS, PASSWORD, secured


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, small_world: World
) -> dict[str, Any]:
    """Settings of a service with a small model and a filled store."""
    return wired_on(tmp_path_factory.mktemp("service"), bundle, small_world)


@pytest.fixture(scope="module")
def app(places: dict[str, Any]) -> FastAPI:
    return service_app(read_settings(**places))


@pytest.fixture(scope="module")
def http(app: FastAPI) -> Iterator[httpx.Client]:
    with running(app) as client:
        yield client


@pytest.fixture(scope="module")
def service(http: httpx.Client) -> Iterator[DecisionClient]:
    with DecisionClient(str(http.base_url), timeout_s=30) as client:
        yield client


@pytest.fixture(scope="module")
def asked(small_world: World) -> dict[str, Any]:
    ue, five_qi, cells = busiest(small_world)
    return {
        "ue_id": ue, "five_qi": five_qi, "connected_to": cells[0],
        "thresholds": {"downlink_mbps": 5.0, "delay_ms": 100.0},
        "candidates": [{"cell_id": cell, "rsrp_dbm": -90.0 - at} for at, cell in enumerate(cells)],
    }  # fmt: skip


def test_a_decision_is_explained_told_of_and_counted(
    service: DecisionClient, http: httpx.Client, asked: dict[str, Any]
) -> None:
    reply = service.decide(asked)
    assert reply.ue_id == pseudonym(asked["ue_id"], KEY.encode())
    assert [one.cell_id for one in reply.candidates] == [c["cell_id"] for c in asked["candidates"]]
    assert all(one.probability is not None for one in reply.candidates)
    why = service.run(explain(reply.decision_id))
    assert (why.decision, why.chosen_cell) == (reply.decision, reply.predicted_antenna)
    assert why.cells and why.cells[0].contributions
    outcome = {"decision_id": reply.decision_id, "downlink_mbps": 1.0, "downlink_delay_ms": 10.0}
    told = service.run(tell_qos([outcome, outcome]))
    assert [one.status for one in told.results] == ["accepted", "duplicate"]
    assert told.results[0].met is False and told.results[0].not_kept == ["downlink_mbps"]
    metrics = http.get("/metrics").text
    kind = reply.asked.service
    assert f'ml_qos_compliance_total{{outcome="failed",service_type="{kind}"}} 1.0' in metrics
    assert 'ml_qos_feedback_total{outcome="duplicate"} 1.0' in metrics


def test_outcomes_reach_the_gate(
    service: DecisionClient, app: FastAPI, asked: dict[str, Any]
) -> None:
    first = service.decide(asked | {"service_class": "mmtc"})
    for _ in range(12):
        reply = service.decide(asked | {"service_class": "mmtc"})
        outcome = {"decision_id": reply.decision_id, "downlink_mbps": 0.1}
        service.run(tell_qos([outcome]))
    last = service.decide(asked | {"service_class": "mmtc"})
    assert app.state.service.gate.classes["mmtc"]
    assert last.required_confidence > first.required_confidence


def test_many_later_and_in_a_loop_are_the_same_decision(
    service: DecisionClient, http: httpx.Client, asked: dict[str, Any]
) -> None:
    one = service.decide(asked)
    many = service.decide_batch([asked, PredictRequest.model_validate(asked)])
    later = service.decide_later(asked)

    async def in_a_loop() -> list[float | None]:
        async with AsyncDecisionClient(str(http.base_url), timeout_s=30) as client:
            found = [await client.decide(asked), *await client.decide_batch([asked])]
            found.append(await client.decide_later(asked))
        return [reply.candidates[0].probability for reply in found]

    wanted = one.candidates[0].probability
    assert [reply.candidates[0].probability for reply in (*many, later)] == [wanted] * 3
    assert asyncio.run(in_a_loop()) == [wanted] * 3


def test_it_is_ready_documented_and_names_its_model(
    service: DecisionClient, http: httpx.Client, places: dict[str, Any]
) -> None:
    ready = http.get("/health/ready")
    assert ready.status_code == 200, ready.text
    page = http.get("/docs")
    assert page.status_code == 200 and "http://" not in page.text and "https://" not in page.text
    assert '"docExpansion": "list"' in page.text  # what can be asked is seen at once
    described = http.get("/openapi.json").json()
    assert "POST /api/predict-with-qos" in described["info"]["description"]
    assert {"/api/predict-with-qos", "/api/feedback", "/api/train", "/api/models/live"} <= set(
        described["paths"]
    )
    assert service.run(get("/api/health"))["version"] == "bundle"


def test_a_model_that_does_not_load_leaves_the_one_that_answers(
    service: DecisionClient, asked: dict[str, Any]
) -> None:
    with pytest.raises(DecisionServiceError, match="409") as caught:
        service.run(post("/api/models/live", {"model": "qos@nowhere"}))
    assert caught.value.status == 409
    assert service.decide(asked).model.version == "bundle"
    assert service.run(post("/api/models/live", {}))["version"] == "bundle"
    assert service.decide(asked).candidates


def test_the_client_refuses_what_the_service_would(service: DecisionClient) -> None:
    with pytest.raises(DecisionServiceError, match=r"PredictRequest: .*latitude") as caught:
        service.decide({"ue_id": "u", "latitude": 51.9})
    assert caught.value.status is None
    with pytest.raises(DecisionServiceError, match="404") as missing:
        service.run(explain("no such decision"))
    assert missing.value.status == 404


def test_who_may_ask_is_checked_on_every_route(
    places: dict[str, Any], asked: dict[str, Any], tmp_path: Path
) -> None:
    settings = secured(**places | {"data": tmp_path / "data"})
    app = service_app(settings)
    with running(app) as http:
        url = str(http.base_url)
        open_to_all = {
            "/metrics", "/health/live", "/health/ready", "/api/login", "/api/refresh", "/v2",
            "/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready",
            "/v2/models/{model}/versions/{version}/ready",
        }  # fmt: skip
        for path, operations in http.get("/openapi.json").json()["paths"].items():
            for method in operations:
                if path not in open_to_all:
                    reply = http.request(method, path.translate({123: None, 125: None}), json={})
                    assert reply.status_code == 401, (method, path, reply.status_code)
        with DecisionClient(url, Access(username="ana", password=PASSWORD), 30) as ana:
            decided = ana.decide(asked)
            with pytest.raises(DecisionServiceError, match="403"):
                ana.run(get("/api/circuit-breakers"))
        outcome: Call[Any] = tell_qos([{"decision_id": decided.decision_id, "downlink_mbps": 9.0}])
        with DecisionClient(url, Access(api_key=KEYS["predict"]), 30) as wrong:
            with pytest.raises(DecisionServiceError, match="403"):
                wrong.run(outcome)
        with DecisionClient(url, Access(api_key=KEYS["feedback"]), 30) as right:
            assert right.run(outcome).accepted == 1


def test_an_absent_service_is_one_line() -> None:
    with DecisionClient("http://127.0.0.1:9", timeout_s=2) as client:
        with pytest.raises(DecisionServiceError, match="no answer: ConnectError; `make serve`"):
            client.decide({"ue_id": "u"})
