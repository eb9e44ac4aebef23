"""Pipelined HMGETs over plain sockets, from any thread: bounded connections, retries with jitter."""

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
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

_CHUNK = 1 << 16


class _Line:
    """One connection."""

    def __init__(self, server: Server, limits: Limits, deadline: float):
        left = min(limits.connect_s, max(deadline - time.monotonic(), 0.001))
        self.socket = socket.create_connection((server.host, server.port), left)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context := server.context():
                self.socket = context.wrap_socket(self.socket, server_hostname=server.host)
            self.reader, self.room = hiredis.Reader(), bytearray(_CHUNK)
            greeting, count = server.greeting()
            if count:
                for answer in self.ask(greeting, count, left):
                    if isinstance(answer, Exception):
                        raise refusal(answer)
        except BaseException:
            self.socket.close()
            raise

    def ask(self, data: bytes, count: int, seconds: float) -> list[Any]:
        """The answers to packed commands."""
        end = time.monotonic() + seconds
        self.socket.settimeout(seconds)
        self.socket.sendall(data)
        reader, answers, room = self.reader, [], self.room
        while True:
            received = self.socket.recv_into(room)
            if not received:
                raise EOFError("the server closed the connection")
            reader.feed(room, 0, received)  # type: ignore[arg-type]
            while (answer := reader.gets()) is not False:
                answers.append(answer)
            if len(answers) >= count:
                return answers
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {seconds:.2f} s")
            self.socket.settimeout(left)

    def close(self) -> None:
        self.socket.close()


class Lines:
    """Asks one Redis over connections of its own, from any thread.

    server: called for each new connection, so that a moved master is found.
    """

    def __init__(self, server: Callable[[], Server], name: str, limits: Limits):
        self.server, self.name, self.limits = server, name, limits
        self._new()

    def fetch(self, groups: Sequence[Group], clock: bytes | None) -> tuple[list[Rows], Any]:
        """The rows of each group and the clock, in one round trip.

        Raises OnlineStoreAway, OnlineStoreRefuses.
        """
        data, count = commands(groups, clock)
        tries = Tries(self.name, self.limits)
        if os.getpid() != self._pid:  # a child process must not use its parent's sockets
            self._new()
        if not self._free.acquire(timeout=self.limits.budget_s):
            raise OnlineStoreAway(self.name, 0, self.limits.budget_s, "all connections are busy")
        try:
            while True:
                try:
                    return self._once(data, count, tries, groups, clock)
                except FAULTS as why:
                    self.close()
                    time.sleep(tries.pause(why))
        finally:
            self._free.release()

    def close(self) -> None:
        """Closes the idle connections."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _once(
        self, data: bytes, count: int, tries: Tries, groups: Sequence[Group], clock: bytes | None
    ) -> tuple[list[Rows], Any]:
        try:
            line = self._idle.pop()
        except IndexError:
            line = _Line(self.server(), self.limits, tries.deadline)
        try:
            found = dealt(line.ask(data, count, tries.seconds()), groups, clock)
        except BaseException:
            line.close()
            raise
        self._idle.append(line)
        return found

    def _new(self) -> None:
        self._idle: deque[_Line] = deque()
        self._free = threading.BoundedSemaphore(self.limits.connections)
        self._pid = os.getpid()
