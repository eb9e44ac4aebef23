"""Applies the definitions and brings the online store of a profile up to the data's end."""

import contextlib
import io
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from feature_repo.catalog import catalog_hash
from feature_repo.store import REPO, apply, open_store, quiet
from feature_repo.views import STORED
from feature_repo.windows import StaticView, View
from pipelines.features import read_view
from pipelines.stage import run

if TYPE_CHECKING:
    from feast import FeatureStore

EVENT = "event_timestamp"
_AGED = 4  # OUTSIDE_MAX_AGE of Feast's FieldStatus
PROBES = 200  # newest keys of a view that are held against the store


def publish(features: Path, profile: str = "embedded") -> dict[str, Any]:
    """The receipt: {view: {rows, keys, start, end}}; null times where the view has no row.

    rows and keys of the offline source; start and end of its event times. What the store already
    holds is not written again. Raises `QosError` where a view's rows are missing.
    """
    return fill(open_store(profile), features)


def fill(store: "FeatureStore", features: Path) -> dict[str, Any]:
    """`publish` into an opened store."""
    apply(store)
    receipt: dict[str, Any] = {}
    for view in STORED:
        rows = read_view(features, view)
        start, end = _interval(rows) or (None, None)
        receipt[view.name] = {
            "rows": len(rows),
            "keys": rows.select(view.keys).n_unique() if len(rows) else 0,
            "start": start and start.isoformat(),
            "end": end and end.isoformat(),
            "catalog_hash": catalog_hash((view.name,)),
        }
    intervals = source_intervals(features)
    if intervals:
        starts, ends = zip(*intervals.values(), strict=True)
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            store.materialize(min(starts), max(ends), list(intervals))
    return receipt


def source_intervals(features: Path) -> dict[str, tuple[datetime, datetime]]:
    """First and last event time of each view that has rows; raises `QosError` as `publish`."""
    found = {view.name: _interval(read_view(features, view)) for view in STORED}
    return {name: interval for name, interval in found.items() if interval}


def _interval(rows: pl.DataFrame) -> tuple[datetime, datetime] | None:
    return (rows[EVENT].min(), rows[EVENT].max()) if len(rows) else None  # type: ignore[return-value]


def published(features: Path, profile: str, repo: Path = REPO) -> bool:
    """Whether the store of the profile really holds the newest rows of every view."""
    try:
        store = open_store(profile, repo)
        return all(
            holds(store, view, rows) for view in STORED if len(rows := read_view(features, view))
        )
    except Exception:  # an absent or foreign registry raises whatever Feast raises
        return False


def newest(rows: pl.DataFrame, view: View | StaticView) -> pl.DataFrame:
    """The newest row of each key, the latest known of equal ones."""
    return rows.sort(EVENT, "arrival_timestamp", maintain_order=True).unique(
        list(view.keys), keep="last", maintain_order=True
    )


def holds(store: "FeatureStore", view: View | StaticView, rows: pl.DataFrame) -> bool:
    """Whether the store answers with the newest rows, for the keys that changed last.

    A key whose row is past its ttl must bear the row's event time, any other its values.
    """
    probes = newest(rows, view).tail(PROBES)
    names = [feature.name for feature in view.features()]
    with quiet():
        try:
            answer = store.get_online_features(
                features=[f"{view.name}:{name}" for name in names],
                entity_rows=probes.select(view.keys).to_dicts(),
            ).proto
        except Exception:  # the view is not registered, or was never written
            return False
    times = probes[EVENT].dt.epoch("us").to_list()
    return all(
        _holds(vector, probes[name].to_list(), times)
        for name, vector in zip(answer.metadata.feature_names.val, answer.results, strict=True)
        if name in names
    )


def _holds(vector: Any, wanted: list[float | None], times: list[int]) -> bool:
    return all(
        time.ToMicroseconds() == us
        and (status == _AGED or (value.double_val if value.WhichOneof("val") else None) == want)
        for value, status, time, want, us in zip(
            vector.values, vector.statuses, vector.event_timestamps, wanted, times, strict=True
        )
    )


if __name__ == "__main__":
    run(publish)
