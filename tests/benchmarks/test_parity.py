"""Parity at a small size, and a fault that it must find."""

import sqlite3
from datetime import datetime
from pathlib import Path

from feast import FeatureStore
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from benchmarks.parity import PATHS, compare, oracle
from benchmarks.parity_probes import instants, make_probes, make_views

PROBES, ROWS, TIMES, SEED = 300, 300, 4, 1


def test_300_probes_agree_on_every_path_but_where_a_value_was_changed(
    tmp_path: Path, redis_address: str
) -> None:
    probes = make_probes(PROBES, instants(TIMES), SEED)
    right = oracle(make_views(ROWS, instants(TIMES), SEED), probes)
    seen = next(n for n, found in enumerate(right) if found["profiles"][0] is not None)
    driver, time = probes[seen]["driver_id"], probes[seen]["at"]
    key = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=driver)])

    def tamper(store: FeatureStore, at: datetime) -> None:
        """Changes one integer that SQLite holds at one instant."""
        path = getattr(store.config.online_store, "path", None)
        if path is None or at != time:
            return
        with sqlite3.connect(path) as connection:
            connection.execute(
                f"UPDATE {store.config.project}_profiles SET value = ? "
                "WHERE entity_key = ? AND feature_name = ?",
                (Value(int64_val=41).SerializeToString(), serialize_entity_key(key, 3),
                 "profiles_count"),
            )  # fmt: skip
            assert connection.total_changes == 1

    found = compare(
        tmp_path, redis_address, probes=PROBES, rows=ROWS, times=TIMES, seed=SEED, tamper=tamper
    )
    assert {path for path in PATHS if found[path]} == {"sqlite"}
    first = found["sqlite"][0]
    assert (first.probe, first.view, first.found[0]) == (probes[seen], "profiles", 41)
    assert f"sqlite: profiles of driver_id={driver}" in str(first)
    assert {offence.probe["driver_id"] for offence in found["sqlite"]} == {driver}
