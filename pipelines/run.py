"""`make run`: reproduces the pipeline on a source and ends with one screen of what came out."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from pipelines.stage import PARAMS_FILE, TIMINGS

METRICS = Path("data/metrics")
_RUNNING = re.compile(r"Running stage '(?P<stage>[^']+)'")
_DVC_SAYS = (
    "> ", "Stage '", "Verifying ", "Generating ", "Updating ", "Use `dvc ", "Data and pipelines",
    "To track ", "\tgit add", "Experiment ", "Ran experiment", "Reproducing ", "Your experiment",
    "ERROR: ", "WARNING: 'always_changed'", "'data/",
)  # fmt: skip
REPORT = Path("data/report/index.html")


def main(
    source: str = typer.Option("simulator", help="simulator, ucc5g, taiwan_ho or table."),
    profile: str = typer.Option("embedded", help="online store: embedded (SQLite) or redis."),
) -> None:
    """Reproduces what changed with DVC, publishes what the online store lacks, and sums it up."""
    started = time.time()
    _dvc(source)
    _publish(profile)
    _summary(started)


def _dvc(source: str) -> None:
    current = (yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8")) or {}).get("collect") or {}
    command = [sys.executable, "-m", "dvc"]
    if current.get("source", "simulator") == source:
        command += ["repro"]
    else:
        command += ["exp", "run", "--set-param", f"collect.source={source}"]
    _follow(command)


def _follow(command: list[str]) -> None:
    """Runs DVC, shows the stage it is at, and passes on what the stages themselves say."""
    console = Console(stderr=True)
    with (
        console.status("looking at what changed") as status,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as dvc,
    ):
        assert dvc.stdout is not None
        said = False
        for line in map(str.rstrip, dvc.stdout):
            if found := _RUNNING.match(line):
                status.update(f"stage {found['stage']}")
            elif line.startswith("ERROR: ") and not said:
                console.print(line.removeprefix("ERROR: "), markup=False, highlight=False)
            elif line and not line.startswith(_DVC_SAYS):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
                said = True
    if dvc.returncode:
        sys.exit(1)


def _publish(profile: str) -> None:
    """Publishes again where the receipt speaks of rows that the store does not hold."""
    from pipelines.publish import published

    features = Path("data/features")
    if published(features, profile):
        return
    receipt = METRICS / ("publish.json" if profile == "embedded" else f"publish_{profile}.json")
    command = [sys.executable, "-m", "pipelines.publish", "--features", str(features)]
    done = subprocess.run([*command, "--profile", profile, "--out", str(receipt)], check=False)
    if done.returncode:
        sys.exit(1)


def _read(name: str) -> dict[str, Any]:
    path = METRICS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _summary(started: float) -> None:
    console = Console()
    admit, label, truncation = _read("admit"), _read("label"), _read("truncation")
    reasons = list(admit["by_reason"].items())
    rows = Table(title=f"source {admit['source']}", title_justify="left", show_header=False)
    rows.add_row("rows in", f"{admit['read']:,} from {admit['lines_read']:,} lines")
    rows.add_row("admitted", f"{admit['admitted']:,} ({admit['acceptance']:.2%})")
    worst = "\n".join(f"{count:,} {reason}" for reason, count in reasons[:4])
    more = f"\n… {len(reasons) - 4} more reasons" if len(reasons) > 4 else ""
    rows.add_row("quarantined", f"{admit['quarantined']:,}\n{worst}{more}")
    rows.add_row("features", f"{truncation['columns']} stored and declared, see docs/features.md")
    used = {task: part["decisions"] for task, part in label.items() if part["used"]}
    rows.add_row("frame rows", f"{sum(used.values()):,}: {used}")
    rows.add_row("future leaks", f"{truncation['differences']} of {truncation['values']:,} values")
    console.print(rows)
    console.print(_skills(_read("evaluate")))
    console.print(_stages(started))
    register = _read("register")
    state = (
        f"{register['name']} version {register['version']} {register['aliases']}"
        if register.get("registered")
        else f"not registered: {register.get('reason')}"
    )
    console.print(f"model  {state}\nreport {REPORT if REPORT.exists() else 'none'}")


def _skills(metrics: dict[str, Any]) -> Table:
    table = Table(title="skill on later sessions", title_justify="left")
    for name in ("task", "rows", "AUC", "persistence", "gain (95 %)", "band holds"):
        table.add_column(name)
    for task, found in metrics.items():
        table.add_row(
            task,
            f"{found['rows']:,}",
            _number(found["auc"]),
            _number(found["auc_persistence"]),
            f"{_number(found['gain'])} ({_number(found['gain_low'])} … {_number(found['gain_high'])})",
            _number(found["band_coverage"]),
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _stages(started: float) -> str:
    parts = []
    for path in sorted(TIMINGS.glob("*.json"), key=lambda path: path.stat().st_mtime):
        timing = json.loads(path.read_text(encoding="utf-8"))
        ran = timing["finished_unix_s"] >= started
        parts.append(f"{timing['stage']} {timing['seconds']:.1f} s" if ran else "")
    ran_stages = [part for part in parts if part]
    return "stages " + (", ".join(ran_stages) if ran_stages else "nothing changed, none ran")


if __name__ == "__main__":
    typer.run(main)
