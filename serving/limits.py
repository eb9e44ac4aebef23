"""Bounds of every request: body's length, kind and time, the answer's time, requests under way."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import Problem
from serving.settings import ServingSettings

JSON = frozenset(("application/json",))
WATCHED = ("/metrics", "/health", "/api/health", "/api/model-health", "/v2/health")
_WITH_BODY = frozenset(("POST", "PUT", "PATCH", "DELETE"))


@dataclass(frozen=True)
class Bounds:
    """body_bytes: longest body; longer: those of paths, where `{}` is any one segment; media: content
    types of path prefixes beside JSON; held_bytes: bodies held at once, of all requests, past which only
    those of up to small_bytes are taken, so that long ones keep out no decision; *_s: seconds."""

    body_bytes: int = 1 << 20
    longer: Mapping[str, int] = field(default_factory=dict)
    media: Mapping[str, frozenset[str]] = field(default_factory=dict)
    held_bytes: int = 256 << 20
    small_bytes: int = 64 << 10
    body_s: float = 10.0
    answer_s: float = 30.0
    most_in_flight: int = 256


def bounds_of(settings: ServingSettings) -> Bounds:
    """Those of the service."""
    samples = ("/api/train", "/api/train-async", "/api/feedback", "/api/qos-feedback")
    batch_bytes = 16 * settings.max_body_bytes
    infer = ("/v2/models/{}/infer", "/v2/models/{}/versions/{}/infer")
    return Bounds(
        body_bytes=settings.max_body_bytes,
        longer={path: settings.max_samples_bytes for path in samples}
        | {"/api/predict/batch": batch_bytes}
        | {path: settings.max_samples_bytes for path in infer},
        media={"/v2/models": frozenset(("application/octet-stream", ""))},  # Triton's names none
        held_bytes=4 * max(settings.max_samples_bytes, batch_bytes),
        body_s=settings.body_s,
        answer_s=settings.answer_s,
        most_in_flight=settings.most_in_flight,
    )


def watched(path: str) -> bool:
    """Whether it is asked by those who watch the service, and is no traffic."""
    return path.startswith("/health/") or path in WATCHED or path.startswith("/v2/health/")


class Limits:
    """ASGI middleware that reads the body whole before a route is called, so no route sees half a one.

    What is refused: 408 a slow body, 413 a long one, 415 another content type or an encoded body,
    503 an answer that takes too long or a request past those under way.
    """

    def __init__(self, app: ASGIApp, bounds: Bounds) -> None:
        """Around an app."""
        self._app, self._bounds = app, bounds
        self._longer = [
            (re.compile("[^/]+".join(map(re.escape, path.split("{}")))), most)
            for path, most in bounds.longer.items()
        ]
        self._under_way = self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or watched(scope["path"]):
            await self._app(scope, receive, send)
            return
        if self._under_way >= self._bounds.most_in_flight:
            busy = Problem(503, [("request", "as many requests are under way as may be")],
                           headers={"retry-after": "1", "connection": "close"})  # fmt: skip
            await busy.response()(scope, receive, send)
            return
        self._under_way += 1
        held = [0]
        try:
            await self._serve(scope, receive, send, held)
        finally:
            self._under_way -= 1
            self._held -= held[0]

    async def _serve(self, scope: Scope, receive: Receive, send: Send, held: list[int]) -> None:
        if scope["method"] in _WITH_BODY:
            try:
                body = await self._body(scope, receive, held)
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return
            if body is None:
                return  # the client has gone
            receive = _replayed(body, receive)
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                clock.reschedule(None)
            await send(message)

        try:
            async with asyncio.timeout(self._bounds.answer_s) as clock:
                await self._app(scope, receive, noted)
        except TimeoutError:
            if started or not clock.expired():
                raise
            told = f"no answer within {self._bounds.answer_s:g} s"
            late = Problem(503, [("request", told)], headers={"retry-after": "1"})
            await late.response()(scope, receive, send)

    async def _body(self, scope: Scope, receive: Receive, held: list[int]) -> bytes | None:
        """Whole; None where the client goes away. Raises a problem."""
        headers = dict(scope["headers"])
        most = self._most(scope["path"])
        told = headers.get(b"content-length", b"")
        length = int(told[:15]) if told.isdigit() else None
        if length is not None and length > most:
            raise _too_long(most)
        if length or b"transfer-encoding" in headers:
            self._check_kind(scope["path"], headers)
        try:
            async with asyncio.timeout(self._bounds.body_s):
                return await self._read(receive, most, held)
        except TimeoutError:
            slow = f"did not arrive within {self._bounds.body_s:g} s"
            raise Problem(408, [("body", slow)], headers={"connection": "close"}) from None

    async def _read(self, receive: Receive, most: int, held: list[int]) -> bytes | None:
        parts: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            held[0] += len(part)
            self._held += len(part)
            if held[0] > most:
                raise _too_long(most)
            if self._held > self._bounds.held_bytes and held[0] > self._bounds.small_bytes:
                raise Problem(503, [("body", "too many long bodies at once")],
                              headers={"retry-after": "1", "connection": "close"})  # fmt: skip
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _most(self, path: str) -> int:
        path = path.rstrip("/")
        found = (most for pattern, most in self._longer if pattern.fullmatch(path))
        return next(found, self._bounds.body_bytes)

    def _check_kind(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        allowed = JSON
        for prefix, more in self._bounds.media.items():
            if path.startswith(prefix):
                allowed |= more
        given, _, parameters = headers.get(b"content-type", b"").decode("latin-1").partition(";")
        charset = parameters.lower().replace(" ", "").replace('"', "")
        if given.strip().lower() not in allowed or charset not in ("", "charset=utf-8"):
            told = f"must be {' or '.join(sorted(allowed - {''}))}, in UTF-8"
            raise Problem(415, [("content-type", told)], headers={"connection": "close"})
        if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            told = "encoded bodies are not read"
            raise Problem(415, [("content-encoding", told)], headers={"connection": "close"})


def _too_long(most: int) -> Problem:
    return Problem(413, [("body", f"at most {most} bytes are read")], {"connection": "close"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body once; then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
