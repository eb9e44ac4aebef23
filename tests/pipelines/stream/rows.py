"""Admitted tables as entries of a stream, and what the batch makes of them."""

from collections.abc import Iterator
from itertools import groupby
from random import Random
from typing import Any

import polars as pl

from feature_repo import compute
from feature_repo.windows import View
from schemas.tables import TABLES

EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"
Rows = dict[str, list[dict[str, Any]]]


def plain(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows with times as microseconds, as producers send them."""
    return table.with_columns(pl.col(EVENT, ARRIVAL).to_physical()).to_dicts()


def reports(tables: dict[str, pl.DataFrame]) -> Iterator[Rows]:
    """All rows by arrival: what arrived at one instant together."""
    rows = [
        (row[ARRIVAL], name, row)
        for name, table in tables.items()
        for row in plain(table.select(TABLES[name].column_names()))
    ]
    rows.sort(key=lambda row: row[:2])
    for _, together in groupby(rows, key=lambda row: row[0]):
        found: Rows = {}
        for _, name, row in together:
            found.setdefault(name, []).append(row)
        yield found


def some_again(found: Iterator[Rows], random: Random, share: float = 0.1) -> Iterator[Rows]:
    """The reports, and some of the last hundred sent once more."""
    sent: list[Rows] = []
    for report in found:
        yield report
        sent = [*sent[-100:], report]
        if random.random() < share:
            yield random.choice(sent)


def batch(view: View, tables: dict[str, pl.DataFrame], until_us: int) -> pl.DataFrame:
    """The feature rows of the batch that arrive up to a time (microseconds)."""
    rows = compute.features(tables[view.table], tables[view.clock_table], view)
    return rows.filter(pl.col(ARRIVAL).to_physical() <= until_us).sort(*view.keys, ARRIVAL)
