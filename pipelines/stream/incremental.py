"""A view's feature rows from rows as they come: equal to `feature_repo.compute.features` over them all.

An emission at arrival A holds what had arrived by A, so it is made once no row with an arrival up to A
can come any more. That is what the *watermark* says: every row that comes after it arrives later.
Whatever order rows come in between two watermarks, the emissions are the same.

State: with a watermark W and an allowed lateness L (arrival less event, at most), every emission to come
ends after W - L, so a row is held while its event is after W - L - (longest window).
"""

from collections.abc import Hashable, Iterable
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_repo import compute
from feature_repo.windows import View
from pipelines.stream.kernels import Windows, matrix_kernel
from pipelines.stream.rings import NEVER, Rings

EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"
UTC_US = pl.Datetime("us", "UTC")
_MAX_CELLS = 4_000_000  # places of the rings held at once
_ROUNDING = 1e-9

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def micros(duration: timedelta) -> int:
    """A duration in microseconds."""
    return duration // timedelta(microseconds=1)


class ArrivalState:
    """A view that computes at each arrival of a row of its clock."""

    def __init__(self, view: View, lateness: timedelta) -> None:
        assert view.tick is None
        self.view = view
        self.columns = sorted({window.column for window in view.windows})
        self.longest = max(micros(window.length) for window in view.windows)
        self.lateness = micros(lateness)
        self.watermark = NEVER
        self.rings = Rings(len(self.columns))
        self._asked: list[tuple[Ints, Ints, Ints]] = []
        self._key_types: dict[str, pl.DataType] = {}
        self._features = view.features()
        self._spans = [micros(window.length) for window in view.windows]
        self._kernels = [matrix_kernel(window.op) for window in view.windows]
        self._values = [
            view.derived[name].expression.cast(pl.Float64).alias(name)
            if name in view.derived
            else pl.col(name).cast(pl.Float64)
            for name in self.columns
        ]

    def insert(self, rows: pl.DataFrame) -> None:
        """Takes rows of the view's table, each once, in any order."""
        kept = _keyed(rows, self.view)
        if self.view.where is not None:
            kept = kept.filter(self.view.where)
        if kept.is_empty():
            return
        slot = self._places(kept)
        if self.view.derived:
            kept = kept.with_columns(self._values)
        values = np.array([kept[name].to_numpy() for name in self.columns], dtype=np.float64)
        self.rings.insert(slot, _us(kept, EVENT), _us(kept, ARRIVAL), values, self._dead())

    def ask(self, clock: pl.DataFrame) -> None:
        """Takes rows of the clock's table, whose arrivals ask for emissions."""
        kept = _keyed(clock, self.view)
        if len(kept):
            self._asked.append((self._places(kept), _us(kept, EVENT), _us(kept, ARRIVAL)))

    def advance(self, watermark: int, *, compute_rows: bool = True) -> pl.DataFrame | None:
        """The emissions that arrive up to the watermark (microseconds) and were not given yet.

        None where there is none. compute_rows: False passes over them, to rebuild a state.
        """
        self.watermark = max(self.watermark, watermark)
        slot, end, known = self._due()
        found = self._emissions(slot, end, known) if compute_rows and len(slot) else None
        if len(slot):
            np.maximum.at(self.rings.newest, slot, end)
        return found

    def forget(self) -> None:
        """Frees what keys hold that no later emission needs."""
        asked = [slot for slot, _, _ in self._asked]
        kept = np.concatenate(asked) if asked else np.empty(0, dtype=np.int64)
        self.rings.forget(self._dead(), self.watermark - self.lateness, kept)

    @property
    def held(self) -> int:
        """Rows in memory."""
        return self.rings.rows

    def _dead(self) -> Ints:
        """Of each slot the time up to which no event is needed."""
        return np.maximum(self.rings.newest, self.watermark - self.lateness) - self.longest

    def _places(self, rows: pl.DataFrame) -> Ints:
        keys: Iterable[Hashable]
        if len(self.view.keys) == 1:
            keys = rows[self.view.keys[0]].to_list()
        else:
            keys = list(zip(*(rows[key].to_list() for key in self.view.keys), strict=True))
        if not self._key_types:
            self._key_types = {key: rows.schema[key] for key in self.view.keys}
        return self.rings.places(keys)

    def _due(self) -> tuple[Ints, Ints, Ints]:
        """slot, end, arrival of the emissions up to the watermark, by slot and then by arrival."""
        if not self._asked:
            none = np.empty(0, dtype=np.int64)
            return none, none, none
        slot, event, arrival = (np.concatenate(part) for part in zip(*self._asked, strict=True))
        due = arrival <= self.watermark
        self._asked = [] if due.all() else [(slot[~due], event[~due], arrival[~due])]
        slot, event, arrival = slot[due], event[due], arrival[due]
        if not len(slot):
            return slot, event, arrival
        order = np.lexsort((arrival, slot))
        slot, event, arrival = slot[order], event[order], arrival[order]
        new = np.r_[True, (slot[1:] != slot[:-1]) | (arrival[1:] != arrival[:-1])]
        firsts = np.flatnonzero(new)
        event = np.maximum.reduceat(event, firsts)
        slot, arrival = slot[firsts], arrival[firsts]
        before = np.maximum(event, self.rings.newest[slot])
        return slot, _running_maximum(before, slot), arrival

    def _emissions(self, slot: Ints, end: Ints, known: Ints) -> pl.DataFrame:
        a_part = max(1, _MAX_CELLS // self.rings.event.shape[1])
        parts = [
            self._values_of(slot[i : i + a_part], end[i : i + a_part], known[i : i + a_part])
            for i in range(0, len(slot), a_part)
        ]
        names = self.rings.names
        keyed = [names[s] for s in slot.tolist()]
        columns: list[pl.Series] = []
        for place, key in enumerate(self.view.keys):
            values = keyed if len(self.view.keys) == 1 else [k[place] for k in keyed]
            columns.append(pl.Series(key, values, dtype=self._key_types[key]))
        columns += [
            pl.Series(EVENT, end).cast(UTC_US),
            pl.Series(ARRIVAL, known).cast(UTC_US),
        ]
        for number, feature in enumerate(self._features):
            value = np.concatenate([part[number] for part in parts])
            columns.append(pl.Series(feature.name, value, nan_to_null=True))
        return pl.DataFrame(columns)

    def _values_of(self, slot: Ints, end: Ints, known: Ints) -> list[Floats]:
        event, arrival = self.rings.event[slot], self.rings.arrival[slot]
        inside = (arrival <= known[:, None]) & (event <= end[:, None])
        within = {span: inside & (event > (end - span)[:, None]) for span in {*self._spans}}
        value = {n: self.rings.value[i][slot] for i, n in enumerate(self.columns)}
        filled = {name: ~np.isnan(matrix) for name, matrix in value.items()}
        orders = (arrival, *value.values())
        found = []
        for feature, window, span, kernel in zip(
            self._features, self.view.windows, self._spans, self._kernels, strict=True
        ):
            ok = within[span] & filled[window.column]
            result = kernel(Windows(value[window.column], event, end, ok, orders))
            for bound, side in ((feature.low, -1.0), (feature.high, 1.0)):
                if bound is not None:
                    beyond = side * (result - bound)
                    with_rounding = (beyond > 0) & (beyond <= _ROUNDING * max(1.0, abs(bound)))
                    result = np.where(with_rounding, float(bound), result)
            found.append(result)
        return found


class TickState:
    """A view that computes at each multiple of its tick in which a row of its clock arrived.

    Ticks are rare, so the rows stand in tables and the batch computes them.
    """

    def __init__(self, view: View, lateness: timedelta) -> None:
        assert view.tick is not None
        self.view = view
        self.tick = micros(view.tick)
        self.longest = max(micros(window.length) for window in view.windows)
        self.watermark = NEVER
        self._rows: list[pl.DataFrame] = []
        self._clock: list[pl.DataFrame] = []
        expressions = [d.expression for d in view.derived.values()]
        expressions += [] if view.where is None else [view.where]
        sources = {name for e in expressions for name in e.meta.root_names()}
        plain = {w.column for w in view.windows if w.column not in view.derived}
        self._held = [*view.keys, EVENT, ARRIVAL, *sorted((plain | sources) - {*view.keys})]

    def insert(self, rows: pl.DataFrame) -> None:
        """Takes rows of the view's table, each once, in any order."""
        self._rows.append(rows.drop_nulls(list(self.view.keys)).select(self._held))

    def ask(self, clock: pl.DataFrame) -> None:
        """Takes rows of the clock's table, whose arrivals ask for emissions."""
        self._clock.append(
            clock.drop_nulls(list(self.view.keys)).select(*self.view.keys, EVENT, ARRIVAL)
        )

    def advance(self, watermark: int, *, compute_rows: bool = True) -> pl.DataFrame | None:
        """As `ArrivalState.advance`: the emissions of the ticks up to the watermark."""
        if watermark <= self.watermark:
            return None
        passed = watermark // self.tick > self.watermark // self.tick
        self.watermark = watermark
        if not passed or not self._clock:
            return None
        clock = pl.concat(self._clock)
        last = pl.lit(watermark // self.tick * self.tick).cast(UTC_US)
        due = clock.filter(pl.col(ARRIVAL) <= last)
        self._clock = [clock.filter(pl.col(ARRIVAL) > last)]
        found = None
        if compute_rows and len(due) and self._rows:
            rows = pl.concat(self._rows)
            found = compute.features(rows.filter(pl.col(ARRIVAL) <= last), due, self.view)
        self.forget()
        return found

    @property
    def held(self) -> int:
        """Rows in memory."""
        return sum(map(len, self._rows))

    def forget(self) -> None:
        """Drops the rows that no later tick needs."""
        if self._rows:
            dead = pl.lit(self.watermark - self.longest).cast(UTC_US)
            self._rows = [pl.concat(self._rows).filter(pl.col(EVENT) > dead)]


State = ArrivalState | TickState


def state_of(view: View, lateness: timedelta) -> State:
    """The empty state of a view."""
    return ArrivalState(view, lateness) if view.tick is None else TickState(view, lateness)


class Incremental:
    """The states of several views over the tables that they share."""

    def __init__(self, views: Iterable[View], lateness: timedelta) -> None:
        self.states = {view.name: state_of(view, lateness) for view in views}
        self.watermark = NEVER

    def insert(self, table: str, rows: pl.DataFrame) -> None:
        """Takes admitted rows of a table, each once, in any order."""
        for state in self.states.values():
            if state.view.table == table:
                state.insert(rows)
            if state.view.clock_table == table:
                state.ask(rows)

    def advance(self, watermark: int, *, compute_rows: bool = True) -> dict[str, pl.DataFrame]:
        """The new emissions of each view that has some; see `ArrivalState.advance`."""
        self.watermark = max(self.watermark, watermark)
        found = {
            name: state.advance(watermark, compute_rows=compute_rows)
            for name, state in self.states.items()
        }
        return {name: rows for name, rows in found.items() if rows is not None and len(rows)}

    def forget(self) -> None:
        """Lets go of what no later emission needs."""
        for state in self.states.values():
            state.forget()


def _keyed(rows: pl.DataFrame, view: View) -> pl.DataFrame:
    keys = [key for key in view.keys if rows[key].null_count()]
    return rows.drop_nulls(keys) if keys else rows


def _us(rows: pl.DataFrame, column: str) -> Ints:
    times: Ints = rows[column].to_physical().to_numpy()
    return times


def _running_maximum(value: Ints, group: Ints) -> Ints:
    """The greatest value so far within each group; groups stand side by side."""
    low = int(value.min())
    span = int(value.max()) - low + 1
    number = np.cumsum(np.r_[0, group[1:] != group[:-1]])
    if span > 2**62 // (int(number[-1]) + 1):  # years apart: too far for one integer
        return np.concatenate(
            [np.maximum.accumulate(v) for v in np.split(value, np.flatnonzero(np.diff(group)) + 1)]
        )
    highest: Ints = np.maximum.accumulate(value - low + number * span)
    highest += low - number * span
    return highest
