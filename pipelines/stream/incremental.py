"""A view's feature rows from rows as they come: equal to `feature_repo.compute.features` over them all.

An emission at arrival A holds what had arrived by A, so it is made once no row with an arrival up to A
can come any more. That is what the *watermark* says: every row that comes after it arrives later.
Whatever order rows come in between two watermarks, the emissions are the same.

State: with a watermark W and an allowed lateness L (arrival less event, at most), every emission to come
ends after W - L, so a row is held while its event is after W - L - (longest window). Views of ticks hold
sums instead (`ticks`).
"""

from collections.abc import Hashable, Iterable
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_repo import compute
from feature_repo.windows import View
from pipelines.stream.kernels import Windows, matrix_kernel
from pipelines.stream.rings import Rings
from pipelines.stream.ticks import FoldedState, TickState, foldable
from pipelines.stream.times import ARRIVAL, EVENT, NEVER, UTC_US, micros, microseconds

_MAX_CELLS = 4_000_000  # places of the rings held at once

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ArrivalState:
    """A view that computes at each arrival of a row of its clock."""

    keeps_rows = True  # it is rebuilt from the rows

    def __init__(self, view: View, lateness: timedelta) -> None:
        assert view.tick is None
        self.view = view
        self.columns = sorted({window.column for window in view.windows})
        self.reach = self.longest = max(micros(window.length) for window in view.windows)
        self.lateness = micros(lateness)
        self.watermark = NEVER
        self.rings = Rings(len(self.columns))
        self._asked: list[tuple[Ints, Ints, Ints]] = []
        self._key_types: dict[str, pl.DataType] = {}
        self._features = view.features()
        self._spans = [micros(window.length) for window in view.windows]
        self._kernels = [matrix_kernel(window.op) for window in view.windows]

    def insert(self, rows: pl.DataFrame) -> None:
        """Takes rows of the view's table, each once, in any order."""
        kept = compute.known_rows(rows, self.view)
        if kept.is_empty():
            return
        slot = self._places(kept)
        values = np.array([kept[name].to_numpy() for name in self.columns], dtype=np.float64)
        self.rings.insert(
            slot, microseconds(kept, EVENT), microseconds(kept, ARRIVAL), values, self._dead()
        )

    def ask(self, clock: pl.DataFrame) -> None:
        """Takes rows of the clock's table, whose arrivals ask for emissions."""
        kept = compute.keyed(clock, self.view.keys)
        if len(kept):
            self._asked.append(
                (self._places(kept), microseconds(kept, EVENT), microseconds(kept, ARRIVAL))
            )

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
                    with_rounding = (beyond > 0) & (
                        beyond <= compute.ROUNDING * max(1.0, abs(bound))
                    )
                    result = np.where(with_rounding, float(bound), result)
            found.append(result)
        return found


State = ArrivalState | FoldedState | TickState


def state_of(view: View, lateness: timedelta) -> State:
    """The empty state of a view."""
    if view.tick is None:
        return ArrivalState(view, lateness)
    return FoldedState(view) if foldable(view) else TickState(view)


class Incremental:
    """The states of several views over the tables that they share."""

    def __init__(self, views: Iterable[View], lateness: timedelta) -> None:
        self.states = {view.name: state_of(view, lateness) for view in views}
        self.watermark = NEVER

    def insert(self, table: str, rows: pl.DataFrame, *, again: bool = False) -> None:
        """Takes admitted rows of a table, each once, in any order.

        again: of an earlier run, for the states that are rebuilt from rows.
        """
        for state in self.states.values():
            if again and not state.keeps_rows:
                continue
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

    def save(self) -> dict[str, list[pl.DataFrame]]:
        """What views of ticks folded since the last time, for `restore`."""
        folded = {n: s.save() for n, s in self.states.items() if isinstance(s, FoldedState)}
        return {name: parts for name, parts in folded.items() if parts}

    def live(self, view: str, watermark: int, folded: pl.DataFrame) -> pl.DataFrame:
        """Of what a view folded that which it needs after a watermark."""
        state = self.states[view]
        return state.live(folded, watermark) if isinstance(state, FoldedState) else folded

    def restore(self, view: str, saved: pl.DataFrame) -> None:
        """Goes on from all that was saved of a view; one that folds no more is passed over."""
        state = self.states.get(view)
        if isinstance(state, FoldedState):
            state.restore(saved)

    def forget(self) -> None:
        """Lets go of what no later emission needs."""
        for state in self.states.values():
            state.forget()


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
