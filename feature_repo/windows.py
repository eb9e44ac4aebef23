"""Windows and views as data, and what follows from them: every feature's name, unit, range and text.

    UE_RADIO = View("ue_radio", keys=("ue_id",), table="ue_radio", ttl=seconds(10), windows=(
        *of("rsrp_dbm", "last_5s", "mean_5s", "slope_10s"),
    ))

`of(column, "<op>_<span>", ...)` declares one feature each; the rest is computed here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_repo.kernels import kernel
from schemas.tables import TABLES

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(?P<op>.+)_(?P<span>(?P<number>[1-9]\d*)(?P<unit>[smhd]))")


@dataclass(frozen=True)
class Window:
    """One feature before it has a view: the operation over (t - span, t] of a column."""

    column: str
    op: str
    span: str  # as written: 5s, 1m, 1h, 7d

    @property
    def length(self) -> timedelta:
        """The span as a duration."""
        return timedelta(seconds=int(self.span[:-1]) * _UNITS[self.span[-1]])


@dataclass(frozen=True)
class Derived:
    """A column that a view computes from its table's row before any window: never from other rows."""

    expression: pl.Expr
    description: str
    unit: str
    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Feature:
    """What everybody reads: Feast fields, docs, suites, request checks. Dtype is always Float64."""

    name: str
    view: str
    description: str
    unit: str
    low: float | None
    high: float | None
    source: str
    column: str
    op: str
    span: str | None


@dataclass(frozen=True)
class View:
    """One QoS feature view over one canonical table.

    keys: the entity; entity: prefix of the feature names. tick: None computes at each arrival of a
    row, a duration computes at each multiple of it in which a row arrived. clock: the table whose
    arrivals (or ticks) ask for a computation, `table` itself unless said. ttl: how long a row may be
    served. where: rows that count.
    """

    name: str
    entity: str
    keys: tuple[str, ...]
    table: str
    description: str
    ttl: timedelta
    windows: tuple[Window, ...]
    tick: timedelta | None = None
    clock: str = ""
    where: pl.Expr | None = None
    derived: Mapping[str, Derived] = field(default_factory=dict)

    @property
    def clock_table(self) -> str:
        """The table whose arrivals ask for a computation."""
        return self.clock or self.table

    def features(self) -> tuple[Feature, ...]:
        """One feature a window, in the order of declaration."""
        return tuple(_feature(self, window) for window in self.windows)


@dataclass(frozen=True)
class StaticView:
    """A view whose rows do not come from measurements: `rows()` has the keys and every feature."""

    name: str
    entity: str
    keys: tuple[str, ...]
    description: str
    declared: tuple[Feature, ...]
    rows: Callable[[], pl.DataFrame]

    def features(self) -> tuple[Feature, ...]:
        """The declared features."""
        return self.declared


@dataclass(frozen=True)
class OnDemandView:
    """Features computed at the request from others and from what was asked.

    compute: columns of equal length in (features of `views` and the request's fields; float64, NaN is
    null), columns out, by feature name; on_frame: dotted name of the same over a pandas
    frame, so that a registry holds a name and no code.
    """

    name: str
    description: str
    views: tuple[View | StaticView, ...]
    request: tuple[str, ...]
    declared: tuple[Feature, ...]
    compute: Callable[[Mapping[str, NDArray[np.float64]]], dict[str, NDArray[np.float64]]]
    on_frame: str

    def features(self) -> tuple[Feature, ...]:
        """The declared features."""
        return self.declared


AnyView = View | StaticView | OnDemandView


def of(column: str, *windows: str) -> tuple[Window, ...]:
    """One window for each "<op>_<span>", such as "mean_5s" or "share_below_0_30s"."""
    return tuple(_window(column, text) for text in windows)


def spelled(duration: timedelta) -> str:
    """10 s, 5 min, 2 h, 7 d: the largest unit that divides it."""
    total = duration.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if total >= size and total % size == 0:
            return f"{total / size:g} {unit}"
    return f"{total:g} s"


def seconds(number: float) -> timedelta:
    """A duration of that many seconds."""
    return timedelta(seconds=number)


def _window(column: str, text: str) -> Window:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"{column}: {text!r} is not <op>_<number><s|m|h|d>, as in 'mean_5s'")
    kernel(match["op"])
    return Window(column, match["op"], match["span"])


def _feature(view: View, window: Window) -> Feature:
    description, unit, low, high, source = _column(view, window.column)
    ran = kernel(window.op)
    bottom, top = ran.range(low, high)
    if window.op == "since_s":
        top = window.length.total_seconds()
    return Feature(
        name=f"{view.entity}_{window.column}_{window.op}_{window.span}",
        view=view.name,
        description=f"{ran.says} over {window.span} of: {description}",
        unit=ran.unit(unit),
        low=bottom,
        high=top,
        source=source,
        column=f"{view.table}.{window.column}",
        op=window.op,
        span=window.span,
    )


def _column(view: View, name: str) -> tuple[str, str, float, float, str]:
    """description, unit, low, high, source of a derived or a contract's column."""
    if name in view.derived:
        known = view.derived[name]
        return known.description, known.unit, known.low, known.high, known.source
    columns = TABLES[view.table].columns()
    if name not in columns:
        raise ValueError(
            f"{view.name}: {view.table} has no column {name!r}; it has {list(columns)}"
        )
    column = columns[name]
    if not isinstance(column.metadata, dict) or not hasattr(column, "min"):
        raise ValueError(f"{view.name}: {view.table}.{name} is no measured quantity")
    low, high = column.min, column.max  # type: ignore[attr-defined]
    return (
        str(column.description), column.metadata["unit"], low, high, column.metadata["source"],
    )  # fmt: skip
