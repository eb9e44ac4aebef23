"""Materialisations that are killed, or run at once, under a reader that reads all the time."""

import multiprocessing
import random
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from feast import FeatureStore

from tests.stores import crash_work
from tests.stores.crash_work import (
    applied,
    configured,
    expected_rows,
    online_rows,
    round_end,
    write_round,
)
from tests.stores.example import NOON

KILLS = 8
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["tests.stores.crash_work", "stores.engine", "stores.redis", "stores.sqlite"]
)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(params=["sqlite and file registry", "redis and sql registry"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The online store and the registry of each profile."""
    if request.param.startswith("sqlite"):
        return {
            "online_store": {
                "type": "stores.sqlite.BulkSqliteOnlineStore",
                "path": str(tmp_path / "online.db"),
                "age_from": "newest",
            },
            "registry": {
                "path": str(tmp_path / "registry.db"),
                "registry_store_type": "stores.registry.WholeFileRegistryStore",
                "cache_ttl_seconds": 1,
                "serve_features_while_materializing": True,
            },
        }
    address = request.getfixturevalue("redis_address")
    host, port = address.split(":")
    redis.Redis(host=host, port=int(port)).flushall()
    return {
        "online_store": {
            "type": "stores.redis.BulkRedisOnlineStore",
            "connection_string": address,
            "age_from": "newest",
        },
        "registry": {
            "registry_type": "sql",
            "path": f"sqlite:///{tmp_path}/registry.db",
            "cache_ttl_seconds": 1,
            "serve_features_while_materializing": True,
        },
    }


@pytest.fixture
def store(settings: dict[str, Any], tmp_path: Path) -> FeatureStore:
    """Applied and filled with round 0."""
    write_round(tmp_path, 0)
    store = applied(tmp_path, settings)
    store.materialize(NOON, round_end(0))
    return store


def begun(folder: Path, settings: dict[str, Any], number: int, views: list[str]) -> Any:
    """A process that has just begun to materialise."""
    started = PROCESSES.Event()
    process = PROCESSES.Process(
        target=crash_work.materialize, args=(folder, settings, number, started, views)
    )
    process.start()
    assert started.wait(60), "the materialisation did not begin"
    return process


def test_killed_at_any_point_answers_stay_old_or_new(
    store: FeatureStore, settings: dict[str, Any], tmp_path: Path
) -> None:
    ready, stop, report = PROCESSES.Event(), PROCESSES.Event(), PROCESSES.Queue()
    reader = PROCESSES.Process(
        target=crash_work.read_all_the_time, args=(tmp_path, settings, ready, stop, report)
    )
    reader.start()
    assert ready.wait(60)
    write_round(tmp_path, 1)
    process = begun(tmp_path, settings, 1, ["trips", "visits"])
    before = time.monotonic()
    process.join(60)
    whole = time.monotonic() - before
    draw, killed_within = random.Random(11), 0
    for number in range(2, 2 + KILLS):
        write_round(tmp_path, number)
        process = begun(tmp_path, settings, number, ["trips", "visits"])
        time.sleep(draw.uniform(0, whole))
        process.kill()
        process.join(60)
        killed_within += process.exitcode == -9
        if number % 2:  # every other kill is followed by another kill without a rerun between
            rerun = configured(tmp_path, settings)
            rerun.materialize(NOON, round_end(number))
            assert online_rows(rerun) == expected_rows(number)
    stop.set()
    reads, wrong = report.get(timeout=60)
    reader.join(60)
    assert wrong == []
    assert reads > KILLS
    assert killed_within >= KILLS // 2, "the kills came after the end: they tell nothing"


def test_two_at_once_leave_a_readable_registry_and_the_right_rows(
    store: FeatureStore, settings: dict[str, Any], tmp_path: Path
) -> None:
    for number in range(1, 4):
        write_round(tmp_path, number)
        both = [
            begun(tmp_path, settings, number, views) for views in (["trips"], ["visits", "trips"])
        ]
        for process in both:
            process.join(60)
        assert [process.exitcode for process in both] == [0, 0]
    again = configured(tmp_path, settings)
    assert online_rows(again) == expected_rows(3)
    for name in ("trips", "visits"):
        view = again.get_feature_view(name)
        assert view.most_recent_end_time == round_end(3)
        assert {end for _, end in view.materialization_intervals} == {
            round_end(n) for n in range(4)
        }
