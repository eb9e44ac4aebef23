"""Replay by truncation: cut the data at a decision, compute again, and every value must be equal."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from feature_repo import compute
from feature_repo.services import Service
from feature_repo.windows import OnDemandView, StaticView, View

EVENT, ARRIVAL = "event_timestamp", "arrival_timestamp"
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
    for row in sample.iter_rows(named=True):
        for view in stored:
            values = _as_known(view, tables, row)
            for feature in view.features():
                if not _equal(row[feature.name], values.get(feature.name)):
                    differences.append(
                        Difference(
                            feature.name,
                            {key: row[key] for key in view.keys},
                            row[EVENT],
                            row[feature.name],
                            values.get(feature.name),
                        )
                    )
    return Truncation(len(sample), len(names), len(sample) * len(names), differences)


def _as_known(
    view: View | StaticView, tables: dict[str, pl.DataFrame], row: dict[str, Any]
) -> dict[str, Any]:
    """The view's newest features within its ttl, computed from what had arrived by the decision."""
    if any(row[key] is None for key in view.keys):
        return {}
    if isinstance(view, StaticView):
        found = view.rows().filter(pl.col(key) == row[key] for key in view.keys)
        return found.row(0, named=True) if len(found) else {}
    reach = view.ttl + max(window.length for window in view.windows)
    near = [
        tables[name].filter(
            *(pl.col(key) == row[key] for key in view.keys),
            pl.col(ARRIVAL) <= row[EVENT],
            pl.col(EVENT) > row[EVENT] - reach - reach,
        )
        for name in (view.table, view.clock_table)
    ]
    known = compute.features(near[0], near[1], view).filter(
        pl.col(ARRIVAL) <= row[EVENT], pl.col(EVENT) >= row[EVENT] - view.ttl
    )
    return known.sort(EVENT, ARRIVAL).row(-1, named=True) if len(known) else {}


def _equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is None and other is None
    return bool(np.isclose(one, other, rtol=_RELATIVE, atol=_RELATIVE))
