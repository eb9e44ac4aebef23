"""Entries of the stream to features: online at once, offline and acknowledged at each commit.

At least once: entries are acknowledged after the commit that counts them in. Once: a commit is the
renaming of one manifest, which names the newest entry; after a crash everything later is done again
from the rows that the manifest names, and gives the same feature rows.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import polars as pl

from feature_repo.views import WINDOWED
from feature_repo.windows import View
from nef.stream.entries import Entry, EntryError, decode
from nef.stream.transport import Raw, Reader, order
from pipelines.stream import checkpoint as kept
from pipelines.stream.admission import Admission, Given
from pipelines.stream.incremental import Incremental
from pipelines.stream.metrics import Metrics, outcome
from pipelines.stream.outputs import Append, append_offline, remove_uncommitted, write_quarantine
from pipelines.stream.times import EVENT, micros
from pipelines.stream.watermark import Watermark
from schemas.tables import TABLES

_ENTRIES = "entry"  # the quarantine of what is no entry, or of no known table


class Online(Protocol):
    """Where feature rows are written at once."""

    def write(self, view: str, rows: pl.DataFrame) -> None:
        """Writes rows of a view; again is no harm."""


@dataclass(frozen=True)
class Settings:
    """lateness: a row that arrives longer after its event is refused; idle: a producer silent for so
    long is not waited for; commit: the longest time between two commits."""

    state: Path
    features: Path
    quarantine: Path
    lateness: timedelta = timedelta(minutes=1)
    idle: timedelta = timedelta(seconds=30)
    commit: timedelta = timedelta(seconds=5)
    views: tuple[View, ...] = WINDOWED


class Consumer:
    """Holds the state; make it only while the lock of the state's folder is held."""

    def __init__(
        self, reader: Reader, online: Online, append: Append, settings: Settings, metrics: Metrics
    ) -> None:
        self._reader, self._online, self._append = reader, online, append
        self._settings, self.metrics = settings, metrics
        self._checkpoint = kept.read(settings.state)
        self._admission = Admission(settings.lateness)
        self._features = Incremental(settings.views, settings.lateness)
        self._watermark = Watermark(idle_ms=micros(settings.idle) // 1000)
        self._position = self._checkpoint.position
        self._pending: dict[str, None] = {}  # ids, in order
        self._admitted: dict[str, list[pl.DataFrame]] = defaultdict(list)
        self._refused: dict[str, list[pl.DataFrame]] = defaultdict(list)
        self._emitted: dict[str, list[pl.DataFrame]] = defaultdict(list)
        self._counts: Counter[str] = Counter(self._checkpoint.counts)
        self._committed_at = time.monotonic()
        self._restore()

    @property
    def counts(self) -> dict[str, int]:
        """Rows by outcome and feature rows by view, since the first run of this state."""
        return dict(self._counts)

    def _restore(self) -> None:
        settings, saved = self._settings, self._checkpoint
        for folder in (*(settings.features / v.name for v in settings.views), settings.quarantine):
            remove_uncommitted(folder, saved.name, saved.number)
        if saved.watermark:
            self._watermark.restore(saved.watermark)
        for table, rows in kept.rows_of(settings.state, saved).items():
            self._admission.remember(table, rows)
            self._features.insert(table, rows)
        self._features.advance(self._watermark.value, compute_rows=False)
        self._forget()

    def run(self, stopped: Callable[[], bool]) -> None:
        """Consumes until stopped, and commits what was read."""
        self.take_over()
        while not stopped():
            entries = self._reader.new()
            if entries:
                self.take(entries)
            self.commit_if_due()
        self.commit()
        self._reader.leave()

    def take_over(self) -> None:
        """Does what dead consumers and earlier runs had read and not committed."""
        for entries in self._reader.unfinished():
            self.take(entries)
        self.commit()

    def take(self, raw: Iterable[Raw]) -> None:
        """Counts entries in and writes the features that they complete."""
        began = time.monotonic()
        given, time_ms = self._sorted(raw)
        admitted_events = []
        for table, part in given.items():
            if table not in TABLES:
                self._refuse_table(table, part)
                continue
            admitted, quarantine = self._admission.judge(table, part)
            self._count(table, admitted, quarantine)
            if len(quarantine):
                self._refused[table].append(quarantine)
            if len(admitted):
                self._admitted[table].append(admitted)
                self._features.insert(table, admitted)
                admitted_events.append(admitted[EVENT])
        for view, rows in self._features.advance(self._watermark.value).items():
            self._online.write(view, rows)
            self._emitted[view].append(rows)
            self._counts[f"feature_rows.{view}"] += len(rows)
            self.metrics.emissions.labels(view).inc(len(rows))
        self._show(admitted_events, time_ms, time.monotonic() - began)

    def _sorted(self, raw: Iterable[Raw]) -> tuple[dict[str, Given], int]:
        """The rows of the entries by table, each beside the watermark before its entry."""
        given: dict[str, Given] = {}
        newest = order(self._position)
        for identity, field in raw:
            if order(identity) <= newest:  # counted in before
                self._pending[identity] = None
                continue
            self._pending[identity] = None
            self._position, newest = identity, order(identity)
            closed = self._watermark.value
            try:
                entry = decode(identity, field)
            except EntryError as error:
                self._refuse_entry(identity, field, str(error))
                continue
            if self._watermark.take(entry):
                self._spread(entry, closed, given)
            else:
                self._counts["entries_twice"] += 1
        return given, newest[0]

    def _spread(self, entry: Entry, closed: int, given: dict[str, Given]) -> None:
        for table, rows in entry.tables.items():
            part = given.setdefault(table, Given([], [], []))
            part.rows.extend(rows)
            part.places.extend((entry.id, line) for line in range(len(rows)))
            part.closed.extend([closed] * len(rows))
            part.latest.extend([entry.latest_us] * len(rows))

    def _refuse_entry(self, identity: str, field: bytes | None, reason: str) -> None:
        text = (field or b"").decode(errors="replace")
        row = {"source_file": identity, "source_line": 0, "source_text": text, "reason": reason}
        self._refused[_ENTRIES].append(pl.DataFrame([row]))
        self._counts["refused"] += 1
        self.metrics.rows.labels(_ENTRIES, "refused").inc()

    def _refuse_table(self, table: str, part: Given) -> None:
        for row, (identity, line) in zip(part.rows, part.places, strict=True):
            reason = f"stream: no table {table!r}"
            text = {
                "source_file": identity,
                "source_line": line,
                "source_text": json.dumps(row),
            }
            self._refused[_ENTRIES].append(pl.DataFrame([text | {"reason": reason}]))
        self._counts["refused"] += len(part.rows)
        self.metrics.rows.labels(_ENTRIES, "refused").inc(len(part.rows))

    def _count(self, table: str, admitted: pl.DataFrame, quarantine: pl.DataFrame) -> None:
        outcomes = Counter({"admitted": len(admitted)})
        outcomes.update(outcome(reason) for reason in quarantine["reason"].to_list())
        for name, number in outcomes.items():
            self._counts[name] += number
            self.metrics.rows.labels(table, name).inc(number)

    def _show(self, events: list[pl.Series], time_ms: int, seconds: float) -> None:
        now = time.time()
        for series in events:
            for event_us in series.to_physical().to_list():
                self.metrics.written.observe(now - event_us / 1e6)
        self.metrics.batch.observe(seconds)
        self.metrics.lag_seconds.set(max(0.0, now - time_ms / 1e3))
        self.metrics.watermark.set(self._watermark.value / 1e6)
        self.metrics.lost.set(self._watermark.lost)

    def commit_if_due(self) -> None:
        """Commits where the last commit is `Settings.commit` ago and something came since."""
        since = time.monotonic() - self._committed_at
        if self._pending and since >= self._settings.commit.total_seconds():
            self.commit()

    def commit(self) -> None:
        """Writes offline rows, refused rows and state, then the manifest; acknowledges after it."""
        self._committed_at = time.monotonic()
        if not self._pending:
            return
        if self._position != self._checkpoint.position:
            self._write_commit()
        self._reader.acknowledge(list(self._pending), self._checkpoint.position)
        self._pending.clear()
        self.metrics.lag_entries.set(self._reader.unread())
        self.metrics.commit.observe(time.monotonic() - self._committed_at)

    def _write_commit(self) -> None:
        settings, saved = self._settings, self._checkpoint
        saved.number += 1
        for view, rows in self._emitted.items():
            append_offline(self._append, settings.features, view, rows, saved.name, saved.number)
        for table, rows in self._refused.items():
            write_quarantine(settings.quarantine, table, rows, saved.name, saved.number)
        for table, rows in self._admitted.items():
            kept.add_rows(settings.state, saved, table, rows, self._dead(table))
        saved.position = self._position
        saved.watermark = self._watermark.saved()
        saved.counts = dict(self._counts)
        kept.write(settings.state, saved)
        for buffer in (self._emitted, self._refused, self._admitted):
            buffer.clear()
        self._forget()

    def _dead(self, table: str) -> int:
        """The time up to which no event of a table is needed any more."""
        reach = [
            max(micros(window.length) for window in view.windows)
            for view in self._settings.views
            if view.table == table
        ]
        return self._watermark.value - micros(self._settings.lateness) - max(reach, default=0)

    def _forget(self) -> None:
        self._features.forget()
        for view, state in self._features.states.items():
            self.metrics.held.labels(view).set(state.held)
        self._admission.forget(self._watermark.value)
        self._watermark.forget(order(self._position)[0])
