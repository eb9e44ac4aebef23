"""Applies the definitions and brings the online store of a profile up to the data's end."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from feature_repo.catalog import catalog_hash
from feature_repo.store import apply, open_store, quiet
from feature_repo.views import STORED
from feature_repo.windows import StaticView, View
from pipelines.stage import run
from schemas.errors import QosError

if TYPE_CHECKING:
    from feast import FeatureStore

EVENT = "event_timestamp"
PROBES = 200  # newest keys of a view that are held against the store


def publish(features: Path, profile: str = "embedded") -> dict[str, Any]:
    """The receipt: {view: {rows, keys, start, end}}; null times where the view has no row.

    rows and keys of the offline source; start and end of its event times. What the store already
    holds is not written again. Raises `QosError` where a view's rows are missing.
    """
    store = open_store(profile)
    apply(store)
    receipt: dict[str, Any] = {}
    for view in STORED:
        rows = read_view(features, view)
        if len(rows) and not holds(store, view, rows):
            with quiet():
                store.materialize(rows[EVENT].min(), rows[EVENT].max(), [view.name])  # type: ignore[arg-type]
        receipt[view.name] = {
            "rows": len(rows),
            "keys": rows.select(view.keys).n_unique() if len(rows) else 0,
            "start": rows[EVENT].min().isoformat() if len(rows) else None,  # type: ignore[union-attr]
            "end": rows[EVENT].max().isoformat() if len(rows) else None,  # type: ignore[union-attr]
            "catalog_hash": catalog_hash((view.name,)),
        }
    return receipt


def published(features: Path, profile: str) -> bool:
    """Whether the store of the profile really holds the newest rows of every view."""
    try:
        store = open_store(profile)
        return all(
            holds(store, view, rows) for view in STORED if len(rows := read_view(features, view))
        )
    except Exception:  # an absent or foreign registry raises whatever Feast raises
        return False


def read_view(features: Path, view: View | StaticView) -> pl.DataFrame:
    """All feature rows of one view; raises `QosError` where its folder is missing."""
    folder = features / view.name
    if not folder.is_dir():
        raise QosError(f"{folder}: not found; `dvc repro aggregate` makes it")
    return pl.read_parquet(folder / "**" / "*.parquet", hive_partitioning=False)


def newest(rows: pl.DataFrame, view: View | StaticView) -> pl.DataFrame:
    """The newest row of each key, the latest known of equal ones."""
    return rows.sort(EVENT, "arrival_timestamp", maintain_order=True).unique(
        list(view.keys), keep="last", maintain_order=True
    )


def holds(store: "FeatureStore", view: View | StaticView, rows: pl.DataFrame) -> bool:
    """Whether the store answers with the newest rows' values, for the keys that changed last."""
    probes = newest(rows, view).tail(PROBES)
    names = [feature.name for feature in view.features()]
    with quiet():
        try:
            answer = store.get_online_features(
                features=[f"{view.name}:{name}" for name in names],
                entity_rows=probes.select(view.keys).to_dicts(),
            ).to_dict()
        except Exception:  # the view is not registered, or was never written
            return False
    return all(
        _same(value, wanted)
        for name in names
        for value, wanted in zip(answer[name], probes[name].to_list(), strict=True)
    )


def _same(value: float | None, wanted: float | None) -> bool:
    if value is None or wanted is None:
        return value is None and wanted is None
    return value == wanted or (math.isnan(value) and math.isnan(wanted))


if __name__ == "__main__":
    run(publish)
