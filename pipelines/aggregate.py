"""Admitted rows to the feature rows of one view, each as it was known at its time."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from feature_repo import compute
from feature_repo.views import STORED
from feature_repo.windows import View
from pipelines.stage import read_table, run
from schemas.errors import QosError
from schemas.tables import TABLES


@dataclass(frozen=True)
class FeatureRows:
    """The rows of one view; `write` leaves one Parquet file a day, as Feast's offline source."""

    rows: pl.DataFrame

    def write(self, folder: Path) -> None:
        """`folder/day=YYYY-MM-DD/rows.parquet`, or one empty file where there is no row."""
        folder.mkdir(parents=True)
        if self.rows.is_empty():
            self.rows.write_parquet(folder / "none.parquet")
            return
        dated = self.rows.with_columns(pl.col("event_timestamp").dt.date().alias("day"))
        by_day = dated.partition_by("day", as_dict=True, include_key=False)
        for (day,), rows in by_day.items():
            path = folder / f"day={day}" / "rows.parquet"
            path.parent.mkdir()
            rows.write_parquet(path, compression="zstd")


def aggregate(view: str, rows: Path | None = None, clock: Path | None = None) -> FeatureRows:
    """The feature rows of one view: keys, event_timestamp, arrival_timestamp, Float64 features.

    rows: the view's admitted table; clock: the table whose arrivals ask for a computation, where it
    is another one. A static view needs neither. Null: not enough values in the window.
    """
    declared = {known.name: known for known in STORED}
    if view not in declared:
        raise QosError(f"--view {view!r}: no such view; there are {list(declared)}")
    found = declared[view]
    if not isinstance(found, View):
        return FeatureRows(found.rows())
    if rows is None:
        raise QosError(f"--view {view}: needs --rows, its table {found.table}")
    table = read_table(rows, TABLES[found.table])
    asks = table if clock is None else read_table(clock, TABLES[found.clock_table])
    return FeatureRows(known_by_the_end(compute.features(table, asks, found), table, asks))


def known_by_the_end(
    features: pl.DataFrame, rows: pl.DataFrame, clock: pl.DataFrame
) -> pl.DataFrame:
    """Without the windows that end after the data do: nobody has seen such a window whole."""
    ends = [table["arrival_timestamp"].max() for table in (rows, clock) if len(table)]
    return features.filter(pl.col("event_timestamp") <= max(ends)) if ends else features  # type: ignore[type-var]


if __name__ == "__main__":
    run(aggregate)
