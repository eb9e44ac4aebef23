"""One side of the point-in-time benchmark, in a process of its own: `python -m benchmarks.pit_side`."""

import json
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.pit_data import FEATURES, TTL, VIEWS
from benchmarks.results_file import peak_gb

NAMES = [f"f{view}_{i}" for view in range(VIEWS) for i in range(FEATURES)]


def main(side: str, folder: Path) -> None:
    """Prints {seconds, peak_gb, check} of the join; check: count and sum of each column, rounded."""
    warnings.simplefilter("ignore")
    run = {"ours": _feast, "feast_duckdb": _feast, "polars": _polars, "duckdb": _duckdb}[side]
    prepared = _store(side, folder) if run is _feast else folder
    started = time.perf_counter()
    found = run(prepared, folder)
    seconds = time.perf_counter() - started
    check = [[found[name].count(), round(float(found[name].sum()), 3)] for name in NAMES]
    print(json.dumps({"seconds": seconds, "peak_gb": peak_gb(), "check": check}))


def _store(side: str, folder: Path) -> Any:
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.repo_config import RepoConfig
    from feast.types import Float64, Int64, String

    offline = {"type": {"ours": "stores.asof.AsofOfflineStore", "feast_duckdb": "duckdb"}[side]}
    if (limit := folder / "memory_limit").exists():
        offline["memory_limit"] = limit.read_text(encoding="utf-8")
    ttl = timedelta(0) if (folder / "ttl_s").exists() else TTL
    keys = pl.read_parquet_schema(folder / "entities.parquet")
    config = RepoConfig(
        project="pit", provider="local", registry=str(folder / f"{side}.db"), repo_path=folder,
        offline_store=offline, online_store={"type": "sqlite", "path": str(folder / "o.db")},
        entity_key_serialization_version=3,
    )  # fmt: skip
    store = FeatureStore(repo_path=str(folder), config=config)
    entities = [Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)]
    fields = [Field(name="key", dtype=Int64)]
    if "part" in keys:
        entities.append(Entity(name="part", join_keys=["part"], value_type=ValueType.STRING))
        fields.append(Field(name="part", dtype=String))
    views = [
        FeatureView(
            name=f"view_{number}", entities=entities, ttl=ttl,
            source=FileSource(
                name=f"source_{number}", path=str(folder / f"view_{number}.parquet"),
                timestamp_field="event", created_timestamp_column="created",
            ),
            schema=[
                *fields,
                *(Field(name=f"f{number}_{i}", dtype=Float64) for i in range(FEATURES)),
            ],
        )
        for number in range(VIEWS)
    ]  # fmt: skip
    store.apply([*entities, *views])
    return store


def _feast(store: Any, folder: Path) -> pl.DataFrame:
    asked = pl.read_parquet(folder / "entities.parquet").to_pandas()
    names = [f"view_{number}:f{number}_{i}" for number in range(VIEWS) for i in range(FEATURES)]
    found = pl.from_arrow(store.get_historical_features(asked, features=names).to_arrow())
    assert isinstance(found, pl.DataFrame)
    return found


def _polars(_: Any, folder: Path) -> pl.DataFrame:
    asked = (
        pl.read_parquet(folder / "entities.parquet").with_row_index("row").sort("event_timestamp")
    )
    for number in range(VIEWS):
        rows = pl.read_parquet(folder / f"view_{number}.parquet").drop("created").sort("event")
        asked = asked.join_asof(
            rows, left_on="event_timestamp", right_on="event", by="key", tolerance=TTL,
            check_sortedness=False,
        )  # fmt: skip
        asked = asked.drop("event", strict=False)
    return asked.sort("row")


def _duckdb(_: Any, folder: Path) -> pl.DataFrame:
    import duckdb

    joins, names = [], []
    for number in range(VIEWS):
        joins.append(
            f"ASOF LEFT JOIN '{folder}/view_{number}.parquet' v{number} ON e.key = v{number}.key "
            f"AND e.event_timestamp >= v{number}.event"
        )
        names += [
            f"CASE WHEN v{number}.event >= e.event_timestamp - INTERVAL 2 HOUR "
            f"THEN v{number}.f{number}_{i} END AS f{number}_{i}"
            for i in range(FEATURES)
        ]
    query = (
        f"SELECT e.*, {', '.join(names)} FROM (SELECT *, row_number() OVER () AS row FROM "
        f"'{folder}/entities.parquet') e {' '.join(joins)} ORDER BY row"
    )
    relation = duckdb.sql(query)
    assert relation is not None
    found = relation.pl()
    assert isinstance(found, pl.DataFrame)
    return found


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
