"""The contracts themselves: documented, bounded, keyed and unique in what they say."""

import polars as pl
import pytest

from schemas.errors import listed
from schemas.five_qi import DEFAULT_FIVE_QI, FIVE_QIS
from schemas.tables import EVENT_KINDS, PROVENANCE, TABLES, dtypes, raw_dtypes

each_table = pytest.mark.parametrize("name", TABLES)


@each_table
def test_every_column_says_what_it_is_in_what_unit_and_by_which_standard(name: str) -> None:
    for column, contract in TABLES[name].columns().items():
        assert contract.description, column
        assert isinstance(contract.metadata, dict), column
        assert {"unit", "source"} <= set(contract.metadata), column


@each_table
def test_every_number_has_two_bounds_or_a_list_of_values(name: str) -> None:
    for column, contract in TABLES[name].columns().items():
        if contract.dtype.is_numeric() and not getattr(contract, "is_in", None):
            low, high = contract.min, contract.max  # type: ignore[attr-defined]
            assert low is not None and high is not None and low < high, column


@each_table
def test_keys_and_times_are_never_null(name: str) -> None:
    columns = TABLES[name].columns()
    assert "event_timestamp" in TABLES[name].primary_key()
    for column in {*TABLES[name].primary_key(), "event_timestamp", "arrival_timestamp"}:
        assert not columns[column].nullable, column
    for time in ("event_timestamp", "arrival_timestamp"):
        assert dtypes(name)[time] == pl.Datetime("us", "UTC")


def test_a_quantity_means_the_same_in_every_table() -> None:
    seen: dict[str, tuple[object, ...]] = {}
    for table in TABLES.values():
        for name, column in table.columns().items():
            if column.dtype == pl.Float64:
                about = (column.min, column.max, column.metadata)  # type: ignore[attr-defined]
                assert seen.setdefault(name, about) == about, name


@each_table
def test_a_raw_table_bears_its_provenance_last(name: str) -> None:
    assert list(raw_dtypes(name)) == [*dtypes(name), *PROVENANCE]


def test_the_standards_table_is_whole() -> None:
    """TS 23.501, table 5.7.4-1, some rows by heart."""
    assert FIVE_QIS[1].resource_type == "GBR"
    assert (FIVE_QIS[1].packet_delay_budget_ms, FIVE_QIS[1].packet_error_rate) == (100, 1e-2)
    assert (FIVE_QIS[7].packet_delay_budget_ms, FIVE_QIS[7].packet_error_rate) == (100, 1e-3)
    best_effort = FIVE_QIS[DEFAULT_FIVE_QI]
    assert (best_effort.resource_type, best_effort.priority_level) == ("Non-GBR", 90)
    assert (best_effort.packet_delay_budget_ms, best_effort.packet_error_rate) == (300, 1e-6)
    assert FIVE_QIS[82].resource_type == "Delay-critical GBR"
    assert FIVE_QIS[82].packet_delay_budget_ms == 10
    assert all(value == row.value for value, row in FIVE_QIS.items())
    for row in FIVE_QIS.values():
        assert (row.maximum_burst_bytes is not None) == (row.resource_type == "Delay-critical GBR")
        assert (row.averaging_window_ms is None) == (row.resource_type == "Non-GBR")


def test_kinds_of_events_are_told_apart() -> None:
    assert len(set(EVENT_KINDS)) == len(EVENT_KINDS)


def test_a_long_list_of_names_is_cut_and_counted() -> None:
    assert listed("ab") == "'a', 'b'"
    assert listed("abcdefg") == "'a', 'b', 'c', 'd', 'e' and 2 more"
