"""The consumer on a real Redis: killed and begun again it loses nothing and counts nothing twice."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random

import polars as pl
import pyarrow as pa
import pytest
import redis
from polars.testing import assert_frame_equal

from feature_repo.views import WINDOWED
from nef.stream.transport import Producer, Reader, connect
from pipelines.stream import checkpoint
from pipelines.stream.consumer import Consumer, Settings
from pipelines.stream.metrics import Metrics
from pipelines.stream.outputs import Append
from tests.conftest import World
from tests.pipelines.stream.rows import ARRIVAL, EVENT, Rows, batch, plain, reports, some_again
from tests.pipelines.stream.sink import Sink, append

DAY = timedelta(days=1)
KILLS = 5


@dataclass(frozen=True)
class Place:
    """A stream and folders of a test's own."""

    address: str
    stream: str
    settings: Settings

    @property
    def client(self) -> "redis.Redis":
        return connect(self.address)

    def consumer(self, write: Append = append) -> Consumer:
        reader = Reader(self.client, self.stream)
        sink = Sink(self.client, self.stream)
        return Consumer(reader, sink, write, self.settings, Metrics())

    def offline(self, view: str) -> pl.DataFrame:
        folder = self.settings.features / view
        files = list(folder.rglob("*.parquet"))
        return pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in files])

    def quarantine(self) -> pl.DataFrame:
        files = list(self.settings.quarantine.glob("*.parquet"))
        return pl.concat([pl.read_parquet(f) for f in files], how="diagonal")


@pytest.fixture
def place(redis_address: str, tmp_path: Path) -> Iterator[Place]:
    folders = (tmp_path / name for name in ("state", "features", "quarantine"))
    stream = f"rows:{tmp_path.name}"
    yield Place(
        redis_address, stream, Settings(*folders, lateness=DAY, commit=timedelta(seconds=0.1))
    )
    connect(redis_address).delete(stream)


@pytest.fixture(scope="module")
def tables(small_world: World) -> dict[str, pl.DataFrame]:
    """Two minutes of the small network, around its first rows."""
    found = {name: small_world.table(name) for name in {v.table for v in WINDOWED}}
    start = found["ue_radio"][ARRIVAL].min()
    return {
        name: rows.filter(pl.col(ARRIVAL) < start + timedelta(minutes=2))  # type: ignore[operator]
        for name, rows in found.items()
    }


def drained(place: Place, producing: threading.Thread, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while producing.is_alive() or place.client.xlen(place.stream):
        assert time.monotonic() < deadline, f"{place.client.xlen(place.stream)} entries are left"
        time.sleep(0.05)


@contextmanager
def consuming(place: Place) -> "Iterator[subprocess.Popen[str]]":
    """A consumer in a process of its own that has begun to read; killed in the end."""
    folders = (place.settings.state, place.settings.features, place.settings.quarantine)
    command = [sys.executable, "-m", "tests.pipelines.stream.sink", place.address, place.stream]
    with subprocess.Popen(
        [*command, *map(str, folders)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "consuming\n"
        yield process
        process.kill()


def assert_like_the_batch(place: Place, tables: dict[str, pl.DataFrame]) -> None:
    last = max(rows[ARRIVAL].to_physical().max() for rows in tables.values())  # type: ignore[type-var]
    assert isinstance(last, int)
    checked = 0
    for view in WINDOWED:
        wanted = batch(view, tables, last)
        if wanted.is_empty():
            continue
        got = place.offline(view.name).sort(*view.keys, ARRIVAL)
        assert got.select(*view.keys, EVENT, ARRIVAL).is_unique().all(), view.name
        assert_frame_equal(got, wanted, rel_tol=1e-9, abs_tol=1e-6)
        newest = wanted.unique(list(view.keys), keep="last", maintain_order=True)
        online = Sink(place.client, place.stream).newest(view.name)
        assert online == {
            "|".join(str(row[key]) for key in view.keys): row[ARRIVAL]
            for row in plain(newest.select(*view.keys, EVENT, ARRIVAL))
        }, view.name
        checked += len(wanted)
    assert checked > 1000


def test_a_consumer_killed_again_and_again_loses_nothing_and_counts_nothing_twice(
    place: Place, tables: dict[str, pl.DataFrame]
) -> None:
    random = Random(11)
    sent: list[Rows] = list(reports(tables))
    rows = sum(len(part) for report in sent for part in report.values())

    def produce() -> None:
        with Producer(place.client, place.stream, limit=60) as producer:
            for report in some_again(iter(sent), random):
                producer.send(report)
                time.sleep(0.002)

    producing = threading.Thread(target=produce)
    producing.start()
    kills = 0
    while producing.is_alive() or place.client.xlen(place.stream):
        with consuming(place) as process:
            if kills < KILLS:
                time.sleep(random.random())
                process.kill()
                kills += 1
            else:
                drained(place, producing)
                process.terminate()
                assert process.wait() == 0
    producing.join()
    assert kills == KILLS
    counts = checkpoint.read(place.settings.state).counts
    assert counts["admitted"] == rows
    assert counts.get("refused", 0) == counts.get("late", 0) == 0
    assert checkpoint.read(place.settings.state).watermark["lost"] == 0
    assert_like_the_batch(place, tables)


class Died(Exception):
    """The fault of these tests."""


@pytest.mark.parametrize("survived", [0, 1, 5])
def test_a_commit_that_broke_off_is_done_again_and_nothing_is_there_twice(
    place: Place, tables: dict[str, pl.DataFrame], survived: int
) -> None:
    left = survived

    def dying(path: Path, rows: pa.Table) -> None:
        nonlocal left
        append(path, rows)
        left -= 1
        if left < 0:
            raise Died

    with Producer(place.client, place.stream, pipelined=100) as producer:
        for report in reports(tables):
            producer.send(report)
    place.settings.state.mkdir()
    first = place.consumer()
    first.take(first._reader.new(count=900))
    first.commit()
    second = place.consumer(dying)
    second.take(second._reader.new(count=300))
    with pytest.raises(Died):
        second.commit()
    third = place.consumer()
    third.take_over()
    third.take(third._reader.new(count=10_000))
    third.commit()
    assert_like_the_batch(place, tables)


def test_entries_committed_and_not_acknowledged_are_not_counted_again(
    place: Place, tables: dict[str, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Died

    with Producer(place.client, place.stream, pipelined=100) as producer:
        for report in reports(tables):
            producer.send(report)
    place.settings.state.mkdir()
    first = place.consumer()
    first.take(first._reader.new(count=900))
    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(first._reader, "acknowledge", die)
        first.commit()
    second = place.consumer()
    second.take_over()
    second.take(second._reader.new(count=10_000))
    second.commit()
    assert place.client.xlen(place.stream) == 0
    assert second.counts["admitted"] == sum(map(len, tables.values()))
    assert_like_the_batch(place, tables)


def test_a_second_consumer_waits_for_the_first(tmp_path: Path) -> None:
    begun: list[str] = []

    def wait() -> None:
        with checkpoint.locked(tmp_path) as mine:
            begun.append("second" if mine else "stopped")

    with checkpoint.locked(tmp_path):
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.2)
        begun.append("first ends")
    waiting.join(10)
    assert begun == ["first ends", "second"]
