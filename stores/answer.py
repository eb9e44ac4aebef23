"""What a read answered: stored bytes by view, and their numbers, Arrow columns, status and ages."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from stores import decode
from stores.compiled import Column
from stores.decode import Cell, UnreadableValue

Bools = np.ndarray[Any, np.dtype[np.bool_]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Statuses = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Block:
    """What one view answered, a row a unique key. time_us: 0 where not found.

    cells: a list of each row's stored bytes; place: the unique key of each asked row.
    """

    columns: tuple[Column, ...]
    keys: Sequence[bytes]
    cells: Sequence[Sequence[Cell]]
    time_us: Ints
    status: Statuses
    place: Ints | None


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

    status: uint8, n x f, Feast's FieldStatus: PRESENT 1 (also of a stored null), NOT_FOUND 3,
    OUTSIDE_MAX_AGE 4. event_us: int64, n x f, microseconds since 1970, 0 where not found or computed.
    """

    names: tuple[str, ...]
    rows: int
    clock_us: int
    status: Statuses
    event_us: Ints
    _sources: Sequence["Source"] = field(repr=False)

    @cached_property
    def age_s(self) -> Floats:
        """float64, n x f: seconds from the event to the clock; NaN where there is no event."""
        age = (self.clock_us - self.event_us) / 1e6
        age[self.event_us == 0] = np.nan
        return age

    @cached_property
    def matrix(self) -> Floats:
        """float64, n x f, C-contiguous; NaN where null. Bools are 0 and 1.

        Raises TypeError naming the features that are no numbers, UnreadableValue.
        """
        wrong = [
            f"{name} ({kind})"
            for name, kind in zip(self.names, self._kinds(), strict=True)
            if kind not in decode.NUMERIC
        ]
        if wrong:
            raise TypeError(
                f"no numbers: {', '.join(wrong)}; a matrix takes {sorted(decode.NUMERIC)}"
            )
        found = np.empty((self.rows, len(self.names)))
        blocks: dict[int, Floats] = {}
        for place, source in enumerate(self._sources):
            if isinstance(source, Computed):
                found[:, place] = source.numbers()
                continue
            block, column = source
            if id(block) not in blocks:
                blocks[id(block)] = block_numbers(block)
            found[:, place] = blocks[id(block)][:, column]
        return found

    def to_arrow(self) -> pa.Table:
        """A typed column a feature, null where null. Raises UnreadableValue."""
        columns = [
            source.array() if isinstance(source, Computed) else column_array(*source)
            for source in self._sources
        ]
        return pa.table(columns, names=list(self.names))

    def to_dict(self) -> dict[str, list[Any]]:
        """Python values as Feast's own `to_dict` gives them, None where null."""
        return {
            name: source.values if isinstance(source, Computed) else column_values(*source)
            for name, source in zip(self.names, self._sources, strict=True)
        }

    def _kinds(self) -> list[str]:
        return [
            decode.kind_of(s.dtype if isinstance(s, Computed) else s[0].columns[s[1]].dtype)
            for s in self._sources
        ]


Source = tuple[Block, int] | Computed  # a view's column, or a computed one


def spread(values: Any, place: Ints | None) -> Any:
    """The values of unique keys, one a row."""
    return values if place is None else values[place]


def block_numbers(block: Block) -> Floats:
    """float64, rows x the view's features. Raises UnreadableValue naming view, feature and key."""
    found = np.empty((len(block.cells), len(block.columns)))
    for row, (cells, key) in enumerate(zip(block.cells, block.keys, strict=True)):
        try:
            found[row] = decode.numbers(cells)
        except UnreadableValue:
            for cell, column in zip(cells, block.columns, strict=True):
                read_cell(decode.number, cell, column.view, column.feature, key)
            raise
    spread_found: Floats = spread(found, block.place)
    return spread_found


def column_array(block: Block, place: int) -> pa.Array:
    """A feature's typed Arrow array, one value a row. Raises UnreadableValue."""
    column = block.columns[place]
    cells = [row[place] for row in block.cells]
    try:
        found = decode.array(cells, column.dtype)
    except UnreadableValue:
        for cell, key in zip(cells, block.keys, strict=True):
            one: Callable[[Cell], Any] = lambda c: decode.array([c], column.dtype)  # noqa: E731
            read_cell(one, cell, column.view, column.feature, key)
        raise
    return found if block.place is None else found.take(pa.array(block.place))


def column_values(block: Block, place: int) -> list[Any]:
    """A feature's Python values, one a row. Raises UnreadableValue."""
    column = block.columns[place]
    cells = [row[place] for row in block.cells]
    try:
        values = decode.python_values(cells)
    except UnreadableValue:
        for cell, key in zip(cells, block.keys, strict=True):
            read_cell(lambda c: decode.python_values([c]), cell, column.view, column.feature, key)
        raise
    return values if block.place is None else [values[i] for i in block.place.tolist()]


def read_cell(read: Callable[[Cell], Any], cell: Cell, view: str, feature: str, key: bytes) -> Any:
    """What the cell holds; an error names the view, the feature and a hash of the key."""
    try:
        return read(cell)
    except UnreadableValue as why:
        digest = hashlib.sha256(key).hexdigest()[:16]
        raise UnreadableValue(f"{view}:{feature} of key sha256 {digest}: {why}") from None
