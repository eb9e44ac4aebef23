"""Raw to admitted: every row is held against its contract, and what breaks it goes to quarantine.

One reason a row, the first of: refused by the source, a time after the collection, a key or dtype, an
inclusive range (in the contract's order of columns), a rule of the table, a duplicate. Every reason
begins with the table and, where one is to blame, the column. Of rows with
equal keys the last line wins; the earlier ones are `duplicate_identical` or `duplicate_superseded`.
"""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import dataframely as dy
import polars as pl

from pipelines.stage import read_table, run, write_all
from schemas.errors import QosError
from schemas.tables import PROVENANCE, TABLES

_PLACE = ["source_file", "source_line"]


@dataclass(frozen=True)
class Params:
    """min_acceptance: a smaller share of admitted rows stops the pipeline."""

    min_acceptance: float = 0.9


@dataclass(frozen=True)
class Tables:
    """Tables by name; `write` leaves one Parquet file each."""

    tables: dict[str, pl.DataFrame]

    def write(self, folder: Path) -> None:
        """`folder/<table>.parquet`."""
        folder.mkdir(parents=True)
        write_all([(folder / f"{name}.parquet", rows) for name, rows in self.tables.items()])


class Result(NamedTuple):
    """admitted: contract columns and the place in the source; quarantine: raw columns and `reason`."""

    admitted: Tables
    quarantine: Tables
    metrics: dict[str, object]


def admit(raw: Path, params: Params) -> Result:
    """Splits every raw table; raises `QosError` under the minimal acceptance, naming the worst."""
    if not 0 <= params.min_acceptance <= 1:
        raise QosError(
            f"params.yaml: admit.min_acceptance: {params.min_acceptance}, must be in [0, 1]"
        )
    if not (raw / "collect.json").is_file():
        raise QosError(f"{raw / 'collect.json'}: not found; `dvc repro` makes it")
    account = json.loads((raw / "collect.json").read_text(encoding="utf-8"))
    admitted, quarantine = {}, {}
    now = datetime.now(UTC)
    for name in TABLES:
        rows = read_table(raw / f"{name}.parquet")
        admitted[name], quarantine[name] = split(name, rows, now)
        if len(rows) != len(admitted[name]) + len(quarantine[name]):
            raise AssertionError(f"{name}: {len(rows)} rows in, another number out")
    metrics = _metrics(admitted, quarantine) | {
        "source": account["source"],
        "lines_read": account["lines_read"],
        "files": account["files"],
        "nulls": account["nulls"],
    }
    _refuse_below(metrics, params.min_acceptance)
    return Result(Tables(admitted), Tables(quarantine), metrics)


def split(
    name: str, rows: pl.DataFrame, now: datetime | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that keep the contract of table `name`, and the others with their `reason`.

    now: later times are refused; None takes any time. No row is in both, none is in neither.
    """
    if rows.is_empty():
        return (
            rows.drop("refusal", "source_text"),
            rows.with_columns(pl.lit(None, pl.String).alias("reason")),
        )
    judged = rows.with_columns(_reason(name, rows, now).alias("reason"))
    judged = _without_duplicates(name, judged)
    good = pl.col("reason").is_null()
    return (
        judged.filter(good).drop("refusal", "source_text", "reason"),
        judged.filter(~good),
    )


def _reason(name: str, rows: pl.DataFrame, now: datetime | None) -> pl.Series:
    """Null where a row keeps the contract, else the first rule it breaks."""
    numbered = rows.with_row_index("row_number").with_columns(pl.col("row_number").cast(pl.Int64))
    contract: type[dy.Schema] = type(f"Numbered{name}", (TABLES[name],), {"row_number": dy.Int64()})
    broken = contract.filter(numbered.select(contract.column_names())).failure.details()
    late = pl.lit(value=False) if now is None else pl.col("arrival_timestamp") > now
    worded = [
        pl.when(pl.col(rule) == "invalid").then(pl.lit(f"{name}.{_worded(name, rule)}"))
        for rule in _rules(name, broken.columns)
    ]
    first = broken.select(
        "row_number", pl.coalesce(*worded, pl.lit(None, pl.String)).alias("_rule")
    )
    return (
        numbered.join(first, on="row_number", how="left", maintain_order="left")
        .select(
            pl.coalesce(
                _refused(name, pl.col("refusal")),
                pl.when(late).then(pl.lit(f"{name}.arrival_timestamp: after the collection")),
                pl.col("_rule"),
            ).alias("reason")
        )
        .to_series()
    )


def _refused(name: str, refusal: pl.Expr) -> pl.Expr:
    """`<table>.<column>: unparseable`, for other refusals `<table>: <rule>`; null where none."""
    rule = refusal.str.split(":").list.first()
    column = refusal.str.extract(r"^unparseable: (\w+)", 1)
    return pl.coalesce(
        pl.format(f"{name}.{{}}: {{}}", column, rule), pl.format(f"{name}: {{}}", rule)
    )


def _rules(name: str, columns: list[str]) -> list[str]:
    """Names of the rules among the columns of a failure report: keys and ranges, then table rules."""
    own = [c for c in columns if "|" in c and not c.startswith("row_number|")]
    known = {*TABLES[name].column_names(), "row_number", "primary_key", *own}
    order = {column: place for place, column in enumerate(TABLES[name].column_names())}

    def place(rule: str) -> tuple[int, bool]:  # NaN is also above every limit
        column, test = rule.split("|")
        return order[column], test in ("min", "max")

    return sorted(own, key=place) + [c for c in columns if c not in known and "|" not in c]


def _worded(name: str, rule: str) -> str:
    """A rule in words: the column, what is allowed, and why."""
    if "|" not in rule:
        return rule
    column_name, test = rule.split("|")
    column = TABLES[name].columns()[column_name]
    meta = column.metadata or {}
    if test in ("min", "max") and hasattr(column, "min"):
        low, high = column.min, column.max  # type: ignore[attr-defined]
        if isinstance(low, datetime):
            return f"{column_name}: before {low.date()}"
        side = "below" if test == "min" else "above"
        return f"{column_name}: {side} [{low:g}, {high:g}] {meta['unit']} ({meta['source']})"
    words = {
        "nullability": "is null",
        "nan": "is NaN",
        "inf": "is infinite",
        "is_in": "is unknown",
    }
    return f"{column_name}: {words.get(test, test)}"


def _without_duplicates(name: str, judged: pl.DataFrame) -> pl.DataFrame:
    """Of good rows with equal keys only the last line stays good."""
    keys = TABLES[name].primary_key()
    values = [c for c in judged.columns if c not in {*PROVENANCE, "reason"}]
    good = judged.with_row_index("_row").filter(pl.col("reason").is_null())
    ranked = good.sort(*_PLACE, "_row").with_columns(
        pl.int_range(pl.len()).over(keys).alias("_nth"),
        pl.len().over(keys).alias("_of"),
        pl.struct(values).hash(seed=1).alias("_values"),
    )
    ranked = ranked.with_columns(pl.col("_values").last().over(keys).alias("_winner"))
    losers = ranked.filter(pl.col("_nth") < pl.col("_of") - 1).select(
        "_row",
        pl.when(pl.col("_values") == pl.col("_winner"))
        .then(pl.lit(f"{name}: duplicate_identical"))
        .otherwise(pl.lit(f"{name}: duplicate_superseded"))
        .alias("_duplicate"),
    )
    return (
        judged.with_row_index("_row")
        .join(losers, on="_row", how="left", maintain_order="left")
        .with_columns(pl.coalesce("reason", "_duplicate").alias("reason"))
        .drop("_row", "_duplicate")
    )


def _metrics(
    admitted: dict[str, pl.DataFrame], quarantine: dict[str, pl.DataFrame]
) -> dict[str, object]:
    by_table = {
        name: {
            "read": len(admitted[name]) + len(quarantine[name]),
            "admitted": len(admitted[name]),
            "quarantined": len(quarantine[name]),
        }
        for name in TABLES
    }
    by_reason = Counter[str]()
    for rows in quarantine.values():
        by_reason.update(rows["reason"].to_list())
    totals = {
        key: sum(table[key] for table in by_table.values())
        for key in ("read", "admitted", "quarantined")
    }
    return totals | {
        "acceptance": totals["admitted"] / max(totals["read"], 1),
        "by_table": by_table,
        "by_reason": dict(by_reason.most_common()),
    }


def _refuse_below(metrics: dict[str, object], least: float) -> None:
    acceptance = metrics["acceptance"]
    assert isinstance(acceptance, float)
    reasons = metrics["by_reason"]
    assert isinstance(reasons, dict)
    if acceptance < least:
        worst = "; ".join(f"{reason}: {count}" for reason, count in list(reasons.items())[:3])
        raise QosError(
            f"only {metrics['admitted']} of {metrics['read']} rows ({acceptance:.1%}) keep their "
            f"contracts, admit.min_acceptance is {least:.1%}; worst: {worst}"
        )


if __name__ == "__main__":
    run(admit)
