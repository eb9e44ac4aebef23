"""Point-in-time joins: our as-of store, Feast's duckdb store, bare Polars and bare DuckDB.

    python -m benchmarks.pit --feature-rows 16000000 --entity-rows 1000000

Three views of six features each share the feature rows, ttl 2 h, one key. Each side runs in a process of
its own, so that its peak memory is its own, on the same files; all answers are compared. Then our side
alone: a tenth of the rows, other shapes of the same size, and more rows than its memory limit takes.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.pit_data import SHAPES, make_data
from benchmarks.results_file import RESULTS, write_result

SIDES = ("ours", "feast_duckdb", "polars", "duckdb")


def main(
    feature_rows: Annotated[int, typer.Option(help="over all three views")] = 16_000_000,
    entity_rows: Annotated[int, typer.Option(help="rows to ask for")] = 1_000_000,
    sides: Annotated[str, typer.Option(help="which to run, with commas")] = ",".join(SIDES),
    rounds: Annotated[int, typer.Option(help="runs of each side but Feast's; the best counts")] = 3,
    limit_rows: Annotated[
        int, typer.Option(help="feature rows under the memory limit; 0: none")
    ] = 100_000_000,
    limit_gb: Annotated[float, typer.Option(help="the memory limit of that run")] = 8.0,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Measures seconds and peak memory of each side and prints them with their ratios."""
    result: dict[str, Any] = {"feature_rows": feature_rows, "entity_rows": entity_rows}
    with _data(feature_rows, entity_rows) as folder:
        found = _alternating(sides.split(","), folder, rounds)
        result |= _ratios(found)
        _show(found)
        if "ours" not in found:
            return print(write_result("pit", result, out))
        even = found["ours"]["seconds"]
        (folder / "ttl_s").write_text("0", encoding="utf-8")
        shapes = {"ttl_0": _best("ours", folder, rounds)}
    for shape in SHAPES[1:]:
        with _data(feature_rows, entity_rows, shape) as folder:
            shapes[shape] = _best("ours", folder, rounds)
    result["shapes"] = {
        shape: {"seconds": round(run["seconds"], 2), "times_even": round(run["seconds"] / even, 2)}
        for shape, run in shapes.items()
    }
    with _data(feature_rows // 10, entity_rows // 10) as folder:
        tenth = _best("ours", folder, rounds)["seconds"]
    result["scaling"] = {
        "feature_rows": [feature_rows // 10, feature_rows],
        "seconds": [round(tenth, 2), round(even, 2)],
        "times": round(even / tenth, 2),
    }
    if limit_rows:
        with _data(limit_rows, entity_rows) as folder:
            (folder / "memory_limit").write_text(str(int(limit_gb * 1e9)), encoding="utf-8")
            run = _measure("ours", folder)
        result["limit_run"] = {
            "feature_rows": limit_rows,
            "limit_gb": limit_gb,
            "peak_gb": round(run["peak_gb"], 2),
            "seconds": round(run["seconds"], 2),
        }
    Console().print_json(json.dumps({k: result.get(k) for k in ("shapes", "scaling", "limit_run")}))
    print(write_result("pit", result, out))


@contextmanager
def _data(feature_rows: int, entity_rows: int, shape: str = "even") -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        make_data(Path(scratch), feature_rows, entity_rows, shape)
        yield Path(scratch)


def _alternating(sides: list[str], folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """The fastest run of each side, the sides by turns; Feast's, which takes minutes, once."""
    found: dict[str, dict[str, Any]] = {}
    for number in range(rounds):
        for side in sides:
            if number and side == "feast_duckdb":
                continue
            run = _measure(side, folder)
            if side not in found or run["seconds"] < found[side]["seconds"]:
                found[side] = run
    checks = {side: run["check"] for side, run in found.items()}
    assert len({json.dumps(check) for check in checks.values()}) == 1, checks
    return found


def _best(side: str, folder: Path, rounds: int) -> dict[str, Any]:
    return _alternating([side], folder, rounds)[side]


def _ratios(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    seconds = {side: run["seconds"] for side, run in found.items()}
    peaks = {side: run["peak_gb"] for side, run in found.items()}
    result = {f"{side}_s": round(value, 2) for side, value in seconds.items()}
    result |= {f"{side}_peak_gb": round(value, 2) for side, value in peaks.items()}
    if "ours" in found and "feast_duckdb" in found:
        result["speedup_over_feast"] = round(seconds["feast_duckdb"] / seconds["ours"], 1)
    if bare := [side for side in ("polars", "duckdb") if side in found and "ours" in found]:
        result["ratio_to_bare"] = round(seconds["ours"] / min(seconds[s] for s in bare), 2)
        result["bare_peak_gb"] = round(min(peaks[s] for s in bare), 2)
    return result


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
