"""What a registered version holds: MLflow's folder around a bundle, manifest, metrics, plots."""

import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle.bundles import write
from models.bundle import Bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

    from lifecycle.registry import Evidence

REQUIREMENTS = ("lightgbm", "numpy", "scikit-learn", "pandas")
MOST_CHARACTERS = 500  # of a parameter's value in MLflow


def gather(
    folder: Path,
    bundle: Bundle,
    completed: dict[str, Any],
    metrics: dict[str, Any],
    plots: Path | None,
) -> None:
    """Lays out `model/` (MLmodel, signature, bundle), `manifest.json`, `metrics.json`, `plots/`."""
    from mlflow import pyfunc
    from mlflow.models import Model

    model = folder / "model"
    write(bundle, model / "bundle")
    described = Model(signature=signature(bundle), run_id=completed["run_id"])
    pyfunc.add_to_model(described, loader_module="lifecycle.pyfunc", data="bundle")
    described.save(str(model / "MLmodel"))
    pins = bundle.manifest["libraries"]
    lines = [f"{name}=={pins[name]}" if name in pins else name for name in REQUIREMENTS]
    (model / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, content in (("manifest.json", completed), ("metrics.json", metrics)):
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    if plots is not None:
        shutil.copytree(plots, folder / "plots")


def signature(bundle: Bundle) -> "ModelSignature":
    """Inputs: every feature, optional (null = unknown); outputs: what `lifecycle.pyfunc` says."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    answers = []
    for task in sorted(bundle.tasks):
        quantiles = ("p10", "p50", "p90") if bundle.tasks[task].quantiles else ()
        answers += [f"{task}_{name}" for name in ("probability", *quantiles)]
    return ModelSignature(
        inputs=Schema([ColSpec("double", name, required=False) for name in bundle.features]),
        outputs=Schema([ColSpec("double", name) for name in answers]),
    )


def log_numbers(client: "MlflowClient", run_id: str, bundle: Bundle, evidence: "Evidence") -> None:
    """Parameters, numeric metrics (`<task>.<metric>`) and tags of the run."""
    from mlflow.entities import Metric, Param, RunTag

    parameters = flat(bundle.manifest["parameters"]) | {
        key: bundle.manifest[key] for key in ("service", "catalog_hash", "data_hash")
    }
    numbers = {
        key: value
        for key, value in flat(evidence.metrics).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    tags = {"bundle_digest": bundle.digest} | evidence.facts
    client.log_batch(
        run_id,
        metrics=[Metric(key, float(value), 0, 0) for key, value in sorted(numbers.items())][:1000],
        params=[
            Param(key, str(value)[:MOST_CHARACTERS]) for key, value in sorted(parameters.items())
        ],
        tags=[RunTag(key, str(value)) for key, value in sorted(tags.items())],
    )


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by a full stop."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def make_relative(database: Path, folder: Path) -> None:
    """Makes the experiments that keep artifacts in `folder` name it relative to the working folder.

    MLflow only takes absolute local paths, but reads relative ones as relative to the working
    folder; with them the project can be moved. A folder outside the working folder stays absolute.
    """
    relative = os.path.relpath(folder)
    if relative.startswith(os.pardir):
        return
    connection = sqlite3.connect(database)
    try:
        with connection:
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
                (Path(relative).as_posix(), str(folder)),
            )
    finally:
        connection.close()
