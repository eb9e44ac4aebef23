"""The stream in Redis: a producer that waits rather than trims, and a reader of one consumer group.

The producer adds no entry while the stream holds `limit` of them; the reader removes entries once they
are acknowledged. So no unread entry is ever trimmed, and a slow consumer slows the producers down.
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import redis

from nef.stream.entries import Row, encode

STREAM, GROUP, FIELD = "qos:rows", "features", b"entry"
LIMIT = 100_000
_WAIT_S = 0.005

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


class StreamFullError(TimeoutError):
    """The stream stayed full: nobody consumes it."""


def connect(address: str) -> "redis.Redis":
    """A client of `host:port[,db=N][,password=…][,ssl=true]`, which keeps on trying for a second."""
    place, *options = address.split(",")
    host, _, port = place.rpartition(":")
    named = dict(option.split("=", 1) for option in options)
    return redis.Redis(
        host=host or "127.0.0.1",
        port=int(port),
        db=int(named.get("db", 0)),
        password=named.get("password"),
        ssl=named.get("ssl", "").lower() == "true",
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
        """Sends what is held back, waiting while the stream is full.

        Raises `StreamFullError` after `patience_s` without room; what was not sent stays held.
        """
        since = time.monotonic()
        while self._held:
            added = int(self._add(keys=[self._stream], args=[self._limit, *self._held]))
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
    """One consumer of the group. Of a stream only one reads at a time (see the consumer's lock)."""

    def __init__(
        self, client: "redis.Redis", stream: str = STREAM, group: str = GROUP, consumer: str = ""
    ) -> None:
        self._client, self._stream, self._group = client, stream, group
        self._consumer = consumer or f"consumer-{uuid.uuid4().hex[:12]}"
        try:
            client.xgroup_create(stream, group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def unfinished(self, a_time: int = 500) -> Iterator[list[Raw]]:
        """Takes over what dead consumers, and earlier runs, had read and not acknowledged, in order."""
        start: Any = "0-0"
        while True:
            start, entries, *_ = self._client.xautoclaim(  # type: ignore[misc]
                self._stream, self._group, self._consumer, 0, start, count=a_time
            )
            if entries:
                yield _raw(entries)
            if _text(start) == "0-0":
                return

    def new(self, count: int = 1000, wait_ms: int = 100) -> list[Raw]:
        """Entries that nobody has read, in order; none after `wait_ms` without one."""
        answer: Any = self._client.xreadgroup(
            self._group, self._consumer, {self._stream: ">"}, count=count, block=wait_ms
        )
        return _raw(answer[0][1]) if answer else []

    def acknowledge(self, ids: Sequence[str], through: str) -> None:
        """Acknowledges entries and removes those up to an id from the stream."""
        with self._client.pipeline(transaction=False) as pipe:
            for start in range(0, len(ids), 1000):
                pipe.xack(self._stream, self._group, *ids[start : start + 1000])
            pipe.xtrim(self._stream, minid=_after(through), approximate=False)
            pipe.execute()

    def unread(self) -> int:
        """Entries of the stream that are not acknowledged."""
        return int(self._client.xlen(self._stream))  # type: ignore[arg-type]

    def leave(self) -> None:
        """Removes this consumer from the group where it holds nothing."""
        pending: Any = self._client.xpending_range(
            self._stream, self._group, "-", "+", 1, consumername=self._consumer
        )
        if not pending:
            self._client.xgroup_delconsumer(self._stream, self._group, self._consumer)


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
