"""What a capture listens with, and the simulated network it captures where none is named."""

import asyncio
import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp

from nef.client.settings import NefSettings
from nef.server.app import create_app
from nef.server.settings import read_settings
from nef.server.state import Nef
from schemas.errors import QosError

START_S, STOP_S, DELIVERY_S = 20.0, 5.0, 10.0
PASSWORD_BYTES = 18


@contextlib.contextmanager
def serving(
    app: ASGIApp, host: str = "127.0.0.1", port: int = 0
) -> Iterator[tuple[str, asyncio.AbstractEventLoop]]:
    """The base URL of the app and the loop it runs in, in a thread of its own until left."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:  # asyncio sends at once only on a socket that says TCP, which create_server's does not
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise QosError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    loop = asyncio.new_event_loop()
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="critical", lifespan="on", access_log=False, server_header=False,
            timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(server.serve([listener])), daemon=True
    )
    thread.start()
    try:
        end = time.monotonic() + START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > end:
                raise QosError(f"{host}:{listener.getsockname()[1]}: the server did not start")
            time.sleep(0.01)
        yield f"http://{host}:{listener.getsockname()[1]}", loop
    finally:
        server.should_exit = True
        thread.join(STOP_S)
        listener.close()
        if not thread.is_alive():
            loop.close()


@dataclass(frozen=True)
class Simulated:
    """Our own NEF, whose time passes when it is told to; settings: how to reach it."""

    settings: NefSettings
    nef: Nef
    loop: asyncio.AbstractEventLoop

    def now(self) -> datetime:
        """The simulation's time."""
        return self.nef.now()

    def advance(self, seconds: int) -> None:
        """Lets seconds pass, each one's notifications delivered before the next."""
        asyncio.run_coroutine_threadsafe(self._advance(seconds), self.loop).result()

    async def _advance(self, seconds: int) -> None:
        for _ in range(seconds):
            self.nef.tick()
            under_way = [line.task for line in self.nef.callbacks.lines.values() if line.task]
            await asyncio.wait(under_way, timeout=DELIVERY_S) if under_way else None


@contextlib.contextmanager
def simulated(ues: int, sites: int, seed: int, start: datetime) -> Iterator[Simulated]:
    """A NEF over a simulated city on a free loopback port; nothing of it outlives the block."""
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    app = create_app(
        read_settings(
            password=SecretStr(password), database_url="sqlite://", speed=0.0, ues=ues, sites=sites,
            seed=seed,
        )
    )  # fmt: skip
    with serving(app) as (url, loop):
        app.state.nef.started = start
        settings = NefSettings.model_validate(
            {"api_url": url, "username": "admin", "password": password}
        )
        yield Simulated(settings, app.state.nef, loop)
