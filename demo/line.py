"""The line between the network and the decision service: it carries each question and its answer as they
are, and remembers the answer for the display, as the network tells of it only the cell and how sure."""

import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import httpx
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from demo.course import Passed
from demo.parts import LINE_PATH, START_S, Places
from schemas.errors import QosError
from serving.messages.decisions import DecisionReply

_SERVICE_PATH = "/api/predict-with-qos"
_CARRIED = ("content-type", "x-api-key")


@dataclass
class Line:
    """passed: the answer to each UE's last question; whoever takes it removes it."""

    at: Places
    passed: dict[str, Passed] = field(default_factory=dict)

    def app(self) -> Starlette:
        """The ASGI app."""

        @contextlib.asynccontextmanager
        async def life(app: Starlette) -> AsyncIterator[None]:
            service = httpx.AsyncClient(base_url=self.at.service, trust_env=False)
            async with service as app.state.service:
                yield

        return Starlette(routes=[Route(LINE_PATH, self._carry, methods=["POST"])], lifespan=life)

    async def _carry(self, request: Request) -> Response:
        asked = await request.body()
        headers = {name: request.headers[name] for name in _CARRIED if name in request.headers}
        ue_id, began = orjson.loads(asked)["ue_id"], time.perf_counter()
        try:
            reply = await request.app.state.service.post(
                _SERVICE_PATH, content=asked, headers=headers
            )
        except httpx.HTTPError as error:
            self.passed[ue_id] = Passed(None, type(error).__name__, _ms(began))
            return Response(status_code=503)
        found, ms = None, _ms(began)
        if reply.status_code == 200:
            found = DecisionReply.model_validate_json(reply.content)
        fault = None if found is not None else f"{reply.status_code} {reply.reason_phrase}"
        self.passed[ue_id] = Passed(found, fault, ms)
        return Response(reply.content, reply.status_code, media_type=reply.headers["content-type"])


@contextlib.contextmanager
def listening(line: Line) -> Iterator[None]:
    """The line, open, in a thread of its own. Raises `QosError` where it cannot listen."""
    server = uvicorn.Server(
        uvicorn.Config(
            line.app(), host="127.0.0.1", port=line.at.line_port, log_config=None, access_log=False,
            timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > until:
                raise QosError(f"line: cannot listen on 127.0.0.1:{line.at.line_port}")
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(5.0)


def _ms(began: float) -> float:
    return (time.perf_counter() - began) * 1000
