"""Feast's byte formats, a column at a time: Arrow in, Arrow out, nothing but the bytes decided here.

Three formats: the entity key (serialization version 3), the `feast.types.Value` message of a cell and
the `google.protobuf.Timestamp` of an event time. Each result equals what Feast's own serialisers make
of the same values, row for row.
"""

import struct
from collections.abc import Sequence
from typing import Any

import mmh3
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from feast.type_map import python_values_to_proto_values
from feast.types import FeastType
from feast.value_type import ValueType
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Ragged = tuple[Bytes, Mask]  # a row's bytes are those of its line that the mask holds

_TAGS = {
    ValueType.BYTES: 0x0A,
    ValueType.STRING: 0x12,
    ValueType.INT32: 0x18,
    ValueType.INT64: 0x20,
    ValueType.DOUBLE: 0x29,
    ValueType.FLOAT: 0x35,
    ValueType.BOOL: 0x38,
    ValueType.UNIX_TIMESTAMP: 0x40,
}
_KEY_TYPES = {
    ValueType.INT32: pa.int32(),
    ValueType.INT64: pa.int64(),
    ValueType.UNIX_TIMESTAMP: pa.int64(),
    ValueType.STRING: pa.binary(),
    ValueType.BYTES: pa.binary(),
}
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def field_hash(view: str, feature: str) -> bytes:
    """The 4 bytes that name a feature in a Redis hash."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def entity_keys(
    rows: pa.Table, join_keys: Sequence[str], value_types: Sequence[FeastType], project: str | None
) -> pa.BinaryArray:
    """The entity key of each row, version 3, the join keys sorted; with the project where one is given.

    rows: holds the join keys, none null. value_types: of the join keys, in their order.
    Raises TypeError where a column does not hold its type, ValueError at a null or at a type that no
    key can have.
    """
    parts: list[Any] = [pa.scalar(_key_prefix(sorted(join_keys)))]
    for name, kind in sorted(zip(join_keys, value_types, strict=True), key=lambda pair: pair[0]):
        parts += _key_value(name, _one(rows[name]), kind.to_value_type())
    parts.append(pa.scalar((project or "").encode()))
    if all(isinstance(part, pa.Scalar) for part in parts):
        parts[0] = pa.array([parts[0].as_py()] * rows.num_rows, pa.binary())
    return join(parts)


def encode_values(column: pa.Array | pa.ChunkedArray, feast_type: FeastType) -> pa.BinaryArray:
    """The serialised Value of each cell; of null, and of a NaN as in Feast, no bytes.

    Timestamps are whole seconds, rounded down. A type that has no columnar form here, and a column
    of another type than its feature, take Feast's own converter.
    """
    cells, kind = _one(column), feast_type.to_value_type()
    if pa.types.is_null(cells.type):
        return pa.array([b""] * len(cells), pa.binary())
    plain = _plain(cells, kind)
    if plain is None:
        return _by_feast(cells, kind)
    valid = _valid(plain)
    if kind in (ValueType.STRING, ValueType.BYTES):
        return _texts(_TAGS[kind], plain, valid)
    zero = pa.scalar(0, pa.int8()).cast(plain.type)
    numbers = plain.fill_null(zero).to_numpy(zero_copy_only=False)
    if kind in (ValueType.DOUBLE, ValueType.FLOAT):
        return _fixed(_TAGS[kind], numbers, valid & ~np.isnan(numbers))
    if kind is ValueType.BOOL:
        return _fixed(_TAGS[kind], numbers.astype(np.uint8), valid)
    return _binary([_tagged(_TAGS[kind], _varints(numbers), valid)])


def value_texts(column: pa.Array | pa.ChunkedArray, feast_type: FeastType) -> list[str | None]:
    """The words that Feast keeps beside a Value in SQL: of numbers, truths and strings, else None."""
    cells, kind = _one(column), feast_type.to_value_type()
    plain = None if pa.types.is_null(cells.type) else _plain(cells, kind)
    if kind is ValueType.STRING:
        texts: list[str | None] = [None if t is None else str(t) for t in cells.to_pylist()]
        return texts
    if plain is None or kind in (ValueType.BYTES, ValueType.UNIX_TIMESTAMP):
        return [None] * len(cells)
    if kind is ValueType.BOOL:
        return [None if truth is None else str(truth) for truth in plain.to_pylist()]
    if kind in (ValueType.DOUBLE, ValueType.FLOAT):
        return _float_texts(plain.cast(pa.float64()))
    return list(plain.cast(pa.string()).to_pylist())


def _float_texts(cells: pa.Array) -> list[str | None]:
    """As Python writes floats; Polars does so too of those that neither gives an exponent."""
    numbers = pl.Series(cells).fill_nan(None)
    texts = numbers.cast(pl.String).to_list()
    size = numbers.abs()
    for place in ((size < 1e-3) | (size >= 1e15)).arg_true().to_list():
        texts[place] = repr(numbers[place])
    return texts


def encode_times(us: NDArray[np.int64]) -> pa.BinaryArray:
    """The serialised Timestamp of each time, in microseconds since 1970."""
    seconds = us // 1_000_000
    nanos = (us - seconds * 1_000_000) * 1_000
    return _binary(
        [
            _tagged(0x08, _varints(seconds), seconds != 0),
            _tagged(0x10, _varints(nanos), nanos != 0),
        ]
    )


def join(parts: Sequence[Any]) -> pa.BinaryArray:
    """Each row's parts one after another; a scalar part is the same in every row."""
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))


def by_length(cells: pa.BinaryArray, head: Any) -> Any:
    """What `head` makes of each cell's length in bytes: one scalar where all are as long."""
    lengths = pc.binary_length(cells).dictionary_encode()
    heads = [head(length) for length in lengths.dictionary.to_pylist()]
    if len(heads) == 1:
        return pa.scalar(heads[0], pa.binary())
    return pa.array(heads, pa.binary()).take(lengths.indices)


def _key_prefix(names: Sequence[str]) -> bytes:
    parts = [struct.pack("<I", len(names))]
    for name in names:
        text = name.encode()
        parts += [struct.pack("<II", ValueType.STRING.value, len(text)), text]
    return b"".join(parts)


def _key_value(name: str, cells: pa.Array, kind: ValueType) -> list[Any]:
    if kind not in _KEY_TYPES:
        raise ValueError(f"join key {name}: a key cannot be {kind.name}")
    if cells.null_count:
        first = int(np.flatnonzero(~_valid(cells))[0])
        raise ValueError(f"join key {name}: {cells.null_count} nulls; first in row {first}")
    plain = _plain(cells, kind)
    if plain is None or pa.types.is_floating(cells.type):
        raise TypeError(f"join key {name}: {cells.type} where {kind.name} was declared")
    plain = plain.cast(_KEY_TYPES[kind])
    if kind in (ValueType.STRING, ValueType.BYTES):
        return [by_length(plain, lambda size: struct.pack("<II", kind.value, size)), plain]
    numbers = plain.to_numpy(zero_copy_only=False)
    size = numbers.dtype.itemsize
    return [pa.scalar(struct.pack("<II", kind.value, size)), _fixed(None, numbers, None)]


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The column as one array, its dictionary resolved."""
    cells = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(cells, pa.ChunkedArray):
        cells = pa.concat_arrays(cells.chunks) if cells.num_chunks else pa.array([], cells.type)
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    return cells


def _plain(cells: pa.Array, kind: ValueType) -> pa.Array | None:
    """The cells in the one Arrow type of their kind; None where Feast's converter must do it."""
    held, t = cells.type, pa.types
    whole = t.is_integer(held)
    if kind is ValueType.DOUBLE and (whole or t.is_float32(held) or t.is_float64(held)):
        return cells.cast(pa.float64(), safe=False)
    if kind is ValueType.FLOAT and (whole or t.is_float32(held) or t.is_float64(held)):
        return cells.cast(pa.float32(), safe=False)
    if kind is ValueType.INT32 and whole:
        return cells.cast(pa.int32()).cast(pa.int64())
    if kind is ValueType.INT64 and whole:
        return cells.cast(pa.int64())
    if kind is ValueType.BOOL and t.is_boolean(held):
        return cells
    if kind is ValueType.STRING and (
        t.is_string(held) or t.is_large_string(held) or t.is_string_view(held)
    ):
        return cells.cast(pa.string()).cast(pa.binary())
    if kind is ValueType.BYTES and (
        t.is_binary(held) or t.is_large_binary(held) or t.is_fixed_size_binary(held)
    ):
        return cells.cast(pa.binary())
    if kind is ValueType.UNIX_TIMESTAMP:
        if whole:
            return cells.cast(pa.int64())
        if t.is_date(held):
            cells = cells.cast(pa.timestamp("ms"))
        if t.is_timestamp(cells.type):
            return _seconds(cells)
    return None


def _seconds(times: pa.Array) -> pa.Array:
    counts = times.cast(pa.int64())
    floors = counts.fill_null(0).to_numpy(zero_copy_only=False) // _UNITS[times.type.unit]
    return pa.array(floors, pa.int64(), mask=~_valid(counts))


def _valid(cells: pa.Array) -> Mask:
    mask: Mask = cells.is_valid().to_numpy(zero_copy_only=False)
    return mask


def _by_feast(cells: pa.Array, kind: ValueType) -> pa.BinaryArray:
    values = cells.to_pylist()
    if kind is ValueType.UNIX_TIMESTAMP or kind is ValueType.BOOL:
        raise TypeError(f"{cells.type} where {kind.name} was declared")
    held = [value for value in values if value is not None]
    protos = iter(python_values_to_proto_values(held, kind) if held else [])
    return pa.array(
        [b"" if value is None else next(protos).SerializeToString() for value in values],
        pa.binary(),
    )


def _fixed(tag: int | None, numbers: NDArray[Any], valid: Mask | None) -> pa.BinaryArray:
    """Cells of one width: a tag, if any, and a number's little-endian bytes."""
    count, size = len(numbers), numbers.dtype.itemsize
    head = 0 if tag is None else 1
    lines = np.empty((count, head + size), np.uint8)
    if tag is not None:
        lines[:, 0] = tag
    lines[:, head:] = np.ascontiguousarray(numbers).view(np.uint8).reshape(count, size)
    if valid is None or valid.all():
        return _array(np.arange(count + 1) * lines.shape[1], lines)
    return _array(_ends(valid * lines.shape[1]), lines[valid])


def _texts(tag: int, cells: pa.Array, valid: Mask) -> pa.BinaryArray:
    heads = by_length(cells.fill_null(b""), lambda size: bytes([tag]) + _varint(size))
    joined = join([heads, cells.fill_null(b"")]) if len(cells) else pa.array([], pa.binary())
    if valid.all():
        return joined
    return pc.if_else(pa.array(valid), joined, pa.scalar(b"", pa.binary()))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _varints(numbers: NDArray[np.int64]) -> Ragged:
    """Protobuf's varints; a negative number takes ten bytes."""
    rest = np.ascontiguousarray(numbers, np.int64).view(np.uint64)
    most = max(int(rest.max(initial=0)).bit_length() + 6, 7) // 7
    lines = np.empty((len(rest), most), np.uint8)
    mask = np.empty((len(rest), most), np.bool_)
    mask[:, 0] = True
    for place in range(most):
        lines[:, place] = rest & np.uint64(0x7F)
        rest = rest >> np.uint64(7)
        if place + 1 < most:
            more = rest != 0
            mask[:, place + 1] = more
            lines[:, place] |= more.astype(np.uint8) << 7
    return lines, mask


def _tagged(tag: int, number: Ragged, valid: Mask) -> Ragged:
    lines, mask = number
    heads = np.full((len(lines), 1), tag, np.uint8)
    return np.hstack([heads, lines]), np.hstack([valid[:, None], mask & valid[:, None]])


def _binary(parts: Sequence[Ragged]) -> pa.BinaryArray:
    lines = np.hstack([lines for lines, _ in parts])
    mask = np.hstack([mask for _, mask in parts])
    return _array(_ends(mask.sum(axis=1)), lines[mask])


def _ends(lengths: NDArray[Any]) -> NDArray[np.int64]:
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends


def _array(ends: NDArray[np.int64], data: Bytes) -> pa.BinaryArray:
    if ends[-1] > np.iinfo(np.int32).max:
        raise OverflowError(f"a column of {ends[-1]} bytes; at most 2147483647 at once")
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.BinaryArray.from_buffers(pa.binary(), len(ends) - 1, buffers)
