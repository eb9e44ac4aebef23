"""The stream in Redis: a producer that waits rather than trims, and a reader of one consumer group.

The producer adds no entry while the stream holds `limit` of them; the reader removes entries once they
are acknowledged. So no unread entry is ever trimmed, and a slow consumer slows the producers down.

One reader a group. Windows are over all rows of a key, and the watermark over all producers: with the
entries dealt out to two readers, each would count half of every window. So a reader holds a lease, and
another one is refused.
"""

import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnectionError
from redis.retry import Retry

from nef.stream.entries import Row, encode
from schemas.errors import QosError

STREAM, GROUP, FIELD = "qos:rows", "features", b"entry"
LIMIT = 100_000
LEASE_S = 10.0
_WAIT_S = 0.005
_AWAY_S = 0.1
_ANSWER_S, _CONNECT_S = 10.0, 2.0

# KEYS[1] the stream; ARGV[1] the limit, then the fields to add. Answers how many were added.
_ADD = """
local room = tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1])
local added = 0
for i = 2, #ARGV do
  if added >= room then break end
  redis.call('XADD', KEYS[1], '*', 'entry', ARGV[i])
  added = added + 1
end
return added
"""

# KEYS[1] the lease; ARGV: who asks, what to say of it, milliseconds. Answers who else holds it.
_LEASE = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then return held end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
return false
"""
_RELEASE = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' then redis.call('DEL', KEYS[1]) end
"""


class StreamTakenError(QosError):
    """Another reader holds the lease of the group."""


class StreamFullError(TimeoutError):
    """The stream stayed full: nobody consumes it."""


def connect(address: str) -> "redis.Redis":
    """A client of `host:port[,db=N][,password=…][,ssl=true]`.

    It raises at the first failure and sends no command twice: after a lost answer a second read would
    pass over what the first one was given. An answer may take 10 s, a connection 2 s.
    """
    place, *options = address.split(",")
    host, _, port = place.rpartition(":")
    named = dict(option.split("=", 1) for option in options)
    return redis.Redis(
        host=host or "127.0.0.1",
        port=int(port),
        db=int(named.get("db", 0)),
        password=named.get("password"),
        ssl=named.get("ssl", "").lower() == "true",
        socket_timeout=_ANSWER_S,
        socket_connect_timeout=_CONNECT_S,
        retry=Retry(NoBackoff(), 0),
    )


class Producer:
    """Sends rows; each call is one entry, and its promise is the arrival of its newest row.

    So rows that arrive at one instant belong into one call: a later one of that instant is late.
    """

    def __init__(
        self, client: "redis.Redis", stream: str = STREAM, *, limit: int = LIMIT, name: str = "nef",
        patience_s: float = 60.0, pipelined: int = 1,
    ) -> None:  # fmt: skip
        """pipelined: entries that are held back and sent together; patience_s: see `flush`."""
        self.name = f"{name}-{uuid.uuid4().hex[:12]}"
        self._add = client.register_script(_ADD)
        self._stream, self._limit = stream, limit
        self._patience_s, self._pipelined = patience_s, pipelined
        self._number, self._through = 0, 0
        self._held: list[bytes] = []
        self.waited_s = 0.0

    def send(self, tables: Mapping[str, Sequence[Row]], through: int | None = None) -> None:
        """Sends rows by table; through: microseconds, the promise where no row says it.

        Raises `EntryError` for what is no JSON, `StreamFullError` as `flush` does.
        """
        arrivals = [
            row["arrival_timestamp"]
            for rows in tables.values()
            for row in rows
            if isinstance(row.get("arrival_timestamp"), int)
        ]
        self._through = max(self._through, through or 0, *arrivals[:1], *arrivals)
        self._hold({table: list(rows) for table, rows in tables.items()})
        if len(self._held) >= self._pipelined:
            self.flush()

    def mark(self, through: int) -> None:
        """Promises that rows to come arrive after a time (microseconds), without a row."""
        self.send({}, through)
        self.flush()

    def flush(self) -> None:
        """Sends what is held back, waiting while the stream is full or the server away.

        Raises `StreamFullError` after `patience_s` without room, the connection's error after as long
        without a server; what was not sent stays held. What the server got and could not confirm is sent
        again; the consumer knows it by its number.
        """
        since = time.monotonic()
        while self._held:
            try:
                added = int(self._add(keys=[self._stream], args=[self._limit, *self._held]))
            except (NoConnectionError, redis.TimeoutError):
                if time.monotonic() - since > self._patience_s:
                    raise
                time.sleep(_AWAY_S)
                self.waited_s += _AWAY_S
                continue
            self._held = self._held[added:]
            if not self._held:
                return
            if added:
                since = time.monotonic()
            elif time.monotonic() - since > self._patience_s:
                raise StreamFullError(
                    f"{self._stream}: full with {self._limit} entries for {self._patience_s:g} s, "
                    f"{len(self._held)} wait; does a consumer run?"
                )
            time.sleep(_WAIT_S)
            self.waited_s += _WAIT_S

    def close(self) -> None:
        """Sends what is held back and says that nothing more comes: nobody waits for this one."""
        self._hold({}, last=True)
        self.flush()

    def _hold(self, tables: Mapping[str, list[Row]], *, last: bool = False) -> None:
        through = self._through or None
        self._held.append(encode(self.name, self._number, through, tables, last=last))
        self._number += 1

    def __enter__(self) -> "Producer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()


Raw = tuple[str, bytes | None]  # id and field of an entry


class Reader:
    """The one consumer of a group. Every call may be made again after it failed.

    owner: outlives the process, so that a successor need not wait for the lease of a killed one.
    Raises `StreamTakenError` where another owner reads.
    """

    def __init__(
        self, client: "redis.Redis", stream: str = STREAM, group: str = GROUP, consumer: str = "",
        *, owner: str = "", lease_s: float = LEASE_S,
    ) -> None:  # fmt: skip
        self._client, self._stream, self._group = client, stream, group
        self._consumer = consumer or f"consumer-{uuid.uuid4().hex[:12]}"
        self._owner, self._lease_s = owner, lease_s
        self._lease, self._leased_at = f"{stream}:{group}:reader", -float("inf")
        self._take = client.register_script(_LEASE)
        self._release = client.register_script(_RELEASE)
        self._last = "0-0"  # of what was given
        self._torn = False  # an answer was lost: entries may be ours that we never saw
        self.hold()
        self._make_group()

    def _make_group(self) -> None:
        try:
            self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def hold(self) -> None:
        """Takes the lease, or takes it for longer; raises `StreamTakenError`."""
        if not self._owner or time.monotonic() - self._leased_at < self._lease_s / 5:
            return
        began = time.monotonic()
        said = f"of {socket.gethostname()}, process {os.getpid()}"
        held = self._take(keys=[self._lease], args=[self._owner, said, int(self._lease_s * 1000)])
        if held:
            raise StreamTakenError(
                f"stream {self._stream}, group {self._group}: state {_text(held)} is reading it; one "
                "consumer a group sees all rows of a key: stop that one, wait until its lease of "
                f"{self._lease_s:g} s ends, or give this one a group and features of its own"
            )
        self._leased_at = began

    def unfinished(self, a_time: int = 500) -> Iterator[list[Raw]]:
        """Takes over what dead consumers, and earlier runs, had read and not acknowledged, in order."""
        start: Any = "0-0"
        while True:
            self.hold()
            start, entries, *_ = self._client.xautoclaim(  # type: ignore[misc]
                self._stream, self._group, self._consumer, 0, start, count=a_time
            )
            if entries:
                self._last = max(self._last, _text(entries[-1][0]), key=order)
                yield _raw(entries)
            if _text(start) == "0-0":
                return

    def new(self, count: int = 1000, wait_ms: int = 100) -> list[Raw]:
        """Entries that nobody has read, in order; none after `wait_ms` without one.

        After a lost answer first what that one gave us; where the server forgot the group, it is made.
        """
        self.hold()
        try:
            while self._torn:
                lost = self._read(self._last, count, None)
                self._torn = bool(lost)
                if found := _raw(lost):
                    return found
            return _raw(self._read(">", count, wait_ms))
        except (NoConnectionError, redis.TimeoutError):
            self._torn = True
            raise
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._make_group()
            return []

    def _read(self, after: str, count: int, wait_ms: int | None) -> Any:
        answer: Any = self._client.xreadgroup(
            self._group, self._consumer, {self._stream: after}, count=count, block=wait_ms
        )
        entries = answer[0][1] if answer else []
        if entries:
            self._last = max(self._last, _text(entries[-1][0]), key=order)
        return entries

    def acknowledge(self, ids: Sequence[str], through: str) -> None:
        """Acknowledges entries and removes those up to an id from the stream, but for what another
        group has not done.

        All up to there must be counted in, and are, as one reader gets them in order.
        """
        self.hold()
        with self._client.pipeline(transaction=False) as pipe:
            for start in range(0, len(ids), 1000):
                pipe.xack(self._stream, self._group, *ids[start : start + 1000])
            pipe.xtrim(self._stream, minid=self._needed_from(through), approximate=False)
            pipe.execute()

    def _needed_from(self, through: str) -> str:
        """The first id that is not done by this group, up to `through`, and by every other one."""
        needed = _after(through)
        try:
            groups: Any = self._client.xinfo_groups(self._stream)
        except redis.ResponseError:  # no stream any more
            return needed
        for group in groups:
            if _text(group["name"]) == self._group:
                continue
            theirs = _after(_text(group["last-delivered-id"]))
            if group["pending"]:
                pending: Any = self._client.xpending(self._stream, group["name"])
                theirs = _text(pending["min"]) if pending["min"] else theirs
            needed = min(needed, theirs, key=order)
        return needed

    def unread(self) -> int:
        """Entries of the stream that are not acknowledged."""
        return int(self._client.xlen(self._stream))  # type: ignore[arg-type]

    def leave(self) -> None:
        """Removes this consumer from the group where it holds nothing, and lets go of the lease."""
        pending: Any = self._client.xpending_range(
            self._stream, self._group, "-", "+", 1, consumername=self._consumer
        )
        if not pending:
            self._client.xgroup_delconsumer(self._stream, self._group, self._consumer)
        if self._owner:
            self._release(keys=[self._lease], args=[self._owner])
            self._leased_at = -float("inf")


def order(identity: str) -> tuple[int, int]:
    """Sorts ids as the stream does."""
    milliseconds, _, number = identity.partition("-")
    return int(milliseconds), int(number or 0)


def _after(identity: str) -> str:
    milliseconds, number = order(identity)
    return f"{milliseconds}-{number + 1}"


def _raw(entries: Any) -> list[Raw]:
    return [
        (_text(identity), fields.get(FIELD)) for identity, fields in entries if fields is not None
    ]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
