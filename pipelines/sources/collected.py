"""What every source hands over: canonical raw tables and an account of every line it read."""

from collections import Counter
from dataclasses import dataclass, field

import polars as pl

from schemas.tables import TABLES, raw_dtypes


@dataclass
class Collected:
    """tables: canonical raw tables with subscriber ids still as the source has them.

    lines: how many lines, rows or records were read; nulls: "table.column" -> reason -> count of
    values that became null; files: how many files; protected: subscribers are pseudonyms already;
    labels: side tables of what is known to have happened, never of use as features.
    """

    tables: dict[str, pl.DataFrame]
    lines: int
    files: int
    nulls: dict[str, Counter[str]] = field(default_factory=dict)
    pseudonym_key: bytes | None = None  # None: the machine's own
    protected: bool = False
    labels: dict[str, pl.DataFrame] = field(default_factory=dict)


def canonical(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with exactly the raw columns of the table, absent ones null."""
    wanted = raw_dtypes(table)
    absent = [pl.lit(None, dtype).alias(n) for n, dtype in wanted.items() if n not in rows.columns]
    return rows.with_columns(absent).select(pl.col(n).cast(t) for n, t in wanted.items())


def empty_tables() -> dict[str, pl.DataFrame]:
    """Every canonical table without a row."""
    return {name: pl.DataFrame(schema=raw_dtypes(name)) for name in TABLES}
