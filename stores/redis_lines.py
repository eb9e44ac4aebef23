"""Pipelined HMGETs over plain sockets: bounded connections, timeouts, retries with jitter.

A read is one write and the reading of its answers. Connection faults are tried again on a new
connection, within a budget of seconds; what the server refuses is not.
"""

import asyncio
import os
import random
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import hiredis
from feast.infra.online_stores.redis import RedisOnlineStore, RedisType

Rows = list[list[bytes | None]]
_TRANSIENT = ("LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "READONLY")
_CHUNK = 1 << 18
_FAULTS = (OSError, EOFError, hiredis.ProtocolError)


@dataclass(frozen=True)
class Limits:
    """connect_s, read_s: of one attempt; budget_s: of all attempts; connections: at most, a reader."""

    connect_s: float = 0.5
    read_s: float = 1.0
    budget_s: float = 3.0
    attempts: int = 3
    backoff_s: float = 0.02
    connections: int = 16


class OnlineStoreAway(ConnectionError):
    """The online store cannot be reached. server, attempts, seconds: what was tried."""

    def __init__(self, server: str, attempts: int, seconds: float, why: BaseException | str):
        super().__init__(
            f"online store {server} is away: {attempts} attempts in {seconds:.2f} s, last: {why!s}"
            + (f" ({type(why).__name__})" if isinstance(why, BaseException) else "")
        )
        self.server, self.attempts, self.seconds = server, attempts, seconds


class OnlineStoreRefuses(RuntimeError):
    """The online store is there and refuses: wrong password, wrong type of key, no memory …"""


class _Transient(ConnectionError):
    pass


@dataclass(frozen=True)
class Server:
    """Where a Redis is and how to log in. Its name holds no password."""

    host: str
    port: int
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: tuple[tuple[str, Any], ...] | None = None

    @property
    def name(self) -> str:
        """host:port/db."""
        return f"{self.host}:{self.port}/{self.db}"

    def __repr__(self) -> str:
        return f"Server({self.name})"

    def greeting(self) -> tuple[bytes, int]:
        """The commands that open a connection, and how many answers they have."""
        commands: list[tuple[str, ...]] = []
        if self.password:
            user = (self.username,) if self.username else ()
            commands.append(("AUTH", *user, self.password))
        if self.db:
            commands.append(("SELECT", str(self.db)))
        return b"".join(hiredis.pack_command(command) for command in commands), len(commands)

    def context(self) -> ssl.SSLContext | None:
        """The TLS context of the connection string's `ssl_…` settings; None without TLS."""
        if self.tls is None:
            return None
        settings = dict(self.tls)
        context = ssl.create_default_context(cafile=settings.get("ssl_ca_certs"))
        context.check_hostname = bool(settings.get("ssl_check_hostname", True))
        if settings.get("ssl_cert_reqs") in ("none", "CERT_NONE"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if settings.get("ssl_certfile"):
            context.load_cert_chain(settings["ssl_certfile"], settings.get("ssl_keyfile"))
        return context


class Asking(Protocol):
    """What asks a Redis: rows of each group of keys, and the clock's value if it was asked for."""

    def fetch(self, groups: Sequence["Group"], clock: bytes | None) -> tuple[list[Rows], Any]: ...

    async def fetch_async(
        self, groups: Sequence["Group"], clock: bytes | None
    ) -> tuple[list[Rows], Any]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Group:
    """Keys that are asked for the same fields. tail: the fields as RESP, made once."""

    keys: Sequence[bytes]
    fields: tuple[bytes, ...]
    tail: bytes


def resp_tail(fields: Sequence[bytes]) -> bytes:
    """The fields as the end of an HMGET command."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(field), field) for field in fields)


def _commands(groups: Sequence[Group], clock: bytes | None) -> tuple[bytes, int]:
    parts = []
    if clock is not None:
        parts.append(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(clock), clock))
    for group in groups:
        start = b"*%d\r\n$5\r\nHMGET\r\n$" % (len(group.fields) + 2)
        tail = b"\r\n" + group.tail
        for key in group.keys:
            parts += (start, b"%d\r\n" % len(key), key, tail)
    return b"".join(parts), (clock is not None) + sum(len(group.keys) for group in groups)


def _dealt(
    answers: list[Any], groups: Sequence[Group], clock: bytes | None
) -> tuple[list[Rows], Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise _refusal(answer)
    place = 0 if clock is None else 1
    rows = []
    for group in groups:
        rows.append(answers[place : place + len(group.keys)])
        place += len(group.keys)
    return rows, None if clock is None else answers[0]


def _refusal(answer: Exception) -> Exception:
    if str(answer).startswith(_TRANSIENT):
        return _Transient(str(answer))
    return OnlineStoreRefuses(str(answer))


class _Line:
    """One connection."""

    def __init__(self, server: Server, limits: Limits, deadline: float):
        left = min(limits.connect_s, max(deadline - time.monotonic(), 0.001))
        self.socket = socket.create_connection((server.host, server.port), left)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context := server.context():
                self.socket = context.wrap_socket(self.socket, server_hostname=server.host)
            self.reader = hiredis.Reader()
            greeting, count = server.greeting()
            if count:
                for answer in self.ask(greeting, count, left):
                    if isinstance(answer, Exception):
                        raise _refusal(answer)
        except BaseException:
            self.socket.close()
            raise

    def ask(self, data: bytes, count: int, seconds: float) -> list[Any]:
        """The answers to packed commands."""
        end = time.monotonic() + seconds
        self.socket.settimeout(seconds)
        self.socket.sendall(data)
        reader, answers = self.reader, []
        while True:
            received = self.socket.recv(_CHUNK)
            if not received:
                raise EOFError("the server closed the connection")
            reader.feed(received)
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
                        raise _refusal(answer)
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
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        async with asyncio.timeout(seconds):
            return await self.done

    def close(self) -> None:
        if self.transport:
            self.transport.abort()


class _Tries:
    """Counts attempts and seconds of one read, and says how long to wait before the next."""

    def __init__(self, server: str, limits: Limits):
        self.server, self.limits, self.made = server, limits, 0
        self.start = time.monotonic()
        self.deadline = self.start + limits.budget_s

    def seconds(self) -> float:
        """What one attempt may take."""
        return max(min(self.limits.read_s, self.deadline - time.monotonic()), 0.001)

    def pause(self, why: BaseException) -> float:
        """Seconds to wait before the next attempt. Raises OnlineStoreAway when none is left."""
        self.made += 1
        pause = random.uniform(0, self.limits.backoff_s * 2**self.made)
        now = time.monotonic()
        if self.made >= self.limits.attempts or now + pause >= self.deadline:
            raise OnlineStoreAway(self.server, self.made, now - self.start, why) from None
        return pause


class RedisLines:
    """Asks one Redis over connections of its own, from any thread or event loop.

    server: called for each new connection, so that a moved master is found.
    """

    def __init__(self, server: Callable[[], Server], name: str, limits: Limits):
        self.server, self.name, self.limits = server, name, limits
        self._idle: deque[_Line] = deque()
        self._free = threading.BoundedSemaphore(limits.connections)
        self._loops: dict[int, tuple[Any, deque[_AsyncLine], asyncio.Semaphore]] = {}
        self._pid = os.getpid()

    def fetch(self, groups: Sequence[Group], clock: bytes | None) -> tuple[list[Rows], Any]:
        """The rows of each group and the clock, in one round trip.

        Raises OnlineStoreAway, OnlineStoreRefuses.
        """
        data, count = _commands(groups, clock)
        tries = _Tries(self.name, self.limits)
        if os.getpid() != self._pid:
            self._forked()
        if not self._free.acquire(timeout=self.limits.budget_s):
            raise OnlineStoreAway(self.name, 0, self.limits.budget_s, "all connections are busy")
        try:
            while True:
                line = None
                try:
                    line = self._line(tries.deadline)
                    answers = line.ask(data, count, tries.seconds())
                    dealt = _dealt(answers, groups, clock)
                except OnlineStoreRefuses:
                    if line:
                        line.close()
                    raise
                except _FAULTS as why:
                    if line:
                        line.close()
                    self._drop_idle()
                    time.sleep(tries.pause(why))
                except BaseException:
                    if line:
                        line.close()
                    raise
                else:
                    self._idle.append(line)
                    return dealt
        finally:
            self._free.release()

    async def fetch_async(
        self, groups: Sequence[Group], clock: bytes | None
    ) -> tuple[list[Rows], Any]:
        """As `fetch`, in an event loop."""
        data, count = _commands(groups, clock)
        tries = _Tries(self.name, self.limits)
        idle, free = self._of_loop()
        try:
            async with asyncio.timeout(self.limits.budget_s):
                await free.acquire()
        except TimeoutError:
            seconds = self.limits.budget_s
            raise OnlineStoreAway(self.name, 0, seconds, "all connections are busy") from None
        try:
            while True:
                line = None
                try:
                    line = idle.pop() if idle else None
                    line = line or await _AsyncLine.open(self.server(), self.limits, tries.deadline)
                    answers = await line.ask(data, count, tries.seconds())
                    dealt = _dealt(answers, groups, clock)
                except _FAULTS as why:
                    if line:
                        line.close()
                    while idle:
                        idle.pop().close()
                    await asyncio.sleep(tries.pause(why))
                except BaseException:
                    if line:
                        line.close()
                    raise
                else:
                    idle.append(line)
                    return dealt
        finally:
            free.release()

    def close(self) -> None:
        """Closes the idle connections of all threads, and of loops that still run."""
        self._drop_idle()
        for loop, idle, _ in list(self._loops.values()):
            while idle and not loop.is_closed():
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(idle.pop().close)
        self._loops.clear()

    def _line(self, deadline: float) -> _Line:
        try:
            return self._idle.pop()
        except IndexError:
            return _Line(self.server(), self.limits, deadline)

    def _drop_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _of_loop(self) -> tuple[deque[_AsyncLine], asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        kept = self._loops.get(id(loop))
        if kept is None or kept[0] is not loop:
            self._loops = {k: v for k, v in self._loops.items() if not v[0].is_closed()}
            kept = (loop, deque(), asyncio.Semaphore(self.limits.connections))
            self._loops[id(loop)] = kept
        return kept[1], kept[2]

    def _forked(self) -> None:
        """A child process must not use its parent's sockets."""
        self._idle = deque()
        self._free = threading.BoundedSemaphore(self.limits.connections)
        self._loops = {}
        self._pid = os.getpid()


class ClusterAsking:
    """Asks a Redis Cluster through redis-py's client, which knows where each key is."""

    def __init__(self, store: RedisOnlineStore, config: Any, name: str, limits: Limits):
        self.store, self.config, self.name, self.limits = store, config, name, limits

    def fetch(self, groups: Sequence[Group], clock: bytes | None) -> tuple[list[Rows], Any]:
        """As `RedisLines.fetch`."""
        tries = _Tries(self.name, self.limits)
        while True:
            try:
                pipe = self.store._get_client(self.config).pipeline(transaction=False)
                if clock is not None:
                    pipe.get(clock)
                for group in groups:
                    for key in group.keys:
                        pipe.hmget(key, list(group.fields))
                return _dealt(pipe.execute(raise_on_error=False), groups, clock)
            except (*_FAULTS, *_redis_faults()) as why:
                time.sleep(tries.pause(why))

    async def fetch_async(
        self, groups: Sequence[Group], clock: bytes | None
    ) -> tuple[list[Rows], Any]:
        """As `fetch`, in a thread."""
        return await asyncio.to_thread(self.fetch, groups, clock)

    def close(self) -> None:
        """Nothing: the client is the store's."""


def _redis_faults() -> tuple[type[Exception], ...]:
    from redis import exceptions

    return (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ClusterError)


def asking(store: RedisOnlineStore, config: Any, limits: Limits) -> Asking:
    """What asks the Redis of this online store configuration."""
    nodes, settings = RedisOnlineStore._parse_connection_string(config.connection_string)
    names = ",".join(f"{node['host']}:{node['port']}" for node in nodes)
    if config.redis_type == RedisType.redis_cluster:
        return ClusterAsking(store, config, names, limits)
    tls = tuple(sorted((k, v) for k, v in settings.items() if k.startswith("ssl_")))

    def server_at(host: str, port: int) -> Server:
        text = {key: str(settings[key]) for key in ("username", "password") if key in settings}
        return Server(
            host=host,
            port=port,
            db=int(settings.get("db", 0)),
            tls=tls if settings.get("ssl") else None,
            **text,  # type: ignore[arg-type]
        )

    if config.redis_type == RedisType.redis_sentinel:
        from redis.sentinel import Sentinel

        places = [(node["host"], int(node["port"])) for node in nodes]

        def master() -> Server:
            sentinel = Sentinel(places, socket_timeout=limits.connect_s)
            return server_at(*sentinel.discover_master(config.sentinel_master))

        return RedisLines(master, f"{config.sentinel_master} of {names}", limits)
    server = server_at(nodes[0]["host"], int(nodes[0]["port"]))
    return RedisLines(lambda: server, server.name, limits)
