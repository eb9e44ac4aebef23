"""Computes a view's features from table rows, each as it was known at that time.

An *emission* is one feature row: keys, `event_timestamp` (the window's end) and `arrival_timestamp`
(when it was known). Its windows hold the rows with an event in (end - span, end] that had arrived
by then, no others. A late row therefore changes no past emission; the first emission after its
arrival counts it. So an as-of join that keeps to `arrival <= decision` sees exactly what a
computation over the data known at the decision would give (`pipelines/truncation.py` replays that).
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import numpy as np
import polars as pl

from feature_repo.kernels import kernel
from feature_repo.windows import Feature, View, Window

EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"
_MAX_PAIRS = 4_000_000  # rows of the explicit pass held at once
ROUNDING = 1e-9  # a mean of values at a bound may end this much, relatively, beyond it


def features(rows: pl.DataFrame, clock: pl.DataFrame, view: View) -> pl.DataFrame:
    """One row per emission: keys, event_timestamp, arrival_timestamp, one Float64 per feature.

    rows: the view's table; clock: the table whose arrivals ask for a computation (`rows` itself for
    most views). Sorted by keys, then arrival. Null: not enough values in the window.
    """
    return of_known(known_rows(rows, view), emissions(keyed(clock, view.keys), view), view)


def of_known(known: pl.DataFrame, asked: pl.DataFrame, view: View) -> pl.DataFrame:
    """As `features`, from what `known_rows` and `emissions` gave."""
    known = known.sort(known.columns)  # an order that does not hang on the input's
    if view.tick is None:
        computed = _by_arrival(known, asked, view)
    else:
        computed = _explicit(known, asked, view)
    return finished(computed, view)


def finished(computed: pl.DataFrame, view: View) -> pl.DataFrame:
    """Every feature of the view over emissions with some of them: an empty window's value where a
    kernel has one, else null; put back on a bound where only rounding went past it."""
    names = [feature.name for feature in view.features()]
    absent = [pl.lit(None, pl.Float64).alias(n) for n in names if n not in computed.columns]
    empty = [
        pl.col(name).fill_null(kernel(window.op).empty)
        for name, window in zip(names, view.windows, strict=True)
        if kernel(window.op).empty is not None
    ]
    return (
        computed.with_columns(absent)
        .with_columns(empty)
        .with_columns(_unrounded(feature) for feature in view.features())
        .select(*view.keys, EVENT, ARRIVAL, *names)
        .sort(*view.keys, ARRIVAL)
    )


def _unrounded(feature: Feature) -> pl.Expr:
    """The feature with values that only rounding took past its range put back on the bound."""
    value = pl.col(feature.name)
    for bound, side in ((feature.low, -1.0), (feature.high, 1.0)):
        if bound is not None:
            beyond = side * (value - bound)
            by_rounding = (beyond > 0) & (beyond <= ROUNDING * max(1.0, abs(bound)))
            value = pl.when(by_rounding).then(float(bound)).otherwise(value)
    return value.alias(feature.name)


def keyed(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The rows that have every key."""
    some = [key for key in keys if rows[key].null_count()]
    return rows.drop_nulls(some) if some else rows


def known_rows(rows: pl.DataFrame, view: View) -> pl.DataFrame:
    """Keys, times and the windows' columns (Float64) of the rows that count for a view."""
    kept = keyed(rows, view.keys)
    if view.where is not None:
        kept = kept.filter(view.where)
    derived = [d.expression.cast(pl.Float64).alias(name) for name, d in view.derived.items()]
    columns = sorted({window.column for window in view.windows})
    return kept.with_columns(derived).select(
        *view.keys, EVENT, ARRIVAL, *(pl.col(name).cast(pl.Float64) for name in columns)
    )


def emissions(clock: pl.DataFrame, view: View) -> pl.DataFrame:
    """Keys, event_timestamp, arrival_timestamp of every feature row that the view shall have."""
    keys = list(view.keys)
    if view.tick is not None:
        arrived = pl.col(ARRIVAL)
        floor = arrived.dt.truncate(_text(view.tick))
        end = pl.when(floor == arrived).then(arrived).otherwise(floor + view.tick)
        ticks = clock.select(*keys, end.alias(EVENT)).unique()
        return ticks.with_columns(pl.col(EVENT).alias(ARRIVAL)).sort(*keys, ARRIVAL)
    return (
        clock.group_by(*keys, ARRIVAL)
        .agg(pl.col(EVENT).max())
        .sort(*keys, ARRIVAL)
        .with_columns(pl.col(EVENT).cum_max().over(keys))
        .select(*keys, EVENT, ARRIVAL)
    )


def _text(duration: timedelta) -> str:
    return f"{int(duration.total_seconds() * 1_000_000)}us"


def named(view: View, window: Window) -> str:
    """The name of a window's feature."""
    return f"{view.entity}_{window.column}_{window.op}_{window.span}"


def _by_arrival(rows: pl.DataFrame, asked: pl.DataFrame, view: View) -> pl.DataFrame:
    """The rolling pass where every row of a window had arrived, the explicit pass elsewhere."""
    torn = _torn(rows, asked, view)
    whole = asked.join(torn, on=[*view.keys, ARRIVAL], how="anti")
    rolled = _rolling(rows, whole, view)
    return pl.concat([rolled, _explicit(rows, torn, view)], how="diagonal")


def _torn(rows: pl.DataFrame, asked: pl.DataFrame, view: View) -> pl.DataFrame:
    """The emissions with a window that holds, by event, a row which had not arrived yet.

    Of one key later arrivals bear later stamps, so the emissions that miss a row stand side by side:
    from the first whose stamp reaches the row's event to the last before the row's arrival or before
    the longest window has passed the event.
    """
    keys = list(view.keys)
    longest = max(window.length for window in view.windows)
    instant = pl.duration(microseconds=1)
    order = asked.sort(*keys, ARRIVAL).with_row_index("_n")
    places = order.select(*keys, EVENT, ARRIVAL, pl.col("_n").cast(pl.Int64))
    missed = rows.select(*keys, EVENT, ARRIVAL)
    bounds = (
        ("_first", pl.col(EVENT), EVENT, "forward", "first"),
        ("_before_arrival", pl.col(ARRIVAL) - instant, ARRIVAL, "backward", "last"),
        ("_inside", pl.col(EVENT) + longest - instant, EVENT, "backward", "last"),
    )
    for name, bound, time, strategy, keep in bounds:
        ends = places.unique([*keys, time], keep=keep, maintain_order=True)  # type: ignore[arg-type]
        missed = (
            missed.with_columns(bound.alias("_bound"))
            .sort("_bound")
            .join_asof(
                ends.select(*keys, pl.col(time).alias("_bound"), pl.col("_n").alias(name)).sort("_bound"),
                on="_bound",
                by=keys,
                strategy=strategy,  # type: ignore[arg-type]
                check_sortedness=False,
            )
        )  # fmt: skip
    spans = (
        missed.select("_first", "_before_arrival", "_inside")
        .drop_nulls()
        .select("_first", pl.min_horizontal("_before_arrival", "_inside").alias("_last"))
        .filter(pl.col("_first") <= pl.col("_last"))
    )
    opened = np.bincount(spans["_first"].to_numpy(), minlength=len(order) + 1)
    closed = np.bincount(spans["_last"].to_numpy() + 1, minlength=len(order) + 1)
    return asked.sort(*keys, ARRIVAL).filter(np.cumsum(opened - closed)[: len(order)] > 0)


def _rolling(rows: pl.DataFrame, asked: pl.DataFrame, view: View) -> pl.DataFrame:
    """Windows over event time alone; right where no row was missing."""
    keys = list(view.keys)
    ends = asked.select(*keys, EVENT).unique()
    absent = ends.join(rows.select(*keys, EVENT).unique(), on=[*keys, EVENT], how="anti")
    table = pl.concat([rows, absent], how="diagonal").sort(*keys, EVENT, maintain_order=True)
    if table.is_empty():
        return asked
    result = asked
    time = pl.col(EVENT)
    for length, windows in _by_length(view.windows):
        values = table.rolling(
            index_column=EVENT, period=_text(length), closed="right", group_by=keys
        ).agg(
            kernel(w.op).aggregate(pl.col(w.column), time, time.max()).alias(named(view, w))
            for w in windows
        )
        result = result.join(
            values.unique([*keys, EVENT], keep="first"), on=[*keys, EVENT], how="left"
        )
    return result


def _by_length(windows: Iterable[Window]) -> list[tuple[timedelta, list[Window]]]:
    lengths: dict[timedelta, list[Window]] = {}
    for window in windows:
        lengths.setdefault(window.length, []).append(window)
    return list(lengths.items())


def _explicit(rows: pl.DataFrame, asked: pl.DataFrame, view: View) -> pl.DataFrame:
    """Every emission beside each row of its longest window that had arrived, then aggregated."""
    keys = list(view.keys)
    longest = max(window.length for window in view.windows)
    spans = _window_bounds(rows, asked, keys, longest)
    parts = [
        _aggregate(rows, part, view) for part in _slices(spans, "_rows", _MAX_PAIRS) if len(part)
    ]
    return pl.concat(parts) if parts else asked


def _window_bounds(
    rows: pl.DataFrame, asked: pl.DataFrame, keys: list[str], longest: timedelta
) -> pl.DataFrame:
    """The emissions with `_first` and `_rows`: where the rows of the longest window stand in rows."""
    position = rows.select(*keys, EVENT).with_row_index("_position")
    starts = position.group_by(keys).agg(pl.col("_position").min().alias("_start"))
    upto = position.group_by(*keys, EVENT).agg((pl.col("_position").max() + 1).alias("_upto"))

    def count_before(bound: pl.Expr, name: str) -> pl.DataFrame:
        return (
            asked.select(*keys, ARRIVAL, bound.alias(EVENT))
            .sort(EVENT)
            .join_asof(upto.sort(EVENT), on=EVENT, by=keys, check_sortedness=False)
            .select(*keys, ARRIVAL, pl.col("_upto").alias(name))
        )

    first = count_before(pl.col(EVENT) - longest, "_before")
    last = count_before(pl.col(EVENT), "_end")
    return (
        asked.join(starts, on=keys, how="left")
        .join(first, on=[*keys, ARRIVAL], how="left")
        .join(last, on=[*keys, ARRIVAL], how="left")
        .with_columns(pl.coalesce("_before", "_start").alias("_first"))
        .with_columns(
            (pl.col("_end").cast(pl.Int64) - pl.col("_first").cast(pl.Int64))
            .fill_null(0)
            .alias("_rows")
        )
        .select(*asked.columns, "_first", "_rows")
    )


def _slices(table: pl.DataFrame, weight: str, limit: int) -> list[pl.DataFrame]:
    """Consecutive parts of the table whose weights add up to about `limit` at the most."""
    part = (table[weight].cum_sum() // limit).alias("_part")
    return table.with_columns(part).partition_by("_part", include_key=False, maintain_order=True)


def _aggregate(rows: pl.DataFrame, asked: pl.DataFrame, view: View) -> pl.DataFrame:
    columns = sorted({window.column for window in view.windows})
    numbered = asked.drop("_first", "_rows").with_row_index("_emission")
    reach = asked.with_row_index("_emission").filter(pl.col("_rows") > 0)
    pairs = reach.select(
        "_emission",
        pl.col(EVENT).alias("_stamp"),
        pl.col(ARRIVAL).alias("_known"),
        pl.int_ranges("_first", pl.col("_first") + pl.col("_rows")).alias("_position"),
    ).explode("_position")
    held = rows.select(EVENT, ARRIVAL, *columns)[pairs["_position"]]
    pairs = pl.concat([pairs.drop("_position"), held], how="horizontal").filter(
        pl.col(ARRIVAL) <= pl.col("_known")
    )
    aggregates = []
    for window in view.windows:
        inside = pl.col(EVENT) > pl.col("_stamp") - window.length
        value, time = pl.col(window.column).filter(inside), pl.col(EVENT).filter(inside)
        stamp = pl.col("_stamp").first()
        aggregates.append(
            kernel(window.op).aggregate(value, time, stamp).alias(named(view, window))
        )
    values = pairs.group_by("_emission", maintain_order=True).agg(aggregates)
    return numbered.join(values, on="_emission", how="left").drop("_emission")
