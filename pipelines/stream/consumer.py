"""Entries of the stream to features: online at once, offline and acknowledged at each commit.

At least once: entries are acknowledged after the commit that counts them in. Once: a commit is the
renaming of one manifest, which names the newest entry; after a crash everything later is done again
from the rows that the manifest names, and gives the same feature rows.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from feature_repo.views import WINDOWED
from feature_repo.windows import View
from nef.stream.entries import Entry, EntryError, decode
from nef.stream.transport import LIMIT, Raw, Reader, order
from pipelines.stream import checkpoint as kept
from pipelines.stream.admission import Admission, Given, Judged
from pipelines.stream.incremental import Incremental
from pipelines.stream.metrics import ENTRIES, Metrics, outcome_of
from pipelines.stream.outage import Patience
from pipelines.stream.outputs import Append, append_offline, remove_uncommitted, write_quarantine
from pipelines.stream.times import EVENT, micros
from pipelines.stream.times import time as at_time
from pipelines.stream.watermark import Watermark
from schemas.tables import TABLES

Frames = dict[str, list[pl.DataFrame]]


class Online(Protocol):
    """Where feature rows are written at once."""

    def write(self, view: str, rows: pl.DataFrame) -> None:
        """Writes rows of a view; again is no harm."""


@dataclass(frozen=True)
class Settings:
    """lateness: a row that arrives longer after its event is refused; idle: a producer silent for so
    long is not waited for; commit: the longest time between two commits; patience: the longest outage
    of Redis that is waited for; limit: of entries, at which producers wait (shown, not set, here)."""

    state: Path
    features: Path
    quarantine: Path
    lateness: timedelta = timedelta(minutes=1)
    idle: timedelta = timedelta(seconds=30)
    commit: timedelta = timedelta(seconds=5)
    patience: timedelta = timedelta(minutes=1)
    limit: int = LIMIT
    views: tuple[View, ...] = WINDOWED


@dataclass(frozen=True)
class _Commit:
    """What came since the last commit, and where the stream stood then; frames by view or table."""

    position: str
    watermark: int
    saved_watermark: dict[str, Any]
    counts: dict[str, int]
    emitted: Frames
    refused: Frames
    admitted: Frames
    folded: Frames


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
        self._admitted: Frames = defaultdict(list)
        self._refused: Frames = defaultdict(list)
        self._emitted: Frames = defaultdict(list)
        self._counts: Counter[str] = Counter(self._checkpoint.counts)
        self._committed_at = time.monotonic()
        self._writer = ThreadPoolExecutor(1, "commit")
        self._writing: Future[None] | None = None
        self._committing: list[str] = []  # ids
        self._patience = self._patient()
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
        for series, rows in kept.rows_of(settings.state, saved).items():
            if series.startswith("@"):
                self._features.restore(series[1:], rows)
            else:
                self._admission.remember(series, rows)
                self._features.insert(series, rows, again=True)
        self._features.advance(self._watermark.value, compute_rows=False)
        self._forget()

    def run(self, stopped: Callable[[], bool]) -> None:
        """Consumes until stopped, and commits what was read."""
        self._patience = self._patient(stopped)
        self.take_over()
        while not stopped():
            entries = self._patience.call(self._reader.new)
            if entries:
                self.take(entries)
            self.commit_if_due()
        self.commit()
        self._patience.call(self._reader.leave)

    def _patient(self, stopped: Callable[[], bool] = lambda: False) -> Patience:
        seconds = self._settings.patience.total_seconds()
        return Patience(seconds, self.metrics.failures.inc, stopped)

    def take_over(self) -> None:
        """Does what dead consumers and earlier runs had read and not committed."""
        self._patience.call(self._take_unfinished)
        self.commit()

    def _take_unfinished(self) -> None:
        for entries in self._reader.unfinished():
            self.take(entries)

    def take(self, raw: Iterable[Raw]) -> None:
        """Counts entries in and writes the features that they complete."""
        began = time.monotonic()
        given, time_ms = self._sorted(raw)
        admitted_events = []
        for table, part in given.items():
            if table not in TABLES:
                self._refuse_rows(part, f"stream: no table {table!r}")
                continue
            admitted, quarantine = self._judged(table, part)
            self._count(table, admitted, quarantine)
            if len(quarantine):
                self._refused[table].append(quarantine)
            if len(admitted):
                self._admitted[table].append(admitted)
                self._features.insert(table, admitted)
                admitted_events.append(admitted[EVENT])
        for view, rows in self._features.advance(self._watermark.value).items():
            self._patience.call(partial(self._online.write, view, rows))
            self._emitted[view].append(rows)
            self._counts[f"feature_rows.{view}"] += len(rows)
            self.metrics.emissions.labels(view).inc(len(rows))
        self._show(admitted_events, time_ms, time.monotonic() - began)

    def _judged(self, table: str, part: Given) -> Judged:
        """As `Admission.judge`; a row at which that fails is refused, and the others are judged."""
        try:
            return self._admission.judge(table, part)
        except Exception as error:  # whatever a row holds, it shall not stop the stream
            if len(part.rows) == 1:
                self._refuse_rows(part, f"{table}: {type(error).__name__}: {error}")
                return self._admission.judge(table, Given([], [], []))
            middle = len(part.rows) // 2
            halves = [self._judged(table, part[:middle]), self._judged(table, part[middle:])]
            return Judged(*(pl.concat(frames) for frames in zip(*halves, strict=True)))

    def _sorted(self, raw: Iterable[Raw]) -> tuple[dict[str, Given], int]:
        """The rows of the entries by table, each beside the watermark before its entry."""
        given: dict[str, Given] = {}
        newest = order(self._position)
        for identity, field in raw:
            self._pending[identity] = None
            if order(identity) <= newest:  # counted in before
                self.metrics.entries.labels("read_again").inc()
                continue
            self._position, newest = identity, order(identity)
            closed = self._watermark.value
            try:
                entry = decode(identity, field)
            except EntryError as error:
                self._refuse_entry(identity, field, str(error))
                continue
            if self._watermark.take(entry):
                self._spread(entry, closed, given)
                self.metrics.entries.labels("new").inc()
            else:
                self._counts["entries_twice"] += 1
                self.metrics.entries.labels("sent_twice").inc()
        return given, newest[0]

    def _spread(self, entry: Entry, closed: int, given: dict[str, Given]) -> None:
        for table, rows in entry.tables.items():
            part = given.setdefault(table, Given([], [], []))
            part.rows.extend(rows)
            part.places.extend((entry.id, line) for line in range(len(rows)))
            part.closed.extend([closed] * len(rows))
            part.latest.extend([entry.latest_us] * len(rows))

    def _refuse_entry(self, identity: str, field: bytes | None, reason: str) -> None:
        self._refuse(identity, 0, (field or b"").decode(errors="replace"), reason)
        self.metrics.entries.labels("refused").inc()

    def _refuse_rows(self, part: Given, reason: str) -> None:
        for row, (identity, line) in zip(part.rows, part.places, strict=True):
            self._refuse(identity, line, json.dumps(row), reason)

    def _refuse(self, identity: str, line: int, text: str, reason: str) -> None:
        row = {"source_file": identity, "source_line": line, "source_text": text, "reason": reason}
        self._refused[ENTRIES].append(pl.DataFrame([row]))
        self._counts["refused"] += 1
        self.metrics.rows.labels(ENTRIES, "refused").inc()

    def _count(self, table: str, admitted: pl.DataFrame, quarantine: pl.DataFrame) -> None:
        outcomes = Counter({"admitted": len(admitted)})
        outcomes.update(outcome_of(reason) for reason in quarantine["reason"].to_list())
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
        """Begins a commit where the last one is `Settings.commit` ago and something came since, beside
        the rows that come; ends it where it has been written."""
        if self._writing is not None:
            if self._writing.done():
                self._end_commit()
            return
        since = time.monotonic() - self._committed_at
        if self._pending and since >= self._settings.commit.total_seconds():
            self._begin_commit()

    def commit(self) -> None:
        """Commits all that was taken, and waits for it."""
        if self._writing is not None:
            self._end_commit()
        if self._pending:
            self._begin_commit()
            self._end_commit()

    def _begin_commit(self) -> None:
        self._committed_at = time.monotonic()
        self._committing = list(self._pending)
        self._pending.clear()
        if self._position == self._checkpoint.position:
            self._writing = Future()
            self._writing.set_result(None)
            return
        commit = _Commit(
            self._position, self._watermark.value, self._watermark.saved(), dict(self._counts),
            self._emitted, self._refused, self._admitted, self._features.save(),
        )  # fmt: skip
        self._emitted, self._refused = defaultdict(list), defaultdict(list)
        self._admitted = defaultdict(list)
        self._forget()
        self._writing = self._writer.submit(self._write, commit)

    def _end_commit(self) -> None:
        """Waits until it is written, then acknowledges. Raises what the writing raised."""
        assert self._writing is not None
        self._writing.result()
        self._writing = None
        ids, through = self._committing, self._checkpoint.position
        self._patience.call(lambda: self._reader.acknowledge(ids, through))
        lag = self._patience.call(self._reader.unread)
        self.metrics.lag_entries.set(lag)
        self.metrics.fill.set(lag / self._settings.limit)
        self.metrics.commit.observe(time.monotonic() - self._committed_at)

    def _write(self, commit: _Commit) -> None:
        """Writes offline rows, refused rows and state, then the manifest."""
        settings, saved = self._settings, self._checkpoint
        saved.number += 1
        for view, rows in commit.emitted.items():
            append_offline(self._append, settings.features, view, rows, saved.name, saved.number)
        for table, rows in commit.refused.items():
            write_quarantine(settings.quarantine, table, rows, saved.name, saved.number)
        for table, rows in commit.admitted.items():
            live = partial(self._live, table, commit.watermark)
            kept.add_rows(settings.state, saved, table, rows, live)
        for view, rows in commit.folded.items():
            live = partial(self._features.live, view, commit.watermark)
            kept.add_rows(settings.state, saved, f"@{view}", rows, live)
        saved.position, saved.watermark = commit.position, commit.saved_watermark
        saved.counts = commit.counts
        kept.write(settings.state, saved)

    def _live(self, table: str, watermark: int, rows: pl.DataFrame) -> pl.DataFrame:
        """Of a table's rows those that a window, or the search for duplicates, still needs."""
        reach = [
            state.reach
            for state in self._features.states.values()
            if table in (state.view.table, state.view.clock_table)
        ]
        dead = watermark - micros(self._settings.lateness) - max(reach, default=0)
        return rows.filter(pl.col(EVENT) > at_time(dead))

    def _forget(self) -> None:
        self._features.forget()
        for view, state in self._features.states.items():
            self.metrics.held.labels(view).set(state.held)
        self._admission.forget(self._watermark.value)
        self._watermark.forget(order(self._position)[0])
