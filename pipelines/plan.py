"""What bringing a profile's online store up to date would cost, before it is done."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from feature_repo.store import apply, open_store, quiet
from pipelines.publish import source_intervals
from schemas.errors import QosError

if TYPE_CHECKING:
    from feast import FeatureStore

    from stores.plan import PlannedView

Intervals = dict[str, tuple[datetime, datetime]]
MB = 1e6
COLUMNS = ("view", "rows", "keys", "to write", "online MB", "seconds", "memory MB")


def main(
    features: Path = typer.Option(Path("data/features"), help="folder of the feature rows."),
    profile: str = typer.Option("embedded", help="online store: embedded (SQLite) or redis."),
) -> None:
    """Prints rows, keys, online bytes, seconds and memory of each view; writes no feature row."""
    try:
        intervals = source_intervals(features)
        lines = plan_of(open_store(profile), intervals)
    except (QosError, TypeError, ValueError, OSError) as error:
        sys.exit(f"plan: {error}")
    Console().print(table(lines, profile))


def plan_of(store: "FeatureStore", intervals: Intervals) -> "list[PlannedView]":
    """The lines of `pipelines.publish.fill` into this store; applies the definitions.

    intervals: of the sources, first and last event time by view.
    """
    from stores.plan import plan

    apply(store)
    if not intervals:
        return []
    starts, ends = zip(*intervals.values(), strict=True)
    with quiet():
        return plan(store, min(starts), max(ends), list(intervals))


def table(lines: "list[PlannedView]", profile: str) -> Table:
    """A line a view and their sum; memory is the highest."""
    shown = Table(title=f"online store of the {profile} profile", show_footer=True)
    footers = (
        "all",
        f"{sum(line.rows for line in lines):,}",
        f"{sum(line.keys for line in lines):,}",
        f"{sum(line.written for line in lines):,}",
        f"{sum(line.bytes for line in lines) / MB:,.2f}",
        f"{sum(line.seconds for line in lines):,.2f}",
        f"{max((line.memory for line in lines), default=0) / MB:,.0f}",
    )
    for name, footer in zip(COLUMNS, footers, strict=True):
        shown.add_column(name, footer, justify="left" if name == "view" else "right")
    for line in lines:
        shown.add_row(
            line.view,
            f"{line.rows:,}",
            f"{line.keys:,}",
            f"{line.written:,}",
            f"{line.bytes / MB:,.2f}",
            f"{line.seconds:,.2f}",
            f"{line.memory / MB:,.0f}",
        )
    return shown


if __name__ == "__main__":
    typer.run(main)
