"""The point-in-time join as pure functions over Polars frames; no Feast and no file in it.

For each entity row: the feature row of equal keys with the greatest event time in
[entity time - ttl, entity time], both ends included; of equal ones the greatest created time (null is
the least), of those the last. With `as_known_at` only rows count whose created time is not after the
entity time. No row is dropped, added or moved; a null key or time matches nothing.

Key and time become one integer, key * span + time, so that one sort of the feature rows and one binary
search of the entity rows answer all keys at once, however unevenly the rows are spread over them. A row
is known from max(event, created) on: where some came late, the newest row known at a time is the running
maximum of the event order along the known order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

TIME, CREATED = "__event", "__created"
_CODE, _ROW = "__code", "__row"
_LIMIT = 2**62
_LEAST = np.iinfo(np.int64).min

Ints = NDArray[np.int64]


def point_in_time(
    entities: pl.DataFrame,
    features: pl.DataFrame,
    keys: Sequence[str],
    time: str,
    ttl: timedelta | None,
    columns: Mapping[str, str],
    *,
    as_known_at: bool,
) -> pl.DataFrame:
    """`columns` (source name to output name) of the matching feature rows, in the entities' order.

    entities: `keys` and `time`; features: `keys`, `__event`, `__created` (null: known at once) and
    the source columns. Times are Datetime of one unit and zone. ttl None or 0: no lower bound.
    """
    found = positions(entities, features, keys, time, ttl, as_known_at=as_known_at)
    index = pl.Series(found, dtype=pl.Int64)
    index = index.set(index < 0, None).cast(pl.get_index_type())
    return pl.DataFrame(  # one chunk at a time: gathering from many is five times slower
        [features[source].rechunk().gather(index).alias(name) for source, name in columns.items()]
    )


def positions(
    entities: pl.DataFrame,
    features: pl.DataFrame,
    keys: Sequence[str],
    time: str,
    ttl: timedelta | None,
    *,
    as_known_at: bool,
) -> Ints:
    """Position of the matching feature row of each entity row, -1 for none; see `point_in_time`.

    Raises `ValueError` where times lie too far apart for 62 bits (146 years of nanoseconds).
    """
    answer = np.full(len(entities), -1, dtype=np.int64)
    asked, rows = _coded(
        entities.select(*keys, pl.col(time).alias(TIME)),
        features.select(*keys, TIME, CREATED),
        keys,
    )
    asks = _Asks(
        place=asked[_ROW].to_numpy(), code=asked[_CODE].to_numpy(), time=_physical(asked[TIME])
    )
    if not len(asks.code) or rows.is_empty():
        return answer
    table = _Rows.of(rows, last=int(asks.time.max()), as_known_at=as_known_at)
    if not len(table.code):
        return answer
    base = int(table.event.min())
    span = int(table.known.max()) - base + 2
    codes = int(max(asks.code.max(), table.code.max())) + 1
    if span >= _LIMIT:
        raise ValueError(
            f"the times of the feature rows lie {span} {entities.schema[time]} units apart; "
            f"a join takes less than {_LIMIT}"
        )
    lifetime = _in_units(ttl, entities.schema[time]) if ttl else None
    a_time = _LIMIT // span
    for first in range(0, codes, a_time):
        some, those = (
            asks.between(first, first + a_time, codes),
            table.between(first, first + a_time, codes),
        )
        if len(some.code) and len(those.code):
            answer[some.place] = _newest(some, those, base, span, lifetime)
    return answer


@dataclass(frozen=True)
class _Asks:
    place: Ints
    code: Ints
    time: Ints

    def between(self, first: int, end: int, codes: int) -> "_Asks":
        if end >= codes and not first:
            return self
        inside = (self.code >= first) & (self.code < end)
        return _Asks(self.place[inside], self.code[inside] - first, self.time[inside])


@dataclass(frozen=True)
class _Rows:
    """known is event itself where no row came late; created has the least integer for null."""

    place: Ints
    code: Ints
    event: Ints
    created: Ints
    known: Ints

    @classmethod
    def of(cls, rows: pl.DataFrame, last: int, *, as_known_at: bool) -> "_Rows":
        """The rows that were known by `last`."""
        event = _physical(rows[TIME])
        created = _physical(rows[CREATED].fill_null(pl.lit(_LEAST).cast(rows.schema[CREATED])))
        late = as_known_at and bool((created > event).any())
        known = np.maximum(event, created) if late else event
        table = cls(rows[_ROW].to_numpy(), rows[_CODE].to_numpy(), event, created, known)
        return table if known.max() <= last else table._where(known <= last)

    def between(self, first: int, end: int, codes: int) -> "_Rows":
        if end >= codes and not first:
            return self
        some = self._where((self.code >= first) & (self.code < end))
        return _Rows(some.place, some.code - first, some.event, some.created, some.known)

    def _where(self, inside: NDArray[np.bool_]) -> "_Rows":
        event = self.event[inside]
        known = event if self.known is self.event else self.known[inside]
        return _Rows(self.place[inside], self.code[inside], event, self.created[inside], known)


def _newest(asks: _Asks, rows: _Rows, base: int, span: int, ttl: int | None) -> Ints:
    """Place of the newest known row within the ttl of each ask, -1 for none."""
    start = asks.code * span
    value, order = _sorted(_one_integer(rows.code, rows.event, base, span))
    order = _ties_by_created(value, order, rows.created)
    asked = start + np.clip(asks.time - base, -1, span - 1)
    if rows.known is rows.event:
        newest = _last_at_or_before(value, asked)
    else:
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        known, by_known = _sorted(_one_integer(rows.code, rows.known, base, span))
        best = np.maximum.accumulate(rank[by_known])
        at = _last_at_or_before(known, asked)
        newest = np.where(at >= 0, best[at], -1)
    oldest = start if ttl is None else start + np.clip(asks.time - ttl - base, 0, span)
    return np.where((newest >= 0) & (value[newest] >= oldest), rows.place[order[newest]], -1)


def _one_integer(code: Ints, time: Ints, base: int, span: int) -> Ints:
    values = code * span
    values += time
    values -= base
    return values


def _sorted(values: Ints) -> tuple[Ints, Ints]:
    """The values in order, and where each came from; equal ones in any order."""
    frame = pl.DataFrame({"value": values}).with_row_index(_ROW)
    ordered = frame.sort("value")
    return ordered["value"].to_numpy(), ordered[_ROW].to_numpy()


def _ties_by_created(value: Ints, order: Ints, created: Ints) -> Ints:
    same = value[1:] == value[:-1]
    if not same.any():
        return order
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    group = pl.DataFrame({"value": value[tied], "created": created[order[tied]], "at": order[tied]})
    settled = np.array(order)
    settled[tied] = group.sort("value", "created", "at")["at"].to_numpy()
    return settled


def _last_at_or_before(ordered: Ints, asked: Ints) -> Ints:
    """Searches in order of the asks: neighbours share the cache."""
    by_value, back = _sorted(asked)
    found = np.empty(len(asked), dtype=np.int64)
    found[back] = np.searchsorted(ordered, by_value, side="right") - 1
    return found


def _coded(
    asks: pl.DataFrame, rows: pl.DataFrame, keys: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both with `__row`, and `__code` for the keys; without null keys and times, and without the
    feature rows of keys that nobody asks for."""
    asks, rows = (_numbered(frame, [*keys, TIME]) for frame in (asks, rows))
    if not keys:
        zero = pl.lit(0, pl.Int64).alias(_CODE)
        return asks.with_columns(zero), rows.with_columns(zero)
    if len(keys) == 1 and asks.schema[keys[0]].is_integer() and len(asks):
        low, high = _bounds(asks[keys[0]])
        if high - low < 2 * (len(asks) + len(rows)):
            return _shifted(asks, keys[0], low), _shifted(
                _inside(rows, keys[0], low, high), keys[0], low
            )
    codes = asks.select(keys).unique(maintain_order=True).with_row_index(_CODE)
    codes = codes.with_columns(pl.col(_CODE).cast(pl.Int64))
    return (
        asks.join(codes, on=list(keys), maintain_order="left"),
        rows.join(codes, on=list(keys), maintain_order="left"),
    )


def _numbered(frame: pl.DataFrame, needed: Sequence[str]) -> pl.DataFrame:
    numbered = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(_ROW))
    holed = any(frame[name].null_count() for name in needed)
    return numbered.drop_nulls(needed) if holed else numbered


def _bounds(keys: pl.Series) -> tuple[int, int]:
    return int(keys.min()), int(keys.max())  # type: ignore[arg-type]


def _inside(rows: pl.DataFrame, key: str, low: int, high: int) -> pl.DataFrame:
    """Copies nothing where every row is inside."""
    if rows.is_empty() or (_bounds(rows[key])[0] >= low and _bounds(rows[key])[1] <= high):
        return rows
    return rows.filter(pl.col(key).is_between(low, high))


def _shifted(frame: pl.DataFrame, key: str, low: int) -> pl.DataFrame:
    wide = pl.Int128 if frame.schema[key] in (pl.UInt64, pl.Int128) else pl.Int64
    return frame.with_columns((pl.col(key).cast(wide) - low).cast(pl.Int64).alias(_CODE))


def _physical(times: pl.Series) -> Ints:
    return times.to_physical().cast(pl.Int64).to_numpy()


def _in_units(span: timedelta, dtype: pl.DataType) -> int:
    assert isinstance(dtype, pl.Datetime)
    micros = span // timedelta(microseconds=1)
    return micros * 1000 if dtype.time_unit == "ns" else micros
