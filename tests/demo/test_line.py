"""The line carries what the network and the service say as it is, and remembers it for the display."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from demo.line import Line
from demo.parts import LINE_PATH, Places
from tests.demo.test_show import reply
from tests.served import served

KEY = "qosk_of-the-network"
QUESTION = b'{"ue_id": "imsi-001010000000001",  "five_qi": 9}'
UE = "imsi-001010000000001"


@dataclass
class Service:
    """How it answers, and the bodies and keys that came."""

    status: int = 200
    body: bytes = b""
    came: list[tuple[bytes, str | None]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        self.came.append((await request.body(), request.headers.get("x-api-key")))
        return Response(self.body, self.status, media_type="application/json")

    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/api/predict-with-qos", self.answer, methods=["POST"])],
        )


class At(Places):
    """Places whose service is elsewhere."""

    @property
    def service(self) -> str:
        """As the model is named."""
        return self.model


def asked(line: Line) -> httpx.Response:
    """The answer to the network's question through the line."""
    with served(line.app(), lifespan="on") as url:
        headers = {"x-api-key": KEY, "content-type": "application/json"}
        return httpx.post(f"{url}{LINE_PATH}", content=QUESTION, headers=headers, trust_env=False)


@pytest.fixture
def at() -> Places:
    return At(Path(), "http://127.0.0.1:9", 1, 1, 0, 0, 0, 0, 0, "", "", "")


def test_question_key_and_answer_pass_unchanged(at: Places) -> None:
    service = Service(body=reply().model_dump_json(indent=1).encode())
    with served(service.app()) as url:
        line = Line(replace(at, model=url))
        answer = asked(line)
    assert service.came == [(QUESTION, KEY)]
    assert (answer.status_code, answer.content) == (200, service.body)
    passed = line.passed[UE]
    assert passed.reply == reply() and passed.fault is None and passed.ms > 0


def test_a_refusal_passes_too_and_is_shown(at: Places) -> None:
    service = Service(status=401, body=orjson.dumps({"title": "Unauthorized"}))
    with served(service.app()) as url:
        line = Line(replace(at, model=url))
        answer = asked(line)
    assert (answer.status_code, answer.content) == (401, service.body)
    assert (line.passed[UE].reply, line.passed[UE].fault) == (None, "401 Unauthorized")


def test_without_a_service_it_is_unavailable(at: Places) -> None:
    line = Line(at)
    assert asked(line).status_code == 503
    assert (line.passed[UE].reply, line.passed[UE].fault) == (None, "ConnectError")
