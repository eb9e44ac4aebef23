"""Handover decisions: a real service that answers well, badly, late or not at all, and event A3."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.nef.server_kit import Server, nef_server
from tests.served import served

PATH = "/api/v1/ml/handover"


@dataclass
class Decider:
    """A decision service: how it answers, and what it was asked."""

    answer: Any = None
    status: int = 200
    slow_s: float = 0.0
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""

    async def decide(self, request: Request) -> Response:
        self.asked.append(await request.json())
        self.keys.append(request.headers.get("x-api-key"))
        await asyncio.sleep(self.slow_s)
        if isinstance(self.answer, bytes):
            return Response(self.answer, self.status, media_type="text/html")
        return JSONResponse(self.answer, self.status)


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Server, Decider]]:
    decider = Decider()
    app = Starlette(routes=[Route("/decide", decider.decide, methods=["POST"])])
    with served(app) as url:
        with nef_server(
            decision_url=f"{url}/decide", decision_timeout_s=30.0, network_handovers=False, speed=0
        ) as server:
            server.pass_seconds(5)
            yield server, decider


def counted(server: Server, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    return sum(
        one.value
        for family in families
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    )


def served_ue(server: Server) -> tuple[str, str, str]:
    """A UE, its cell, and another cell that it hears; none of these changes by itself."""
    for supi, state in server.client.get("/api/v1/ue_movement/state-ues").json().items():
        serving, heard = state["cell_id_hex"], [c["cell_id"] for c in state["cells"]]
        others = [cell for cell in heard if cell != serving]
        if serving in heard and others:
            return supi, serving, others[0]
    raise AssertionError("nobody is served who hears another cell")


def decide(server: Server, supi: str) -> dict[str, Any]:
    reply = server.client.post(PATH, params={"ue_id": supi})
    assert reply.status_code == 200, reply.text
    return reply.json()  # type: ignore[no-any-return]


def test_a_confident_verdict_is_applied(both: tuple[Server, Decider]) -> None:
    server, decider = both
    vars(decider).update(status=200, slow_s=0.0)
    supi, serving, other = served_ue(server)
    decider.answer = {"cell_id": other, "confidence": 0.9}
    before = counted(server, "nef_handover_decisions_total", outcome="applied")
    found = decide(server, supi)
    assert (found["from"], found["to"], found["applied"], found["by"], found["reason"]) == (
        serving, other, True, "decision_service", None,
    )  # fmt: skip
    state = f"/api/v1/UEs/{supi}/state"
    server.pass_seconds(2)
    assert server.client.get(state).json()["cell_id_hex"] == other
    assert counted(server, "nef_handover_decisions_total", outcome="applied") == before + 1
    told = decider.asked[-1]
    assert told["connected_to"] == serving and told["candidates"][0]["rsrp_dbm"] < -30
    assert {c["cell_id"] for c in told["candidates"]} >= {serving, other}


BAD: list[tuple[str, dict[str, Any]]] = [
    ("low_confidence", {"answer": {"cell_id": "", "confidence": 0.2}}),
    ("qos_compliance", {"answer": {"cell_id": "", "confidence": 0.9,
                                   "qos_compliance": {"service_priority_ok": False}}}),
    ("slow", {"answer": {"cell_id": "", "confidence": 0.9}, "slow_s": 60.0}),
    ("unavailable", {"answer": {}, "status": 503}),
    ("not_allowed", {"answer": {}, "status": 401}),
    ("not_allowed", {"answer": {}, "status": 403}),
    ("invalid", {"answer": {}, "status": 422}),
    ("invalid", {"answer": {}, "status": 307}),
    ("invalid", {"answer": b"<html>"}),
    ("invalid", {"answer": b" " * 100_000}),
    ("invalid", {"answer": {"cell_id": "", "confidence": 1.5}}),
    ("invalid", {"answer": {"cell_id": "", "confidence": True}}),
    ("invalid", {"answer": {"cell_id": "fffffffff", "confidence": 0.9}}),
    ("invalid", {"answer": [1]}),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "how"), BAD)
def test_any_other_answer_falls_back_to_a3_and_is_counted(
    both: tuple[Server, Decider], reason: str, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is waited for long, for 0.1 s where that it is slow is the matter."""
    server, decider = both
    if reason == "slow":
        short = server.nef.settings.model_copy(update={"decision_timeout_s": 0.1})
        monkeypatch.setattr(server.nef, "settings", short)
    supi, _, other = served_ue(server)
    vars(decider).update({"status": 200, "slow_s": 0.0} | how)
    if isinstance(decider.answer, dict) and decider.answer.get("cell_id") == "":
        decider.answer = decider.answer | {"cell_id": other}
    before = counted(server, "nef_handover_fallback_total", reason=reason)
    found = decide(server, supi)
    assert (found["by"], found["reason"]) == ("a3", reason)
    assert counted(server, "nef_handover_fallback_total", reason=reason) == before + 1


@pytest.mark.parametrize("key", [None, "qosk_of-the-service"])
def test_the_key_is_sent_where_one_is_set(
    both: tuple[Server, Decider],
    key: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, decider = both
    caplog.set_level(logging.DEBUG)
    secret = None if key is None else SecretStr(key)
    keyed = server.nef.settings.model_copy(update={"decision_key": secret})
    monkeypatch.setattr(server.nef, "settings", keyed)
    supi, _, other = served_ue(server)
    vars(decider).update(status=200, slow_s=0.0, answer={"cell_id": other, "confidence": 0.9})
    found = decide(server, supi)
    assert found["by"] == "decision_service" and decider.keys[-1] == key
    assert key is None or key not in f"{found} {caplog.text} {server.client.get('/metrics').text}"


def test_the_fallback_moves_whom_a3_moves() -> None:
    """The service is away; a UE that was sent to a far weaker cell goes to the strongest."""
    with nef_server(decision_url="http://127.0.0.1:9/", network_handovers=False, speed=0) as server:
        server.pass_seconds(5)
        world = server.nef.world
        supi, _, _ = served_ue(server)
        heard = {c["cell_id"]: c["rsrp_dbm"] for c in world.cells_of(supi)}
        weakest = min(heard, key=lambda cell: heard[cell])
        assert heard[weakest] < max(heard.values()) - 6.0
        world.hand_over(supi, weakest)
        found: list[dict[str, Any]] = []
        for _ in range(10):
            server.pass_seconds()
            reply = server.client.post(PATH, params={"ue_id": supi})
            if reply.status_code == 200:
                found.append(reply.json())
        moves = [one for one in found if one["applied"]]
        assert moves and moves[0]["from"] == weakest
        asked = counted(server, "nef_handover_fallback_total", reason="unavailable")
        assert asked == len(found)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ML_HANDOVER_ENABLED": "off", "decision_url": "http://127.0.0.1:9/"}, "disabled"),
        ({"ML_HANDOVER_ENABLED": "on"}, "not_configured"),
        ({"decision_url": "http://127.0.0.1:9/"}, None),
    ],
)
def test_the_switch(changes: dict[str, Any], reason: str | None) -> None:
    with nef_server(**changes) as server:
        mode = server.client.get("/api/v1/ml/mode").json()
        assert (mode["asks"], mode["reason"]) == (reason is None, reason)


def test_automatic_asks_from_three_cells_upward() -> None:
    with nef_server(decision_url="http://127.0.0.1:9/", speed=0) as server:
        scenario = server.client.get("/api/v1/scenario").json()
        for count, reason in ((2, "too_few_cells"), (3, None)):
            fewer = scenario | {"cells": scenario["cells"][:count]}
            assert server.client.put("/api/v1/scenario", json=fewer).status_code == 200
            assert server.client.get("/api/v1/ml/mode").json()["reason"] == reason


def test_an_unknown_ue_is_404_and_one_without_coverage_409() -> None:
    with nef_server(speed=0) as server:
        post = server.client.post
        assert post(PATH, params={"ue_id": "999999999999999"}).status_code == 404
        assert post(PATH, params={"ue_id": "001010000000001"}).status_code == 409
        assert post(PATH).status_code == 422
