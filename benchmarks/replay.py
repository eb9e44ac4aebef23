"""Decisions against an online store that moves on, and their replay from history.

    python -m benchmarks.replay --decisions 1000

A simulated network is materialised step by step; after each step requests are decided by the service's
own path and logged. Then every decision is rebuilt from the log's files, the offline store and the
registered model. At last faults are planted, and the replay must find each: a changed row of the history,
another model, a changed override; a row that arrived after the decisions must change nothing.
"""

import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from rich.console import Console

from benchmarks.replay_world import (
    NAMES,
    World,
    decide,
    live_of,
    moments,
    open_world,
    registered_bundle,
    requests_of,
    small_bundle,
    write_features,
)
from benchmarks.results_file import RESULTS, write_result
from serving.decision_log import DecisionLog, all_decisions
from serving.live import Live
from serving.record import DecisionRecord
from serving.replay import Model, Replayed, registered, replay_all
from serving.vectors import STATUS
from stores.answer import PRESENT

VIEW, FEATURE = "cell_load", "cell_prb_used_ratio_mean_5m"  # where faults are planted


def main(
    decisions: Annotated[int, typer.Option(help="to log and replay")] = 1000,
    steps: Annotated[int, typer.Option(help="states of the online store")] = 20,
    out: Annotated[Path, typer.Option(help="folder of the result")] = RESULTS,
) -> None:
    """Counts the values that a replay gives otherwise than they were decided on; exits with 1 if any."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        measured = measure(Path(scratch), decisions, steps)
    Console().print_json(data=measured)
    print(write_result("replay", measured, out))
    if not good(measured):
        sys.exit("replay: differences, or a planted fault that was not found")


def measure(folder: Path, decisions: int, steps: int) -> dict[str, Any]:
    """The result's keys; see `main`."""
    write_features(folder)
    uri = f"sqlite:///{folder}/registry.db"
    bundle, version = registered_bundle(folder, small_bundle(1), uri)
    other, _ = registered_bundle(folder, small_bundle(2), uri)
    world = open_world(folder)
    live = live_of(world, bundle, version)
    log_decisions(world, live, folder / "log", decisions, steps)
    records = list(all_decisions(folder / "log"))
    begun = time.perf_counter()
    found = replay_all(records, world.store, Model(registered(version, uri)))
    seconds = time.perf_counter() - begun
    return counts(records, found) | {
        "replay_s": round(seconds, 2),
        "planted": planted(world, records, Model(bundle), Model(other)),
    }


def log_decisions(world: World, live: Live, folder: Path, count: int, steps: int) -> None:
    """Fills the store moment by moment; after each, decides a part of the requests into a log."""
    log = DecisionLog(folder, flush_s=0.5)
    for step, until in enumerate(moments(world, steps)):
        world.fill(until)
        share = count // steps + (step < count % steps)
        decide(live, requests_of(world.folder, share, step, until), log)
    log.close()


def counts(records: Sequence[DecisionRecord], found: Sequence[Replayed]) -> dict[str, Any]:
    """Differences over all decisions, and what the decisions rested on."""
    codes: Counter[int] = Counter()
    for one in records:
        codes.update(one.statuses.ravel().tolist())
    return {
        "decisions": len(found),
        "scored": sum(one.scored for one in found),
        "candidates": sum(len(one.cells) for one in records),
        "values": sum(one.vectors.size for one in records),
        "known_values": sum(int(np.isfinite(one.vectors).sum()) for one in records),
        "vector_differences": sum(one.vector_differences for one in found),
        "status_differences": sum(one.status_differences for one in found),
        "score_differences": sum(one.score_differences for one in found),
        "max_score_difference": max((one.max_score_difference for one in found), default=0.0),
        "lost": sum(len(one.lost) for one in found),
        "behind": sum(one.behind for one in found),
        "with_overrides": sum(bool(one.overrides) for one in records),
        "statuses": {STATUS[code]: number for code, number in sorted(codes.items())},
    }


def planted(
    world: World, records: list[DecisionRecord], model: Model, other: Model
) -> dict[str, dict[str, int]]:
    """Per fault how many decisions it touches, and how many the replay says are not identical."""
    found = {}
    some = [one for one in records if one.scored][:100]
    strange = replay_all(some, world.store, other)
    found["other_model"] = _found(len(some), strange)
    with_overrides = [one for one in records if one.scored and one.overrides]
    changed = [
        replace(one, overrides={name: value + 1e-9 for name, value in one.overrides.items()})
        for one in with_overrides
    ]
    found["changed_override"] = _found(len(changed), replay_all(changed, world.store, model))
    touched = plant_late_row(world, records)
    late = replay_all(touched, world.store, model)
    found["late_row"] = _found(0, late) | {"resting_on_it": len(touched)}
    touched = plant_changed_row(world, records)
    found["changed_row"] = _found(len(touched), replay_all(records, world.store, model))
    return found


def _found(touched: int, replayed: Sequence[Replayed]) -> dict[str, int]:
    return {"touched": touched, "found": sum(not one.identical for one in replayed)}


def plant_changed_row(world: World, records: Sequence[DecisionRecord]) -> list[DecisionRecord]:
    """Changes one value of the history by the least; returns the decisions that rested on it."""
    cell, at = _used_row(records)
    here = (pl.col("cell_id") == cell) & (pl.col("event_timestamp").dt.epoch("us") == at)
    value = pl.col(FEATURE)
    for path in (world.folder / "data" / "features" / VIEW).rglob("*.parquet"):
        rows = pl.read_parquet(path)
        if rows.filter(here).is_empty():
            continue
        nudged = value.map_elements(lambda one: float(np.nextafter(one, 2)), pl.Float64)
        rows.with_columns(pl.when(here).then(nudged).otherwise(value).alias(FEATURE)).write_parquet(
            path
        )
    return _resting_on(records, cell, at)


def plant_late_row(world: World, records: Sequence[DecisionRecord]) -> list[DecisionRecord]:
    """Adds another row of the same key and event that arrives after all decisions."""
    cell, at = _used_row(records)
    here = (pl.col("cell_id") == cell) & (pl.col("event_timestamp").dt.epoch("us") == at)
    folder = world.folder / "data" / "features" / VIEW
    row = pl.read_parquet(folder / "**" / "*.parquet").filter(here).head(1)
    after = max(one.decided_us for one in records) + 1
    late = pl.lit(after).cast(pl.Datetime("us", "UTC")) + timedelta(seconds=1)
    row.with_columns(late.alias("arrival_timestamp"), pl.col(FEATURE) / 2).write_parquet(
        folder / "late.parquet"
    )
    return _resting_on(records, cell, at)


def _used_row(records: Sequence[DecisionRecord]) -> tuple[str, int]:
    """Cell and event time of the row that most decisions saw the feature of."""
    used = Counter(
        (one.cells[row], int(one.event_us[row, one.views.index(VIEW)]))
        for one in records
        for row in range(len(one.vectors))
        if one.statuses[row, _place()] == PRESENT and np.isfinite(one.vectors[row, _place()])
    )
    return used.most_common(1)[0][0]


def _resting_on(records: Sequence[DecisionRecord], cell: str, at: int) -> list[DecisionRecord]:
    return [
        one
        for one in records
        if one.scored
        and any(
            name == cell
            and one.event_us[row, one.views.index(VIEW)] == at
            and one.statuses[row, _place()] == PRESENT
            for row, name in enumerate(one.cells)
        )
    ]


def _place() -> int:
    return NAMES.index(FEATURE)


def good(measured: dict[str, Any]) -> bool:
    """Nothing differs, and every planted fault is found, in the decisions that it touches and no other."""
    clean = ("vector_differences", "status_differences", "score_differences", "lost")
    return (
        all(measured[name] == 0 for name in clean)
        and measured["max_score_difference"] == 0
        and all(one["touched"] == one["found"] for one in measured["planted"].values())
        and measured["planted"]["changed_row"]["touched"] > 0
    )


if __name__ == "__main__":
    typer.run(main)
