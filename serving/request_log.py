"""Around every request: its id, its place in the metrics, its line in the log, and no bare 500."""

import logging
import random
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.limits import watched
from serving.logs import REQUEST_ID, clean
from serving.metrics import OTHER, Metrics
from serving.problems import Problem

HEADER = b"x-request-id"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DRAW = random.Random()  # an id is no secret, and the system's randomness is slower
log = logging.getLogger("serving.requests")


def request_id_of(given: str | None) -> str:
    """The client's id, if it is short, plain and names no subscriber; else a new one."""
    if given is not None and _ID.fullmatch(given) and clean(given) == given:
        return given
    return f"{_DRAW.getrandbits(64):016x}"


def route_of(scope: Scope) -> str:
    """The template of the route that answered, "other" where none did; never the path itself."""
    template = getattr(scope.get("route"), "path", None)
    return template if isinstance(template, str) else OTHER


class RequestLog:
    """ASGI middleware, the outermost one. A fault of ours becomes a problem, 500, and is logged."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, every: bool = False, slow_s: float = 1.0
    ) -> None:
        """every: a line for each request; else for those refused with 5xx, or slower than slow_s."""
        self._app, self._metrics, self._every, self._slow_s = app, metrics, every, slow_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(HEADER)
        number = request_id_of(given.decode("latin-1") if given else None)
        token, began, status = REQUEST_ID.set(number), time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (HEADER, number.encode())]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            log.exception("a fault of the service", extra={"route": route_of(scope)})
            if status:
                raise  # the answer has begun
            told = f"a fault of the service; it is logged under {number}"
            await Problem(500, [("request", told)]).response()(scope, receive, noted)
        finally:
            self._told(scope, status, time.perf_counter() - began)
            REQUEST_ID.reset(token)

    def _told(self, scope: Scope, status: int, seconds: float) -> None:
        if watched(scope["path"]):
            return
        route, method = route_of(scope), scope["method"]
        kind = f"{status // 100}xx"
        self._metrics.http.labels(method, route, kind).observe(seconds)
        slow = seconds > self._slow_s
        if self._every or slow or status >= 500:
            extra = {
                "method": method if len(method) < 8 else OTHER, "route": route, "status": status,
                "milliseconds": round(seconds * 1000, 3),
            }  # fmt: skip
            log.log(
                logging.WARNING if slow or status >= 500 else logging.INFO, "request", extra=extra
            )
