"""A small NEF over real HTTP, with the faults of real ones on demand."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

QOS = "/nef/api/v1/3gpp-as-session-with-qos/v1/qos-platform/subscriptions"
MONITORING = "/nef/api/v1/3gpp-monitoring-event/v1/qos-platform/subscriptions"


@dataclass
class FakeNef:
    """faults: taken one a request by all but the login; requests: every (method, path) so far."""

    faults: deque[str] = field(default_factory=deque)
    requests: list[tuple[str, str]] = field(default_factory=list)
    logins: list[dict[str, str]] = field(default_factory=list)
    subscriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    requirements: dict[str, Any] = field(default_factory=dict)
    states: Any = field(default_factory=dict)
    listed: list[Any] | None = None
    tokens: set[str] = field(default_factory=set)
    refresh: set[str] = field(default_factory=set)
    expires_in: float | None = None
    gives_refresh: bool = False
    honours_refresh: bool = True
    url: str = ""

    def paths(self, method: str) -> list[str]:
        return [path for used, path in self.requests if used == method]

    async def login(self, request: Request) -> Response:
        self.requests.append((request.method, request.url.path))
        form = dict(parse_qsl((await request.body()).decode()))
        self.logins.append(form)
        if form.get("grant_type") == "refresh_token":
            if form["refresh_token"] not in self.refresh or not self.honours_refresh:
                return JSONResponse({"title": "Bad token"}, 400)
            self.refresh.discard(form["refresh_token"])
        elif (form.get("username"), form.get("password")) != ("admin", "right"):
            return JSONResponse({"detail": "Incorrect email or password"}, 400)
        token = f"token-{len(self.logins)}"
        self.tokens.add(token)
        answer: dict[str, Any] = {"access_token": token, "token_type": "bearer"}
        if self.expires_in is not None:
            answer["expires_in"] = self.expires_in
        if self.gives_refresh:
            self.refresh.add(f"refresh-{len(self.logins)}")
            answer["refresh_token"] = f"refresh-{len(self.logins)}"
        return JSONResponse(answer)

    async def answer(self, request: Request) -> Response:
        self.requests.append((request.method, request.url.path))
        fault = self.faults.popleft() if self.faults else ""
        if fault == "forget":
            self.tokens.clear()
        if fault == "html":
            return HTMLResponse("<html><body>imsi-262011234567890 not here</body></html>")
        if fault == "hang":
            await asyncio.sleep(30)
        if fault == "drip":
            return StreamingResponse(drops())
        if fault == "flood":
            return Response(b"[" + b"0," * 600 + b"0]", media_type="application/json")
        if fault == "busy":
            return Response(status_code=503, headers={"retry-after": "0"})
        if fault.isdigit():
            return JSONResponse({"title": "Broken", "detail": "imsi-262011234567890"}, int(fault))
        if request.headers.get("authorization", "")[7:] not in self.tokens:
            return JSONResponse({"detail": "Not authenticated"}, 401)
        answer = await self.served(request)
        if fault == "late":  # done, but nobody hears of it
            await asyncio.sleep(30)
        return answer

    async def served(self, request: Request) -> Response:
        path = request.url.path
        if path in (QOS, MONITORING) and request.method == "GET":
            ours = [v for v in self.subscriptions.values() if path in v["link"]]
            return JSONResponse(ours if self.listed is None else self.listed)
        if path in (QOS, MONITORING):
            link = f"{path}/{len(self.subscriptions) + 1}"
            body = await request.json()
            self.subscriptions[link] = body | {"link": f"http://nef.internal{link}"}
            headers = {"location": f"http://nef.internal{link}"}
            return JSONResponse(self.subscriptions[link], 201, headers)
        if path.startswith((QOS, MONITORING)):
            if path not in self.subscriptions:
                return JSONResponse({"title": "Not Found", "status": 404}, 404)
            if request.method == "DELETE":
                return JSONResponse(self.subscriptions.pop(path))
            return JSONResponse(self.subscriptions[path])
        if path.startswith("/api/v1/qos/"):
            found = self.requirements.get(path.split("/")[4])
            return JSONResponse({}, 404) if found is None else JSONResponse(found)
        return JSONResponse(self.states)

    def app(self) -> Starlette:
        methods = ["GET", "POST", "DELETE"]
        return Starlette(
            routes=[
                Route("/api/v1/login/access-token", self.login, methods=["POST"]),
                Route("/{path:path}", self.answer, methods=methods),
            ]
        )


async def drops() -> AsyncIterator[bytes]:
    """A byte now and then, without end."""
    while True:
        yield b" "
        await asyncio.sleep(0.05)
