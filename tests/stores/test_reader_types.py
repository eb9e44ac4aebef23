"""Every Feast type comes out of its stored bytes as itself, in Arrow and in Python."""

from datetime import UTC, datetime
from decimal import Decimal as Number
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from feast import types as t
from feast.type_map import python_values_to_proto_values

from stores import decode
from stores.decode import UnreadableValue

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID(int=5)
STAMP = pa.timestamp("us", "UTC")


@pytest.mark.parametrize(
    ("dtype", "value", "kind", "in_arrow"),
    [
        (t.String, "ä", pa.string(), "ä"),
        (t.String, "", pa.string(), ""),
        (t.Bytes, b"\x00", pa.binary(), b"\x00"),
        (t.Bool, False, pa.bool_(), False),
        (t.Int32, -5, pa.int32(), -5),
        (t.Int64, 2**60 + 1, pa.int64(), 2**60 + 1),
        (t.Float32, 0.5, pa.float32(), 0.5),
        (t.Float64, 0.1, pa.float64(), 0.1),
        (t.UnixTimestamp, NOW, STAMP, NOW),
        (t.ZonedTimestamp, NOW, STAMP, NOW),
        (t.Array(t.String), ["a", ""], pa.list_(pa.string()), ["a", ""]),
        (t.Array(t.Int64), [1, -2], pa.list_(pa.int64()), [1, -2]),
        (t.Array(t.Bool), [True, False], pa.list_(pa.bool_()), [True, False]),
        (t.Array(t.Bytes), [b"a"], pa.list_(pa.binary()), [b"a"]),
        (t.Array(t.UnixTimestamp), [NOW], pa.list_(STAMP), [NOW]),
        (t.Array(t.Array(t.Int64)), [[1], [2, 3]], pa.list_(pa.list_(pa.int64())), [[1], [2, 3]]),
        (t.Set(t.Int64), {2, 1}, pa.list_(pa.int64()), [1, 2]),
        (t.Map, {"a": "b"}, pa.map_(pa.string(), pa.string()), [("a", "b")]),
        (t.Json, {"a": 1}, pa.large_string(), '{"a": 1}'),
        (t.Struct({"a": t.Int64}), {"a": 1}, pa.struct({"a": pa.int64()}), {"a": 1}),
        (t.Uuid, ID, pa.string(), str(ID)),
        (t.Set(t.Uuid), {ID}, pa.list_(pa.string()), [str(ID)]),
        (t.Decimal, Number("1.5"), pa.string(), "1.5"),
    ],
    ids=str,
)
def test_a_value_comes_out_as_itself(dtype: Any, value: Any, kind: Any, in_arrow: Any) -> None:
    cell = python_values_to_proto_values([value], dtype.to_value_type())[0].SerializeToString()
    found = decode.array([cell, b"", None], dtype)
    assert found.type == kind
    assert found.to_pylist() == [in_arrow, None, None]
    assert decode.python_values([cell, b"", None]) == [value, None, None]


@pytest.mark.parametrize(
    ("dtype", "stored", "value"),
    [
        (t.Int64, t.Float64, 1.5),
        (t.Int64, t.Float64, 1.0),
        (t.Bool, t.Int64, 5),
        (t.Int32, t.Int64, 2**40),
        (t.Float64, t.String, "1.0"),
        (t.String, t.Int64, 5),
        (t.Array(t.Float64), t.Float64, 1.0),
        (t.UnixTimestamp, t.String, "today"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused(dtype: Any, stored: Any, value: Any) -> None:
    cell = python_values_to_proto_values([value], stored.to_value_type())[0].SerializeToString()
    with pytest.raises(UnreadableValue):
        decode.array([cell], dtype)


def test_a_narrower_number_is_taken_as_it_is() -> None:
    cell = python_values_to_proto_values([7], t.Int32.to_value_type())[0].SerializeToString()
    assert decode.array([cell], t.Int64).to_pylist() == [7]
    assert decode.array([cell], t.Float64).to_pylist() == [7.0]
