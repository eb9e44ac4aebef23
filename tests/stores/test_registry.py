"""The file registry: never half written, no change of another process lost."""

import threading
from pathlib import Path

import pytest
from feast import Entity, FeatureStore, ValueType
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.repo_config import RegistryConfig

from stores.registry import WholeFileRegistryStore, merged
from tests.stores.example import NOON
from tests.stores.fillable import HOUR, repository, write_sources


def with_entities(*names: str, description: str = "") -> Registry:
    """A registry of one project with these entities."""
    found = Registry()
    for name in names:
        entity = found.entities.add()
        entity.spec.name, entity.spec.project = name, "rides"
        entity.spec.description = description
    return found


def names(found: Registry) -> set[str]:
    return {entity.spec.name for entity in found.entities}


def test_what_either_side_added_or_removed_is_kept() -> None:
    base, ours, theirs = (
        with_entities("a", "b"),
        with_entities("b", "ours"),
        with_entities("a", "b", "theirs"),
    )
    assert names(merged(base, ours, theirs)) == {"b", "ours", "theirs"}
    assert names(merged(base, base, theirs)) == names(theirs)
    assert names(merged(base, ours, base)) == names(ours)


def test_of_an_object_that_both_changed_ours_counts() -> None:
    base, ours, theirs = (with_entities("a", description=text) for text in ("", "ours", "theirs"))
    assert [one.spec.description for one in merged(base, ours, theirs).entities] == ["ours"]
    assert [one.spec.description for one in merged(base, base, theirs).entities] == ["theirs"]


def test_the_intervals_of_both_are_kept() -> None:
    def view(*hours: int) -> Registry:
        found = Registry()
        one = found.feature_views.add()
        one.spec.name, one.spec.project = "trips", "rides"
        for hour in hours:
            interval = one.meta.materialization_intervals.add()
            interval.end_time.FromDatetime(NOON + hour * HOUR)
        return found

    (both,) = merged(view(1), view(1, 2), view(1, 3)).feature_views
    ends = {interval.end_time.ToDatetime() for interval in both.meta.materialization_intervals}
    assert ends == {(NOON + hour * HOUR).replace(tzinfo=None) for hour in (1, 2, 3)}
    assert len(both.meta.materialization_intervals) == 3


def opened(folder: Path) -> FeatureStore:
    """The repository on this registry store."""
    write_sources(folder)
    return repository(
        folder,
        {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": str(folder / "online.db")},
        registry={
            "path": str(folder / "registry.db"),
            "registry_store_type": "stores.registry.WholeFileRegistryStore",
        },
    )


def test_two_stores_that_know_nothing_of_each_other_keep_both_changes(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.registry.apply_entity(
        Entity(name="car", join_keys=["car_id"], value_type=ValueType.INT64), "rides"
    )
    other.registry._file_path = None  # type: ignore[attr-defined]
    other.registry.apply_entity(
        Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.INT64), "rides"
    )
    found = Registry.FromString((tmp_path / "registry.db").read_bytes())
    assert {"car", "shop", "driver", "zone"} <= names(found)


def test_a_write_that_is_broken_off_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    before = (tmp_path / "registry.db").read_bytes()

    def torn(_: int) -> None:
        raise OSError("disk is full")

    monkeypatch.setattr("os.fsync", torn)
    with pytest.raises(OSError, match="disk is full"):
        store.registry.apply_entity(
            Entity(name="car", join_keys=["car_id"], value_type=ValueType.INT64), "rides"
        )
    assert (tmp_path / "registry.db").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    config = RegistryConfig(path=str(tmp_path / "registry.db"))
    WholeFileRegistryStore(config, tmp_path).update_registry_proto(Registry())

    def add(writer: int) -> None:
        own = WholeFileRegistryStore(config, tmp_path)
        found = own.get_registry_proto()
        for number in range(8):
            entity = found.entities.add()
            entity.spec.name, entity.spec.project = f"{writer}_{number}", "rides"
            own.update_registry_proto(found)

    threads = [threading.Thread(target=add, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Registry.FromString((tmp_path / "registry.db").read_bytes())
    assert names(found) == {f"{w}_{n}" for w in range(4) for n in range(8)}
