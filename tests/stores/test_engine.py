"""What the bulk engine leaves in both online stores."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import redis
import yaml
from click.testing import CliRunner
from feast import BatchFeatureView, FeatureStore, Field, FileSource
from feast.cli.cli import cli
from feast.types import Int64

from stores.arrival import Watermark, read_watermark
from stores.engine import BulkComputeEngine
from stores.times import micros
from tests.stores.example import NOON, online
from tests.stores.fillable import (
    DRIVER,
    HOUR,
    counts,
    repository,
    trip,
    write_source,
    write_sources,
)

Open = Callable[..., FeatureStore]
START, END = NOON - HOUR, NOON + 2 * HOUR


@pytest.fixture(params=["sqlite", "redis"])
def online_store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The configuration of each store, empty."""
    if request.param == "sqlite":
        return {
            "type": "stores.sqlite.BulkSqliteOnlineStore",
            "path": str(tmp_path / "online.db"),
            "age_from": "newest",
        }
    address = request.getfixturevalue("redis_address")
    host, port = address.split(":")
    redis.Redis(host=host, port=int(port)).flushall()
    return {
        "type": "stores.redis.BulkRedisOnlineStore",
        "connection_string": address,
        "age_from": "newest",
    }


@pytest.fixture
def store(online_store: dict[str, Any], tmp_path: Path) -> FeatureStore:
    """The repository with its sources written, nothing of it online."""
    write_sources(tmp_path)
    return repository(tmp_path, online_store)


def written(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """(view, rows handed over, keys written) of every later write of the online store."""
    calls: list[tuple[str, int, int]] = []
    target = online(store)
    original = target.write_arrow  # type: ignore[attr-defined]

    def counting(config: Any, view: Any, rows: Any) -> int:
        keys = int(original(config, view, rows))
        calls.append((view.name, rows.num_rows, keys))
        return keys

    monkeypatch.setattr(target, "write_arrow", counting)
    return calls


def test_every_view_holds_its_newest_rows(store: FeatureStore) -> None:
    store.materialize(START, END)
    assert counts(store, *range(130)) == [100 + i for i in range(130)]
    rows = [{"driver_id": i % 3, "zone_id": "ab"[i % 2]} for i in range(6)]
    stays = store.get_online_features(["visits:stay"], rows).to_dict()["stay"]
    assert stays == ["24", "25", "26", "27", "28", "29"]
    assert store.get_online_features(["fleet:cars"], [{"driver_id": 1}]).to_dict()["cars"] == [8]
    rows = [{"driver_id": i} for i in range(5)]
    stars = store.get_online_features(["ratings:stars"], rows).to_dict()["stars"]
    assert stars == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_all_views_are_one_call_and_each_key_is_handed_over_once(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = written(store, monkeypatch)
    handed: list[int] = []
    original = BulkComputeEngine.materialize

    def counting(self: BulkComputeEngine, registry: Any, tasks: Any, **named: Any) -> Any:
        handed.append(len(tasks))
        return original(self, registry, tasks, **named)

    monkeypatch.setattr(BulkComputeEngine, "materialize", counting)
    store.materialize(START, END)
    assert handed == [4]
    totals = {name: sum(keys for view, _, keys in calls if view == name) for name, _, _ in calls}
    assert totals == {"trips": 130, "visits": 6, "fleet": 1, "ratings": 5}
    assert max(rows for _, rows, _ in calls) <= 50
    assert [rows for view, rows, _ in calls if view == "trips"] == [50, 50, 30]


def test_a_rerun_with_nothing_new_writes_no_key(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.materialize(START, END)
    calls = written(store, monkeypatch)
    store.materialize(START, END)
    assert sum(rows for _, rows, _ in calls) == 130 + 6 + 1 + 5
    assert sum(keys for _, _, keys in calls) == 0
    calls.clear()
    store.materialize_incremental(END)
    assert sum(keys for _, _, keys in calls) == 0


def test_a_row_that_arrives_late_is_loaded_by_its_arrival(
    store: FeatureStore, tmp_path: Path
) -> None:
    rows = [trip(1, 10, NOON + HOUR, NOON + HOUR)]
    write_source(tmp_path, "trips", rows)
    store.materialize(START, END, ["trips"])
    late = trip(2, 20, NOON - 9 * HOUR, END + HOUR)
    older = trip(1, 11, NOON - 9 * HOUR, END + HOUR)
    after = trip(3, 30, END + 9 * HOUR, END + HOUR)
    write_source(tmp_path, "trips", [*rows, late, older, after])
    store.materialize_incremental(END + 2 * HOUR, ["trips"])
    assert counts(store, 1, 2, 3) == [10, 20, None]


def test_a_row_that_arrives_at_the_very_watermark_is_loaded(
    store: FeatureStore, tmp_path: Path
) -> None:
    rows = [trip(1, 10, NOON + HOUR, NOON + HOUR)]
    write_source(tmp_path, "trips", rows)
    store.materialize(START, END, ["trips"])
    write_source(tmp_path, "trips", [*rows, trip(2, 20, NOON - 9 * HOUR, NOON + HOUR)])
    store.materialize_incremental(END + HOUR, ["trips"])
    assert counts(store, 2) == [20]


def test_a_correction_of_equal_event_time_is_loaded(store: FeatureStore, tmp_path: Path) -> None:
    rows = [trip(1, 10, NOON, NOON)]
    write_source(tmp_path, "trips", rows)
    store.materialize(START, END, ["trips"])
    write_source(tmp_path, "trips", [trip(1, 99, NOON, NOON + HOUR), *rows])
    store.materialize_incremental(END + HOUR, ["trips"])
    assert counts(store, 1) == [99]


@pytest.mark.parametrize("view", ["trips", "visits"])
def test_an_end_in_the_future_holds_nothing_back(
    store: FeatureStore, tmp_path: Path, view: str
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)

    def at(event: datetime, value: int) -> dict[str, Any]:
        if view == "trips":
            return trip(1, value, event, event)
        return {"driver_id": 1, "zone_id": "a", "event": event, "stay": str(value)}

    rows = [at(now - 2 * HOUR, 1)]
    write_source(tmp_path, view, rows)
    store.materialize(now - 9 * HOUR, now + timedelta(days=3650), [view])
    write_source(tmp_path, view, [*rows, at(now - HOUR, 2)])
    store.materialize_incremental(now, [view])
    feature = "count" if view == "trips" else "stay"
    answer = store.get_online_features([f"{view}:{feature}"], [{"driver_id": 1, "zone_id": "a"}])
    assert [int(value) for value in answer.to_dict()[feature]] == [2]


def test_a_row_of_the_future_holds_nothing_back(
    online_store: dict[str, Any], tmp_path: Path
) -> None:
    write_sources(tmp_path)
    store = repository(tmp_path, online_store | {"age_from": "now"})
    now = datetime.now(UTC).replace(microsecond=0)
    century = timedelta(days=36500)
    rows = [trip(1, 10, now - 3 * HOUR, now - HOUR), trip(2, 20, now + century, now + century)]
    write_source(tmp_path, "trips", rows)
    store.materialize(now - 9 * HOUR, now + 2 * century, ["trips"])
    write_source(tmp_path, "trips", [*rows, trip(3, 30, now - 5 * HOUR, datetime.now(UTC))])
    store.materialize_incremental(datetime.now(UTC), ["trips"])
    assert counts(store, 3) == [30]


def test_an_emptied_store_is_filled_from_the_first_run_on(
    store: FeatureStore, online_store: dict[str, Any], tmp_path: Path
) -> None:
    store.materialize(START, END, ["trips"])
    if "path" in online_store:
        store.teardown()  # type: ignore[no-untyped-call]
        store = repository(tmp_path, online_store)
    else:
        store._get_provider().online_store._get_client(store.config.online_store).flushall()  # type: ignore[attr-defined]
    store.materialize(START, START + HOUR / 60, ["trips"])
    store.materialize_incremental(END + HOUR, ["trips"])
    assert counts(store, 0, 129) == [100, 229]


def test_the_watermark_moves_only_when_all_has_been_written(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, target = store.get_feature_view("trips"), online(store)
    original = target.write_arrow  # type: ignore[attr-defined]
    done: list[str] = []

    def failing(config: Any, view: Any, rows: Any) -> int:
        if len(done) == 2:
            raise ConnectionError("gone")
        done.append(view.name)
        return int(original(config, view, rows))

    monkeypatch.setattr(target, "write_arrow", failing)
    with pytest.raises(ConnectionError, match="gone"):
        store.materialize(START, END, ["trips"])
    assert read_watermark(target, store.config, view) is None
    monkeypatch.setattr(target, "write_arrow", original)
    store.materialize(START, NOON, ["trips"])
    us = micros(NOON)
    assert read_watermark(target, store.config, view) == Watermark(us, us)


def test_a_failing_view_does_not_stop_the_others(store: FeatureStore, tmp_path: Path) -> None:
    pl.read_parquet(tmp_path / "trips.parquet").drop("mean_km").write_parquet(
        tmp_path / "trips.parquet"
    )
    with pytest.raises(ValueError, match=r"trips: its source has no column \['mean_km'\]"):
        store.materialize(START, END)
    assert store.get_online_features(["fleet:cars"], [{"driver_id": 1}]).to_dict()["cars"] == [8]


def test_an_empty_source_is_fine(store: FeatureStore, tmp_path: Path) -> None:
    write_source(tmp_path, "trips", [])
    store.materialize(START, END, ["trips"])
    assert counts(store, 1) == [None]


def test_rows_without_key_or_time_are_no_ones(store: FeatureStore, tmp_path: Path) -> None:
    nobody: Any = None
    rows = [trip(1, 10, NOON, NOON), trip(nobody, 20, NOON, NOON), trip(2, 30, nobody, NOON)]
    write_source(tmp_path, "trips", rows)
    store.materialize(START, END, ["trips"])
    assert counts(store, 1, 2) == [10, None]


def test_many_chunks_lose_no_row(store: FeatureStore, tmp_path: Path) -> None:
    rows = pl.concat(
        [pl.read_parquet(tmp_path / "trips.parquet").slice(i * 13, 13) for i in range(20)],
        rechunk=False,
    )
    rows.write_parquet(tmp_path / "trips.parquet", row_group_size=7)
    store.materialize(START, END, ["trips"])
    assert counts(store, *range(130)) == [100 + i for i in range(130)]


def test_teardown_forgets_the_watermarks(
    store: FeatureStore, online_store: dict[str, Any], tmp_path: Path
) -> None:
    store.materialize(START, END)
    view = store.get_feature_view("trips")
    assert read_watermark(online(store), store.config, view) is not None
    store.teardown()  # type: ignore[no-untyped-call]
    again = repository(tmp_path, online_store)
    assert read_watermark(online(again), again.config, view) is None


def test_a_store_without_write_arrow_is_refused_by_name(tmp_path: Path) -> None:
    write_sources(tmp_path)
    store = repository(tmp_path, {"type": "sqlite", "path": str(tmp_path / "stock.db")})
    with pytest.raises(TypeError, match="BulkComputeEngine cannot write to SqliteOnlineStore"):
        store.materialize(START, END, ["trips"])


@pytest.mark.filterwarnings("ignore:Batch feature views are:RuntimeWarning")
def test_a_transformed_view_is_left_to_feast(store: FeatureStore, tmp_path: Path) -> None:
    source = FileSource(
        name="raw_trips", path=str(tmp_path / "trips.parquet"), timestamp_field="event"
    )
    doubled = BatchFeatureView(
        name="doubled",
        mode="pandas",
        udf=lambda frame: frame.assign(twice=frame["driver_id"] * 2),
        udf_string="doubled",
        entities=[DRIVER],
        ttl=400 * 24 * HOUR,
        schema=[Field(name="driver_id", dtype=Int64), Field(name="twice", dtype=Int64)],
        source=source,
        online=True,
    )
    store.apply([doubled])
    store.materialize(START, END, ["doubled", "trips"])
    assert counts(store, 7) == [107]
    answer = store.get_online_features(["doubled:twice"], [{"driver_id": 7}]).to_dict()
    assert answer["twice"] == [14]


def test_another_offline_store_feeds_the_engine(
    online_store: dict[str, Any], tmp_path: Path
) -> None:
    write_sources(tmp_path)
    store = repository(tmp_path, online_store, offline_store={"type": "file"})
    store.materialize(START, END)
    assert counts(store, 0, 129) == [100, 229]
    assert store.get_online_features(["fleet:cars"], [{"driver_id": 1}]).to_dict()["cars"] == [8]
    assert store.get_online_features(["ratings:stars"], [{"driver_id": 3}]).to_dict()["stars"] == [
        0.3
    ]


REPOSITORY = """
from pathlib import Path

from tests.stores.fillable import DRIVER, ZONE, views

trips, visits, fleet, ratings = views(Path(__file__).parent)
driver, zone = DRIVER, ZONE
"""


def test_the_commands_of_feast_work_unchanged(
    online_store: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sources(tmp_path)
    (tmp_path / "definitions.py").write_text(REPOSITORY, encoding="utf-8")
    profile = {
        "project": "rides",
        "provider": "local",
        "registry": "registry.db",
        "offline_store": {"type": "stores.asof.AsofOfflineStore"},
        "online_store": online_store,
        "batch_engine": {"type": "stores.engine.BulkComputeEngine"},
        "entity_key_serialization_version": 3,
    }
    (tmp_path / "feature_store.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for command in (
        ["apply"],
        ["materialize", "2025-12-31T00:00:00", "2026-01-01T12:30:00"],
        ["materialize-incremental", "2026-01-02T00:00:00"],
    ):
        done = CliRunner().invoke(cli, ["-c", str(tmp_path), *command])
        assert done.exit_code == 0, (done.output, done.exception)
        sys.modules.pop("definitions", None)
    store = FeatureStore(repo_path=str(tmp_path))
    assert counts(store, 0, 129) == [100, 229]
    store.teardown()  # type: ignore[no-untyped-call]
