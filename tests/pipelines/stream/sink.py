"""An online store for tests, which shows what was written; and a consumer in a process of its own."""

import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
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


def append(path: Path, rows: pa.Table) -> None:
    """As `stores.source.append_rows` does to a file that is not there; that one takes Feast along."""
    beside = path.with_name(f".{path.name}.part")
    pq.write_table(rows, beside)
    beside.replace(path)


def consume_until_stopped(address: str, stream: str, *folders: str) -> None:
    """What the command does, without a feature store."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    settings = Settings(
        *map(Path, folders), lateness=timedelta(days=1), commit=timedelta(seconds=0.1)
    )
    with checkpoint.locked(settings.state, stopped.is_set) as mine:
        if mine:
            client = connect(address)
            reader, sink = Reader(client, stream), Sink(client, stream)
            consumer = Consumer(reader, sink, append, settings, Metrics())
            print("consuming", flush=True)
            consumer.run(stopped.is_set)


if __name__ == "__main__":
    consume_until_stopped(*sys.argv[1:])
