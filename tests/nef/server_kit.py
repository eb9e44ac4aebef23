"""A NEF server over real HTTP with a sink for its notifications."""

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from nef.server.app import create_app
from nef.server.settings import read_settings
from nef.server.state import Nef
from tests.served import served

PASSWORD = "a right password"
QOS = "/nef/api/v1/3gpp-as-session-with-qos/v1/qos-platform/subscriptions"
MONITORING = "/nef/api/v1/3gpp-monitoring-event/v1/qos-platform/subscriptions"


@dataclass
class Server:
    """url, a client that is logged in, the state behind it and the loop in which that lives."""

    url: str
    client: httpx.Client
    nef: Nef
    loop: asyncio.AbstractEventLoop

    def pass_seconds(self, count: int = 1) -> None:
        """Lets simulated seconds pass: where the speed is 0, these and no others."""

        async def ticks() -> None:
            for _ in range(count):
                self.nef.tick()
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(ticks(), self.loop).result(60)


def fresh_database() -> str:
    """In memory; `python -m tests.nef.try_postgres` has one made on its server instead."""
    url = os.environ.get("NEF_TEST_DATABASE_URL")
    if url is None:
        return "sqlite://"
    name = f"nef_{uuid4().hex}"
    own = sa.create_engine(
        url.format("postgres").replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    with own.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE template0"))
    own.dispose()
    return url.format(name)


@contextlib.contextmanager
def nef_server(**changes: Any) -> Iterator[Server]:
    """A server with a database in memory, 20 simulated seconds a second."""
    given = {"password": PASSWORD, "database_url": fresh_database(), "speed": 20.0, "ues": 8, "sites": 2,
             "max_body_bytes": 1 << 20}  # fmt: skip
    app = create_app(read_settings(**(given | changes)))
    loops: list[asyncio.AbstractEventLoop] = []

    async def seen(scope: Scope, receive: Receive, send: Send) -> None:
        if not loops:
            loops.append(asyncio.get_running_loop())
        await app(scope, receive, send)

    with served(seen) as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        form = {"grant_type": "password", "username": "admin", "password": PASSWORD}
        reply = client.post("/api/v1/login/access-token", data=form)
        assert reply.status_code == 200, reply.text
        client.headers["authorization"] = f"Bearer {reply.json()['access_token']}"
        yield Server(url, client, app.state.nef, loops[0])


@dataclass
class Sink:
    """What arrived; status: how it answers; answers: whether it does so yet."""

    got: list[dict[str, Any]] = field(default_factory=list)
    status: int = 204
    answers: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    async def callback(self, request: Request) -> Response:
        self.got.append(json.loads(await request.body()))
        while not self.answers.is_set():
            await asyncio.sleep(0.01)
        return Response(status_code=self.status)

    def events(self) -> list[str]:
        return [one["event"] for each in self.got for one in each.get("eventReports", ())]

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/callback", self.callback, methods=["POST"])])


@contextlib.contextmanager
def sink() -> Iterator[Sink]:
    """A notification destination that keeps what comes."""
    made = Sink()
    made.answers.set()
    with served(made.app()) as url:
        made.url = f"{url}/callback"
        try:
            yield made
        finally:
            made.answers.set()


def until(found: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Waits until something is true; fails after some seconds."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)
    return value


def qos(url: str, **changes: Any) -> dict[str, Any]:
    """A subscription of the first UE with a report each simulated second."""
    monitor = {"reqQosMonParams": ["DOWNLINK", "UPLINK", "ROUND_TRIP"], "repFreqs": ["PERIODIC"],
               "repPeriod": 1}  # fmt: skip
    return {"ueIpv4Addr": "10.0.0.1", "notificationDestination": url, "qosReference": "9",
            "qosMonInfo": monitor} | changes  # fmt: skip
