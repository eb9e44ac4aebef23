"""The line between the network and the decision service: it carries each question with the service's
key, for the network sends no credentials, and remembers what passed."""

import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from demo.course import Passed
from demo.parts import LINE_PATH, START_S, Places
from schemas.errors import QosError
from serving.client import Access, AsyncDecisionClient, DecisionServiceError


@dataclass
class Line:
    """passed: the answer to each UE's last question; whoever takes it removes it."""

    at: Places
    passed: dict[str, Passed] = field(default_factory=dict)

    def app(self) -> Starlette:
        """The ASGI app."""

        @contextlib.asynccontextmanager
        async def life(app: Starlette) -> AsyncIterator[None]:
            access = Access(api_key=self.at.api_key)
            async with AsyncDecisionClient(self.at.service, access) as app.state.service:
                yield

        return Starlette(routes=[Route(LINE_PATH, self._carry, methods=["POST"])], lifespan=life)

    async def _carry(self, request: Request) -> Response:
        asked = orjson.loads(await request.body())
        began = time.perf_counter()
        try:
            reply = await request.app.state.service.decide(asked)
        except DecisionServiceError as error:
            self.passed[asked["ue_id"]] = Passed(None, str(error), _ms(began))
            return JSONResponse({}, error.status or 503)
        self.passed[asked["ue_id"]] = Passed(reply, None, _ms(began))
        return Response(reply.model_dump_json(), media_type="application/json")


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
