"""Feast's stored values to numbers and Arrow arrays, from their bytes.

A stored value is a protobuf message of one field: a tag byte, then the number. Numbers are read from the
bytes themselves; whatever has another shape goes through Feast's own message.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type
from feast.types import Array, Bytes, FeastType, Set, from_feast_to_pyarrow_type
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

NAN = float("nan")
INT32, INT64, DOUBLE, FLOAT, BOOL = 0x18, 0x20, 0x29, 0x35, 0x38
_DOUBLE, _FLOAT = struct.Struct("<d").unpack_from, struct.Struct("<f").unpack_from
NUMERIC = frozenset({"DOUBLE", "FLOAT", "INT32", "INT64", "BOOL"})

Cell = bytes | None  # None: absent; empty: null


class UnreadableValue(ValueError):
    """Stored bytes that are no value of their feature."""


def kind_of(dtype: FeastType) -> str:
    """The name of Feast's value type: DOUBLE, STRING_LIST …"""
    return str(dtype.to_value_type().name)


def number(data: Cell) -> float | int | None:
    """The number or bool in a stored value; None is null. Raises UnreadableValue."""
    if not data:
        return None
    tag = data[0]
    if tag == DOUBLE and len(data) == 9:
        return float(_DOUBLE(data, 1)[0])
    if tag == FLOAT and len(data) == 5:
        return float(_FLOAT(data, 1)[0])
    if tag == BOOL and len(data) == 2 and data[1] < 2:
        return data[1]
    if (tag == INT64 or tag == INT32) and 2 <= len(data) <= 9 and data[-1] < 128:
        value, shift = data[-1], 7 * (len(data) - 2)
        value <<= shift
        for byte in data[-2:0:-1]:
            if byte < 128:
                break
            shift -= 7
            value |= (byte & 127) << shift
        else:
            if tag == INT64 or value < 1 << 31:
                return value
    found = message(data)
    which = found.WhichOneof("val")
    if which == "null_val":
        return None
    if which not in {"double_val", "float_val", "int32_val", "int64_val", "bool_val"}:
        raise UnreadableValue(f"holds a {which}, not a number")
    slow: float | int = getattr(found, which)
    return slow


def message(data: bytes) -> Any:
    """Feast's message. Raises UnreadableValue for bytes that are none."""
    try:
        found = Value.FromString(data)
    except DecodeError as why:
        raise UnreadableValue(f"{len(data)} bytes that are no value: {why}") from None
    if found.WhichOneof("val") is None:
        raise UnreadableValue(f"{len(data)} bytes that are no value of Feast's")
    return found


def event_us(data: Cell) -> int:
    """Microseconds of a stored `_ts:` field. Raises UnreadableValue."""
    try:
        time = Timestamp.FromString(data or b"")
    except DecodeError as why:
        raise UnreadableValue(f"{len(data or b'')} bytes that are no time: {why}") from None
    return int(time.seconds * 1_000_000 + time.nanos // 1000)


def numbers(cells: Sequence[Cell]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """float64 of each cell, NaN where null or absent. Raises UnreadableValue of no place."""
    return np.array([NAN if (v := number(cell)) is None else v for cell in cells], np.float64)


def array(cells: Sequence[Cell], dtype: FeastType) -> pa.Array:
    """A typed Arrow array: null where null or absent. Raises UnreadableValue."""
    kind, arrow_type = kind_of(dtype), arrow_type_of(dtype)
    one = reader_of(kind)
    values = [one(cell) for cell in cells]
    try:
        return pa.array(values, arrow_type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError) as why:
        raise UnreadableValue(f"not a {kind}: {why}") from None


def arrow_type_of(dtype: FeastType) -> pa.DataType | None:
    """Feast's Arrow type of a feature; None, to be inferred, where Feast has none."""
    if dtype == Bytes:
        return pa.binary()
    if isinstance(dtype, Array | Set) and dtype.base_type == Bytes:
        return pa.list_(pa.binary())
    try:
        return from_feast_to_pyarrow_type(dtype)
    except ValueError:
        return None


def reader_of(kind: str) -> Callable[[Cell], Any]:
    """The function from a cell to the Python value that Arrow takes for this type."""
    if kind in NUMERIC:
        return {"BOOL": _truth, "INT32": _whole, "INT64": _whole}.get(kind, number)
    return _raw if kind in {"JSON", "JSON_LIST"} else _python


def python_values(cells: Iterable[Cell]) -> list[Any]:
    """The values as Feast's `to_dict` gives them."""
    return [None if not cell else feast_value_type_to_python_type(message(cell)) for cell in cells]


def _whole(cell: Cell) -> int | None:
    value = number(cell)
    if isinstance(value, float):
        raise UnreadableValue("holds a fraction's type, not an integer's")
    return value


def _truth(cell: Cell) -> bool | None:
    value = number(cell)
    if value not in (None, 0, 1):
        raise UnreadableValue("holds a number, not a bool")
    return None if value is None else bool(value)


def _raw(cell: Cell) -> Any:
    if not cell:
        return None
    found = message(cell)
    which = found.WhichOneof("val")
    value = getattr(found, which)
    return list(value.val) if which == "json_list_val" else value


def _python(cell: Cell) -> Any:
    if not cell:
        return None
    value = feast_value_type_to_python_type(message(cell))
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, set):
        return [_plain(item) for item in sorted(value, key=repr)]
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if type(value).__name__ in {"UUID", "Decimal"}:
        return str(value)
    return value
