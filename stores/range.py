"""What to ask for when there is no entity frame but a range of time.

Feast's stores disagree on it; here one chooses (`without_entity_df`):

- "events": each key and time at which a row of the range was true;
- "rows": the same, an equal row as often as it stands in the source;
- "snapshot": each key that has a row in the range, at the range's end.

The rows come from the view that has all the keys of the request; a request without such a view needs
an entity frame.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import polars as pl
from feast import FeatureView, RepoConfig
from feast.utils import compute_non_entity_date_range

from stores.source import UTC_US, columns_of, scan, utc

Meaning = Literal["events", "rows", "snapshot"]
TIME = "event_timestamp"


def rows_of_range(
    config: RepoConfig,
    views: Sequence[FeatureView],
    start: datetime | None,
    end: datetime | None,
    meaning: Meaning,
    *,
    as_known_at: bool,
) -> pl.DataFrame:
    """Keys and `event_timestamp` (UTC), sorted; both ends of the range belong to it.

    Without an end: now; without a start: the longest ttl before the end, else 30 days. as_known_at: a
    row is asked for when it was known, if that was after it was true. Raises `ValueError` where no view
    has all keys.
    """
    first, last = compute_non_entity_date_range(list(views), start, end)
    keys = sorted({column.name for view in views for column in view.entity_columns})
    widest = [v for v in views if {column.name for column in v.entity_columns} == set(keys)]
    if not widest:
        raise ValueError(
            f"no view of {[view.name for view in views]} has all keys {keys}: give an entity frame"
        )
    rows = pl.concat([_rows(config, view, keys, as_known_at=as_known_at) for view in widest])
    inside = rows.filter(pl.col(TIME).is_between(first, last)).drop_nulls()
    if meaning == "snapshot":
        inside = inside.with_columns(pl.lit(last, UTC_US).alias(TIME))
    if meaning != "rows":
        inside = inside.unique()
    return inside.sort(*keys, TIME).collect()


def _rows(
    config: RepoConfig, view: FeatureView, keys: Sequence[str], *, as_known_at: bool
) -> pl.LazyFrame:
    source = view.batch_source
    assert source is not None
    key_columns, _, event, created = columns_of(view)
    outwards = view.projection.join_key_map
    rows = scan(config, source)
    schema = rows.collect_schema()
    time = utc(pl.col(event), schema[event])
    if as_known_at and created:
        time = pl.max_horizontal(time, utc(pl.col(created), schema[created]))
    return rows.select(
        *(pl.col(key_columns[key]).alias(outwards.get(key, key)) for key in keys),
        time.alias(TIME),
    )
