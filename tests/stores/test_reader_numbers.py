"""Numbers from bytes are those of Feast's own message, and bytes that are none are refused."""

import struct
from typing import Any

import numpy as np
import pytest
from feast.protos.feast.types.Value_pb2 import Null, Value
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from stores import numbers
from stores.decode import UnreadableValue, event_us, number

VALUES = st.one_of(
    st.builds(Value, double_val=st.floats(allow_nan=False)),
    st.builds(Value, float_val=st.floats(width=32, allow_nan=False)),
    st.builds(Value, int64_val=st.integers(-(2**63), 2**63 - 1)),
    st.builds(Value, int64_val=st.integers(0, 2**20)),
    st.builds(Value, int32_val=st.integers(-(2**31), 2**31 - 1)),
    st.builds(Value, bool_val=st.booleans()),
    st.just(Value(null_val=Null.NULL)),
    st.just(Value()),
)
FEW_OR_MANY = st.sampled_from([1, 300])


@given(st.lists(st.none() | VALUES, min_size=1, max_size=8), FEW_OR_MANY)
def test_numbers_are_those_of_the_messages(values: list[Value | None], times: int) -> None:
    cells = [None if value is None else value.SerializeToString() for value in values]
    found = numbers.matrix([cells] * times, len(cells))
    np.testing.assert_array_equal(found, [[slow(value) for value in values]] * times)


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=4), FEW_OR_MANY)
def test_foreign_bytes_are_refused_or_a_number(cells: list[bytes], times: int) -> None:
    same_or_refused(cells, times)


@given(VALUES, st.data(), FEW_OR_MANY)
def test_cut_and_changed_bytes_are_refused_or_a_number(
    value: Value, data: st.DataObject, times: int
) -> None:
    cell = bytearray(value.SerializeToString())
    if cell:
        cell[data.draw(st.integers(0, len(cell) - 1))] = data.draw(st.integers(0, 255))
    same_or_refused([bytes(cell[: data.draw(st.integers(0, len(cell)))])], times)


@pytest.mark.parametrize("times", [1, 300])
def test_every_cut_of_a_value_is_refused_or_a_number(times: int) -> None:
    for value in (
        Value(double_val=1.5),
        Value(float_val=1.5),
        Value(int64_val=3),
        Value(int64_val=2**40),
        Value(int64_val=-1),
        Value(int32_val=300),
        Value(bool_val=True),
    ):
        cell = value.SerializeToString()
        for size in range(len(cell) + 1):
            same_or_refused([cell[:size]], times)


@pytest.mark.parametrize("times", [1, 300])
def test_odd_forms_of_a_number_are_read_as_the_messages_do(times: int) -> None:
    for cell in (
        b"\x38\x02",  # a bool of 2
        b"\x38\x80\x01",
        b"\x20\x80\x00",  # a varint longer than it need be
        b"\x20\x80\x80\x80\x80\x80\x80\x80\x01",
        b"\x18\xff\xff\xff\xff\x7f",  # beyond 32 bits
        b"\x20\x01\x20\x02",  # said twice: the last counts
        b"\x20\x01\x29\x00\x00\x00\x00\x00\x00\xf0\x3f",
        b"\x20\x01\x80",
    ):
        same_or_refused([cell], times)


def same_or_refused(cells: list[bytes], times: int) -> None:
    try:
        wanted = [parsed(cell) for cell in cells]
    except (DecodeError, ValueError):
        with pytest.raises(UnreadableValue):
            numbers.matrix([cells] * times, len(cells))
        return
    np.testing.assert_array_equal(numbers.matrix([cells] * times, len(cells)), [wanted] * times)


def parsed(cell: bytes) -> float:
    value = Value.FromString(cell)
    if cell and value.WhichOneof("val") is None:
        raise ValueError("foreign")
    return slow(value)


def slow(value: Value | None) -> float:
    which = None if value is None else value.WhichOneof("val")
    if which in (None, "null_val"):
        return float("nan")
    if which not in ("double_val", "float_val", "int32_val", "int64_val", "bool_val"):
        raise ValueError(which)
    return float(getattr(value, str(which)))


@given(
    st.lists(st.none() | st.integers(-(10**15), 4 * 10**16), min_size=1, max_size=6), FEW_OR_MANY
)
def test_times_are_those_of_the_messages(micros: list[int | None], times: int) -> None:
    stamps: list[bytes | None] = []
    for us in micros:
        time = Timestamp()
        time.FromMicroseconds(us or 0)
        stamps.append(None if us is None else time.SerializeToString())
    assert numbers.times(stamps * times).tolist() == [us or 0 for us in micros] * times


@given(st.binary(min_size=1, max_size=13), FEW_OR_MANY)
def test_foreign_times_are_refused_or_what_they_say(stamp: bytes, times: int) -> None:
    found: Any
    try:
        time = Timestamp.FromString(stamp)
        wanted = time.seconds * 1_000_000 + time.nanos // 1000
        np.int64(wanted)
    except (DecodeError, OverflowError):
        with pytest.raises((UnreadableValue, OverflowError)):
            numbers.times([stamp] * times)
        return
    found = numbers.times([stamp] * times).tolist()
    assert found == [wanted] * times


def test_a_string_is_no_number() -> None:
    with pytest.raises(UnreadableValue, match="holds a string_val, not a number"):
        number(Value(string_val="a").SerializeToString())
    with pytest.raises(UnreadableValue, match="5 bytes that are no value"):
        number(b"\x29" + struct.pack("<f", 1.0))
    with pytest.raises(UnreadableValue, match="2 bytes that are no time"):
        event_us(b"\x08\x80")
