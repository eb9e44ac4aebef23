"""Pipelined HMGETs over plain sockets in event loops: bounded connections, retries with jitter."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from stores.redis_server import (
    FAULTS,
    Group,
    Limits,
    OnlineStoreAway,
    Rows,
    Server,
    Tries,
    commands,
    dealt,
    refusal,
)  # fmt: skip


class _AsyncLine(asyncio.Protocol):
    """One connection of an event loop."""

    def __init__(self) -> None:
        self.reader = hiredis.Reader()
        self.answers: list[Any] = []
        self.count = 0
        self.done: asyncio.Future[list[Any]] | None = None
        self.transport: Any = None
        self.lost: BaseException | None = None

    @classmethod
    async def open(cls, server: Server, limits: Limits, deadline: float) -> "_AsyncLine":
        left = min(limits.connect_s, max(deadline - time.monotonic(), 0.001))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(left):
            _, line = await loop.create_connection(
                cls, server.host, server.port, ssl=server.context()
            )
        greeting, count = server.greeting()
        try:
            if count:
                for answer in await line.ask(greeting, count, left):
                    if isinstance(answer, Exception):
                        raise refusal(answer)
        except BaseException:
            line.close()
            raise
        return line

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self.reader.feed(data)
            while (answer := self.reader.gets()) is not False:
                self.answers.append(answer)
        except hiredis.ProtocolError as why:
            self._fail(why)
            return
        if self.done and not self.done.done() and len(self.answers) >= self.count:
            self.done.set_result(self.answers)

    def connection_lost(self, why: Exception | None) -> None:
        self._fail(why or EOFError("the server closed the connection"))

    def _fail(self, why: BaseException) -> None:
        self.lost = why
        if self.done and not self.done.done():
            self.done.set_exception(why)

    async def ask(self, data: bytes, count: int, seconds: float) -> list[Any]:
        if self.lost:
            raise self.lost
        self.answers, self.count = [], count
        loop = asyncio.get_running_loop()
        self.done = loop.create_future()
        self.transport.write(data)
        timer = loop.call_later(seconds, self._late, loop)
        try:
            return await self.done
        finally:
            timer.cancel()

    def _late(self, loop: asyncio.AbstractEventLoop) -> None:
        """A loop that was held up runs its timers before it reads: what has come by now counts."""
        done = self.done
        assert done is not None
        loop.call_soon(loop.call_soon, _expire, done)

    def close(self) -> None:
        if self.transport:
            self.transport.abort()


class AsyncLines:
    """Asks one Redis over connections of its own, each event loop over its own.

    server: called for each new connection, so that a moved master is found.
    """

    def __init__(self, server: Callable[[], Server], name: str, limits: Limits):
        self.server, self.name, self.limits = server, name, limits
        self._loops: dict[int, tuple[Any, deque[_AsyncLine], asyncio.Semaphore]] = {}
        self._pid = os.getpid()

    async def fetch(self, groups: Sequence[Group], clock: bytes | None) -> tuple[list[Rows], Any]:
        """The rows of each group and the clock, in one round trip.

        Raises OnlineStoreAway, OnlineStoreRefuses.
        """
        data, count = commands(groups, clock)
        tries = Tries(self.name, self.limits)
        idle, free = self._of_loop()
        if free.locked():
            await self._wait(free)
        else:
            await free.acquire()
        try:
            while True:
                try:
                    return await self._once(idle, data, count, tries, groups, clock)
                except FAULTS as why:
                    _close(idle)
                    await asyncio.sleep(tries.pause(why))
        finally:
            free.release()

    async def close(self) -> None:
        """Closes the idle connections of the running event loop."""
        idle, _ = self._of_loop()
        _close(idle)
        await asyncio.sleep(0)

    async def _wait(self, free: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self.limits.budget_s):
                await free.acquire()
        except TimeoutError:
            seconds = self.limits.budget_s
            raise OnlineStoreAway(self.name, 0, seconds, "all connections are busy") from None

    async def _once(
        self,
        idle: deque[_AsyncLine],
        data: bytes,
        count: int,
        tries: Tries,
        groups: Sequence[Group],
        clock: bytes | None,
    ) -> tuple[list[Rows], Any]:
        line = (
            idle.pop()
            if idle
            else await _AsyncLine.open(
                await asyncio.to_thread(self.server), self.limits, tries.deadline
            )
        )
        try:
            found = dealt(await line.ask(data, count, tries.seconds()), groups, clock)
        except BaseException:
            line.close()
            raise
        idle.append(line)
        return found

    def _of_loop(self) -> tuple[deque[_AsyncLine], asyncio.Semaphore]:
        if os.getpid() != self._pid:  # a child process must not use its parent's sockets
            self._loops, self._pid = {}, os.getpid()
        loop = asyncio.get_running_loop()
        kept = self._loops.get(id(loop))
        if kept is None or kept[0] is not loop:
            self._loops = {k: v for k, v in self._loops.items() if not v[0].is_closed()}
            kept = (loop, deque(), asyncio.Semaphore(self.limits.connections))
            self._loops[id(loop)] = kept
        return kept[1], kept[2]


def _expire(done: "asyncio.Future[list[Any]]") -> None:
    if not done.done():
        done.set_exception(TimeoutError())


def _close(idle: deque[_AsyncLine]) -> None:
    while idle:
        idle.pop().close()
