"""What each operation computes over the non-null values of one window, its unit and its range.

A kernel is one Polars aggregation over the rows of a window: the rolling pass and the explicit pass
of `compute.py` call the same one. Null and absent values are left out; a window with fewer than
`min_samples` values is null, never guessed (a count is 0).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

Range = tuple[float | None, float | None]


@dataclass(frozen=True)
class Kernel:
    """One operation.

    aggregate(value, time, stamp): value and time are equally long expressions over the window's
    rows, stamp is the window's end; one number comes out. unit(u) and range(low, high): of the
    result, from those of the column; None in a range means unbounded. empty: the value of a window
    without any row.
    """

    aggregate: Callable[[pl.Expr, pl.Expr, pl.Expr], pl.Expr]
    says: str
    unit: Callable[[str], str] = lambda unit: unit
    range: Callable[[float, float], Range] = lambda low, high: (low, high)
    empty: float | None = None


def _known(value: pl.Expr, time: pl.Expr) -> pl.Expr:
    """The times at which the value is not null."""
    return time.filter(value.is_not_null())


def _last(value: pl.Expr, time: pl.Expr, stamp: pl.Expr) -> pl.Expr:
    return value.drop_nulls().last()


def _std(value: pl.Expr, time: pl.Expr, stamp: pl.Expr) -> pl.Expr:
    return pl.when(value.count() >= 2).then(value.std(ddof=0))


def _slope(value: pl.Expr, time: pl.Expr, stamp: pl.Expr) -> pl.Expr:
    seconds = (_known(value, time) - time.max()).dt.total_microseconds() / 1e6
    values = value.drop_nulls()
    centred = seconds - seconds.mean()
    spread = (centred * centred).sum()
    return pl.when(spread > 0).then((centred * (values - values.mean())).sum() / spread)


def _count(value: pl.Expr, time: pl.Expr, stamp: pl.Expr) -> pl.Expr:
    return value.count().cast(pl.Float64)


def _since(value: pl.Expr, time: pl.Expr, stamp: pl.Expr) -> pl.Expr:
    return (stamp - _known(value, time).max()).dt.total_microseconds() / 1e6


def _quantile(percent: int) -> Kernel:
    share = percent / 100
    return Kernel(
        lambda value, time, stamp: value.quantile(share, interpolation="linear"),
        f"{percent}th percentile",
    )


def _share_below(threshold: float) -> Kernel:
    return Kernel(
        lambda value, time, stamp: (value < threshold).mean(),
        f"share of values below {threshold:g}",
        unit=lambda unit: "1",
        range=lambda low, high: (0.0, 1.0),
    )


_PLAIN = {
    "last": Kernel(_last, "newest value"),
    "mean": Kernel(lambda value, time, stamp: value.mean(), "mean"),
    "min": Kernel(lambda value, time, stamp: value.min(), "least value"),
    "max": Kernel(lambda value, time, stamp: value.max(), "greatest value"),
    "std": Kernel(
        _std,
        "standard deviation (of two values at least)",
        range=lambda low, high: (0.0, (high - low) / 2),
    ),
    "slope": Kernel(
        _slope,
        "least-squares slope over time (of two instants at least)",
        unit=lambda unit: f"{unit}/s",
        range=lambda low, high: (None, None),
    ),
    "count": Kernel(
        _count,
        "number of values",
        unit=lambda unit: "1",
        range=lambda low, high: (0.0, None),
        empty=0.0,
    ),
    "since_s": Kernel(
        _since,
        "time since the newest value; null: none in the window",
        unit=lambda unit: "s",
        range=lambda low, high: (0.0, None),
    ),
}
_QUANTILE = re.compile(r"p(\d{1,2})")
_SHARE_BELOW = re.compile(r"share_below_(minus_)?(\d+)")


def kernel(op: str) -> Kernel:
    """The kernel named `op`: last, mean, min, max, std, slope, count, since_s, p<percent> or
    share_below_[minus_]<threshold>. Raises KeyError, naming the known ones."""
    if op in _PLAIN:
        return _PLAIN[op]
    if match := _QUANTILE.fullmatch(op):
        return _quantile(int(match[1]))
    if match := _SHARE_BELOW.fullmatch(op):
        return _share_below(float(match[2]) * (-1 if match[1] else 1))
    known = [*_PLAIN, "p<percent>", "share_below_[minus_]<threshold>"]
    raise KeyError(f"no operation {op!r}; known: {known}")
