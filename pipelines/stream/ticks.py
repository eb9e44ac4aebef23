"""Views that compute at ticks: rows folded into sums, so that a week costs no more than its ticks.

A row belongs to the interval of ticks that holds its event, and counts from the first tick that its
arrival reached. Windows are whole numbers of ticks, so rows of equal key, interval and first tick can
be folded: a mean needs their sum and count, a quantile their values, nothing needs their times.
"""

import re
from collections.abc import Iterable
from datetime import timedelta

import polars as pl

from feature_repo import compute
from feature_repo.kernels import kernel
from feature_repo.windows import View, Window
from pipelines.stream.times import ARRIVAL, EVENT, NEVER, UTC_US, micros, time

_OF_SUMS = {"count": ("n",), "mean": ("sum", "n"), "min": ("min",), "max": ("max",)}
_OF_VALUES = re.compile(r"std|p\d{1,2}|share_below_.*")
_ASKED = "asked"


def foldable(view: View) -> bool:
    """Every window is a whole number of ticks, and its operation needs no times of rows."""
    return view.tick is not None and all(
        window.length % view.tick == timedelta(0)
        and (window.op in _OF_SUMS or _OF_VALUES.fullmatch(window.op))
        for window in view.windows
    )


class FoldedState:
    """A view of ticks whose windows fold.

    Held, by key, interval of the event (its end is `event_timestamp`) and first tick that counts it
    (`arrival_timestamp`): `<column>|n`, `|sum`, `|min`, `|max` and `|values` (a list), as far as windows
    need them; `asked`: at that tick there is an emission.
    """

    keeps_rows = False  # what it holds is saved; rows need not come again

    def __init__(self, view: View) -> None:
        assert view.tick is not None and foldable(view)
        self.view = view
        self.tick = micros(view.tick)
        self.reach = 0
        self.longest = max(micros(window.length) for window in view.windows)
        self.watermark = NEVER
        self._rows: list[pl.DataFrame] = []  # not folded yet
        self._asked: list[pl.DataFrame] = []
        self._unsaved: list[pl.DataFrame] = []
        self._open: list[pl.DataFrame] = []  # of ticks to come
        self._folded: pl.DataFrame | None = None
        self._keep_values: dict[str, int] = {}
        self._parts: dict[str, pl.Expr] = {}
        for window in view.windows:
            value = pl.col(window.column)
            if window.op in _OF_SUMS:
                made = {"n": value.count().cast(pl.Float64), "sum": value.sum()}
                made |= {"min": value.min(), "max": value.max()}
                self._parts |= {f"{window.column}|{n}": made[n] for n in _OF_SUMS[window.op]}
            else:
                self._parts[f"{window.column}|values"] = value.drop_nulls()
                longest = max(self._keep_values.get(window.column, 0), micros(window.length))
                self._keep_values[window.column] = longest

    def insert(self, rows: pl.DataFrame) -> None:
        """Takes rows of the view's table, each once, in any order."""
        self._rows.append(rows)

    def ask(self, clock: pl.DataFrame) -> None:
        """Takes rows of the clock's table, whose arrivals ask for emissions."""
        self._asked.append(clock)

    def advance(self, watermark: int, *, compute_rows: bool = True) -> pl.DataFrame | None:
        """The emissions of the ticks up to the watermark (microseconds) that were not given yet.

        None where there is none. compute_rows: False passes over them, to rebuild a state.
        """
        before, self.watermark = self.watermark, max(self.watermark, watermark)
        if self.watermark // self.tick == before // self.tick:
            return None
        self._fold()
        if not self._open:
            return None
        last = time(self.watermark // self.tick * self.tick)
        opened = self._combined(pl.concat(self._open))
        counted = pl.col(ARRIVAL) <= last
        closed, self._open = opened.filter(counted), [opened.filter(~counted)]
        due = closed.filter(_ASKED & (pl.col(ARRIVAL) > time(before)))
        folded = closed if self._folded is None else pl.concat([self._folded, closed])
        found = None
        if compute_rows and len(due):
            ticks = due.select(*self.view.keys, ARRIVAL).unique().partition_by(ARRIVAL)
            found = pl.concat([self._emissions(folded, part) for part in ticks])
        self._folded = self.live(folded, self.watermark)
        return found

    def save(self) -> list[pl.DataFrame]:
        """What was folded since the last time; a later state takes it by `restore`."""
        self._fold()
        unsaved, self._unsaved = self._unsaved, []
        return unsaved

    def restore(self, saved: pl.DataFrame) -> None:
        """Goes on from all that was saved; before any row is inserted."""
        self._open.append(saved.select(self._names()))

    def live(self, folded: pl.DataFrame, watermark: int) -> pl.DataFrame:
        """Of what was folded that which a tick after the watermark still needs."""
        kept = folded.filter(pl.col(EVENT) > time(watermark - self.longest))
        return kept.with_columns(
            pl.when(pl.col(EVENT) > time(watermark - span)).then(f"{column}|values")
            for column, span in self._keep_values.items()
        )

    def forget(self) -> None:
        """Folds what has come, and lets go of what no later tick needs."""
        self._fold()
        if len(self._open) > 64:
            self._open = [self._combined(pl.concat(self._open))]

    @property
    def held(self) -> int:
        """Rows and folded intervals in memory."""
        return sum(map(len, [*self._rows, *self._open])) + len(
            () if self._folded is None else self._folded
        )

    def _names(self) -> list[str]:
        return [*self.view.keys, EVENT, ARRIVAL, *self._parts, _ASKED]

    def _fold(self) -> None:
        """Makes the rows that have come parts of their intervals."""
        if not self._rows and not self._asked:
            return
        parts: list[pl.DataFrame] = []
        if self._rows:
            rows = compute.known_rows(pl.concat(self._rows), self.view)
            rows = rows.with_columns(self._ceiled(EVENT), self._ceiled(ARRIVAL))
            grouped = rows.group_by(*self.view.keys, EVENT, ARRIVAL)
            parts.append(grouped.agg(e.alias(name) for name, e in self._parts.items()))
        if self._asked:
            clock = compute.keyed(pl.concat(self._asked), self.view.keys)
            asked = compute.emissions(clock, self.view)
            parts.append(asked.with_columns(pl.lit(value=True).alias(_ASKED)))
        new = pl.concat(parts, how="diagonal").with_columns(self._absent(parts))
        new = new.select(self._names())
        self._rows, self._asked = [], []
        self._open.append(new)
        self._unsaved.append(new)

    def _absent(self, parts: Iterable[pl.DataFrame]) -> list[pl.Expr]:
        have = {name for part in parts for name in part.columns}
        floats = {
            n: pl.List(pl.Float64) if n.endswith("|values") else pl.Float64 for n in self._parts
        }
        found = [pl.lit(None, t).alias(n) for n, t in floats.items() if n not in have]
        asked = pl.col(_ASKED).fill_null(value=False) if _ASKED in have else pl.lit(value=False)
        return [*found, asked.alias(_ASKED)]

    def _ceiled(self, column: str) -> pl.Expr:
        at = pl.col(column).to_physical()
        return (-(-at // self.tick) * self.tick).cast(UTC_US).alias(column)

    def _combined(self, folded: pl.DataFrame) -> pl.DataFrame:
        parts = [self._combine(name, pl.col(name)).alias(name) for name in self._parts]
        grouped = folded.group_by(*self.view.keys, EVENT, ARRIVAL)
        return grouped.agg(*parts, pl.col(_ASKED).any()).select(self._names())

    @staticmethod
    def _combine(name: str, part: pl.Expr) -> pl.Expr:
        match name.rpartition("|")[2]:
            case "min":
                return part.min()
            case "max":
                return part.max()
            case "values":
                return part.drop_nulls().explode().drop_nulls()
            case _:
                return part.sum()

    def _emissions(self, folded: pl.DataFrame, due: pl.DataFrame) -> pl.DataFrame:
        """The feature rows of one tick; due: keys and the tick."""
        keys, tick = list(self.view.keys), due.item(0, ARRIVAL)
        inside = folded.filter(
            pl.col(ARRIVAL) <= tick,
            pl.col(EVENT) <= tick,
            pl.col(EVENT) > tick - timedelta(microseconds=self.longest),
        ).join(due.select(keys), on=keys, how="semi")
        values = inside.group_by(keys).agg(
            self._aggregate(window, pl.col(EVENT) > tick - window.length).alias(
                compute.named(self.view, window)
            )
            for window in self.view.windows
        )
        asked = due.select(*keys, pl.col(ARRIVAL).alias(EVENT), ARRIVAL)
        return compute.finished(asked.join(values, on=keys, how="left"), self.view)

    def _aggregate(self, window: Window, inside: pl.Expr) -> pl.Expr:
        def part(name: str) -> pl.Expr:
            column = f"{window.column}|{name}"
            return self._combine(column, pl.col(column).filter(inside))

        if window.op == "mean":
            return pl.when(part("n") > 0).then(part("sum") / part("n"))
        if window.op in _OF_SUMS:
            return part(window.op if window.op != "count" else "n")
        at = pl.col(EVENT)
        return kernel(window.op).aggregate(part("values"), at, at.max())


class TickState:
    """A view of ticks with a window that does not fold: the rows stand in tables, the batch computes."""

    keeps_rows = True

    def __init__(self, view: View) -> None:
        assert view.tick is not None
        self.view = view
        self.tick = micros(view.tick)
        self.reach = self.longest = max(micros(window.length) for window in view.windows)
        self.watermark = NEVER
        self._rows: list[pl.DataFrame] = []
        self._clock: list[pl.DataFrame] = []

    def insert(self, rows: pl.DataFrame) -> None:
        """Takes rows of the view's table, each once, in any order."""
        self._rows.append(compute.known_rows(rows, self.view))

    def ask(self, clock: pl.DataFrame) -> None:
        """Takes rows of the clock's table, whose arrivals ask for emissions."""
        kept = compute.keyed(clock.select(*self.view.keys, EVENT, ARRIVAL), self.view.keys)
        self._clock.append(compute.emissions(kept, self.view))

    def advance(self, watermark: int, *, compute_rows: bool = True) -> pl.DataFrame | None:
        """As `FoldedState.advance`."""
        before, self.watermark = self.watermark, max(self.watermark, watermark)
        if self.watermark // self.tick == before // self.tick or not self._clock:
            return None
        clock = pl.concat(self._clock).unique()
        last = time(self.watermark // self.tick * self.tick)
        due = clock.filter(pl.col(ARRIVAL) <= last).sort(*self.view.keys, ARRIVAL)
        self._clock = [clock.filter(pl.col(ARRIVAL) > last)]
        found = None
        if compute_rows and len(due) and self._rows:
            rows = pl.concat(self._rows)
            found = compute.of_known(rows.filter(pl.col(ARRIVAL) <= last), due, self.view)
        self.forget()
        return found

    @property
    def held(self) -> int:
        """Rows in memory."""
        return sum(map(len, self._rows))

    def forget(self) -> None:
        """Drops the rows that no later tick needs."""
        if self._rows:
            dead = time(self.watermark - self.longest)
            self._rows = [pl.concat(self._rows).filter(pl.col(EVENT) > dead)]
