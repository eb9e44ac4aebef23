"""Cases 21 and 22: what a value may be."""

import decimal
from typing import Any

import pyarrow as pa
from feast.types import Array, Bytes, Int64, Json, Map, String, Struct

from tests.stores.conformance.cases import Variants, case
from tests.stores.conformance.harness import Harness
from tests.stores.conformance.world import HOUR, NOON, trips


@case("the latest value is returned also where it is null")
def case_21_latest_is_null(harness: Harness) -> None:
    rows = [(1, NOON - HOUR / 2, NOON - HOUR / 2, 5), (1, NOON, NOON, None)]
    asks = [{"driver_id": 1, "at": NOON - HOUR / 4}, {"driver_id": 1, "at": NOON}]
    assert harness.check([trips(*rows)], asks) == [(5,), (None,)]


GREAT = 2**53 + 1
KINDS: dict[str, tuple[pa.DataType, list[Any], Any]] = {
    "int64 above 2^53": (pa.int64(), [GREAT, -(2**63), 2**63 - 1], None),
    "int32": (pa.int32(), [-(2**31), 2**31 - 1], None),
    "float": (pa.float32(), [0.5, -1.25], None),
    "double": (pa.float64(), [0.1, 1e300, -0.0], None),
    "bool": (pa.bool_(), [True, False], None),
    "string": (pa.string(), ["", "é", "a\x00b"], None),
    "bytes": (pa.binary(), [b"", b"\x00\xff"], None),
    "timestamp": (pa.timestamp("s", tz="UTC"), [NOON, NOON - HOUR], None),
    "list of int64": (pa.list_(pa.int64()), [[GREAT, 1], [], [2]], None),
    "list of string": (pa.list_(pa.string()), [["a", ""], [], ["é"]], None),
    "list of double": (pa.list_(pa.float64()), [[0.5], []], None),
    "list of bool": (pa.list_(pa.bool_()), [[True, False], []], None),
    "list of bytes": (pa.list_(pa.binary()), [[b"\x00"], []], Array(Bytes)),
}
OFFLINE_ONLY: dict[str, tuple[pa.DataType, list[Any], Any]] = {
    "nested list": (pa.list_(pa.list_(pa.int64())), [[[1], []], []], Array(Array(Int64))),
    "decimal": (
        pa.decimal128(20, 3),
        [decimal.Decimal("1.250"), decimal.Decimal("-9.001")],
        String,
    ),
    "json": (pa.large_string(), ['{"a": 1}', "[]"], Json),
    "struct": (pa.struct({"a": pa.int64()}), [{"a": GREAT}, {"a": None}], Struct({"a": Int64})),
    "map": (pa.map_(pa.string(), pa.string()), [[("a", "b")], []], Map),
}


@case("values of every type stay exact beside nulls: great integers, lists, also empty, bytes")
def case_22_value_types(harness: Harness) -> None:
    variants = Variants("value types")
    for name, (kind, values, dtype) in (KINDS | ({} if harness.online else OFFLINE_ONLY)).items():
        with variants.variant(name):
            rows = [(n, NOON, NOON, value) for n, value in enumerate([*values, None])]
            view = trips(*rows, value=kind, types={"count": dtype} if dtype else {})
            asks = [{"driver_id": n, "at": NOON} for n in range(len(rows) + 1)]
            harness.check([view], asks)
    variants.settle()
