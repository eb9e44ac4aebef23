"""The ASGI app: routes, errors, limits, and the clock that runs while it serves."""

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nef.server import database, handover_api, inventory_api, login, northbound
from nef.server.docs_page import local_docs
from nef.server.problems import Problem, install
from nef.server.settings import ServerSettings
from nef.server.state import Nef
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription
from schemas.nef.monitoring_event import MonitoringEventReport, MonitoringEventSubscription


class _Limited:
    """Refuses bodies that are too long, whether they say so or not, and times every request."""

    def __init__(self, app: ASGIApp, state: FastAPI, most: int) -> None:
        self._app, self._state, self._most = app, state, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, seen, status = time.perf_counter(), 0, 500
        headers = dict(scope["headers"])

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise Problem(413, [("body", f"at most {self._most} bytes are read")])
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        told = headers.get(b"content-length", b"0")
        try:
            if told.isdigit() and int(told[:12]) > self._most:
                refused = Problem(413, [("body", f"at most {self._most} bytes are read")])
                await refused.response()(scope, receive, noted)
            else:
                await self._app(scope, bounded, noted)
        finally:
            nef: Nef | None = getattr(self._state.state, "nef", None)
            if nef is not None:
                route = scope.get("route")
                path = getattr(route, "path", "unknown")
                known = scope["method"] in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
                method = scope["method"] if known else "other"
                nef.metrics.requests.labels(method, path, str(status)).observe(
                    time.perf_counter() - began
                )


def create_app(settings: ServerSettings) -> FastAPI:
    """The app; its database is opened and its clock started when it is served."""

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        engine = database.connect(settings.database_url.get_secret_value())
        password = settings.password.get_secret_value() if settings.password else None
        if password is None:
            password = secrets.token_urlsafe(12)
            print(f"NEF: user {settings.username}, password {password}", file=sys.stderr)
        database.set_user(engine, settings.username, password)
        nef = app.state.nef = Nef.opened(settings, engine)
        app.state.decisions = httpx.AsyncClient(trust_env=False, follow_redirects=False)
        clock = asyncio.create_task(nef.run())
        clock.add_done_callback(_told)
        try:
            yield
        finally:
            clock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await clock
            await app.state.decisions.aclose()
            await nef.close()

    app = FastAPI(title="NEF", version="1", lifespan=life, docs_url=None, redoc_url=None)
    app.state.failures, app.state.hashing = {}, asyncio.Semaphore(2)
    app.add_middleware(_Limited, state=app, most=settings.max_body_bytes)
    app.include_router(login.router)
    app.include_router(northbound.routes("qos", AsSessionWithQoSSubscription))
    app.include_router(northbound.routes("monitoring", MonitoringEventSubscription))
    app.include_router(inventory_api.router)
    app.include_router(handover_api.router)

    @app.get("/metrics", tags=["operation"], response_class=Response)
    async def metrics(request: Request) -> Response:
        """Prometheus's text; without a token, as scrapers ask."""
        nef = login.nef_of(request)
        nef.measure()
        return Response(generate_latest(nef.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/health", tags=["operation"])
    async def health(request: Request) -> dict[str, object]:
        """Whether the clock runs, and how far it is."""
        nef = login.nef_of(request)
        return {"status": "ok", "second": nef.world.second, "time": nef.now().isoformat()}

    local_docs(app)
    install(
        app,
        (AsSessionWithQoSSubscription, MonitoringEventSubscription, MonitoringEventReport,
         *inventory_api.KINDS_SHOWN),
    )  # fmt: skip
    return app


def _told(task: asyncio.Task[None]) -> None:
    """A clock that stands still for a fault of ours stops nobody's requests: it is said."""
    if not task.cancelled() and (error := task.exception()) is not None:
        print(f"NEF: the clock has stopped: {type(error).__name__}: {error}", file=sys.stderr)
