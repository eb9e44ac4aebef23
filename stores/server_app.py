"""The feature server's application: its routes, its refreshing, its end. `stores.server` runs it."""

import asyncio
import contextlib
import gc
import logging
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
from feast import FeatureStore
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stores.http_json import Refused, detail, parse, refusal_of
from stores.served import Reads, ping
from stores.server import SETTINGS, Limits
from stores.server_metrics import Metrics

PATH = "/get-online-features"
_JSON = (b"content-type", b"application/json")
log = logging.getLogger("stores.server")


class FeatureServer:
    """The ASGI application: the hot route by itself, all other routes in Starlette."""

    def __init__(self, store: FeatureStore, limits: Limits, workers: int = 1):
        self.limits, self.metrics = limits, Metrics(workers)
        self.reads = Reads(store, limits.kept_reads)
        self.rest = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/metrics", self._metrics),
            ],
            exception_handlers={HTTPException: _plain},
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self.rest(scope, receive, send)
            return
        start = time.perf_counter()
        try:
            if scope["method"] != "POST":
                raise Refused(405, f"{scope['method']} {PATH}: allowed is POST")
            body = await self._body(scope, receive)
            if body is None:
                return
            status, answer = 200, await self._answer(body)
        except Refused as why:
            status, answer = why.status, why.body
        headers = [_JSON, (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        self.metrics.answered(status, time.perf_counter() - start)

    async def _body(self, scope: Any, receive: Any) -> bytes | None:
        """The request's body; None when the client has gone. Raises Refused: 413, 408."""
        most = self.limits.max_body_bytes
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > most:
                raise Refused(413, f"the body has {int(value)} bytes; at most {most} are taken")
        parts = []
        size = 0
        try:
            async with asyncio.timeout(self.limits.body_s):
                message = await receive()
                while message["type"] == "http.request":
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise Refused(413, f"the body has over {most} bytes; that many are taken")
                    if not message.get("more_body"):
                        return b"".join(parts)
                    message = await receive()
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self.limits.body_s} s") from None
        return None

    async def _answer(self, body: bytes) -> bytes:
        try:
            asked = parse(body, self.limits.max_rows)
            async with asyncio.timeout(self.limits.answer_s):
                read = await self.reads.of(asked)
                served = await read.answer(asked)
        except Refused:
            raise
        except Exception as error:
            refused = refusal_of(error)
            if refused is None:
                log.exception("a request failed")
                refused = Refused(500, f"the server failed: {type(error).__name__}")
            raise refused from None
        self.metrics.served(asked.rows, served.statuses)
        return served.body

    async def _health(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(self.limits.health_s):
                await ping(self.reads.store)
        except TimeoutError:
            why = f"the online store did not answer within {self.limits.health_s} s"
            return Response(detail(why), 503, media_type="application/json")
        except Exception as error:
            return Response(detail(str(error)), 503, media_type="application/json")
        return Response(orjson.dumps({"status": "ok"}), media_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type=self.metrics.media_type)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        refreshing = asyncio.create_task(self._keep_fresh())
        try:
            yield
        finally:
            refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await refreshing
            await self.reads.close()

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self.limits.refresh_s)
            try:
                await self.reads.refresh()
            except Exception as why:  # answers stay those of the last good look
                log.warning("registry not refreshed: %s", why)
                self.metrics.refresh_failed()


async def _plain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = f"{request.method} {request.url.path}: {error.detail}"
    return Response(detail(said), error.status_code, media_type="application/json")


def open_store(repo: Path, profile_file: str) -> FeatureStore:
    """The store of a repository and one of its profiles."""
    path = Path(profile_file)
    return FeatureStore(
        repo_path=str(repo), fs_yaml_file=path if path.is_absolute() else repo / path
    )


def create_app() -> FeatureServer:
    """The application of the settings that `main` left in the environment."""
    settings = orjson.loads(os.environ[SETTINGS])
    store = open_store(Path(settings.pop("repo")), settings.pop("profile_file"))
    workers = settings.pop("workers")
    app = FeatureServer(store, Limits(**settings), workers)
    gc.collect()
    gc.freeze()  # what was imported stays: later collections need not look at it
    return app
