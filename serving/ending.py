"""How the service ends: it answers what it has accepted, tells its clients to go, and exits with 0."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import uvicorn

_QUIET_S = 0.3  # without a request after which the remaining connections are idle
_LOOK_S = 0.02

App = Callable[..., Awaitable[None]]


class Closing:
    """ASGI middleware around the whole application: answers say `connection: close` from `begin` on."""

    def __init__(self, app: App) -> None:
        """Not ending yet."""
        self._app, self.ending, self.requests = app, False, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self.requests += 1

        async def closing(message: Any) -> None:
            if self.ending and message["type"] == "http.response.start":
                kept = [h for h in message.get("headers", ()) if h[0].lower() != b"connection"]
                message = message | {"headers": [*kept, (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, closing)


class Server(uvicorn.Server):
    """Ends without breaking a connection off over which a request may be under way.

    uvicorn closes kept connections at once, and a request that is already in such a socket is lost
    with a reset. Here no connection is accepted any more, every client is told to go with its next
    answer, and what has been silent for `_QUIET_S` is closed then.
    """

    def __init__(self, app: App, end_s: float, **config: Any) -> None:
        """end_s: for all this, and for the requests under way; config: of uvicorn."""
        self._closing, self._end_s = Closing(app), end_s
        super().__init__(uvicorn.Config(self._closing, **config))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Of SIGINT and SIGTERM; Ctrl-C again ends at once. Neither is raised anew at the end, which
        would hide that all went well."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: Any = None) -> None:
        """Lets the clients go, then does as uvicorn does."""
        for _ in range(3):  # accepts what waits to be
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        self._closing.ending = True  # who is told to go now is refused here, not reset
        loop = asyncio.get_running_loop()
        deadline, quiet = loop.time() + self._end_s, loop.time() + _QUIET_S
        seen = self._closing.requests
        while not self.force_exit and loop.time() < min(deadline, quiet):
            await asyncio.sleep(_LOOK_S)
            if seen != self._closing.requests or self.server_state.tasks:
                seen, quiet = self._closing.requests, loop.time() + _QUIET_S
        self.config.timeout_graceful_shutdown = max(1, round(deadline - loop.time()))
        await super().shutdown(sockets)
