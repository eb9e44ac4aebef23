"""Point-in-time joins: our as-of store, Feast's duckdb store, bare Polars and bare DuckDB.

    python -m benchmarks.pit --feature-rows 16000000 --entity-rows 1000000

Three views of six features each share the feature rows, ttl 2 h, one key. Each side runs in a process of
its own, so that its peak memory is its own, on the same files; all answers are compared.
"""

import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.results_file import RESULTS, write_result

VIEWS, FEATURES, TTL = 3, 6, timedelta(hours=2)
START = datetime(2026, 1, 1, tzinfo=UTC)
SPAN_S = 14 * 86_400
ROWS_A_KEY = 2_000
SIDES = ("ours", "feast_duckdb", "polars", "duckdb")


def main(
    feature_rows: Annotated[int, typer.Option(help="over all three views")] = 16_000_000,
    entity_rows: Annotated[int, typer.Option(help="rows to ask for")] = 1_000_000,
    sides: Annotated[str, typer.Option(help="which to run, with commas")] = ",".join(SIDES),
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures seconds and peak memory of each side and prints them with their ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_data(folder, feature_rows, entity_rows)
        found = {side: _measure(side, folder) for side in sides.split(",")}
        checks = {side: measured["check"] for side, measured in found.items()}
        assert len({json.dumps(check) for check in checks.values()}) == 1, checks
    seconds = {side: measured["seconds"] for side, measured in found.items()}
    peaks = {side: measured["peak_gb"] for side, measured in found.items()}
    bare = [side for side in ("polars", "duckdb") if side in found]
    best = min((seconds[side] for side in bare), default=None)
    result: dict[str, Any] = {"feature_rows": feature_rows, "entity_rows": entity_rows}
    result |= {f"{side}_s": round(value, 2) for side, value in seconds.items()}
    result |= {f"{side}_peak_gb": round(value, 2) for side, value in peaks.items()}
    if "ours" in found and "feast_duckdb" in found:
        result["speedup_over_feast"] = round(seconds["feast_duckdb"] / seconds["ours"], 1)
    if "ours" in found and best:
        result["ratio_to_bare"] = round(seconds["ours"] / best, 2)
        result["bare_peak_gb"] = round(min(peaks[side] for side in bare), 2)
    _show(found)
    print(write_result("pit", result, out))


def make_data(folder: Path, feature_rows: int, entity_rows: int) -> None:
    """view_<n>.parquet and entities.parquet, seeded; rows of a key come at random times."""
    random = np.random.default_rng(7)
    each = feature_rows // VIEWS
    keys = max(each // ROWS_A_KEY, 1)
    start_us = int(START.timestamp() * 1e6)
    for number in range(VIEWS):
        event = start_us + random.integers(0, SPAN_S * 1_000_000, each)
        values = {f"f{number}_{i}": random.random(each, dtype=np.float64) for i in range(FEATURES)}
        rows = pl.DataFrame(
            {"key": random.integers(0, keys, each), "event": event, "created": event} | values
        )
        _timed(rows, "event", "created").write_parquet(folder / f"view_{number}.parquet")
    asked = pl.DataFrame(
        {
            "key": random.integers(0, keys, entity_rows),
            "event_timestamp": start_us + random.integers(0, SPAN_S * 1_000_000, entity_rows),
        }
    )
    _timed(asked, "event_timestamp").write_parquet(folder / "entities.parquet")


def _timed(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    return rows.with_columns(
        pl.from_epoch(c, time_unit="us").dt.replace_time_zone("UTC") for c in columns
    )


def _measure(side: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.pit_side", side, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side}: {done.stderr.strip().splitlines()[-1]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    Console(stderr=True).print(f"{side}: {measured['seconds']:.1f} s")
    return measured


def _show(found: dict[str, dict[str, Any]]) -> None:
    table = Table(title="point-in-time join", title_justify="left")
    for name in ("side", "seconds", "times ours", "peak GB"):
        table.add_column(name, justify="left" if name == "side" else "right")
    ours = found.get("ours", {}).get("seconds")
    for side, measured in found.items():
        ratio = f"{measured['seconds'] / ours:.1f}" if ours else "-"
        table.add_row(side, f"{measured['seconds']:.1f}", ratio, f"{measured['peak_gb']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
