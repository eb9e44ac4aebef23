"""How long `make run` takes from raw rows to the report, and again with nothing changed.

    python -m benchmarks.pipeline --source ucc5g

A fresh clone of the last commit runs in a scratch folder, with this environment and an empty cache.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.results_file import RESULTS, write_result

ROOT = Path(__file__).parents[1]


def main(
    source: Annotated[str, typer.Option(help="simulator, ucc5g or taiwan_ho")] = "ucc5g",
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
    smoke: Annotated[
        bool, typer.Option(help="with this checkout's cache: a trial, no measure")
    ] = False,
) -> None:
    """Measures both runs and prints them by stage."""
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        if smoke:
            (clone / ".dvc/cache").symlink_to(ROOT / ".dvc/cache")
        seconds = _run(clone, source)
        peak_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        stages = _stages(clone)
        seconds_unchanged = _run(clone, source)
    path = write_result(
        "pipeline",
        {
            "source": source,
            "seconds": round(seconds, 1),
            "seconds_unchanged": round(seconds_unchanged, 1),
            "peak_rss_gb": round(peak_kb / 1e6, 3),
            "stages": stages,
        },
        out,
    )
    _show(source, seconds, seconds_unchanged, peak_kb, stages)
    print(path)


def _run(clone: Path, source: str) -> float:
    """Wall seconds of `make run` without its set-up."""
    environment = os.environ | {
        "PYTHONPATH": str(clone),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    started = time.perf_counter()
    command = [sys.executable, "-m", "pipelines.run", "--source", source]
    subprocess.run(command, cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _stages(clone: Path) -> dict[str, dict[str, float]]:
    timings = [json.loads(path.read_text()) for path in (clone / ".qos/stages").glob("*.json")]
    timings.sort(key=lambda timing: timing["finished_unix_s"])
    return {
        timing["stage"]: {"seconds": timing["seconds"], "peak_rss_gb": timing["peak_rss_gb"]}
        for timing in timings
    }


def _show(
    source: str, seconds: float, unchanged: float, peak_kb: int, stages: dict[str, dict[str, float]]
) -> None:
    table = Table(title=f"{source}: raw to report", title_justify="left")
    for name in ("stage", "seconds", "peak GB"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage, timing in stages.items():
        table.add_row(stage, f"{timing['seconds']:.1f}", f"{timing['peak_rss_gb']:.2f}")
    own = sum(timing["seconds"] for timing in stages.values())
    table.add_row("DVC, starts of processes", f"{seconds - own:.1f}", "")
    table.add_section()
    table.add_row("all", f"{seconds:.1f}", f"{peak_kb / 1e6:.2f}")
    table.add_row("again, nothing changed", f"{unchanged:.1f}", "")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
