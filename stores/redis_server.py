"""A Redis to read from: where it is, what is said to it, how long and how often it is tried."""

import random
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hiredis

Rows = list[list[bytes | None]]
_TRANSIENT = (
    "LOADING",
    "MASTERDOWN",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "BUSY ",
    "ERR max number of clients",
)
FAULTS = (OSError, EOFError, hiredis.ProtocolError)


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
        said: list[tuple[Any, ...]] = []
        if self.password:
            user = (self.username,) if self.username else ()
            said.append(("AUTH", *user, self.password))
        if self.db:
            said.append(("SELECT", str(self.db)))
        return b"".join(hiredis.pack_command(command) for command in said), len(said)

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


@dataclass(frozen=True)
class Group:
    """Keys that are asked for the same fields. tail: the fields as RESP, made once.

    whole: the whole hashes are asked for, answered as lists of field, value, field, value …
    """

    keys: Sequence[bytes]
    fields: tuple[bytes, ...]
    tail: bytes
    whole: bool = False


def resp_tail(fields: Sequence[bytes]) -> bytes:
    """The fields as the end of an HMGET command."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(field), field) for field in fields)


def commands(groups: Sequence[Group], clock: bytes | None) -> tuple[bytes, int]:
    """The clock's GET, if it is asked for, and every key's read; and how many answers they have."""
    parts = []
    if clock is not None:
        parts.append(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(clock), clock))
    for group in groups:
        if group.whole:
            head = b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n"
            parts += [head % (len(key), key) for key in group.keys]
            continue
        start = b"*%d\r\n$5\r\nHMGET\r\n$" % (len(group.fields) + 2)
        tail = b"\r\n" + group.tail
        for key in group.keys:
            parts += (start, b"%d\r\n" % len(key), key, tail)
    return b"".join(parts), (clock is not None) + sum(len(group.keys) for group in groups)


def dealt(
    answers: list[Any], groups: Sequence[Group], clock: bytes | None
) -> tuple[list[Rows], Any]:
    """The rows of each group and the clock's value. Raises what `refusal` makes of an error."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise refusal(answer)
    place = 0 if clock is None else 1
    rows = []
    for group in groups:
        rows.append(answers[place : place + len(group.keys)])
        place += len(group.keys)
    return rows, None if clock is None else answers[0]


def refusal(answer: Exception) -> Exception:
    """A fault to try again for what passes, OnlineStoreRefuses for what does not."""
    if str(answer).startswith(_TRANSIENT):
        return _Transient(str(answer))
    return OnlineStoreRefuses(str(answer))


class Tries:
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
