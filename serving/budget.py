"""A time limit that a loop which was held up does not use up."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(seconds: float, made: Awaitable[T]) -> T:
    """The result; raises TimeoutError where it has not come in time.

    A loop runs its timers before it reads its sockets: what has come by the time that they run counts
    as in time, however late they run.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as clock:
        timer = loop.call_later(seconds, _late, loop, clock)
        try:
            return await made
        finally:
            timer.cancel()


def _late(loop: asyncio.AbstractEventLoop, clock: asyncio.Timeout) -> None:
    loop.call_soon(loop.call_soon, _expire, clock)  # once round the loop


def _expire(clock: asyncio.Timeout) -> None:
    with contextlib.suppress(RuntimeError):  # it has ended meanwhile
        clock.reschedule(0)
