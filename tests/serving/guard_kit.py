"""A guarded app with routes that take any body, wait or fail, and a real server around it."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Request, Response

from nef.server.docs_page import local_docs
from serving.breakers import Breakers, breakers_of
from serving.guard import guarded
from serving.keys import key_hash, new_key, password_hash
from serving.metrics import Metrics
from serving.security import Principal, require
from serving.settings import ApiKey, Role, ServingSettings, User
from serving.tracing import OWN_TRACES_ONLY, Tracing
from tests.served import served

SECRET = "0123456789abcdef0123456789abcdef"
PASSWORD = "correct horse battery"
KEYS: dict[str, str] = {
    name: new_key() for name in ("predict", "train", "data", "feedback", "admin")
}


def settings_with(**changes: Any) -> ServingSettings:
    """Those of a test, whatever the environment says."""
    return ServingSettings(**changes)


def secured(**changes: Any) -> ServingSettings:
    """With a key for every role, named like it, and a user `ana` who may predict and train."""
    keys = {
        name: ApiKey(roles=(role_of(name),), sha256=key_hash(key)) for name, key in KEYS.items()
    }
    users = {"ana": User(roles=("predict", "train"), password=password_hash(PASSWORD))}
    return settings_with(
        auth="on", api_keys=keys, users=users, jwt_secret=SECRET, **changes
    )  # fmt: skip


def role_of(name: str) -> Role:
    """The role of that name."""
    return name  # type: ignore[return-value]


@dataclass
class Guarded:
    """An app with what is behind its guard."""

    app: FastAPI
    settings: ServingSettings
    metrics: Metrics
    breakers: Breakers


def app_of(settings: ServingSettings, tracing: Tracing | None = None) -> Guarded:
    """POST /api/predict-with-qos, /api/train, /api/feedback answer with the body's length;
    /api/slow waits 5 s, /api/broken raises, /api/items/{name} is any GET."""
    app = FastAPI(docs_url=None, redoc_url=None, telemetry=OWN_TRACES_ONLY)
    metrics = Metrics()
    breakers = breakers_of(settings, metrics)
    guarded(app, settings, metrics, breakers, tracing)

    async def length(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    for path, role in (
        ("/api/predict-with-qos", "predict"), ("/api/train", "train"), ("/api/feedback", "feedback"),
        ("/api/collect-data", "data"),
    ):  # fmt: skip
        app.post(path, dependencies=[Depends(require(role_of(role)))])(length)

    @app.get("/api/who")
    async def who(principal: Annotated[Principal, Depends(require("predict"))]) -> str:
        return principal.name

    @app.get("/api/slow")
    async def slow() -> None:
        await asyncio.sleep(5)

    @app.get("/api/broken")
    async def broken() -> None:
        raise RuntimeError("subscriber imsi-001010123456789 at 48.137154")

    @app.get("/api/items/{name}")
    async def item(name: str) -> str:
        return name

    @app.get("/health/live")
    async def live() -> Response:
        return Response("ok")

    local_docs(app)
    return Guarded(app, settings, metrics, breakers)


@contextlib.contextmanager
def client_of(made: Guarded) -> Iterator[httpx.Client]:
    """A client of a real server on a free loopback port, stopped at the end."""
    with (
        served(made.app, server_header=False) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=10) as client,
    ):
        yield client


def series(client: httpx.Client, start: str) -> float:
    """The sum of all samples of /metrics whose line starts so."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))
