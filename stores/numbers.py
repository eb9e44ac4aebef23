"""Numbers of many stored values at once, from their bytes, without an object a value.

A stored number is a protobuf message of one field: a tag byte, then eight bytes of a double, four of a
float, or a varint. Many values are laid end to end and read by overlapping views of the whole. What has
another shape is left to the slow way, value by value.
"""

import struct
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from stores.decode import BOOL, DOUBLE, FLOAT, INT32, INT64, NAN, Cell, event_us, number

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

_DOUBLE = struct.Struct("<d").unpack_from
_FEW = 300  # values under which one by one is faster
_PAD = bytes(16)
_LOW = np.uint64(0x7F)
# Of a varint of n bytes: the highest bits of n bytes, and of the n - 1 before the last.
_ENDS = np.array([0, *((0x8080808080808080 >> (64 - 8 * n)) for n in range(1, 9))], np.uint64)
_GOES_ON = np.array([0, *(int(_ENDS[n - 1]) for n in range(1, 9))], np.uint64)


def matrix(rows: Sequence[Sequence[Cell]], width: int) -> Floats:
    """float64, rows x width, NaN where null or absent. Raises UnreadableValue, of no place."""
    cells = list(chain.from_iterable(rows))
    if len(cells) < _FEW:
        return np.array(_few(cells), np.float64).reshape(len(rows), width)
    data, starts, sizes = _laid_out(cells)
    tags = np.where(sizes > 0, data[starts], 0)
    found = np.full(len(cells), np.nan)
    doubles = (tags == DOUBLE) & (sizes == 9)
    found[doubles] = _windows(data, "<f8")[starts[doubles] + 1]
    rest = (sizes > 0) & ~doubles
    if rest.any():
        floats = (tags == FLOAT) & (sizes == 5)
        found[floats] = _windows(data, "<f4")[starts[floats] + 1]
        whole = (tags == INT64) | (tags == INT32) | (tags == BOOL)
        whole &= (sizes >= 2) & (sizes <= 9)
        places = np.flatnonzero(whole)
        values, right = _varints(data, starts[places] + 1, sizes[places] - 1)
        right &= (tags[places] != BOOL) | (values < 2)
        right &= (tags[places] != INT32) | (values < 1 << 31)
        found[places] = values
        rest &= ~floats
        rest[places[right]] = False
        _one_by_one(found, rest, cells, lambda c: NAN if (v := number(c)) is None else v)
    return found.reshape(len(rows), width)


def _few(cells: Sequence[Cell]) -> list[float]:
    found: list[float] = []
    add, double = found.append, _DOUBLE
    for cell in cells:
        if not cell:
            add(NAN)
        elif cell[0] == DOUBLE and len(cell) == 9:
            add(double(cell, 1)[0])
        else:
            value = number(cell)
            add(NAN if value is None else value)
    return found


def times(stamps: Sequence[Cell]) -> Ints:
    """Microseconds of each stored time, 0 where absent. Raises UnreadableValue, of no place."""
    if len(stamps) < _FEW // 6:
        return np.array([event_us(stamp) if stamp else 0 for stamp in stamps], np.int64)
    data, starts, sizes = _laid_out(stamps)
    found = np.zeros(len(stamps), np.int64)
    # 08, five bytes of seconds (1978 to 3058); then nothing, or 10 and one to five bytes of nanoseconds.
    usual = (sizes == 6) | ((sizes >= 8) & (sizes <= 12))
    usual &= (data[starts] == 0x08) & ((sizes == 6) | (data[starts + 6] == 0x10))
    places = np.flatnonzero(usual)
    first, size = starts[places], sizes[places]
    seconds, right = _varints(data, first + 1, np.full(len(places), 5))
    nanos, right_too = _varints(data, first + 7, np.where(size == 6, 0, size - 7))
    found[places] = seconds * 1_000_000 + np.where(size == 6, 0, nanos) // 1000
    rest = sizes > 0
    rest[places[right & right_too]] = False
    _one_by_one(found, rest, stamps, event_us)
    return found


def _laid_out(cells: Sequence[Cell]) -> tuple[Bytes, Ints, Ints]:
    """The bytes end to end, where each cell starts and how long it is; absent is empty."""
    try:
        joined = b"".join(cells)  # type: ignore[arg-type]
    except TypeError:
        cells = [cell or b"" for cell in cells]
        joined = b"".join(cells)  # type: ignore[arg-type]
    sizes = np.fromiter(map(len, cells), np.int64, len(cells))  # type: ignore[arg-type]
    starts = np.cumsum(sizes)
    starts -= sizes
    return np.frombuffer(joined + _PAD, np.uint8), starts, sizes


def _windows(data: Bytes, dtype: str) -> Any:
    """A number at every byte: element i is made of the bytes from i on."""
    count = len(data) - np.dtype(dtype).itemsize + 1
    return np.ndarray((count,), dtype, data.data, 0, (1,))


def _varints(data: Bytes, starts: Ints, sizes: Ints) -> tuple[Ints, Any]:
    """Of varints of at most eight bytes: their values, and which of them end where they should.

    An empty one is 0 and right.
    """
    words = _windows(data, "<u8")[starts]
    right = (words & _ENDS[sizes]) == _GOES_ON[sizes]
    longest = int(sizes.max(initial=0))
    values = np.zeros(len(starts), np.uint64)
    for place in range(longest):
        part = (words >> np.uint64(8 * place)) & _LOW
        values |= np.where(place < sizes, part, np.uint64(0)) << np.uint64(7 * place)
    return values.astype(np.int64), right


def _one_by_one(
    found: Any, places: Any, cells: Sequence[Cell], read: Callable[[Cell], float]
) -> None:
    for place in np.flatnonzero(places).tolist():
        found[place] = read(cells[place])
