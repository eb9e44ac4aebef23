"""Great Expectations suites, derived: what the contracts and the feature views say, and a little more.

From the contracts: dtypes, no null, ranges, value sets, unique keys, the rules of a table. From the
views: the range of each feature. Beyond them, about a table as a whole: volume, freshness, reference
to other tables, distribution.

The library reads pandas, which cannot tell NaN from null. So a NaN goes in as infinity, which no
range admits.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dataframely as dy
import great_expectations.expectations as gxe
import polars as pl
from dataframely.columns import Column

from feature_repo.views import STORED
from feature_repo.windows import StaticView, View
from schemas.tables import TABLES, dtypes

EVENT = "event_timestamp"
DTYPES = "dtypes"
REQUIRED = ("ue_radio", "ue_flow")  # one of them has rows, else there is nothing to learn from
LARGEST = sys.float_info.max
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
    """min_rows, max_rows: of a table that has any; max_hours_behind: between the newest row of a
    periodic table and of all; min_known_share: of rows whose UE or cell another table knows;
    max_null_share: of a measured column that is not null throughout (a campaign that pings once in
    100 s is 0.99 null there); min_rows_to_vary: a measured column with as many values must not stand
    still; rsrp_median_dbm: where the median of the serving cell's RSRP may lie."""

    min_rows: int = 10
    max_rows: int = 50_000_000
    max_hours_behind: float = 24.0
    min_known_share: float = 0.95
    max_null_share: float = 0.995
    min_rows_to_vary: int = 1000
    rsrp_median_dbm: tuple[float, ...] = (-125.0, -55.0)


@dataclass(frozen=True)
class Suite:
    """What is expected of one table; `batch` holds its rows and the columns made for the purpose."""

    name: str
    batch: pl.DataFrame
    expectations: list[Any]


def dtype_suite(tables: Mapping[str, pl.DataFrame]) -> Suite:
    """One suite for the dtypes of all tables, empty ones too: a column `<table>.<column>` each."""
    declared = {
        f"{table}.{column}": (str(dtype), str(tables[table].schema.get(column, "absent")))
        for table in TABLES
        for column, dtype in dtypes(table).items()
    }
    return Suite(
        DTYPES,
        pl.DataFrame({name: [stored] for name, (_, stored) in declared.items()}),
        [
            gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[dtype])
            for name, (dtype, _) in declared.items()
        ],
    )


def as_declared(tables: Mapping[str, pl.DataFrame]) -> bool:
    """Whether every column has its dtype; where not, no other suite can be asked."""
    return all(
        tables[table].schema.get(column) == dtype
        for table in TABLES
        for column, dtype in dtypes(table).items()
    )


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
    kept = _rules_kept(contract, rows)
    batch = _without_nan(rows.select(contract.column_names())).with_columns(kept)
    expectations = [
        gxe.ExpectTableRowCountToBeBetween(min_value=params.min_rows, max_value=params.max_rows),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=contract.primary_key()),
        *(e for column, rule in contract.columns().items() for e in _of_column(column, rule)),
        *(gxe.ExpectColumnValuesToBeInSet(column=k.name, value_set=[True]) for k in kept),
        *_measured(contract, rows, params.max_null_share),
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
        if isinstance(rule, dy.Float64):
            yield _finite(name, low, high)
        elif low is not None or high is not None:
            yield gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high)


def _finite(name: str, low: float | None, high: float | None) -> Any:
    """Within [low, high]; a side without a bound still refuses what is infinite or was NaN."""
    return gxe.ExpectColumnValuesToBeBetween(
        column=name,
        min_value=-LARGEST if low is None else low,
        max_value=LARGEST if high is None else high,
    )


def _without_nan(rows: pl.DataFrame) -> pl.DataFrame:
    """NaN as infinity, see the module's docstring."""
    return rows.with_columns(pl.col(pl.Float64).fill_nan(float("inf")))


def _rules_kept(contract: type[dy.Schema], rows: pl.DataFrame) -> list[pl.Series]:
    """For each rule of the table over several columns, whether each row keeps it."""
    numbered: type[dy.Schema] = type("Numbered", (contract,), {"_row": dy.Int64()})
    whole = rows.select(contract.column_names()).with_columns(pl.int_range(pl.len()).alias("_row"))
    failure = numbered.filter(whole).failure.details()
    known = {*whole.columns, "primary_key"}
    rules = [name for name in failure.columns if "|" not in name and name not in known]
    return [
        (~whole["_row"].is_in(failure.filter(pl.col(rule) == "invalid")["_row"].implode())).alias(
            f"keeps {rule}"
        )
        for rule in rules
    ]


def _measured(contract: type[dy.Schema], rows: pl.DataFrame, most: float) -> Iterable[Any]:
    """A source need not measure a column; one that it measures is not null nearly always."""
    for name, rule in contract.columns().items():
        if isinstance(rule, dy.Float64) and rule.nullable and rows[name].count():
            yield gxe.ExpectColumnProportionOfNonNullValuesToBeBetween(
                column=name, min_value=round(1 - most, 9)
            )


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
    expectations += [
        _finite(feature.name, _widened(feature.low, -1), _widened(feature.high, 1))
        for feature in view.features()
    ]
    return Suite(f"features_{view.name}", _without_nan(rows), expectations)


def _widened(bound: float | None, sign: int) -> float | None:
    """A mean of equal values may leave their range by a rounding."""
    return None if bound is None else bound + sign * 1e-9 * max(1.0, abs(bound))
