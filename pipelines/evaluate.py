"""Stage `evaluate`: judges a bundle on unseen sessions, beside persistence and the class rate."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lifecycle.bundles import load, write_files
from models.bundle import Bundle, check_features
from models.metrics import Judged, judge, of_group
from pipelines.plots import figures
from pipelines.stage import run
from pipelines.train import check_columns, content_hash, matrix, read_service
from schemas.errors import QosError


@dataclass(frozen=True)
class Params:
    """resamples: of whole sessions for the 95 % intervals."""

    resamples: int = 1000
    seed: int = 7


@dataclass(frozen=True)
class PlotFolder:
    """Pictures (PNG) and the same data as JSON for `dvc plots`, by file name."""

    files: dict[str, bytes]

    def write(self, path: Path) -> None:
        """Writes the plots below `path`."""
        write_files(self.files, path)


class Evaluation(NamedTuple):
    """Metrics by task (keys in docs) and the plots folder."""

    metrics: dict[str, Any]
    plots: PlotFolder


def evaluate(frame: pl.DataFrame, bundle: Path, services: Path, params: Params) -> Evaluation:
    """Metrics with 95 % intervals by session, and plots, of the bundle on the frame's unseen rows.

    On the frame of training these are the rows of the test part; on any other frame the rows of
    sessions that are in no part of the bundle's training. A metric that is undefined is None, its
    `reasons` entry says why. Raises `QosError` when there is nothing to judge, a feature is missing
    or the catalog is another one than in training.
    """
    return judge_bundle(load(bundle), frame, read_service(services)["catalog_hash"], params)


def judge_bundle(
    bundle: Bundle, frame: pl.DataFrame, catalog_hash: str | None, params: Params
) -> Evaluation:
    """As `evaluate`, for a bundle that is already in memory, from wherever it came."""
    check_features(bundle, frame.columns, catalog_hash)
    check_columns(frame, bundle.features)
    same_frame = content_hash(frame) == bundle.manifest["data_hash"]
    metrics: dict[str, Any] = {}
    rows_of: dict[str, Judged] = {}
    shown: dict[str, pl.DataFrame] = {}
    for task in sorted(bundle.tasks):
        rows = _unseen(bundle, task, frame, same_frame=same_frame).sort(
            "event_timestamp", "session_id", "ue_id", "five_qi"
        )
        if rows.is_empty():
            continue
        rows_of[task], shown[task] = _judged(bundle, task, rows), rows
        metrics[task] = (
            judge(rows_of[task], params.resamples, params.seed)
            | _groups(bundle, task, rows, rows_of[task])
            | _provenance(bundle, task, "test part" if same_frame else "another frame")
        )
    if not metrics:
        raise QosError(
            f"evaluate: none of {frame.height} rows is an unseen one of a task of the bundle; it "
            f"knows {sorted(bundle.tasks)}, the frame has {sorted(frame['task'].unique())}"
        )
    json.dumps(metrics, allow_nan=False)  # no NaN may pose as a number
    return Evaluation(metrics, PlotFolder(figures(bundle, rows_of, shown, metrics)))


def _unseen(bundle: Bundle, task: str, frame: pl.DataFrame, *, same_frame: bool) -> pl.DataFrame:
    """The task's rows that may be judged."""
    split = bundle.manifest["tasks"][task]["split"]
    session = pl.col("session_id")
    rows = frame.filter(pl.col("task") == task)
    if same_frame:
        later = pl.col("event_timestamp") >= pl.lit(split["test_from"]).str.to_datetime(
            time_unit="us", time_zone="UTC"
        )
        return rows.filter(session.is_in(split["test"]) & later)
    return rows.filter(~session.is_in([*split["train"], *split["dev"]]))


def _judged(bundle: Bundle, task: str, rows: pl.DataFrame) -> Judged:
    features = matrix(rows, bundle.features)
    probability, band = bundle.predict(task, features)
    value = rows["label_value"].cast(pl.Float64)
    has_value = band is not None and value.null_count() < len(value)
    return Judged(
        label=rows["label"].cast(pl.Int64).to_numpy(),
        session=(rows["session_id"].rank("dense").cast(pl.Int64) - 1).to_numpy(),
        probability=probability,
        radio=bundle.forecasts[task].radio_score(matrix(rows, bundle.radio)),
        persistence=_floats(rows["persistence_score"]),
        class_rate=bundle.manifest["tasks"][task]["class_rate"],
        value=_floats(value) if has_value else None,
        band=band if has_value else None,
        persistence_value=_floats(rows["persistence_value"]) if has_value else None,
    )


def _floats(column: pl.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _groups(bundle: Bundle, task: str, rows: pl.DataFrame, judged: Judged) -> dict[str, Any]:
    """Metrics by 5QI and by how well train knew the serving cell."""
    five_qi = rows["five_qi"].cast(pl.String).fill_null("unknown").to_numpy()
    cells = bundle.manifest["tasks"][task]["cells"]
    cell = pl.col("cell_id")
    group = rows.select(
        pl.when(cell.is_null())
        .then(pl.lit("unknown"))
        .when(cell.is_in(cells["familiar"]))
        .then(pl.lit("familiar"))
        .when(cell.is_in(cells["rare"]))
        .then(pl.lit("rare"))
        .otherwise(pl.lit("new"))
        .alias("group")
    )["group"].to_numpy()
    return {
        "by_five_qi": {str(name): of_group(judged, five_qi == name) for name in np.unique(five_qi)},
        "by_cell_group": {str(name): of_group(judged, group == name) for name in np.unique(group)},
    }


def _provenance(bundle: Bundle, task: str, judged_on: str) -> dict[str, Any]:
    parts = bundle.manifest["tasks"][task]["parts"]
    return {
        "judged_on": judged_on,
        "bundle": bundle.digest,
        "train_rows": parts["train"]["rows"],
        "dev_rows": parts["dev"]["rows"],
        "train_sessions": parts["train"]["sessions"],
    }


if __name__ == "__main__":
    run(evaluate)
