"""Cases 16 to 19: what equals what among keys."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
from feast.types import Uuid
from hypothesis import strategies as st

from tests.stores.conformance.cases import Variants, case
from tests.stores.conformance.harness import Harness, forall, refused
from tests.stores.conformance.world import NOON, View, pairs, references, trips

awkward = st.sampled_from(
    [
        "",
        " ",
        "1",
        "11",
        "111",
        "1|1",
        "1,1",
        "1_1",
        "a\x00b",
        "a",
        "é",
        "e\u0301",
        "日本",
        "'",
        '"',
    ]
)


@case("a null key, alone or as a part, matches nothing and drops nothing")
def case_16_null_key(harness: Harness) -> None:
    alone = trips((1, NOON, NOON, 5), (None, NOON, NOON, 6))
    parts = pairs(
        ("a", "x", NOON, NOON, 0.5), (None, "x", NOON, NOON, 0.1), ("a", None, NOON, NOON, 0.2),
        (None, None, NOON, NOON, 0.3),
    )  # fmt: skip
    keys: list[int | None] = [1, 2] if harness.online else [1, None, 2]
    found = harness.check([alone], [{"driver_id": key, "at": NOON} for key in keys])
    assert found[0] == (5,) and set(found[1:]) == {(None,)}
    names: list[str | None] = ["a", "b"] if harness.online else ["a", None]
    asks = [{"driver_id": a, "rider_id": b, "at": NOON} for a in names for b in (*names, "x")]
    harness.check([parts], asks)


@case('the composite keys ("1", "11") and ("11", "1") are two')
def case_17_composite_collision(harness: Harness) -> None:
    rows = [("1", "11", NOON, NOON, 0.5), ("11", "1", NOON, NOON, 0.25)]
    asks = [{"driver_id": a, "rider_id": b, "at": NOON} for a in ("1", "11") for b in ("1", "11")]
    assert harness.check([pairs(*rows)], asks) == [(None,), (0.5,), (0.25,), (None,)]
    _compare(harness, st.sampled_from(["", "1", "11", "111"]))


@case("keys hold separators, other scripts, quotes and the empty string")
def case_18_awkward_keys(harness: Harness) -> None:
    rows = [
        ("", NOON, NOON, 5),
        ("a|b", NOON, NOON, 6),
        ("日本", NOON, NOON, 7),
        ("\x00", NOON, NOON, 8),
    ]
    asks = [{"driver_id": k, "at": NOON} for k in ("", " ", "a|b", "a", "日本", "日", "\x00")]
    found = harness.check([trips(*rows, key=pa.string())], asks)
    assert found == [(5,), (None,), (6,), (None,), (7,), (None,), (8,)]
    _compare(harness, awkward)


def _compare(harness: Harness, key: st.SearchStrategy[str]) -> None:
    rows = st.lists(st.tuples(key, key, st.floats(0, 1)), max_size=12, unique_by=lambda r: r[:2])
    asked = st.lists(st.tuples(key, key), min_size=1, max_size=12)

    def check(drawn: tuple[list[tuple[str, str, float]], list[tuple[str, str]]]) -> None:
        view = pairs(*((a, b, NOON, NOON, value) for a, b, value in drawn[0]))
        harness.check([view], [{"driver_id": a, "rider_id": b, "at": NOON} for a, b in drawn[1]])

    forall(harness, st.tuples(rows, asked), check)


SOME_TIME = datetime(2025, 5, 1, 8, tzinfo=UTC)
ONE, TWO = (str(uuid.UUID(int=n)) for n in (1, 2))
KINDS: dict[str, tuple[pa.DataType, list[Any], Callable[[list[Any]], pd.Series]]] = {
    "int64": (pa.int64(), [1, 2], lambda keys: pd.Series(keys, dtype="int64")),
    "int32": (pa.int32(), [1, 2], lambda keys: pd.Series(keys, dtype="int32")),
    "int64 asked as int32": (pa.int64(), [1, 2], lambda keys: pd.Series(keys, dtype="int32")),
    "int32 asked as int64": (pa.int32(), [1, 2], lambda keys: pd.Series(keys, dtype="int64")),
    "pandas Int64": (pa.int64(), [1, 2], lambda keys: pd.Series(keys, dtype="Int64")),
    "float": (pa.float64(), [1.5, 2.5], lambda keys: pd.Series(keys, dtype="float64")),
    "str": (pa.string(), ["a", "b"], lambda keys: pd.Series(keys, dtype="object")),
    "string[pyarrow]": (pa.string(), ["a", "b"], lambda keys: pd.Series(keys, dtype="string[pyarrow]")),
    "categorical": (pa.string(), ["a", "b"], lambda keys: pd.Series(keys, dtype="category")),
    "uuid": (pa.string(), [ONE, TWO], lambda keys: pd.Series(keys, dtype="object")),
    "bytes": (pa.binary(), [b"a\x00", b"b"], lambda keys: pd.Series(keys, dtype="object")),
    "timestamp": (
        pa.timestamp("us", tz="UTC"),
        [SOME_TIME, NOON],
        lambda keys: pd.Series(keys, dtype="datetime64[us, UTC]"),
    ),
    "bool": (pa.bool_(), [True, False], lambda keys: pd.Series(keys, dtype="bool")),
}  # fmt: skip
ENCODED = {"int64", "int32", "str", "bytes", "timestamp"}  # in Feast's online keys


@case("keys of every type match their like; another type is one clear error")
def case_19_key_types(harness: Harness) -> None:
    variants = Variants("key types")
    for name, (kind, keys, series) in KINDS.items():
        if harness.online and name not in ENCODED:
            continue
        with variants.variant(name):
            types = {"driver_id": Uuid} if name == "uuid" else {}
            view = trips((keys[0], NOON, NOON, 5), key=kind, types=types)
            assert _asked(harness, view, keys, series) == [5, None]
    for name, value in {"str for int64": "x", "bytes for int64": b"x"}.items():
        with variants.variant(name), refused("driver_id"):
            _asked(
                harness, trips((1, NOON, NOON, 5)), [value], lambda k: pd.Series(k, dtype="object")
            )
    variants.settle()


def _asked(
    harness: Harness, view: View, keys: list[Any], series: Callable[[list[Any]], pd.Series]
) -> list[Any]:
    if harness.online:
        return [v for (v,) in harness.ask([view], [{"driver_id": k, "at": NOON} for k in keys])]
    frame = pd.DataFrame(
        {"driver_id": series(keys), "event_timestamp": [NOON] * len(keys), "n": range(len(keys))}
    )
    store = harness.open([view])
    found = harness.history(store, frame, references([view])).to_pylist()
    return [row["count"] for row in sorted(found, key=lambda row: row["n"])]
