"""A training job: from samples or a source to a judged bundle, which becomes a challenger if it gains.

`python -m serving.training <job folder>` runs the pipeline's stages in the job's own folder and says
what came out in `result.json`. What it makes is registered whole or not at all.
"""

import json
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from lifecycle.bundles import load
from lifecycle.evidence import refusal
from lifecycle.registry import (
    CHALLENGER,
    Evidence,
    Registered,
    open_registry,
    register_bundle,
    tracking_uri,
)
from serving.job_files import REQUEST, WORK, conclude, read_json, tell
from serving.stages import (
    SERVICES,
    StageRefused,
    frame_stages,
    merged,
    model_stages,
    prepare,
    run_stages,
)

FRAME = Path("data/frame.parquet")
EVIDENCE = (
    "rows", "positives", "sessions", "auc", "auc_low", "auc_high", "auc_persistence", "gain",
    "gain_low", "gain_high", "brier", "brier_class_rate", "ece", "band_coverage", "pinball",
    "train_rows", "verdict",
)  # fmt: skip


def train(folder: Path, project: Path) -> None:
    """Does the job whose folder is given; project: where params.yaml, data and registry are."""
    asked = json.loads((folder / REQUEST / "request.json").read_text(encoding="utf-8"))
    work, began = folder / WORK, time.monotonic()
    prepare(work, project, _changes(asked))
    frame, stages = _frame(folder, project, asked["source"])
    services = (project / SERVICES).absolute()
    planned = [*stages, *model_stages(frame, services)]
    found: dict[str, Any] = {"registered": False, "source": asked["source"] or "samples"}
    found |= {"capture": asked["capture"], "samples": asked["account"]}
    try:
        run_stages(work, planned, lambda n, stage: tell(folder, n / (len(planned) + 1), stage))
    except StageRefused as error:
        found |= _found(work, frame)
        conclude(folder, "refused", found, str(error))
        return
    metrics = json.loads((work / "evaluate.json").read_text(encoding="utf-8"))
    bundle = load(work / "bundle")
    found |= _found(work, frame) | {
        "bundle": bundle.digest,
        "metrics": {task: {n: m.get(n) for n in EVIDENCE} for task, m in metrics.items()},
        "seconds": round(time.monotonic() - began, 3),
    }
    if reason := refusal(bundle.manifest, metrics, require_gain=True):
        conclude(folder, "refused", found, reason)
        return
    tell(folder, len(planned) / (len(planned) + 1), "register")
    facts = {"trained_at": _now(), "source": found["source"], "job": folder.name}
    made = _register(asked, work, Evidence(metrics, work / "plots", facts))
    conclude(folder, "succeeded", found | _registration(made))


def _changes(asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """One thread a job: the service needs the others."""
    train = {"seed": asked["seed"], "tasks": asked["tasks"], "forecaster": {"workers": 1}}
    changed: dict[str, dict[str, Any]] = {"train": train}
    if asked["source"] not in (None, "frame"):
        changed["collect"] = {"source": asked["source"]}
    if asked["capture"] is not None:
        changed["collect"]["nef"] = {"captured": str(Path(asked["captures"]) / asked["capture"])}
    return merged(asked["params"], changed)


def _frame(
    folder: Path, project: Path, source: str | None
) -> tuple[Path, list[tuple[str, list[str]]]]:
    """Where the frame is or will be, and the stages that make it."""
    if source is None:
        return (folder / REQUEST / "frame.parquet").absolute(), []
    if source == "frame":
        return (project / FRAME).absolute(), []
    return (folder / WORK / FRAME).absolute(), frame_stages()


def _found(work: Path, frame: Path) -> dict[str, Any]:
    """As far as the stages came: what admission kept, the labels and the frame's rows by task."""
    admitted = read_json(work / "data/admit.json")
    labels = read_json(work / "data/label.json")
    kept = ("lines_read", "read", "admitted", "quarantined", "acceptance", "by_reason")
    return {
        "admission": admitted and {name: admitted.get(name) for name in kept},
        "labels": labels,
        "data": _counts(frame),
    }


def _counts(frame: Path) -> dict[str, dict[str, int]]:
    """Rows, positives and sessions by task; empty where there is no frame."""
    if not frame.exists():
        return {}
    counted = (
        pl.read_parquet(frame, columns=["task", "label", "session_id"])
        .group_by("task")
        .agg(
            rows=pl.len().cast(pl.Int64),
            positives=pl.col("label").sum().cast(pl.Int64),
            sessions=pl.col("session_id").n_unique().cast(pl.Int64),
        )
        .sort("task")
    )
    return {row.pop("task"): row for row in counted.to_dicts()}


def _register(asked: dict[str, Any], work: Path, evidence: Evidence) -> Registered:
    """From here on the job is no longer cancelled: a version appears whole, with its alias."""
    registry = open_registry(asked["registry_uri"] or tracking_uri())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return register_bundle(registry, asked["name"], work / "bundle", evidence, CHALLENGER)


def _registration(made: Registered) -> dict[str, Any]:
    return {
        "registered": True,
        "new": made.new,
        "name": made.name,
        "version": made.version,
        "aliases": list(made.aliases),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main() -> None:
    """Of the command line."""
    folder = Path(sys.argv[1]).absolute()
    try:
        train(folder, Path.cwd())
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        conclude(folder, "failed", error=said)
        raise


if __name__ == "__main__":
    main()
