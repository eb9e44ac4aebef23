"""Compaction changes how rows are filed, never which there are, whoever dies or reads meanwhile."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipelines.stream import compact as compaction
from pipelines.stream.compact import compact, reading
from pipelines.stream.outputs import append_offline
from schemas.errors import QosError
from stores.source import append_rows

NAME, VIEW = "abc123", "ue_motion"
START = datetime(2024, 5, 1, 20, tzinfo=UTC)


def a_part(number: int) -> pl.DataFrame:
    """Ten rows of a commit, ten minutes after the one before."""
    at = pl.lit(START + timedelta(minutes=10 * number)).cast(pl.Datetime("us", "UTC"))
    rows = pl.DataFrame({"ue_id": [f"ue{n}" for n in range(10)], "speed": [float(number)] * 10})
    return rows.select("ue_id", at.alias("event_timestamp"), at.alias("arrival_timestamp"), "speed")


def written(features: Path, numbers: range) -> pl.DataFrame:
    for number in numbers:
        append_offline(append_rows, features, VIEW, [a_part(number)], NAME, number)
    return pl.concat([a_part(number) for number in numbers])


def stored(features: Path) -> pl.DataFrame:
    files = (features / VIEW).rglob("*.parquet")
    return pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in files])


def assert_same(got: pl.DataFrame, wanted: pl.DataFrame) -> None:
    assert_frame_equal(got, wanted, check_row_order=False)


def names(features: Path) -> dict[str, list[str]]:
    days = sorted((features / VIEW).glob("day=*"))
    return {day.name: sorted(file.name for file in day.iterdir()) for day in days}


def test_a_day_that_is_over_becomes_one_file_and_the_open_one_fewer(tmp_path: Path) -> None:
    rows = written(tmp_path, range(1, 61))  # 23 of them on the first day
    assert compact(tmp_path, NAME, 60) == 60
    assert names(tmp_path) == {
        "day=2024-05-01": [f"commits-{NAME}-1-23.parquet"],
        "day=2024-05-02": [f"commits-{NAME}-24-60.parquet"],
    }
    assert_same(stored(tmp_path), rows)
    rows = pl.concat([rows, written(tmp_path, range(61, 66))])
    assert compact(tmp_path, NAME, 65) == 0  # few: they wait
    assert_same(stored(tmp_path), rows)


def test_what_is_not_committed_or_of_another_state_is_not_touched(tmp_path: Path) -> None:
    written(tmp_path, range(1, 21))
    append_offline(append_rows, tmp_path, VIEW, [a_part(3)], "fed987", 3)
    before = stored(tmp_path)
    assert compact(tmp_path, NAME, 18) == 18
    assert {f"stream-{NAME}-19.parquet", f"stream-{NAME}-20.parquet", "stream-fed987-3.parquet"} < {
        *names(tmp_path)["day=2024-05-01"]
    }
    assert_same(stored(tmp_path), before)


@pytest.mark.parametrize("removed", [0, 1, 7])
def test_a_compaction_that_died_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    rows = written(tmp_path, range(1, 31))
    left, unlink = removed, Path.unlink

    def dying(path: Path, missing_ok: bool = False) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        unlink(path, missing_ok)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", dying)
        compact(tmp_path, NAME, 30)
    assert len(stored(tmp_path)) > len(rows)  # twice, until the next time
    compact(tmp_path, NAME, 30)
    assert_same(stored(tmp_path), rows)


def test_a_compaction_that_died_while_it_wrote_leaves_no_trace(tmp_path: Path) -> None:
    rows = written(tmp_path, range(1, 31))
    begun = tmp_path / VIEW / "day=2024-05-01" / f".commits-{NAME}-1-23.parquet.part"
    begun.write_bytes(b"half")
    compact(tmp_path, NAME, 30)
    assert not begun.exists()
    assert_same(stored(tmp_path), rows)


def test_readers_see_every_row_once_while_files_are_replaced(tmp_path: Path) -> None:
    random, stopped = Random(3), threading.Event()
    written(tmp_path, range(1, 13))
    committed = 12
    faults: list[str] = []
    reads = 0

    def read() -> None:
        nonlocal reads
        while not stopped.is_set():
            least = committed
            with reading(tmp_path):
                files = list((tmp_path / VIEW).rglob("*.parquet"))
                time.sleep(random.random() * 0.01)
                got = pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in files])
            twice = len(got) - len(got.unique())
            if twice or len(got) % 10 or len(got) < 10 * least:
                faults.append(f"{len(got)} rows, {twice} twice")
            reads += 1
            time.sleep(0.001)

    reader = threading.Thread(target=read)
    reader.start()
    merged = 0
    for number in range(13, 120):
        written(tmp_path, range(number, number + 1))
        committed = number
        if number % 12 == 0:
            merged += compact(tmp_path, NAME, number)
    stopped.set()
    reader.join()
    assert not faults and reads > 10 and merged > 60


def test_a_second_compaction_and_impatient_readers_are_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, range(1, 31))
    monkeypatch.setattr(compaction, "_PATIENCE_S", 0.05)
    with reading(tmp_path), pytest.raises(QosError, match="lock: held by another process"):
        compact(tmp_path, NAME, 30)
    compact(tmp_path, NAME, 30)
    assert len(stored(tmp_path)) == 300
