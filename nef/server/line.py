"""Database calls in one thread, one after the other, out of the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

P = ParamSpec("P")
T = TypeVar("T")


class DatabaseLine:
    """Calls are done in the order in which they were given, so the last one of a key is what stays."""

    def __init__(self, engine: sa.Engine, failed: Callable[[], None] = lambda: None) -> None:
        """failed: is called for each call that fails and that nobody waits for."""
        self.engine, self._failed = engine, failed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._broken: BaseException | None = None

    async def ask(
        self, call: Callable[Concatenate[sa.Engine, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What a call gives, or raises."""
        return await asyncio.wrap_future(self._thread.submit(call, self.engine, *args, **kwargs))

    def write(
        self, call: Callable[Concatenate[sa.Engine, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Returns at once; `settled` tells whether it was done."""
        self._thread.submit(call, self.engine, *args, **kwargs).add_done_callback(self._noted)

    def _noted(self, done: Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._broken = error
            self._failed()

    async def settled(self) -> None:
        """Waits for all that was given so far; raises what a write since the last time raised."""
        await asyncio.wrap_future(self._thread.submit(lambda: None))
        error, self._broken = self._broken, None
        if error is not None:
            raise error

    def close(self) -> None:
        """What was given is done first."""
        self._thread.shutdown(wait=True)
        self.engine.dispose()
