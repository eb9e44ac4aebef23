"""An append-only log in Parquet: never blocks who appends, and holds whole files only.

A row has an id that sorts by time (UUID of version 7). Files lie in a folder a UTC day (of the id's
time) and are named by their first and last id, so that an id is found without an index.
"""

import contextlib
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from serving.in_loop import Do, here
from serving.record import day_of, decided_us_of

Given = TypeVar("Given")
Kept = TypeVar("Kept")
T = TypeVar("T")

log = logging.getLogger(__name__)
_TURN_S = 0.05  # between two looks at what was appended: little work each time holds up no request
_FEW, _GONE = 8, 64  # rows that are made, and let go of, before requests may run again
_MORE = 8  # times as many, without pauses, once two files' rows wait
_SLICE = 128  # rows whose columns are made one after the other
_GROUP = 512  # rows that are written at once
_MOMENT_S = 0.0005  # of making columns, before requests may run again
_PAUSE_S = 0.002
_TORN_S = 60
_NAME = re.compile(r"([0-9a-f-]{36})_([0-9a-f-]{36})_[0-9a-f]{8}\.parquet")


class ParquetLog(Generic[Given, Kept]):
    """Rows by id; `append` and `look` are safe from any thread.

    What was appended is in memory until it is in a file: after a crash at most the last `flush_s`
    seconds are lost, and no file is torn.
    """

    def __init__(
        self,
        folder: Path,
        kept: Callable[[Given], Kept],
        schema: pa.Schema,
        columns: Callable[[Sequence[Kept], int], Iterator[tuple[str, pa.Array]]],
        dropped: Callable[[int], None],
        flush_s: float = 5.0,
        rows_a_file: int = 4096,
        most_waiting: int = 65_536,
        seen: Callable[[Kept], None] = lambda row: None,
    ) -> None:
        """kept: turns what is appended into a row; columns: turns rows and the time of writing
        (microseconds since 1970) into those of the schema; dropped: told how many rows were lost;
        seen: told each row in the log's thread. `do` says where rows and columns are made.

        Removes what a crash left half-written in `folder` over a minute ago.
        """
        self.folder = folder
        self._kept, self._columns, self._schema = kept, columns, schema
        self._dropped, self._seen = dropped, seen
        self.do: Do = here
        self._flush_s, self._rows, self._most = flush_s, rows_a_file, most_waiting
        self._waiting: dict[str, Given] = {}  # as appended
        self._turning: dict[str, Given] = {}  # of them those under way to
        self._ready: dict[str, Kept] = {}  # rows, of them those that are
        self._writing: dict[str, Kept] = {}  # under way to a file
        self._lock, self._one_writer = threading.Lock(), threading.Lock()
        self._end, self._ended = threading.Event(), False
        folder.mkdir(parents=True, exist_ok=True)
        for torn in folder.glob("*/.*.part"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - torn.stat().st_mtime > _TORN_S:
                    torn.unlink()
        self._thread = threading.Thread(target=self._run, name=f"log-{folder.name}", daemon=True)
        self._thread.start()

    def append(self, row_id: str, given: Given) -> bool:
        """Keeps it, unless the id waits already; whether it was kept.

        Loses it, and counts that, where too many wait, the log has ended or the id is no such id.
        """
        strange = decided_us_of(row_id) is None
        with self._lock:
            count = len(self._waiting) + len(self._ready)
            full = strange or self._ended or count >= self._most
            known = (
                row_id in self._waiting
                or row_id in self._turning
                or row_id in self._ready
                or row_id in self._writing
            )
            if not full and not known:
                self._waiting[row_id] = given
        if full:
            self._dropped(1)
        return not full and not known

    def look(self, row_id: str) -> Given | Kept | None:
        """What was appended under the id, or its row, while that is not in a file yet."""
        with self._lock:
            return next((some[row_id] for some in self._in_memory() if row_id in some), None)

    def _in_memory(self) -> tuple[Mapping[str, Given | Kept], ...]:
        return self._waiting, self._turning, self._ready, self._writing

    def read(self, row_ids: Sequence[str]) -> pa.Table | None:
        """As `read_ids` of the log's folder."""
        return read_ids(self.folder, row_ids)

    def flush(self) -> None:
        """Blocks until all that was appended before is in files, or counted as lost."""
        with self._one_writer:
            self._turn(paced=False)
            self._write(paced=False)

    def close(self) -> None:
        """Flushes and ends; what is appended later is lost, and counted."""
        with self._lock:
            self._ended = True
        self._end.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        due = time.monotonic() + self._flush_s
        while not self._end.wait(min(_TURN_S, self._flush_s)):
            with self._one_writer:
                self._turn(paced=True)
                if len(self._ready) >= self._rows or time.monotonic() >= due:
                    self._write(paced=True)
                    due = time.monotonic() + self._flush_s

    def _behind(self, paced: bool) -> bool:
        waiting = len(self._waiting) + len(self._turning)
        return not paced or self._ended or waiting > 2 * self._rows

    def _parts(self, rows: Sequence[T], usual: int, paced: bool) -> Iterator[Sequence[T]]:
        """So many at a time, with pauses in which requests run; more without where that is too slow."""
        place = 0
        while place < len(rows):
            if place:
                self._pause(paced)
            few = usual * _MORE if self._behind(paced) else usual
            yield rows[place : place + few]
            place += few

    def _pause(self, paced: bool) -> None:
        """Lets requests run."""
        if not self._behind(paced):
            time.sleep(_PAUSE_S)

    def _turn(self, paced: bool) -> None:
        """What was appended becomes rows; one that cannot is lost."""
        with self._lock:
            self._turning, self._waiting = self._waiting, {}
        for some in self._parts(list(self._turning), _FEW, paced):
            made = self.do(partial(self._made, some))
            with self._lock:
                self._ready.update(made)
            self._forget(self._turning, some)
            for row in made.values():
                self._seen(row)

    def _made(self, row_ids: Sequence[str]) -> dict[str, Kept]:
        made = {}
        for row_id in row_ids:
            try:
                made[row_id] = self._kept(self._turning[row_id])
            except Exception:  # the log must outlive a fault of one row
                self._lose_one()
        return made

    def _forget(self, some: dict[str, T], row_ids: Sequence[str]) -> None:
        """Few at a time: nothing else runs while many objects are let go of."""
        with self._lock:
            gone = [some.pop(row_id) for row_id in row_ids]
        del gone  # when others may have the lock

    def _write(self, paced: bool) -> None:
        with self._lock:
            self._writing, self._ready = self._ready, {}
        for day, ids in _by_day(sorted(self._writing)).items():
            for begin in range(0, len(ids), self._rows):
                some = ids[begin : begin + self._rows]
                self._write_file(day, some, paced)
                for few in self._parts(some, _GONE, paced):
                    self._forget(self._writing, few)

    def _write_file(self, day: str, ids: list[str], paced: bool) -> None:
        """One file of these rows; what cannot be written, as on a full disk, is lost."""
        rows, lost = [self._writing[one] for one in ids], list[Kept]()
        try:
            tables = self._tables(rows, lost, paced)
            write_whole(self.folder / f"day={day}", ids[0], ids[-1], self._schema, tables)
        except Exception:  # the log must outlive a fault of one file
            left = len(rows) - len(lost)
            log.exception("a file of %d rows could not be written; they are lost", left)
            self._dropped(left)

    def _tables(self, rows: list[Kept], lost: list[Kept], paced: bool) -> Iterator[pa.Table]:
        """Of `_GROUP` rows each; lost: what cannot be written goes there."""
        now = time.time_ns() // 1000
        for begin in range(0, len(rows), _GROUP):
            group = rows[begin : begin + _GROUP]
            parts = []
            for start in range(0, len(group), _SLICE):
                parts += self._table(group[start : start + _SLICE], now, lost, paced)
                self._pause(paced)
            if parts:
                yield pa.concat_tables(parts).combine_chunks()

    def _table(self, rows: list[Kept], now: int, lost: list[Kept], paced: bool) -> list[pa.Table]:
        columns, made = self._columns(rows, now), dict[str, pa.Array]()
        try:
            while self.do(partial(_made_columns, columns, made)):
                self._pause(paced)
            return [pa.table(made, schema=self._schema)]
        except Exception:
            return list(self._one_by_one(rows, now, lost))

    def _one_by_one(self, rows: list[Kept], now: int, lost: list[Kept]) -> Iterator[pa.Table]:
        for one in rows:
            try:
                table = pa.table(dict(self._columns([one], now)), schema=self._schema)
            except Exception:
                lost.append(one)
                self._lose_one()
            else:
                yield table

    def _lose_one(self) -> None:
        log.exception("a row could not be written and is lost")
        self._dropped(1)


def read_ids(folder: Path, row_ids: Sequence[str]) -> pa.Table | None:
    """The rows of these ids that are in a log's files, None where there are none."""
    found = []
    for day, wanted in _by_day(row_ids).items():
        for path in files_of(folder, day):
            first, last = _ends(path)
            here = [one for one in wanted if first <= one <= last]
            if here:
                chosen = [("decision_id", "in", here)]
                found.append(pq.read_table(path, filters=chosen, partitioning=None))
    return pa.concat_tables(found) if found else None


def files_of(folder: Path, day: str | None = None) -> list[Path]:
    """A log's whole files, of one day or of all, in the order of their first ids."""
    folders = sorted(folder.glob("day=*")) if day is None else [folder / f"day={day}"]
    return [p for f in folders for p in sorted(f.glob("*.parquet")) if _NAME.fullmatch(p.name)]


def write_whole(
    folder: Path, first: str, last: str, schema: pa.Schema, tables: Iterable[pa.Table]
) -> None:
    """Writes a file that readers see whole or not at all, and that a power cut leaves whole; none
    where there are no rows."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{first}_{last}_{uuid.uuid4().hex[:8]}.parquet"
    beside = folder / f".{path.name}.part"
    # a dictionary of numbers takes long and saves nothing
    texts, rows = [one.name for one in schema if pa.types.is_string(one.type)], 0
    try:
        with pq.ParquetWriter(
            str(beside), schema, compression="zstd", use_dictionary=texts
        ) as writer:
            for table in tables:
                writer.write_table(table)
                rows += len(table)
        if rows:
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _made_columns(columns: Iterator[tuple[str, pa.Array]], made: dict[str, pa.Array]) -> bool:
    """Takes columns for a moment; whether there may be more."""
    end = time.perf_counter() + _MOMENT_S
    for name, column in columns:
        made[name] = column
        if time.perf_counter() > end:
            return True
    return False


def _by_day(row_ids: Sequence[str]) -> dict[str, list[str]]:
    """The ids by the day that they tell; what is no id is left out."""
    found: dict[str, list[str]] = {}
    for one in row_ids:
        if (us := decided_us_of(one)) is not None:
            found.setdefault(day_of(us), []).append(one)
    return found


def _ends(path: Path) -> tuple[str, str]:
    named = _NAME.fullmatch(path.name)
    assert named is not None  # `files` gives no other
    return named[1], named[2]
