"""What `publish` leaves in the online store, against the offline store at the same instant."""

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from feast import FeatureStore, FeatureView

from feature_repo.services import SERVICES
from feature_repo.store import open_store, quiet
from feature_repo.views import STORED
from pipelines.features import read_view
from pipelines.publish import fill, newest, published
from stores.times import from_micros
from tests.conftest import World

PRESENT, NOT_FOUND, OUTSIDE_MAX_AGE = 1, 3, 4  # Feast's FieldStatus
ASKED = {"requested_downlink_mbps": 10.0, "requested_delay_ms": 50.0, "requested_loss_ratio": 0.01}
QOS = SERVICES[0]


@pytest.fixture(scope="module", params=["at the end", "amid a session"])
def filled(
    request: pytest.FixtureRequest, small_world: World, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    """A store that holds all that was known at one instant."""
    folder = tmp_path_factory.mktemp("filled")
    features = folder / "data" / "features"
    shutil.copytree(small_world.features, features)
    if request.param != "at the end":
        _forget(features, _amid(small_world))
    repo = folder / "feature_repo"
    repo.mkdir()
    store = open_store(repo=repo)
    fill(store, features)
    return store


def _amid(world: World) -> datetime:
    """The instant at which half of all radio rows had arrived."""
    arrivals = world.table("ue_radio")["arrival_timestamp"].sort()
    found = arrivals[len(arrivals) // 2]
    assert isinstance(found, datetime)
    return found


def _forget(features: Path, instant: datetime) -> None:
    """Leaves the feature rows that were known at the instant."""
    for path in features.rglob("*.parquet"):
        rows = pl.read_parquet(path, hive_partitioning=False)
        rows.filter(pl.col("arrival_timestamp") <= instant).write_parquet(path)


def _entities(world: World) -> pl.DataFrame:
    """Every UE in every cell that it was seen in, with every 5QI that it used."""
    radio = world.table("ue_radio").select("ue_id", "cell_id").unique().drop_nulls()
    flows = world.table("ue_flow").select("ue_id", "five_qi").unique()
    return radio.join(flows, on="ue_id").sort(pl.all())


def _clock(store: FeatureStore) -> datetime:
    path = store.config.online_store.path
    with sqlite3.connect(store.repo_path / path) as connection:
        ((us,),) = connection.execute("SELECT us FROM newest_row")
    return from_micros(us)


def _online(store: FeatureStore, entities: pl.DataFrame) -> pl.DataFrame:
    rows = [row | ASKED for row in entities.to_dicts()]
    with quiet():
        answer = store.get_online_features(store.get_feature_service(QOS.name), entity_rows=rows)
    found = pl.DataFrame(answer.to_dict(), strict=False)
    return found.select(pl.col(f.name).cast(pl.Float64) for f in QOS.features())


def _offline(store: FeatureStore, entities: pl.DataFrame) -> pl.DataFrame:
    asked = entities.with_columns(
        pl.lit(_clock(store), pl.Datetime("us", "UTC")).alias("event_timestamp"),
        *(pl.lit(v).alias(n) for n, v in ASKED.items()),
    )
    with quiet():
        job = store.get_historical_features(asked.to_pandas(), store.get_feature_service(QOS.name))
    found = pl.from_arrow(job.to_arrow())
    assert isinstance(found, pl.DataFrame)
    return found.select(pl.col(f.name).cast(pl.Float64) for f in QOS.features())


def test_online_equals_offline_for_every_entity(filled: FeatureStore, small_world: World) -> None:
    entities = _entities(small_world)
    online, offline = _online(filled, entities), _offline(filled, entities)
    different = [c for c in online.columns if not online[c].equals(offline[c], null_equal=True)]
    assert different == []
    rsrp = online["ue_rsrp_dbm_last_5s"]
    aged = rsrp.null_count()
    assert aged > 0, "no UE is past its ttl: the comparison does not speak of ages"
    if _clock(filled) < small_world.table("ue_radio")["arrival_timestamp"].max():  # type: ignore[operator]
        assert aged < len(rsrp), "no UE is fresh: the comparison does not speak of values"


def test_aged_rows_say_so_and_bear_their_time(filled: FeatureStore, small_world: World) -> None:
    entities = _entities(small_world).select("ue_id").unique().sort("ue_id")
    with quiet():
        answer = filled.get_online_features(
            ["ue_radio:ue_rsrp_dbm_last_5s"],
            entity_rows=[*entities.to_dicts(), {"ue_id": "nobody"}],
        ).proto
    names = list(answer.metadata.feature_names.val)
    vector = answer.results[names.index("ue_rsrp_dbm_last_5s")]
    oldest = _clock(filled) - timedelta(seconds=10)
    for status, time in zip(vector.statuses[:-1], vector.event_timestamps[:-1], strict=True):
        absent = time.ToMicroseconds() == 0
        event = time.ToDatetime(UTC)
        assert status == (NOT_FOUND if absent else OUTSIDE_MAX_AGE if event < oldest else PRESENT)
    assert vector.statuses[-1] == NOT_FOUND


def test_nothing_new_writes_no_key(filled: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    features = Path(filled.repo_path).parent / "data" / "features"
    before = _stored(filled)
    keys = _written(filled, monkeypatch)
    fill(filled, features)
    assert set(keys) == {view.name for view in STORED}
    assert sum(keys.values()) == 0
    assert _stored(filled) == before


def test_a_row_that_arrives_late_reaches_the_store(
    filled: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next((Path(filled.repo_path).parent / "data/features/ue_radio").rglob("*.parquet"))
    rows = pl.read_parquet(path, hive_partitioning=False)
    late = rows.sort("event_timestamp").head(1).with_columns(pl.lit("late").alias("ue_id"))
    pl.concat([rows, late]).write_parquet(path)
    keys = _written(filled, monkeypatch)
    fill(filled, Path(filled.repo_path).parent / "data" / "features")
    assert {name: count for name, count in keys.items() if count} == {"ue_radio": 1}


def _written(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Keys that later writes of each view really wrote."""
    keys: dict[str, int] = {}
    target: Any = store._get_provider().online_store
    original = target.write_arrow

    def counting(config: object, view: FeatureView, rows: object) -> int:
        written = int(original(config, view, rows))
        keys[view.name] = keys.get(view.name, 0) + written
        return written

    monkeypatch.setattr(target, "write_arrow", counting)
    return keys


def _stored(store: FeatureStore) -> list[object]:
    with sqlite3.connect(store.repo_path / store.config.online_store.path) as connection:
        tables = [f"qos_{view.name}" for view in STORED]
        return [
            connection.execute(f"SELECT count(*), max(event_us) FROM {t}").fetchone()
            for t in tables
        ]


def test_an_emptied_store_is_seen_and_filled_again(filled: FeatureStore) -> None:
    features = Path(filled.repo_path).parent / "data" / "features"
    before = _stored(filled)
    with sqlite3.connect(filled.repo_path / filled.config.online_store.path) as connection:
        connection.execute("DELETE FROM qos_ue_radio")
    assert not published(features, "embedded", Path(filled.repo_path))
    receipt = fill(filled, features)
    assert _stored(filled) == before
    assert published(features, "embedded", Path(filled.repo_path))
    rows = read_view(features, STORED[0])
    assert receipt["ue_radio"]["rows"] == len(rows)
    assert receipt["ue_radio"]["keys"] == len(newest(rows, STORED[0]))
