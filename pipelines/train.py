"""Stage `train`: fits every task of the frame on its earlier sessions and hands over a bundle."""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lifecycle.bundles import write_files
from models.bundle import Bundle, bundle_of, to_files
from models.forecaster import Rows, Settings, TaskModel, fit_task
from models.search import search
from models.split import Split, part_of_rows, split_sessions
from pipelines.stage import run
from schemas.errors import QosError, listed

SERVICE = "qos_v1"
FAMILIAR_ROWS = 500  # a cell with as many train rows is familiar, with fewer rare, else new
LIBRARIES = ("lightgbm", "numpy", "polars", "scikit-learn")
LEAST_ROWS = 50  # of each class in train, and at least one of each in dev


@dataclass(frozen=True)
class Params:
    """shares: of the rows in train, dev, test; trials: of the Optuna search, 0 = none;
    tasks: which to learn, empty = all that the frame has."""

    shares: tuple[float, ...] = (0.5, 0.2, 0.3)
    seed: int = 7
    trials: int = 0
    tasks: tuple[str, ...] = ()
    forecaster: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class BundleFolder:
    """A bundle that `run` writes as a folder."""

    bundle: Bundle

    def write(self, path: Path) -> None:
        """Writes the bundle's files below `path`."""
        write_files(to_files(self.bundle), path)


def train(frame: pl.DataFrame, services: Path, params: Params) -> BundleFolder:
    """A bundle with one forecast a task: classifier, band if it has values, radio-only twin.

    frame: the labels' columns and the service's features (Float64, null = unknown). Each task is
    split by its own sessions: tasks have other rows, and a cut that suits one starves another.
    Raises `QosError` when a feature is missing, a task lacks a class or its sessions cannot be
    parted in time.
    """
    service = read_service(services)
    check_columns(frame, service["features"])
    parted = {task: _parted(frame, task, params.shares) for task in _tasks(frame, params)}
    rows = {task: _rows(part, service["features"]) for task, (_, part) in parted.items()}
    settings = params.forecaster
    if params.trials:
        settings = search(
            list(rows.values()),
            service["features"],
            settings,
            params.trials,
            params.seed,
        )
    fitted = {
        task: fit_task(rows[task], service["features"], service["radio"], settings, params.seed)
        for task in rows
    }
    manifest = _manifest(frame, service, params, settings)
    manifest["tasks"] = {task: _about(*parted[task], model) for task, model in fitted.items()}
    return BundleFolder(bundle_of(manifest, fitted))


def read_service(path: Path) -> dict[str, Any]:
    """features (in order), radio (some of them), catalog_hash of the service; raises `QosError`."""
    try:
        service = json.loads(path.read_text(encoding="utf-8"))[SERVICE]
        found = {name: service[name] for name in ("features", "radio", "catalog_hash")}
    except FileNotFoundError:
        raise QosError(f"{path}: not found; `feast apply` writes the services' columns") from None
    except (ValueError, KeyError, TypeError) as error:
        raise QosError(
            f"{path}: not a list of services with {SERVICE!r}: features, radio, catalog_hash "
            f"({type(error).__name__}: {error})"
        ) from None
    if unknown := [name for name in found["radio"] if name not in set(found["features"])]:
        raise QosError(f"{path}: radio names {listed(unknown)}, which {SERVICE!r} does not have")
    return found


def check_columns(frame: pl.DataFrame, features: list[str]) -> None:
    """Raises `QosError` if the frame is empty or lacks a feature."""
    if missing := [name for name in features if name not in frame.columns]:
        raise QosError(
            f"frame: {len(missing)} of {len(features)} features are missing: {listed(missing)}; "
            f"`dvc repro assemble` makes the frame anew"
        )
    if frame.is_empty():
        raise QosError("frame: 0 rows; nothing can be learned or judged")


def matrix(frame: pl.DataFrame, features: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The features as float64, one column each in the given order, null as NaN."""
    return np.ascontiguousarray(
        frame.select(
            pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in features
        ).to_numpy()
    )


def content_hash(frame: pl.DataFrame) -> str:
    """SHA-256 of the columns' names, types and values in their order; row order counts."""
    total = hashlib.sha256()
    for column in frame.iter_columns():
        total.update(f"{column.name}:{column.dtype}:{column.null_count()};".encode())
        if column.dtype == pl.String:
            total.update("\x1f".join(column.fill_null("\x00")).encode())
        else:
            plain = column.to_physical()
            total.update(plain.is_null().to_numpy().tobytes())
            total.update(plain.fill_null(strategy="zero").to_numpy().tobytes())
    return total.hexdigest()


def _tasks(frame: pl.DataFrame, params: Params) -> list[str]:
    """The tasks to learn, sorted; raises `QosError` for one that the frame does not have."""
    present = sorted(frame["task"].unique().to_list())
    if unknown := set(params.tasks) - set(present):
        raise QosError(f"train.tasks: {listed(sorted(unknown))} not in the frame; it has {present}")
    return sorted(params.tasks) or present


def _parted(
    frame: pl.DataFrame, task: str, shares: tuple[float, ...]
) -> tuple[Split, pl.DataFrame]:
    """The task's split, and its rows with the column `part`; raises `QosError` for a missing class."""
    rows = frame.filter(pl.col("task") == task)
    try:
        split = split_sessions(rows, shares)
    except QosError as error:
        raise QosError(f"train: task {task!r}: {error}") from None
    rows = rows.with_columns(part_of_rows(rows, split).alias("part"))
    counts = {
        (part, label): count
        for part, label, count in rows.group_by("part", "label").len().iter_rows()
    }
    for part, least in (("train", LEAST_ROWS), ("dev", 1)):
        for label in (0, 1):
            if (found := counts.get((part, label), 0)) < least:
                raise QosError(
                    f"train: task {task!r} has {found} rows of label {label} in {part}; it takes at "
                    f"least {least}; name the tasks that can be learned in train.tasks"
                )
    return split, rows


def _rows(of_task: pl.DataFrame, features: list[str]) -> Rows:
    chosen = of_task.filter(pl.col("part").is_in(["train", "dev"])).sort(
        "event_timestamp", "session_id", "ue_id", "five_qi"
    )
    sessions = chosen["session_id"].rank("dense").cast(pl.Int64).to_numpy()
    value = chosen["label_value"].cast(pl.Float64)
    known = chosen.filter(pl.col("label_value").is_not_null()).group_by("part").len()
    enough = dict(known.iter_rows()).get("train", 0) >= LEAST_ROWS and len(known) == 2
    return Rows(
        features=matrix(chosen, features),
        label=chosen["label"].cast(pl.Int64).to_numpy(),
        session=sessions,
        dev=(chosen["part"] == "dev").to_numpy(),
        value=None if not enough else value.fill_null(float("nan")).to_numpy(),
    )


def _manifest(
    frame: pl.DataFrame,
    service: dict[str, Any],
    params: Params,
    settings: Settings,
) -> dict[str, Any]:
    return {
        "service": SERVICE,
        "features": service["features"],
        "radio": service["radio"],
        "dtypes": {name: str(frame[name].dtype) for name in service["features"]},
        "catalog_hash": service["catalog_hash"],
        "data_hash": content_hash(frame),
        "parameters": json.loads(json.dumps(asdict(params))),
        "settings": asdict(settings),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def _about(split: Split, of_task: pl.DataFrame, model: TaskModel) -> dict[str, Any]:
    """The task's split, its counts by part, the cells that train saw and how it was fitted."""
    by_part = {
        str(part): {"rows": rows, "positives": positives, "sessions": sessions}
        for part, rows, positives, sessions in of_task.group_by("part")
        .agg(
            pl.len(),
            pl.col("label").sum().cast(pl.Int64),
            pl.col("session_id").n_unique(),
        )
        .drop_nulls("part")
        .sort("part")
        .iter_rows()
    }
    train_part = by_part["train"]
    return {
        "split": {
            "unit": split.unit,
            "dev_from": split.dev_from.isoformat(),
            "test_from": split.test_from.isoformat(),
            "left_out": split.left_out,
            "train": list(split.train),
            "dev": list(split.dev),
            "test": list(split.test),
        },
        "cells": _cells(of_task),
        "parts": by_part,
        "class_rate": train_part["positives"] / train_part["rows"],
        "band": bool(model.quantiles),
        "fitted": model.fitted,
    }


def _cells(of_task: pl.DataFrame) -> dict[str, list[str]]:
    """Cells that train has seen: often (`familiar`) or seldom (`rare`)."""
    seen = (
        of_task.filter((pl.col("part") == "train") & pl.col("cell_id").is_not_null())
        .group_by("cell_id")
        .len()
    )
    often = pl.col("len") >= FAMILIAR_ROWS
    return {
        "familiar": sorted(seen.filter(often)["cell_id"]),
        "rare": sorted(seen.filter(~often)["cell_id"]),
    }


if __name__ == "__main__":
    run(train)
