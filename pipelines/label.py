"""Looks forward from each decision time; whatever sees the future is called label_."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipelines.stage import read_table, run
from pipelines.tasks import COLUMNS, TASKS, Handover, LatencyLoss, QosMet, Throughput
from schemas.errors import QosError
from schemas.tables import TABLES


@dataclass(frozen=True)
class Params:
    """tasks: which to try; a source whose data do not support a task yields no rows of it."""

    tasks: tuple[str, ...] = ("throughput", "handover", "latency_loss", "qos_met")
    min_rows: int = 500  # fewer labelled decisions are no task, and the metrics say so
    throughput: Throughput = field(default_factory=Throughput)
    handover: Handover = field(default_factory=Handover)
    latency_loss: LatencyLoss = field(default_factory=LatencyLoss)
    qos_met: QosMet = field(default_factory=QosMet)


class Result(NamedTuple):
    """labels: one row a decision (columns of `tasks.COLUMNS`); metrics: rows and positives a task."""

    labels: pl.DataFrame
    metrics: dict[str, object]


def label(admitted: Path, params: Params) -> Result:
    """The labelled decisions of every task that the admitted tables support."""
    if unknown := [task for task in params.tasks if task not in TASKS]:
        raise QosError(f"params.yaml: label.tasks: unknown {unknown}; known: {list(TASKS)}")
    tables = {name: read_table(admitted / f"{name}.parquet") for name in TABLES}
    labelled: list[pl.DataFrame] = []
    metrics: dict[str, object] = {}
    for task in params.tasks:
        found = TASKS[task](tables, getattr(params, task))
        enough = len(found.rows) >= params.min_rows and found.rows["label"].n_unique() == 2
        metrics[task] = {
            "decisions": len(found.rows),
            "left_out": found.left_out,
            "positives": int(found.rows["label"].sum()) if len(found.rows) else 0,
            "used": enough,
        }
        if enough:
            labelled.append(found.rows)
    if not labelled:
        raise QosError(
            f"{admitted}: no task has {params.min_rows} labelled decisions of both kinds: {metrics}"
        )
    return Result(pl.concat(labelled).select(*COLUMNS), metrics)


if __name__ == "__main__":
    run(label)
