"""Replay by truncation: cut the data at a decision, compute again, and every value must be equal."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from feature_repo import compute
from feature_repo.services import Service
from feature_repo.windows import OnDemandView, StaticView, View

EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"
WORLD = "_world"
_WORLDS_AT_ONCE = 50
_RELATIVE = 1e-9  # the order of a sum differs when a late row is cut off


@dataclass(frozen=True)
class Difference:
    """One value that is another one when the data end at its decision."""

    feature: str
    keys: dict[str, Any]
    decision: datetime
    frame: float | None
    replayed: float | None

    def __str__(self) -> str:
        return (
            f"{self.feature} at {self.decision.isoformat()} for {self.keys}: "
            f"{self.frame} in the frame, {self.replayed} replayed"
        )


@dataclass(frozen=True)
class Truncation:
    """What the replay found."""

    rows: int
    columns: int
    values: int
    differences: list[Difference]

    def metrics(self) -> dict[str, object]:
        """The stable keys of data/metrics/truncation.json."""
        return {
            "rows": self.rows,
            "columns": self.columns,
            "values": self.values,
            "differences": len(self.differences),
        }


def replay(
    frame: pl.DataFrame,
    tables: dict[str, pl.DataFrame],
    service: Service,
    rows: int,
    seed: int,
) -> Truncation:
    """Recomputes a sample of the frame from tables cut by arrival at each row's decision time."""
    sample = frame.sample(min(rows, len(frame)), seed=seed, shuffle=True)
    stored = [view for view in service.members() if not isinstance(view, OnDemandView)]
    names = [feature.name for view in stored for feature in view.features()]
    differences = []
    for view in stored:
        replayed = _as_known(view, tables, sample.with_row_index(WORLD))
        for feature in view.features():
            pairs = zip(sample[feature.name], replayed[feature.name], strict=True)
            differences += [
                Difference(
                    feature.name,
                    {key: sample[key][row] for key in view.keys},
                    sample[EVENT][row],
                    one,
                    other,
                )
                for row, (one, other) in enumerate(pairs)
                if not _equal(one, other)
            ]
    return Truncation(len(sample), len(names), len(sample) * len(names), differences)


def _as_known(
    view: View | StaticView, tables: dict[str, pl.DataFrame], decisions: pl.DataFrame
) -> pl.DataFrame:
    """A row a decision: the view's newest features within its ttl, from what had arrived by then.

    Each decision is a world of its own, told apart by one more key, that holds no later row.
    """
    names = [feature.name for feature in view.features()]
    if isinstance(view, StaticView):
        asked = decisions.select(view.keys)
        return asked.join(view.rows(), on=view.keys, how="left", maintain_order="left").select(
            names
        )
    parts = [_as_known_part(view, tables, part) for part in decisions.iter_slices(_WORLDS_AT_ONCE)]
    found = pl.concat(parts)
    return decisions.join(
        found, on=WORLD, how="left", maintain_order="left", suffix="_replayed"
    ).select(pl.col(f"{name}_replayed").alias(name) for name in names)


def _as_known_part(
    view: View, tables: dict[str, pl.DataFrame], decisions: pl.DataFrame
) -> pl.DataFrame:
    keys = list(view.keys)
    asked = decisions.select(WORLD, *keys, pl.col(EVENT).alias("_decision"))
    reach = view.ttl + max(window.length for window in view.windows)
    cut = {
        name: asked.join(tables[name], on=keys).filter(
            pl.col(ARRIVAL) <= pl.col("_decision"),
            pl.col(EVENT) > pl.col("_decision") - reach - reach,
        )
        for name in {view.table, view.clock_table}
    }
    apart = dataclasses.replace(view, keys=(WORLD, *keys))
    known = compute.features(cut[view.table], cut[view.clock_table], apart)
    return (
        known.join(asked.select(WORLD, "_decision"), on=WORLD)
        .filter(pl.col(ARRIVAL) <= pl.col("_decision"))
        .filter(pl.col(EVENT) >= pl.col("_decision") - view.ttl)
        .sort(WORLD, EVENT, ARRIVAL)
        .unique(WORLD, keep="last", maintain_order=True)
        .select(WORLD, *(feature.name for feature in view.features()))
    )


def _equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is None and other is None
    return bool(np.isclose(one, other, rtol=_RELATIVE, atol=_RELATIVE))
