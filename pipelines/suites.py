"""Great Expectations suites, derived: what the contracts and the feature views say, and a little more.

From the contracts: no null, ranges, value sets, unique keys. From the views: the range of each feature.
Beyond them, about a table as a whole: volume, freshness, reference to other tables, distribution.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dataframely as dy
import great_expectations.expectations as gxe
import polars as pl
from dataframely.columns import Column

from feature_repo.views import STORED
from feature_repo.windows import StaticView, View
from schemas.tables import TABLES

EVENT = "event_timestamp"
HOURS_BEHIND = "hours behind the newest row"
PERIODIC = (
    "ue_radio",
    "ue_neighbour",
    "ue_flow",
    "ue_motion",
    "cell_load",
)  # sent while a UE is on
REFERENCES = {  # table: (column, table that must know it)
    "ue_neighbour": ("ue_id", "ue_radio"),
    "ue_flow": ("ue_id", "ue_radio"),
    "ue_motion": ("ue_id", "ue_radio"),
    "qos_request": ("ue_id", "ue_radio"),
    "network_event": ("ue_id", "ue_radio"),
    "ue_radio": ("cell_id", "cell_load"),
}


@dataclass(frozen=True)
class Params:
    """min_rows: of a table that has any; max_hours_behind: between the newest row of a periodic table
    and of all; min_known_share: of rows whose UE or cell another table knows; min_rows_to_vary: a
    measured column with as many values must not stand still; rsrp_median_dbm: where the median of the
    serving cell's RSRP may lie."""

    min_rows: int = 10
    max_hours_behind: float = 24.0
    min_known_share: float = 0.95
    min_rows_to_vary: int = 1000
    rsrp_median_dbm: tuple[float, ...] = (-125.0, -55.0)


@dataclass(frozen=True)
class Suite:
    """What is expected of one table; `batch` holds its rows and the columns made for the purpose."""

    name: str
    batch: pl.DataFrame
    expectations: list[Any]


def table_suites(tables: Mapping[str, pl.DataFrame], params: Params) -> list[Suite]:
    """One suite a canonical table that has rows."""
    newest = max(rows[EVENT].max() for rows in tables.values() if len(rows))  # type: ignore[type-var]
    return [_table_suite(name, tables, newest, params) for name in TABLES if len(tables[name])]


def view_suites(features: Mapping[str, pl.DataFrame]) -> list[Suite]:
    """One suite a stored feature view that has rows."""
    return [_view_suite(view, features[view.name]) for view in STORED if len(features[view.name])]


def _table_suite(
    name: str, tables: Mapping[str, pl.DataFrame], newest: Any, params: Params
) -> Suite:
    contract, rows = TABLES[name], tables[name]
    batch = rows.select(contract.column_names())
    expectations = [
        gxe.ExpectTableRowCountToBeBetween(min_value=params.min_rows),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=contract.primary_key()),
        *(e for column, rule in contract.columns().items() for e in _of_column(column, rule)),
        *_varying(contract, rows, params.min_rows_to_vary),
    ]
    if name in PERIODIC:
        behind = (pl.lit(newest) - pl.col(EVENT)).dt.total_microseconds() / 3.6e9
        batch = batch.with_columns(behind.alias(HOURS_BEHIND))
        expectations.append(
            gxe.ExpectColumnMinToBeBetween(
                column=HOURS_BEHIND, min_value=0, max_value=params.max_hours_behind
            )
        )
    column, other = REFERENCES.get(name, ("", ""))
    if other and len(tables[other]):
        known = f"{column} known to {other}"
        values = tables[other][column].drop_nulls().unique()
        batch = batch.with_columns(pl.col(column).is_in(values.implode()).alias(known))
        expectations.append(
            gxe.ExpectColumnValuesToBeInSet(
                column=known, value_set=[True], mostly=params.min_known_share
            )
        )
    if name == "ue_radio" and rows["rsrp_dbm"].count():
        low, high = params.rsrp_median_dbm
        expectations.append(
            gxe.ExpectColumnMedianToBeBetween(column="rsrp_dbm", min_value=low, max_value=high)
        )
    return Suite(name, batch, expectations)


def _of_column(name: str, rule: Column) -> Iterable[Any]:
    """What the contract says of one column."""
    if not rule.nullable:
        yield gxe.ExpectColumnValuesToNotBeNull(column=name)
    if isinstance(rule, dy.Enum):
        yield gxe.ExpectColumnValuesToBeInSet(column=name, value_set=list(rule.categories))
    elif getattr(rule, "is_in", None):
        yield gxe.ExpectColumnValuesToBeInSet(column=name, value_set=list(rule.is_in))  # type: ignore[attr-defined]
    elif isinstance(rule, dy.String):
        yield gxe.ExpectColumnValueLengthsToBeBetween(
            column=name, min_value=rule.min_length, max_value=rule.max_length
        )
    else:
        low, high = getattr(rule, "min", None), getattr(rule, "max", None)
        if not isinstance(low, datetime) and (low is not None or high is not None):
            yield gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high)


def _varying(contract: type[dy.Schema], rows: pl.DataFrame, least: int) -> Iterable[Any]:
    """A meter that shows one value for ever is broken; counts of loss may well stay 0."""
    for name, rule in contract.columns().items():
        measured = isinstance(rule, dy.Float64) and (rule.metadata or {}).get("unit") != "1"
        if measured and rows[name].count() >= least:
            yield gxe.ExpectColumnStdevToBeBetween(column=name, min_value=0, strict_min=True)


def _view_suite(view: View | StaticView, rows: pl.DataFrame) -> Suite:
    keys = list(view.keys)
    stamps = [EVENT, "arrival_timestamp"]
    expectations: list[Any] = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in (*keys, *stamps)),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=[*keys, *stamps]),
    ]
    for feature in view.features():
        if feature.low is not None or feature.high is not None:
            low, high = _widened(feature.low, -1), _widened(feature.high, 1)
            expectations.append(
                gxe.ExpectColumnValuesToBeBetween(
                    column=feature.name, min_value=low, max_value=high
                )
            )
    return Suite(f"features_{view.name}", rows, expectations)


def _widened(bound: float | None, sign: int) -> float | None:
    """A mean of equal values may leave their range by a rounding."""
    return None if bound is None else bound + sign * 1e-9 * max(1.0, abs(bound))
