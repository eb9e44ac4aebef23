"""Rows to be written online: checked, one a key, and encoded in slices of bounded size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from feast import FeatureView, Field
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import extract_text_and_num
from numpy.typing import NDArray

from stores.encode import encode_values, entity_keys, value_texts
from stores.errors import StoreError
from stores.times import BEYOND, Row, newest

EVENT, CREATED = "event_timestamp", "created_timestamp"

_ROWS_A_SLICE = 10_000
_BYTES_A_SLICE = 16 << 20


@dataclass(frozen=True)
class Encoded:
    """Rows in their stored bytes. created_us: `BEYOND` where it is not known."""

    keys: pa.BinaryArray
    values: dict[str, pa.BinaryArray]
    event_us: NDArray[np.int64]
    created_us: NDArray[np.int64]
    texts: Callable[[str], list[str | None]]

    def take(self, places: NDArray[np.int64]) -> "Encoded":
        """The rows at these places, in this order."""
        some = pa.array(places)

        def texts(feature: str) -> list[str | None]:
            every = self.texts(feature)
            return [every[place] for place in places.tolist()]

        return Encoded(
            keys=self.keys.take(some),
            values={name: cells.take(some) for name, cells in self.values.items()},
            event_us=self.event_us[places],
            created_us=self.created_us[places],
            texts=texts,
        )

    @property
    def latest_us(self) -> int:
        """The latest event or created time, `BEYOND` of no row."""
        times = (self.event_us, self.created_us)
        return max(int(us.max(initial=BEYOND)) for us in times)


def checked(view: FeatureView, rows: pa.Table) -> pa.Table:
    """The rows with all their columns and a time in each; raises StoreError where they have not."""
    join_keys = _key_fields(view)
    names = [field.name for field in (*join_keys, *view.features)]
    if names[:1] == [DUMMY_ENTITY_ID] and DUMMY_ENTITY_ID not in rows.column_names:
        rows = rows.append_column(DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * rows.num_rows))
    for name in dict.fromkeys([*names, EVENT, CREATED]):
        if name not in rows.column_names:
            raise StoreError.at(view.name, name, f"is missing; the rows have {rows.column_names}")
    for name in (EVENT, CREATED):
        held = rows.schema.field(name).type
        if not (pa.types.is_timestamp(held) or (name == CREATED and pa.types.is_null(held))):
            raise StoreError.at(view.name, name, f"is {held}, not a timestamp")
    if nulls := rows[EVENT].null_count:
        raise StoreError.at(view.name, EVENT, f"{nulls} of {rows.num_rows} rows have none")
    return rows


def newest_rows(
    view: FeatureView, rows: pa.Table, project: str | None
) -> tuple[pa.Table, pa.ChunkedArray]:
    """The newest row of each key in the order they came, of equal ones the last; and the keys."""
    fields = _key_fields(view)
    names, kinds = [field.name for field in fields], [field.dtype for field in fields]
    try:
        parts = [
            entity_keys(rows.slice(start, 1 << 20), names, kinds, project)
            for start in range(0, rows.num_rows, 1 << 20)
        ]
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"view {view.name}: {error}") from error
    keys = pa.chunked_array(parts, pa.binary())
    column = pl.Series("key", keys)
    if column.n_unique() == rows.num_rows:
        return rows, keys
    order = pl.DataFrame({"key": column, "event": times_us(rows[EVENT])}).with_columns(
        created=pl.Series(times_us(rows[CREATED]))
    )
    kept = (
        order.with_row_index("row")
        .sort("event", "created", "row")
        .unique("key", keep="last", maintain_order=True)["row"]
        .sort()
        .to_arrow()
    )
    return rows.take(kept), keys.take(kept)


def slices(view: FeatureView, rows: pa.Table, keys: pa.ChunkedArray) -> Iterator[Encoded]:
    """The rows, encoded, at most some ten thousand and some megabytes at once."""
    size = min(_ROWS_A_SLICE, max(1, _BYTES_A_SLICE * rows.num_rows // max(rows.nbytes, 1)))
    for start in range(0, rows.num_rows, size):
        some = rows.slice(start, size)
        values = {}
        for field in view.features:
            try:
                values[field.name] = encode_values(some[field.name], field.dtype)
            except Exception as error:
                raise StoreError.at(view.name, field.name, str(error)) from error
        yield Encoded(
            keys=pa.concat_arrays(keys.slice(start, size).chunks),
            values=values,
            event_us=times_us(some[EVENT]),
            created_us=times_us(some[CREATED]),
            texts=partial(_column_texts, view, some),
        )


def of_protos(data: Sequence[Row], version: int, project: str | None) -> Iterator[Encoded]:
    """Feast's own rows: the newest of each key, encoded; rows of other features apart."""
    suffix = (project or "").encode()
    found = newest(data, lambda key: serialize_entity_key(key, version) + suffix)
    groups: dict[tuple[str, ...], list[Any]] = {}
    for key, (order, (_, values, _, _)) in found.items():
        groups.setdefault(tuple(values), []).append((key, order, values))
    for names, rows in groups.items():
        for start in range(0, len(rows), _ROWS_A_SLICE):
            some = rows[start : start + _ROWS_A_SLICE]
            protos = {name: [values[name] for _, _, values in some] for name in names}
            yield Encoded(
                keys=pa.array([key for key, _, _ in some], pa.binary()),
                values={
                    name: pa.array([value.SerializeToString() for value in column], pa.binary())
                    for name, column in protos.items()
                },
                event_us=np.array([order[0] for _, order, _ in some], np.int64),
                created_us=np.array([order[1] for _, order, _ in some], np.int64),
                texts=partial(_proto_texts, protos),
            )


def times_us(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Microseconds since 1970, `BEYOND` for null."""
    if pa.types.is_null(column.type):
        return np.full(len(column), BEYOND, np.int64)
    zone = column.type.tz
    counts = column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
    found: NDArray[np.int64] = counts.fill_null(BEYOND).to_numpy()
    return found


def _column_texts(view: FeatureView, rows: pa.Table, feature: str) -> list[str | None]:
    kinds = {field.name: field.dtype for field in view.features}
    return value_texts(rows[feature], kinds[feature])


def _proto_texts(protos: dict[str, list[Any]], feature: str) -> list[str | None]:
    return [extract_text_and_num(value, compute_num=False)[0] for value in protos[feature]]


def _key_fields(view: FeatureView) -> list[Field]:
    return list(view.entity_columns)
