"""Costs of writing a view's rows, from a sample that is really written apart and removed again."""

import resource
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import polars as pl
import pyarrow as pa
from feast import FeatureView, RepoConfig
from feast.infra.online_stores.redis import RedisOnlineStore

from stores import redis as in_redis
from stores.arrival import ROW, Pull, batches
from stores.engine import BulkComputeEngine

KEY, STATE = "__encoded_key", "__state"
NEW, NEWER, KEPT = "new", "newer", "kept"
KEYS_A_PIPELINE = 5_000
_BUCKET = 8  # bytes of a pointer in Redis' table of keys


@dataclass
class Part:
    """A view on the way to its plan.

    keys: number of each row, its encoded key, and what the store holds of it.
    """

    view: FeatureView
    pulled: Pull
    keys: pl.DataFrame
    read_s: float
    memory: int

    @property
    def written(self) -> pl.DataFrame:
        """The rows that are newer than what is stored."""
        return self.keys.filter(pl.col(STATE) != KEPT)


def costs(
    engine: BulkComputeEngine, parts: Sequence[Part], sample: int
) -> list[tuple[int, float, int]]:
    """Of each view: bytes of growth, seconds to write a key, peak memory while writing."""
    found = []
    samples = [_sampled(part, sample) for part in parts]
    with _scratch(engine) as scratch:
        for part, own in zip(parts, samples, strict=True):
            forget_peak()
            tried = _with_shared(part, parts, samples)
            size, seconds = scratch.write(part, own, tried) if len(own) else (0, 0)
            found.append((round(size), seconds, peak()))
    return found


def _sampled(part: Part, sample: int) -> pl.DataFrame:
    """Rows to measure: so many, or all, of the keys that are new, and of those that are replaced."""
    written = [part.keys.filter(pl.col(STATE) == state) for state in (NEW, NEWER)]
    return pl.concat(rows.sample(min(sample, len(rows)), seed=1) for rows in written)


def _with_shared(
    part: Part, parts: Sequence[Part], samples: Sequence[pl.DataFrame]
) -> pl.DataFrame:
    """The view's rows of every key that is measured for it or for a view that shares its keys."""
    names = sorted(part.view.join_keys)
    keys = pl.concat(
        own[KEY]
        for one, own in zip(parts, samples, strict=True)
        if sorted(one.view.join_keys) == names
    ).unique()
    return part.written.filter(pl.col(KEY).is_in(keys.implode()))


def _rows(part: Part, tried: pl.DataFrame) -> pa.Table:
    """The tried rows with their features."""
    winners = part.pulled.winners.join(tried, on=ROW, how="semi", maintain_order="left")
    return pa.concat_tables(batches(replace(part.pulled, winners=winners), len(winners)))


@contextmanager
def _scratch(engine: BulkComputeEngine) -> Iterator["_RedisScratch | _SqliteScratch"]:
    scratch = _RedisScratch(engine) if is_redis(engine) else _SqliteScratch(engine)
    try:
        yield scratch
    finally:
        scratch.remove()


class _RedisScratch:
    """Copies of hashes under a project of its own, whose name is as long as the project's."""

    def __init__(self, engine: BulkComputeEngine) -> None:
        self.store = cast(Any, engine.online_store)
        self.real = engine.repo_config
        length = max(len(self.real.project.encode()), 8)
        self.config: RepoConfig = self.real.model_copy(
            update={"project": secrets.token_hex(length)[:length]}
        )
        self.client = self.store._get_client(self.real.online_store)
        self.before_keys = int(self.client.dbsize())
        self.new_keys: set[bytes] = set()
        self.copied: set[bytes] = set()

    def write(self, part: Part, own: pl.DataFrame, tried: pl.DataFrame) -> tuple[float, float]:
        """(bytes by which the view's keys grow, seconds a key)."""
        self._copy(tried[KEY].to_list())
        kinds = [own.filter(pl.col(STATE) == state) for state in (NEW, NEWER)]
        before = [self._bytes(kind) for kind in kinds]
        seconds = _timed(self.store, self.config, part.view, _rows(part, tried))
        grown = sum(
            (self._bytes(kind) - had) / len(kind) * int((part.keys[STATE] == kind[STATE][0]).sum())
            for kind, had in zip(kinds, before, strict=True)
            if len(kind)
        )
        return grown + self._table(part), seconds

    def remove(self) -> None:
        """Deletes what was written."""
        keys = sorted(self.copied)
        for begin in range(0, len(keys), KEYS_A_PIPELINE):
            with self.client.pipeline(transaction=False) as pipe:
                for key in keys[begin : begin + KEYS_A_PIPELINE]:
                    pipe.delete(key)
                pipe.execute()
        self.client.delete(in_redis._newest_key(self.config))

    def _named(self, key: bytes) -> bytes:
        return key.removesuffix(self.real.project.encode()) + self.config.project.encode()

    def _copy(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            if self._named(key) not in self.copied:
                self.copied.add(self._named(key))
                if (held := self.client.dump(key)) is not None:
                    self.client.restore(self._named(key), 0, held)

    def _bytes(self, rows: pl.DataFrame) -> int:
        with self.client.pipeline(transaction=False) as pipe:
            for key in rows[KEY].to_list():
                pipe.memory_usage(self._named(key), samples=0)
            return sum(size or 0 for size in pipe.execute())

    def _table(self, part: Part) -> int:
        """Growth of the server's table of keys, which doubles."""
        fresh = part.written.filter(pl.col(STATE) == NEW)[KEY].to_list()
        held: set[bytes] = set()
        for begin in range(0, len(fresh), KEYS_A_PIPELINE):
            some = fresh[begin : begin + KEYS_A_PIPELINE]
            with self.client.pipeline(transaction=False) as pipe:
                for key in some:
                    pipe.exists(key)
                held.update(k for k, there in zip(some, pipe.execute(), strict=True) if there)
        size = self.before_keys + len(self.new_keys)
        self.new_keys.update(set(fresh) - held)
        return _BUCKET * (_buckets(self.before_keys + len(self.new_keys)) - _buckets(size))


class _SqliteScratch:
    """A file of its own."""

    def __init__(self, engine: BulkComputeEngine) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "plan.db"
        self.config = engine.repo_config.model_copy()
        settings = engine.repo_config.online_store.model_copy(update={"path": str(self.path)})
        self.config._online_store = settings
        self.store: Any = type(engine.online_store)()

    def write(self, part: Part, own: pl.DataFrame, tried: pl.DataFrame) -> tuple[float, float]:
        """(bytes by which the file grows, seconds a key)."""
        self.store.update(self.config, [], [part.view], [], [], partial=True)
        rows, before = _rows(part, own), self._bytes()
        seconds = _timed(self.store, self.config, part.view, rows)
        new = int((part.keys[STATE] == NEW).sum())
        return (self._bytes() - before) / rows.num_rows * new, seconds

    def remove(self) -> None:
        """Deletes the file."""
        if self.store._conn:
            self.store._conn.close()
        self.folder.cleanup()

    def _bytes(self) -> int:
        with closing(sqlite3.connect(self.path)) as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        return int(pages * size)


def _timed(store: Any, config: RepoConfig, view: FeatureView, rows: pa.Table) -> float:
    """Writes the rows; seconds a key, without those of the first tenth, which warm up."""
    warm = rows.num_rows // 10
    if warm:
        store.write_arrow(config, view, rows.slice(0, warm))
    begun = time.perf_counter()
    store.write_arrow(config, view, rows.slice(warm))
    seconds = time.perf_counter() - begun
    return float(seconds / (rows.num_rows - warm))


def _buckets(keys: int) -> int:
    return 1 << max(keys - 1, 3).bit_length()


def forget_peak() -> None:
    """Begins to measure the peak of memory anew; where the system cannot, it goes on."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> int:
    """Peak of this process's resident memory since it was last forgotten, in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def is_redis(engine: BulkComputeEngine) -> bool:
    """Whether the online store is Redis."""
    return isinstance(engine.online_store, RedisOnlineStore)
