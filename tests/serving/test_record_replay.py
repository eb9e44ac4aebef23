"""A replay gives every vector and score as it was, and finds what was changed since."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.replay import _used_row, plant_changed_row, plant_late_row
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
)
from lifecycle.registry import RegistryError
from schemas.errors import QosError
from serving.decision_log import DecisionLog, all_decisions
from serving.record import DecisionRecord
from serving.recorded import record_of
from serving.replay import Model, Replayed, main, question_of, registered, replay_all
from stores.answer import PRESENT
from tests.conftest import World as SmallWorld
from tests.serving.record_kit import NOON, id_at


@dataclass(frozen=True)
class Decided:
    """Decisions of a small network in files, with the registry of the model that made them."""

    world: World
    uri: str
    version: str
    records: tuple[DecisionRecord, ...]

    def model(self) -> Model:
        return Model(registered(self.version, self.uri))

    def replayed(self, records: Sequence[DecisionRecord] | None = None) -> list[Replayed]:
        return replay_all(
            self.records if records is None else records, self.world.store, self.model()
        )


@pytest.fixture(scope="module")
def decided(small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Decided:
    folder = tmp_path_factory.mktemp("decided")
    shutil.copytree(small_world.features, folder / "data" / "features")
    uri = f"sqlite:///{folder}/registry.db"
    bundle, version = registered_bundle(folder, small_bundle(1), uri)
    world = open_world(folder)
    live = live_of(world, bundle, version)
    log = DecisionLog(folder / "log")
    for step, until in enumerate(moments(world, 4)):
        world.fill(until)
        decide(live, requests_of(folder, 20, step, until), log)
    log.close()
    return Decided(world, uri, version, tuple(all_decisions(folder / "log")))


@pytest.fixture
def copied(decided: Decided, tmp_path: Path) -> Decided:
    """A world of which a test may change the history."""
    shutil.copytree(decided.world.folder / "data", tmp_path / "data")
    return replace(decided, world=open_world(tmp_path))


def test_every_decision_is_rebuilt_to_the_last_bit(decided: Decided) -> None:
    found = decided.replayed()
    assert [one.decision_id for one in found] == [one.decision_id for one in decided.records]
    assert [one for one in found if not one.identical] == []
    assert len(found) == 80
    assert max(one.max_score_difference for one in found) == 0
    statuses = np.concatenate([one.statuses.ravel() for one in decided.records])
    assert {1, 3, 10, 11, 12, 13, 14} <= set(statuses.tolist())  # every source of a value is tried
    assert (statuses == PRESENT).sum() > 500


def test_the_store_moved_on_after_most_decisions(decided: Decided) -> None:
    """So that a replay from what the store holds now would fail."""
    live = live_of(decided.world, registered(decided.version, decided.uri), decided.version)
    early = decided.records[:20]
    again = [record_of(one) for one in decide(live, [question_of(one).request for one in early])]
    assert any(
        not np.array_equal(one.vectors, now.vectors, equal_nan=True)
        for one, now in zip(early, again, strict=True)
    )


def test_a_changed_row_of_history_is_found_where_it_was_used_only(copied: Decided) -> None:
    touched = {one.decision_id for one in plant_changed_row(copied.world, copied.records)}
    found = copied.replayed()
    assert touched
    assert {one.decision_id for one in found if not one.identical} == touched
    assert all(
        {d.name for d in one.first} & {"cell_prb_used_ratio_mean_5m"}
        for one in found
        if not one.identical
    )


def test_a_row_that_arrived_later_changes_nothing(copied: Decided) -> None:
    touched = plant_late_row(copied.world, copied.records)
    assert touched
    assert all(one.identical and not one.behind for one in copied.replayed())


def test_a_store_that_was_behind_is_counted(copied: Decided) -> None:
    """Another arrival of the same event was known, but not materialised yet."""
    plant_late_row(copied.world, copied.records)
    late = copied.world.folder / "data" / "features" / "cell_load" / "late.parquet"
    rows = pl.read_parquet(late)
    known = pl.col("event_timestamp") + timedelta(hours=1)
    rows.with_columns(known.alias("arrival_timestamp")).write_parquet(late)
    found = copied.replayed()
    assert all(one.identical for one in found)
    assert sum(one.behind for one in found) > 0


def test_a_lost_row_of_history_is_named(copied: Decided) -> None:
    cell, at = _used_row(copied.records)
    gone = (pl.col("cell_id") == cell) & (pl.col("event_timestamp").dt.epoch("us") == at)
    for path in (copied.world.folder / "data" / "features" / "cell_load").rglob("*.parquet"):
        pl.read_parquet(path).filter(~gone).write_parquet(path)
    lost = [one for one in copied.replayed() if one.lost]
    assert lost
    assert {pair for one in lost for pair in one.lost} == {(cell, "cell_load")}
    assert not any(one.identical for one in lost)


def test_another_model_is_a_fault_and_its_scores_differ(decided: Decided) -> None:
    found = replay_all(decided.records, decided.world.store, Model(small_bundle(2)))
    assert all(one.faults[0].startswith("model: qos/1 was ") for one in found)
    assert all(one.score_differences and not one.vector_differences for one in found)


def test_a_changed_override_is_found(decided: Decided) -> None:
    some = [one for one in decided.records if one.overrides]
    changed = [
        replace(one, overrides={n: v + 1e-9 for n, v in one.overrides.items()}) for one in some
    ]
    found = decided.replayed(changed)
    assert some
    assert all(
        one.first[0].name in record.overrides for one, record in zip(found, some, strict=True)
    )


def test_a_changed_vector_or_score_in_the_record_is_found(decided: Decided) -> None:
    one = decided.records[0]
    vectors, scores = one.vectors.copy(), one.scores.copy()
    vectors[0, NAMES.index("qos_priority_level")] += 1
    scores[0, 0] = np.nextafter(scores[0, 0], 2)
    (found,) = decided.replayed([replace(one, vectors=vectors, scores=scores)])
    assert (found.vector_differences, found.score_differences) == (1, 1)
    assert 0 < found.max_score_difference < 1e-12


def test_age_counts_from_the_clock_of_the_decision(decided: Decided) -> None:
    one = next(r for r in decided.records if (r.statuses == PRESENT).any())
    assert one.clock_us is not None
    later = replace(one, clock_us=one.clock_us + 3_600_000_000)
    (found,) = decided.replayed([later])
    assert found.status_differences > 0
    assert found.vector_differences > 0  # what is past its ttl is unknown


def test_a_fallback_without_vectors_has_nothing_to_rebuild(decided: Decided) -> None:
    live = live_of(decided.world, registered(decided.version, decided.uri), decided.version)
    request = requests_of(decided.world.folder, 1, 0, moments(decided.world, 4)[0])[0]
    nowhere = request.model_copy(update={"candidates": [], "connected_to": None})
    record = record_of(decide(live, [nowhere])[0])
    assert record.reason == "no_candidates"
    (found,) = decided.replayed([record])
    assert found.identical
    assert not found.scored


def test_a_record_that_is_not_understood_is_refused(decided: Decided) -> None:
    one = decided.records[0]
    with pytest.raises(QosError, match="its request cannot be read"):
        decided.replayed([replace(one, request='{"latitude": 1}')])
    with pytest.raises(QosError, match="then had 65 features of views 'other'"):
        decided.replayed([replace(one, views=("other",))])
    with pytest.raises(RegistryError, match="no model 'qos/9'"):
        registered("qos/9", decided.uri)


def test_the_command_prints_a_line_a_decision(
    decided: Decided, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", decided.uri)
    log, repo = decided.world.folder / "log", decided.world.folder / "feature_repo"
    ids = [one.decision_id for one in decided.records[:2]]
    main(ids, log, repo=repo)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["decision_id"] for one in lines} == set(ids)
    assert all(one["identical"] and one["scored"] for one in lines)


@pytest.mark.parametrize(
    ("ids", "told"),
    [([id_at(NOON)], "1 decisions are not in the log: '019cae"), (None, "no decision is named")],
)
def test_the_command_says_what_is_not_there(
    decided: Decided, ids: list[str] | None, told: str
) -> None:
    folder = decided.world.folder
    with pytest.raises(SystemExit, match=told):
        main(ids, folder / "log", repo=folder / "feature_repo")


def test_a_real_redis_gives_replays_without_differences(
    decided: Decided, redis_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QOS_REDIS", redis_address)
    shutil.copytree(decided.world.folder / "data", tmp_path / "data")
    world = open_world(tmp_path, "redis")
    live = live_of(world, registered(decided.version, decided.uri), decided.version)
    until = moments(world, 4)[2]
    world.fill(until)
    records = [record_of(one) for one in decide(live, requests_of(tmp_path, 20, 3, until))]
    assert sum(int((one.statuses == PRESENT).sum()) for one in records) > 100
    found = replay_all(records, world.store, decided.model())
    assert [one for one in found if not one.identical] == []
