"""An online store for tests, which shows what was written; and a consumer in a process of its own."""

import signal
import threading
from typing import Any

import polars as pl
import redis

from nef.stream.transport import Reader, connect
from pipelines.stream import checkpoint
from pipelines.stream.consumer import Consumer, Settings
from pipelines.stream.metrics import Metrics

_NEWER = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if not stored or tonumber(ARGV[2]) > tonumber(stored) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
"""


class Sink:
    """Holds the arrival of each key's newest row, a hash a view."""

    def __init__(self, client: "redis.Redis", stream: str) -> None:
        self._client, self._stream = client, stream
        self._newer: Any = client.register_script(_NEWER)

    def write(self, view: str, rows: pl.DataFrame) -> None:
        """As the consumer asks for it."""
        keys = rows.columns[: rows.columns.index("event_timestamp")]
        arrivals = rows["arrival_timestamp"].to_physical().to_list()
        for key, arrival in zip(rows.select(keys).rows(), arrivals, strict=True):
            name = "|".join(str(part) for part in key)
            self._newer(keys=[f"{self._stream}:{view}"], args=[name, arrival])

    def newest(self, view: str) -> dict[str, int]:
        """Key to arrival in microseconds."""
        found: Any = self._client.hgetall(f"{self._stream}:{view}")
        return {key.decode(): int(arrival) for key, arrival in found.items()}


def consume_until_stopped(address: str, stream: str, settings: Settings) -> None:
    """What the command does, without a feature store."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with checkpoint.locked(settings.state, stopped.is_set) as mine:
        if mine:
            client = connect(address)
            sink = Sink(client, stream)
            Consumer(Reader(client, stream), sink, settings, Metrics()).run(stopped.is_set)


def ready() -> None:
    """Returns once a process of this kind has imported what it needs."""
