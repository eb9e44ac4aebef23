"""A reader's answer as the `results` of Feast's JSON, from the stored bytes."""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from feast.feature_server_utils import _value_to_native
from feast.type_map import python_values_to_proto_values

from stores import decode
from stores.answer import Answer, Block, Computed, read_cell
from stores.compiled import Plan
from stores.decode import Cell, UnreadableValue
from stores.server_metrics import STATUSES

Values = Callable[[Sequence[Cell]], Any]
_DOUBLE = struct.Struct("<d").unpack_from
_DOUBLES = np.dtype([("tag", "u1"), ("value", "<f8")])
_FEW = 8


@dataclass(frozen=True)
class Written:
    """How one feature's values are written. read: of stored bytes, None: it is computed.

    block, place: where its bytes stand in an answer; view: where its view's times stand.
    """

    name: str
    read: Values | None
    block: int
    place: int
    view: int


def written(plan: Plan) -> list[Written]:
    """One a feature of the plan."""
    kinds = {c.name: decode.kind_of(c.dtype) for view in plan.views for c in view.columns}
    reads = {"BOOL": _bools, "DOUBLE": _doubles, "FLOAT": _floats, "INT32": _ints, "INT64": _ints}
    return [
        Written(
            name,
            reads.get(kinds[name], _natives) if name in kinds else None,
            *plan.homes.get(name, (-1, -1)),
            view,
        )
        for name, view in zip(plan.names, plan.view_places.tolist(), strict=True)
    ]


def results(answer: Answer, features: Sequence[Written]) -> list[Any]:
    """One a feature: values, statuses, event_timestamps. Raises UnreadableValue."""
    stamps = [_stamps(view) for view in answer.view_us.T.tolist()]
    if answer.absent is None:
        of_view = [_statuses(view) for view in answer.view_status.T.tolist()]
        statuses = [of_view[feature.view] for feature in features]
    else:
        statuses = [_statuses(column) for column in answer.status.T.tolist()]
    return [
        {
            "values": _column(answer.blocks[feature.block], feature.place, feature.read)
            if feature.read
            else _computed(answer.computed[feature.name]),
            "statuses": said,
            "event_timestamps": stamps[feature.view],
        }
        for feature, said in zip(features, statuses, strict=True)
    ]


def present(column: list[Any]) -> dict[str, Any]:
    """A column of the request, as Feast gives it back."""
    rows = len(column)
    return {
        "values": column,
        "statuses": ["PRESENT"] * rows,
        "event_timestamps": [stamp(0)] * rows,
    }


@lru_cache(1 << 16)
def stamp(us: int) -> str:
    """RFC 3339 in UTC, as precise as the time is: seconds, milliseconds or microseconds."""
    seconds, rest = divmod(us, 1_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if not rest:
        return f"{text}Z"
    return f"{text}.{rest // 1000:03d}Z" if rest % 1000 == 0 else f"{text}.{rest:06d}Z"


def _stamps(column: list[int]) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps([stamp(us) for us in column]))


def _statuses(column: list[int]) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps([STATUSES[status] for status in column]))


def _column(block: Block, place: int, read: Values) -> Any:
    cells = [row[place] for row in block.cells]
    try:
        found = read(cells)
    except UnreadableValue:
        column = block.columns[place]
        for cell, key in zip(cells, block.keys, strict=True):
            read_cell(lambda c: read([c]), cell, column.view, column.feature, key)
        raise
    if block.place is None:
        return found
    if isinstance(found, np.ndarray):
        return found[block.place]
    return [found[i] for i in block.place.tolist()]


def _computed(source: Computed) -> list[Any]:
    protos = python_values_to_proto_values(source.values, source.dtype.to_value_type())
    return [_value_to_native(value) for value in protos]


def _doubles(cells: Sequence[Cell]) -> Any:
    if len(cells) == 1 and (cell := cells[0]) and cell[0] == decode.DOUBLE and len(cell) == 9:
        return [_finite(_DOUBLE(cell, 1)[0])]
    if len(cells) > _FEW and None not in cells:
        joined = b"".join(cells)  # type: ignore[arg-type]
        if len(joined) == 9 * len(cells):
            found = np.frombuffer(joined, _DOUBLES)
            values = np.ascontiguousarray(found["value"])
            if (found["tag"] == decode.DOUBLE).all() and np.isfinite(values).all():
                return values
    return _floats(cells)


def _floats(cells: Sequence[Cell]) -> list[Any]:
    return [_finite(decode.number(cell)) for cell in cells]


def _finite(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _ints(cells: Sequence[Cell]) -> list[Any]:
    return [decode.number(cell) for cell in cells]


def _bools(cells: Sequence[Cell]) -> list[Any]:
    return [None if (v := decode.number(cell)) is None else bool(v) for cell in cells]


def _natives(cells: Sequence[Cell]) -> list[Any]:
    return [_value_to_native(decode.message(cell)) if cell else None for cell in cells]
