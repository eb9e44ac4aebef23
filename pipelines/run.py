"""`make run`: reproduces the pipeline on a source and ends with one screen of what came out."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from pipelines.params import PARAMS_FILE, TIMINGS

METRICS = Path("data/metrics")
_RUNNING = re.compile(r"Running stage '(?P<stage>[^']+)'")
_DVC_SAYS = (
    "> ", "Stage '", "Verifying ", "Generating ", "Updating ", "Use `dvc ", "Data and pipelines",
    "To track ", "\tgit add", "Experiment ", "Ran experiment", "Reproducing ", "Your experiment",
    "ERROR: ", "WARNING: 'always_changed'", "'data/",
)  # fmt: skip
VERSION = Path(".qos/registered.json")
SERVICES = Path("feature_repo/catalog/services.json")
REPORT = Path("data/report/index.html")


def main(
    source: str = typer.Option("simulator", help="simulator, ucc5g, taiwan_ho, nef or table."),
    profile: str = typer.Option("embedded", help="online store: embedded (SQLite) or redis."),
    online: bool = typer.Option(False, help="only bring the profile's online store up to date."),
) -> None:
    """Reproduces what changed with DVC, publishes to the profile's store, and sums it up.

    The embedded store is the pipeline's own stage; another profile gets what its store lacks.
    """
    started = time.time()
    if not online:
        _dvc(source)
        _register()
    if online or profile != "embedded":
        _publish(profile)
    if not online:
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
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | _identity(),
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


def _identity() -> dict[str, str]:
    """A name for the commit that a DVC experiment is, where git knows none."""
    known = subprocess.run(["git", "config", "user.email"], capture_output=True, check=False)
    if known.returncode == 0:
        return {}
    return {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "make run"), ("EMAIL", "make-run@localhost"))
    }


def _register() -> None:
    """Registers again where the receipt came from a cache and this machine has not the version."""
    receipt = _read("register")
    version = _version()
    if receipt["registered"] and version.get("bundle") != receipt["bundle"]:
        stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
        command = [sys.executable, *shlex.split(stages["register"]["cmd"])[1:]]
        with Console(stderr=True).status("registering the model on this machine"):
            done = subprocess.run(command, check=False)
        if done.returncode:
            sys.exit(1)


def _version() -> dict[str, Any]:
    return json.loads(VERSION.read_text(encoding="utf-8")) if VERSION.exists() else {}


def _publish(profile: str) -> None:
    receipt = METRICS / ("publish.json" if profile == "embedded" else f"publish_{profile}.json")
    command = [sys.executable, "-m", "pipelines.publish", "--features", "data/features"]
    with Console(stderr=True).status(f"publishing to the {profile} store"):
        done = subprocess.run([*command, "--profile", profile, "--out", receipt], check=False)
    if done.returncode:
        sys.exit(1)
    rows = json.loads(receipt.read_text(encoding="utf-8"))
    keys = sum(view["keys"] for view in rows.values())
    Console().print(f"online {keys:,} keys of {len(rows)} views in the {profile} store: {receipt}")


def _read(name: str) -> dict[str, Any]:
    path = METRICS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _summary(started: float) -> None:
    console = Console()
    console.print(_rows())
    console.print(_skills(_read("evaluate")))
    console.print(_stages(started))
    receipt, version = _read("register"), _version()
    state = (
        f"{receipt['name']} version {version['version']}, {' and '.join(version['aliases'])}"
        if receipt["registered"]
        else f"not registered: {receipt['reason']}"
    )
    console.print(f"model   {state}\nreport  {REPORT}", soft_wrap=True)


def _rows() -> Table:
    admit, label, truncation = _read("admit"), _read("label"), _read("truncation")
    services = json.loads(SERVICES.read_text(encoding="utf-8"))
    table = Table(title=f"source {admit['source']}", title_justify="left", show_header=False)
    table.add_row("rows in", f"{admit['read']:,} from {admit['lines_read']:,} lines")
    table.add_row("admitted", f"{admit['admitted']:,} ({admit['acceptance']:.2%})")
    reasons = sorted(admit["by_reason"].items(), key=lambda item: -item[1])
    worst = "\n".join(f"{count:,} {reason}" for reason, count in reasons[:4])
    more = f"\n… {len(reasons) - 4} more reasons" if len(reasons) > 4 else ""
    table.add_row("quarantined", f"{admit['quarantined']:,}\n{worst}{more}")
    declared = {name for service in services.values() for name in service["features"]}
    table.add_row("features", f"{len(declared)} declared, in {len(services)} services")
    used = {task: part["decisions"] for task, part in label.items() if part["used"]}
    tasks = ", ".join(f"{task} {rows:,}" for task, rows in used.items())
    table.add_row("frame rows", f"{sum(used.values()):,}: {tasks}")
    values = f"{truncation['values']:,} values replayed"
    table.add_row("future leaks", f"{truncation['differences']} of {values}")
    return table


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
    timings = [json.loads(path.read_text(encoding="utf-8")) for path in TIMINGS.glob("*.json")]
    ran = [timing for timing in timings if timing["finished_unix_s"] >= started]
    ran.sort(key=lambda timing: timing["finished_unix_s"])
    parts = ", ".join(f"{timing['stage']} {timing['seconds']:.1f} s" for timing in ran)
    changed = "" if len(ran) > 1 else "nothing changed; "
    return f"stages  {changed}{parts}; {time.time() - started:.1f} s in all"


if __name__ == "__main__":
    typer.run(main)
