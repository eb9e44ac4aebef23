"""The columnar bytes equal Feast's own, for every type."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from feast import types
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3, extract_text_and_num
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.types import FeastType
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stores.encode import encode_times, encode_values, entity_keys, field_hash, value_texts

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 127, 128, 2**62])
US = st.integers(-(10**15), 10**16)
KINDS: dict[str, tuple[FeastType, pa.DataType, st.SearchStrategy[Any]]] = {
    "double": (types.Float64, pa.float64(), st.floats()),
    "double from float": (types.Float64, pa.float32(), st.floats(width=32)),
    "double from int": (types.Float64, pa.int32(), INT32),
    "float": (types.Float32, pa.float32(), st.floats(width=32)),
    "int32": (types.Int32, pa.int32(), INT32),
    "int32 from int64": (types.Int32, pa.int64(), INT32),
    "int64": (types.Int64, pa.int64(), INT64),
    "int64 from uint8": (types.Int64, pa.uint8(), st.integers(0, 255)),
    "bool": (types.Bool, pa.bool_(), st.booleans()),
    "string": (types.String, pa.string(), st.text()),
    "long string": (types.String, pa.large_string(), st.text().map(lambda t: t * 50)),
    "string view": (types.String, pa.string_view(), st.text()),
    "bytes": (types.Bytes, pa.binary(), st.binary()),
    "time": (types.UnixTimestamp, pa.timestamp("us", tz="UTC"), US),
    "time in ns": (types.UnixTimestamp, pa.timestamp("ns"), st.integers(-(10**18), 10**18)),
    "doubles": (types.Array(types.Float64), pa.list_(pa.float64()), st.lists(st.floats())),
    "words": (types.Array(types.String), pa.list_(pa.string()), st.lists(st.text())),
    "json": (types.Json, pa.string(), st.sampled_from(["{}", '{"a": [1, null]}'])),
    "number as text": (types.String, pa.int64(), INT64),
}

EDGES: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(KINDS, st.none()) | {
    "double": st.floats(-7, 18).map(lambda exponent: 10.0**exponent)
    | st.integers(-6, 17).map(lambda exponent: 10.0**exponent)
}


def as_protos(values: list[Any], kind: FeastType) -> Iterator[Any]:
    """Feast takes a column of nothing but empty bytes for nulls: one more value keeps it from that."""
    more = [b"."] if kind is types.Bytes else []
    return iter(python_values_to_proto_values(values + more, kind.to_value_type()))


def by_feast(cells: pa.Array, kind: FeastType) -> list[bytes]:
    """As Feast's converter makes them, null apart."""
    values: list[Any] = [value for value in cells.to_pylist() if value is not None]
    if pa.types.is_timestamp(cells.type):
        values = list(cells.drop_null().to_numpy(zero_copy_only=False))
    protos = as_protos(values, kind)
    return [next(protos).SerializeToString() if v else b"" for v in cells.is_valid().to_pylist()]


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None)
@given(data=st.data())
def test_values_equal_feasts(name: str, data: st.DataObject) -> None:
    kind, held, values = KINDS[name]
    cells = pa.array(data.draw(st.lists(st.none() | values, max_size=12)), held)
    cut = data.draw(st.integers(0, len(cells)))
    chunks = pa.chunked_array([cells[:cut], cells[cut:]])
    assert encode_values(chunks, kind).to_pylist() == by_feast(cells, kind)
    assert encode_values(cells[cut:], kind).to_pylist() == by_feast(cells, kind)[cut:]


def test_categories_days_and_nothing_at_all() -> None:
    words = pa.array(["a", None, "bc", "a"])
    assert encode_values(words.dictionary_encode(), types.String).equals(
        encode_values(words, types.String)
    )
    day = encode_values(pa.array([date(1969, 12, 31)]), types.UnixTimestamp)
    instant = pa.array([datetime(1969, 12, 31, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    assert day.equals(encode_values(instant, types.UnixTimestamp))
    assert encode_values(pa.nulls(2), types.Float64).to_pylist() == [b"", b""]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (pa.array(["5"]), types.Float64),
        (pa.array([2**40]), types.Int32),
        (pa.array(["soon"]), types.UnixTimestamp),
        (pa.array([1]), types.Bool),
        (pa.array([2**63], pa.uint64()), types.Int64),
    ],
)
def test_what_does_not_fit_is_refused(cells: pa.Array, kind: FeastType) -> None:
    with pytest.raises((TypeError, ValueError, AssertionError)):
        encode_values(cells, kind)


@settings(deadline=None)
@given(us=st.lists(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)))
@example(us=[0, -1, 1, -1_000_000, 1_000_000])
def test_times_equal_protobufs(us: list[int]) -> None:
    expected = []
    for time in us:
        message = Timestamp()
        message.FromMicroseconds(time)
        expected.append(message.SerializeToString())
    assert encode_times(np.array(us, np.int64)).to_pylist() == expected


KEY_KINDS: dict[str, tuple[FeastType, pa.DataType, st.SearchStrategy[Any]]] = {
    name: KINDS[name] for name in ("int32", "int64", "string", "long string", "bytes", "time")
} | {"int64 from int32": (types.Int64, pa.int32(), INT32)}


@settings(deadline=None)
@given(data=st.data(), project=st.none() | st.text(min_size=1))
def test_keys_equal_feasts(data: st.DataObject, project: str | None) -> None:
    names = data.draw(st.lists(st.text(min_size=1), max_size=4, unique=True))
    kinds = [KEY_KINDS[data.draw(st.sampled_from(sorted(KEY_KINDS)))] for _ in names]
    count = data.draw(st.integers(0, 5))
    columns = {
        name: pa.array(data.draw(st.lists(values, min_size=count, max_size=count)), held)
        for name, (_, held, values) in zip(names, kinds, strict=True)
    }
    rows = pa.table(columns | {"other": pa.nulls(count)})
    protos = {
        name: list(as_protos(list(columns[name].to_numpy(zero_copy_only=False)), kind))
        for name, (kind, _, _) in zip(names, kinds, strict=True)
    }
    expected = [
        serialize_entity_key(
            EntityKey(join_keys=names, entity_values=[protos[name][row] for name in names])
        )
        + (project or "").encode()
        for row in range(count)
    ]
    found = entity_keys(rows, names, [kind for kind, _, _ in kinds], project)
    assert found.to_pylist() == expected


@pytest.mark.parametrize(
    ("cells", "kind", "message"),
    [
        (pa.array([1, None]), types.Int64, "1 nulls; first in row 1"),
        (pa.array(["1"]), types.Int64, "string where INT64"),
        (pa.array([1.0]), types.Int64, "double where INT64"),
        (pa.array([1.0]), types.Float64, "cannot be DOUBLE"),
    ],
)
def test_a_wrong_key_is_refused(cells: pa.Array, kind: FeastType, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        entity_keys(pa.table({"k": cells}), ["k"], [kind], None)


@settings(deadline=None)
@given(view=st.text(), feature=st.text())
def test_field_hashes_equal_feasts(view: str, feature: str) -> None:
    assert field_hash(view, feature) == _mmh3(f"{view}:{feature}")


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None)
@given(data=st.data())
def test_words_equal_feasts(name: str, data: st.DataObject) -> None:
    kind, held, values = KINDS[name]
    cells = pa.array(data.draw(st.lists(st.none() | values | EDGES[name], max_size=12)), held)
    stored = [Value.FromString(value) for value in by_feast(cells, kind)]
    expected = [extract_text_and_num(value, compute_num=False)[0] for value in stored]
    assert value_texts(cells, kind) == expected
