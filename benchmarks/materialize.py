"""Writing views online: our stores, stock Feast's, and the same bytes with nothing around them.

    python -m benchmarks.materialize --keys 1000000 --features 20

Each side runs in a process of its own against a Redis (or a file) of its own. A row is a key of a view.
`ours` and `feast` are whole runs of `materialize` from Parquet, each with its own offline store, engine
and online store; `ours_writes` is our online store alone, given Arrow rows. Raw is, in Redis, pipelined
HSETs ready as bytes, in SQLite executemany of ready cells into stock Feast's table; making ready is not
counted. What a sample of keys then holds must be equal on all sides. Processor time
a row stands beside the rates: it depends little on what else the machine does.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.redis_process import redis_server
from benchmarks.results_file import RESULTS, write_result

SIDES = ("raw", "ours_writes", "ours", "feast")


def main(
    keys: Annotated[int, typer.Option(help="entities of each view")] = 1_000_000,
    views: Annotated[int, typer.Option(help="views of the same entity")] = 3,
    features: Annotated[int, typer.Option(help="of each view, doubles")] = 20,
    store: Annotated[str, typer.Option(help="redis, sqlite or both with a comma")] = "redis,sqlite",
    feast_rows: Annotated[int, typer.Option(help="rows for stock Feast, over all views")] = 60_000,
    sqlite_keys: Annotated[int, typer.Option(help="entities of each view in SQLite")] = 100_000,
    apart: Annotated[bool, typer.Option(help="each side in a process of its own")] = True,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures rows a second and peak memory of each side and prints them with their ratios."""
    stores = store.split(",")
    result: dict[str, Any] = {}
    for name in stores:
        many = keys if name == "redis" else min(keys, sqlite_keys)
        found = {}
        for side in SIDES:
            count = min(many, feast_rows // views) if side == "feast" else many
            found[side] = _measure(name, side, count, views, features, apart)
        least = min(measured["keys"] for measured in found.values())
        checks = {side: measured["checks"][: _sample(least)] for side, measured in found.items()}
        assert len({json.dumps(check) for check in checks.values()}) == 1, checks
        assert all(measured["written"] == measured["rows"] for measured in found.values())
        _show(name, found)
        summary = _summary(found)
        result |= summary if name == "redis" else {"sqlite": summary}
    print(write_result("materialize", result | {"views": views, "features": features}, out))


def _sample(keys: int) -> int:
    return min(keys, 50)


def _summary(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    rate = {side: measured["rows"] / measured["seconds"] for side, measured in found.items()}
    return {
        "rows": found["ours"]["rows"],
        "feast_rows": found["feast"]["rows"],
        "ours_rows_s": round(rate["ours"]),
        "feast_rows_s": round(rate["feast"]),
        "raw_rows_s": round(rate["raw"]),
        "speedup_over_feast": round(rate["ours"] / rate["feast"], 1),
        "share_of_raw": round(rate["ours"] / rate["raw"], 2),
        "writes_rows_s": round(rate["ours_writes"]),
        "writes_share_of_raw": round(rate["ours_writes"] / rate["raw"], 2),
        "peak_gb": round(found["ours"]["peak_gb"], 2),
        "cpu_us_a_row": {
            side: {
                where: round(measured[f"{where}_cpu_s"] / measured["rows"] * 1e6, 1)
                for where in ("client", "server")
            }
            for side, measured in found.items()
        },
    }


def _measure(
    store: str, side: str, keys: int, views: int, features: int, apart: bool
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        server: AbstractContextManager[str] = (
            redis_server(Path(folder)) if store == "redis" else nullcontext("-")
        )
        with server as address:
            sizes = (keys, views, features)
            if apart:
                measured = _measure_apart(store, side, folder, address, *map(str, sizes))
            else:
                from benchmarks.materialize_side import measure

                measured = measure(store, side, Path(folder), address, *sizes)
    rate = measured["rows"] / measured["seconds"]
    Console(stderr=True).print(f"{store} {side}: {rate:,.0f} rows/s")
    return measured


def _measure_apart(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.materialize_side", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments[:2])}: {done.stderr.strip().splitlines()[-1]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _show(store: str, found: dict[str, dict[str, Any]]) -> None:
    table = Table(title=f"rows written online, {store}", title_justify="left")
    for name in ("side", "rows", "rows/s", "ours is", "peak GB"):
        table.add_column(name, justify="left" if name == "side" else "right")
    rates = {side: measured["rows"] / measured["seconds"] for side, measured in found.items()}
    for side, measured in found.items():
        table.add_row(
            side,
            f"{measured['rows']:,}",
            f"{rates[side]:,.0f}",
            f"{rates['ours'] / rates[side]:.2f} times",
            f"{measured['peak_gb']:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
