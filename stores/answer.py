"""What a read answered: stored bytes, and their numbers, Arrow columns, status and ages."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from stores import decode, numbers
from stores.compiled import Column, Plan
from stores.decode import Cell, UnreadableValue

Bools = np.ndarray[Any, np.dtype[np.bool_]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Statuses = np.ndarray[Any, np.dtype[np.uint8]]

PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = 1, 3, 4  # Feast's FieldStatus


@dataclass(frozen=True)
class Block:
    """The stored bytes of the views that share an entity, a row a unique key.

    place: the unique key of each asked row, None: row by row.
    """

    columns: tuple[Column, ...]
    keys: Sequence[bytes]
    cells: Sequence[Sequence[Cell]]
    place: Ints | None

    def matrix(self, wanted: Sequence[int] | None = None) -> Floats:
        """float64, asked rows x wanted columns, None: all.

        Raises UnreadableValue naming view, feature and key.
        """
        cells, columns = self.cells, self.columns
        if wanted is not None:
            cells = [[row[place] for place in wanted] for row in cells]
            columns = tuple(columns[place] for place in wanted)
        try:
            found = numbers.matrix(cells, len(columns))
        except UnreadableValue:
            for row, key in zip(cells, self.keys, strict=True):
                for cell, column in zip(row, columns, strict=True):
                    read_cell(decode.number, cell, column.view, column.feature, key)
            raise
        return found if self.place is None else found[self.place]

    def array(self, place: int) -> pa.Array:
        """A column's typed Arrow array, one value an asked row. Raises UnreadableValue."""
        dtype = self.columns[place].dtype
        found = self._column(place, lambda cells: decode.array(cells, dtype))
        return found if self.place is None else found.take(pa.array(self.place))

    def values(self, place: int) -> list[Any]:
        """A column's Python values, one an asked row. Raises UnreadableValue."""
        values: list[Any] = self._column(place, decode.python_values)
        return values if self.place is None else [values[i] for i in self.place.tolist()]

    def _column(self, place: int, read: Callable[[Sequence[Cell]], Any]) -> Any:
        cells = [row[place] for row in self.cells]
        try:
            return read(cells)
        except UnreadableValue:
            column = self.columns[place]
            for cell, key in zip(cells, self.keys, strict=True):
                read_cell(lambda one: read([one]), cell, column.view, column.feature, key)
            raise


@dataclass(frozen=True)
class Computed:
    """A feature that an on-demand view made of the request and of stored features."""

    values: list[Any]
    dtype: Any

    def numbers(self) -> Floats:
        """float64, NaN where null."""
        return np.array([np.nan if v is None else v for v in self.values], np.float64)

    def array(self) -> pa.Array:
        """A typed Arrow array."""
        return pa.array(self.values, decode.arrow_type_of(self.dtype))


@dataclass(frozen=True)
class Answer:
    """n rows of f features, in the order of the request and of the service.

    clock_us: the instant that ages count to, microseconds since 1970.
    """

    plan: Plan
    rows: int
    clock_us: int
    blocks: Sequence[Block] = field(repr=False)
    computed: dict[str, Computed] = field(repr=False)
    view_status: Statuses = field(repr=False)
    view_us: Ints = field(repr=False)
    absent: Bools | None = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The features in the order of the service."""
        return self.plan.names

    @cached_property
    def status(self) -> Statuses:
        """uint8, n x f, Feast's FieldStatus.

        PRESENT 1 (of a stored null and of a computed feature too), NOT_FOUND 3, OUTSIDE_MAX_AGE 4.
        """
        found: Statuses = self.view_status.take(self.plan.view_places, axis=1)
        if self.absent is not None:
            stored = self.plan.stored_places
            found[:, stored >= 0] = np.where(
                self.absent[:, stored[stored >= 0]], NOT_FOUND, found[:, stored >= 0]
            )
        return found

    @cached_property
    def event_us(self) -> Ints:
        """int64, n x f: microseconds since 1970; 0 where not found or computed."""
        found: Ints = self.view_us.take(self.plan.view_places, axis=1)
        return found

    @cached_property
    def age_s(self) -> Floats:
        """float64, n x f: seconds from the event to the clock; NaN where there is no event."""
        age = (self.clock_us - self.view_us) / 1e6
        age[self.view_us == 0] = np.nan
        found: Floats = age.take(self.plan.view_places, axis=1)
        return found

    @cached_property
    def matrix(self) -> Floats:
        """float64, n x f, C-contiguous; NaN where null. Bools are 0 and 1.

        Raises TypeError naming the features that are no numbers, UnreadableValue.
        """
        if self.plan.no_numbers:
            raise TypeError(
                f"no numbers: {', '.join(self.plan.no_numbers)}; "
                f"a matrix takes {', '.join(sorted(decode.NUMERIC))}"
            )
        parts = [
            block.matrix(wanted)
            for block, wanted in zip(self.blocks, self.plan.wanted_places, strict=True)
        ]
        stored = parts[0] if len(parts) == 1 else np.hstack(parts)
        if self.plan.in_order:
            return stored
        found = np.empty((self.rows, len(self.names)))
        for name, column, place in zip(
            self.names, found.T, self.plan.number_places.tolist(), strict=True
        ):
            column[:] = self.computed[name].numbers() if place < 0 else stored[:, place]
        return found

    def to_arrow(self) -> pa.Table:
        """A typed column a feature, null where null. Raises UnreadableValue."""
        arrays = [
            self.computed[name].array() if name in self.computed else self._block(name, Block.array)
            for name in self.names
        ]
        return pa.table(arrays, names=list(self.names))

    def to_dict(self) -> dict[str, list[Any]]:
        """Python values as Feast's own `to_dict` gives them, None where null."""
        return {
            name: self.computed[name].values
            if name in self.computed
            else self._block(name, Block.values)
            for name in self.names
        }

    def _block(self, name: str, read: Callable[[Block, int], Any]) -> Any:
        block, place = self.plan.homes[name]
        return read(self.blocks[block], place)


def read_cell(read: Callable[[Cell], Any], cell: Cell, view: str, feature: str, key: bytes) -> Any:
    """What the cell holds; an error names the view, the feature and a hash of the key."""
    try:
        return read(cell)
    except UnreadableValue as why:
        digest = hashlib.sha256(key).hexdigest()[:16]
        raise UnreadableValue(f"{view}:{feature} of key sha256 {digest}: {why}") from None
