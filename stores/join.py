"""Joins one feature view to entity rows, reading no more of its source than the answer asks for.

Columns that nobody asks for are not read, nor row groups and files outside the times in reach, nor, for
a few keys, those of other keys. A source that fits the memory limit is read at once. A larger one comes
in batches, in any order: each is joined by itself, and the newer of two answers stays, so that every row
is read once, whatever the ttl, the order of the file or the skew of the keys.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import polars as pl
import psutil
from feast import FeatureView, RepoConfig

from stores.kernel import CREATED, TIME, point_in_time
from stores.source import columns_of, finest, in_unit, scan, utc

FEW_KEYS = 1_000
_KERNEL_BYTES = 136  # of a feature row within the join: keys, times, orders
_ASK_BYTES = 160  # of an entity row
_LEAST_BATCH = 500_000
_SAMPLE = 1_000


def join_view(
    config: RepoConfig,
    view: FeatureView,
    feature_refs: Sequence[str],
    entities: pl.DataFrame,
    time: str,
    *,
    full_feature_names: bool,
    as_known_at: bool,
    memory_limit: int | None,
) -> pl.DataFrame:
    """The requested features of one view, a row an entity row.

    memory_limit: bytes that the process may take, the entity rows and the answer with it; None: what
    it has and half of what is free.
    Raises `ValueError` for a column that the source lacks and for a key of another type.
    """
    name = str(view.projection.name_to_use())  # type: ignore[no-untyped-call]
    wanted = [ref.split(":", 1)[1] for ref in feature_refs if ref.startswith(f"{name}:")]
    join_keys = [column.name for column in view.entity_columns]
    keys = [f"__key_{i}" for i in range(len(join_keys))]
    rows = _renamed(config, view, join_keys, keys, wanted)
    asks = _asks(view, entities, time, dict(zip(join_keys, keys, strict=True)))
    asks, rows = _of_one_type(view, asks, rows, time, dict(zip(keys, join_keys, strict=True)))
    reach = _in_reach(rows, asks, keys, time, view.ttl)
    columns = {f"__value_{n}": f"{name}__{n}" if full_feature_names else n for n in wanted}
    best: pl.DataFrame | None = None
    for batch in _batches(reach, rows, asks, len(columns), memory_limit):
        alone = best is None and batch.alone
        found = point_in_time(
            asks, batch.rows, keys, time, view.ttl,
            columns if alone else columns | {TIME: TIME, CREATED: CREATED}, as_known_at=as_known_at,
        )  # fmt: skip
        best = found if best is None else _newer(best, found)
    assert best is not None
    return best.select(columns.values())


def _renamed(
    config: RepoConfig,
    view: FeatureView,
    join_keys: Sequence[str],
    keys: Sequence[str],
    wanted: Sequence[str],
) -> pl.LazyFrame:
    """The source's rows with `keys`, the two times and the wanted features as `__value_<name>`."""
    source = view.batch_source
    assert source is not None
    key_columns, features, event, created = columns_of(view)
    rows = scan(config, source)
    schema = rows.collect_schema()
    needed = [
        *(key_columns[name] for name in join_keys),
        *(features[name] for name in wanted),
        event,
        *([created] if created else []),
    ]
    if missing := [n for n in needed if n not in schema]:
        raise ValueError(
            f"{view.name}: its source has no column {missing}; it has {schema.names()}"
        )
    unit = finest(schema[event], *([schema[created]] if created else []))
    return rows.select(
        *(pl.col(key_columns[k]).alias(key) for k, key in zip(join_keys, keys, strict=True)),
        utc(pl.col(event), schema[event], unit).alias(TIME),
        (
            utc(pl.col(created), schema[created], unit)
            if created
            else pl.lit(None, pl.Datetime(unit, "UTC"))
        ).alias(CREATED),
        *(pl.col(features[name]).alias(f"__value_{name}") for name in wanted),
    )


def _asks(
    view: FeatureView, entities: pl.DataFrame, time: str, keys: dict[str, str]
) -> pl.DataFrame:
    """The entity rows with the view's keys under their names in the join."""
    alias = view.projection.join_key_map
    if missing := [alias.get(k, k) for k in keys if alias.get(k, k) not in entities.columns]:
        raise ValueError(
            f"{view.name}: the entity rows have no key column {missing}; they have {entities.columns}"
        )
    return entities.select(*(pl.col(alias.get(k, k)).alias(key) for k, key in keys.items()), time)


def _of_one_type(
    view: FeatureView,
    asks: pl.DataFrame,
    rows: pl.LazyFrame,
    time: str,
    names: dict[str, str],
) -> tuple[pl.DataFrame, pl.LazyFrame]:
    """Both with keys of one type, integers and texts of any width or encoding; times in one unit."""
    schema = rows.collect_schema()
    unit = finest(asks.schema[time], schema[TIME])
    casts = {}
    for key, name in names.items():
        want = _joined_as(asks.schema[key], schema[key])
        if want is None:
            raise ValueError(
                f"{view.name}: key {name!r} is {asks.schema[key]} in the entity rows and "
                f"{schema[key]} in the source"
            )
        casts[key] = want
    return (
        asks.with_columns(pl.col(key).cast(dtype) for key, dtype in casts.items()).with_columns(
            in_unit(pl.col(time), unit)
        ),
        rows.with_columns(
            *(pl.col(key).cast(dtype) for key, dtype in casts.items() if schema[key] != dtype),
            *(in_unit(pl.col(c), unit) for c in (TIME, CREATED) if schema[c] != asks.schema[time]),
        ),
    )


def _joined_as(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """The type in which keys of these two are equal exactly when their values are; None for none."""
    if one == other and not isinstance(one, pl.Categorical):
        return one
    if one.is_integer() and other.is_integer():
        wide = pl.Int128() if pl.UInt64 in (one, other) else pl.Int64()
        return wide
    if all(isinstance(d, pl.String | pl.Categorical | pl.Enum) for d in (one, other)):
        return pl.String()
    return None


def _in_reach(
    rows: pl.LazyFrame,
    asks: pl.DataFrame,
    keys: Sequence[str],
    time: str,
    ttl: timedelta | None,
) -> pl.LazyFrame:
    """The feature rows that some entity row could see."""
    first, last = asks[time].min(), asks[time].max()
    if first is None or last is None:
        return rows.head(0)
    rows = rows.filter(pl.col(TIME) <= pl.lit(last, asks.schema[time]))
    if ttl:
        rows = rows.filter(pl.col(TIME) >= pl.lit(asks[time].min(), asks.schema[time]) - ttl)
    for key in keys:
        asked = asks[key].drop_nulls().unique()
        if len(asked) <= FEW_KEYS:
            rows = rows.filter(pl.col(key).is_in(asked.implode()))
    return rows


class _Batch:
    """rows; alone: there is no other batch."""

    def __init__(self, rows: pl.DataFrame, *, alone: bool) -> None:
        self.rows, self.alone = rows, alone


def _batches(
    rows: pl.LazyFrame,
    source: pl.LazyFrame,
    asks: pl.DataFrame,
    columns: int,
    memory_limit: int | None,
) -> Iterator[_Batch]:
    """The rows in reach; those of the whole source are counted first, as its footers hold that count."""
    sample = rows.head(_SAMPLE).collect(engine="streaming")
    if len(sample) < _SAMPLE:
        yield _Batch(sample, alone=True)
        return
    a_row = sample.estimated_size() / len(sample)
    free = (
        psutil.virtual_memory().available // 2
        if memory_limit is None
        else memory_limit - psutil.Process().memory_info().rss
    )
    room = free - len(asks) * (_ASK_BYTES + 3 * 9 * columns)
    if _fits(source, a_row, room) or _fits(rows, a_row, room):
        yield _Batch(rows.collect(engine="streaming"), alone=True)
        return
    fitting = int(room / (2 * a_row + _KERNEL_BYTES))  # the next batch is read meanwhile
    for batch in rows.collect_batches(chunk_size=max(fitting, _LEAST_BATCH), maintain_order=True):
        yield _Batch(batch, alone=False)


def _fits(rows: pl.LazyFrame, a_row: float, room: float) -> bool:
    count = rows.select(pl.len()).collect(engine="streaming").item()
    return bool(count * (a_row + _KERNEL_BYTES) <= room)


def _newer(best: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Row by row the one with the later event, of equal ones the later created, of those `found`."""
    both = pl.concat(
        [best.select(TIME, CREATED), found.select(pl.all().name.suffix("_2"))], how="horizontal"
    )
    event, created = pl.col(f"{TIME}_2"), pl.col(f"{CREATED}_2")
    takes = both.select(
        pl.when(event.is_null())
        .then(False)
        .when(pl.col(TIME).is_null() | (event > pl.col(TIME)))
        .then(True)
        .when(event < pl.col(TIME))
        .then(False)
        .when(pl.col(CREATED).is_null())
        .then(True)
        .otherwise(created.is_not_null() & (created >= pl.col(CREATED)))
        .alias("takes")
    )["takes"]
    return pl.DataFrame([found[name].zip_with(takes, best[name]) for name in best.columns])
