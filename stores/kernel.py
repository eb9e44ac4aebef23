"""The point-in-time join as one pure function over Polars frames; no Feast in it.

For each entity row: the feature row of equal keys with the greatest event time in
[entity time - ttl, entity time], both ends included, the greatest created time among those. With
`as_known_at` only rows count whose created time is not after the entity time. No row is dropped,
added or moved; a null key or time matches nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

TIME, CREATED, _ROW, _POSITION = "__event", "__created", "__row", "__position"


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
    ordered = _ordered(features, keys)
    positions = _newest(entities, ordered, keys, time)
    if as_known_at and len(ordered):
        positions = _step_back_to_known(positions, entities[time], ordered, keys)
    if ttl:
        positions = _within(positions, entities[time], ordered, ttl)
    index = pl.Series(np.where(positions >= 0, positions, 0))
    found = pl.Series(positions >= 0)
    if ordered.is_empty():
        return pl.DataFrame(
            {
                name: pl.Series(name, [None] * len(entities), dtype=ordered.schema[source])
                for source, name in columns.items()
            }
        )
    picked = [ordered[source].gather(index).alias(name) for source, name in columns.items()]
    return (
        pl.DataFrame(picked)
        .with_columns(found.alias(_ROW))
        .select(pl.when(pl.col(_ROW)).then(pl.col(name)).alias(name) for name in columns.values())
    )


def _ordered(features: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Without null keys and times, sorted by keys, event and created (null first)."""
    return (
        features.drop_nulls([*keys, TIME])
        .sort(*keys, TIME, CREATED, nulls_last=False, maintain_order=True)
        .with_row_index(_POSITION)
    )


def _newest(
    entities: pl.DataFrame, ordered: pl.DataFrame, keys: Sequence[str], time: str
) -> NDArray[np.int64]:
    """Position of the newest feature row at or before each entity row's time, -1 for none."""
    asks = entities.select(*keys, pl.col(time).alias(TIME)).with_row_index(_ROW)
    joined = (
        asks.drop_nulls()
        .sort(TIME)
        .join_asof(
            ordered.select(*keys, TIME, _POSITION).sort(TIME, maintain_order=True),
            on=TIME,
            by=list(keys) or None,
            check_sortedness=False,
        )
        .drop_nulls(_POSITION)
    )
    positions = np.full(len(entities), -1, dtype=np.int64)
    positions[joined[_ROW].to_numpy()] = joined[_POSITION].to_numpy()
    return positions


def _step_back_to_known(
    positions: NDArray[np.int64],
    times: pl.Series,
    ordered: pl.DataFrame,
    keys: Sequence[str],
) -> NDArray[np.int64]:
    """Moves each position back, within its key, until that row had been created by the entity's time."""
    created = ordered[CREATED].fill_null(ordered[TIME]).to_physical().to_numpy()
    asked = times.to_physical().fill_null(0).to_numpy()
    starts = (
        ordered.select(pl.col(_POSITION).min().over(list(keys)) if keys else pl.lit(0).alias("s"))
        .to_series()
        .to_numpy()
        .astype(np.int64)
    )
    if not keys:
        starts = np.zeros(len(ordered), dtype=np.int64)
    open_rows = np.flatnonzero(positions >= 0)
    while len(open_rows):
        at = positions[open_rows]
        late = open_rows[created[at] > asked[open_rows]]
        moved = positions[late] - 1
        positions[late] = np.where(moved >= starts[positions[late]], moved, -1)
        open_rows = late[positions[late] >= 0]
    return positions


def _within(
    positions: NDArray[np.int64],
    times: pl.Series,
    ordered: pl.DataFrame,
    ttl: timedelta,
) -> NDArray[np.int64]:
    """-1 where the feature row is older than the ttl allows."""
    events = ordered[TIME].to_physical().to_numpy()
    asked = times.to_physical().fill_null(0).to_numpy()
    oldest = asked - (ttl // timedelta(microseconds=1))
    matched = positions >= 0
    positions[matched] = np.where(
        events[positions[matched]] >= oldest[matched], positions[matched], -1
    )
    return positions
