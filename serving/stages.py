"""The pipeline's stages run in a folder of their own, so that the project's data stay as they are."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from feature_repo.views import STORED
from feature_repo.windows import View
from lifecycle.pseudonym import KEY_FILE, KEY_VARIABLE
from schemas.errors import QosError

SERVICES = Path("feature_repo/catalog/services.json")
JOURNAL = "nef.ndjson"  # of a capture, in its folder: where source `nef` looks for it
_LOCAL = "nothing was written;"  # how a stage ends what it says of a fault of the user's


class StageRefused(QosError):
    """A stage that says why the data or parameters are not good enough."""


def prepare(work: Path, project: Path, changes: dict[str, dict[str, Any]]) -> None:
    """Lays out params.yaml (the project's, with sections changed) and the key of the pseudonyms."""
    found = project / "params.yaml"
    params = yaml.safe_load(found.read_text(encoding="utf-8")) if found.exists() else {}
    params = params or {}
    for section, values in changes.items():
        params[section] = merged(params.get(section) or {}, values)
    collect = params.get("collect") or {}
    if "table" in collect:
        collect["table"] = str((project / collect["table"]).absolute())
    if collect.get("source") == "nef":
        captured = collect.get("nef", {}).get("captured", "data/capture")
        collect["nef"] = collect.get("nef", {}) | {"captured": str((project / captured).absolute())}
    (work / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (work / "feature_repo").mkdir()
    (work / ".qos").mkdir()
    if KEY_VARIABLE not in os.environ and (project / KEY_FILE).exists():
        (work / KEY_FILE).symlink_to((project / KEY_FILE).absolute())


def frame_stages() -> list[tuple[str, list[str]]]:
    """From a source to data/frame.parquet: name and arguments of each stage, in order."""
    admitted, features = "data/admitted", "data/features"
    stages = [
        ("collect", ["--out", "data/raw"]),
        ("admit", ["--raw", "data/raw", "--out-admitted", admitted, "--out-quarantine",
                   "data/quarantine", "--out-metrics", "data/admit.json"]),
    ]  # fmt: skip
    for view in STORED:
        tables = []
        if isinstance(view, View):
            tables = ["--rows", f"{admitted}/{view.table}.parquet",
                      "--clock", f"{admitted}/{view.clock_table}.parquet"]  # fmt: skip
        given = ["--view", view.name, *tables, "--out", f"{features}/{view.name}"]
        stages.append(("aggregate", given))
    return [
        *stages,
        ("label", ["--admitted", admitted, "--out-labels", "data/labels.parquet",
                   "--out-metrics", "data/label.json"]),
        ("assemble", ["--labels", "data/labels.parquet", "--features", features,
                      "--admitted", admitted, "--out-frame", "data/frame.parquet",
                      "--out-truncation", "data/truncation.json"]),
    ]  # fmt: skip


def model_stages(frame: Path, services: Path) -> list[tuple[str, list[str]]]:
    """From a frame to `bundle`, `evaluate.json` and `plots`."""
    given = ["--frame", str(frame), "--services", str(services)]
    return [
        ("train", [*given, "--out", "bundle"]),
        ("evaluate", [*given, "--bundle", "bundle", "--out-metrics", "evaluate.json",
                      "--out-plots", "plots"]),
    ]  # fmt: skip


def run_stages(
    work: Path, stages: list[tuple[str, list[str]]], tell: Callable[[int, str], None]
) -> None:
    """Runs them one after the other; tell: number and name of each before it starts.

    Raises `StageRefused` with what a stage says of its input, `RuntimeError` where it broke off.
    """
    for number, (stage, arguments) in enumerate(stages):
        tell(number, stage if stage != "aggregate" else f"aggregate {arguments[1]}")
        done = subprocess.run(
            [sys.executable, "-m", f"pipelines.{stage}", *arguments],
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise _refused(stage, done.stderr)


def _refused(stage: str, said: str) -> Exception:
    lines = said.strip().splitlines()
    if not lines or _LOCAL not in lines[-1]:
        return RuntimeError(f"stage {stage} broke off: {lines[-1] if lines else 'without a word'}")
    start = next((n for n, line in enumerate(lines) if line.startswith(f"{stage}: ")), 0)
    return StageRefused(" ".join(lines[start:-1]).removeprefix(f"{stage}: "))


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The old values with the new ones over them, mapping by mapping."""
    both = old | new
    for name in old.keys() & new.keys():
        if isinstance(old[name], dict) and isinstance(new[name], dict):
            both[name] = merged(old[name], new[name])
    return both
