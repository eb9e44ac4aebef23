"""The decision log: rows that come back as they were, whole files, and nothing that blocks."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import parquet_log
from serving.decision_log import DECISIONS, DecisionLog, all_decisions, read_decisions
from serving.outcome import Outcome
from serving.parquet_log import _SLICE, ParquetLog, files_of
from serving.record import SCHEMA, columns, day_of, decided_us_of, from_table
from tests.serving.record_kit import DAY, NOON, SECOND, id_at, made, same

LONG_S = 3600.0  # no write but by flush


@pytest.fixture
def lost() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def log(tmp_path: Path, lost: list[tuple[str, int]]) -> Iterator[DecisionLog]:
    log = DecisionLog(tmp_path / "log", lambda what, n: lost.append((what, n)), flush_s=LONG_S)
    yield log
    log.close()


@pytest.mark.parametrize(
    "records",
    [
        [made()],
        [made(cells=0)],
        [made(cells=0), made(chance=1, cells=3), made(chance=2, cells=1, overrides={})],
        [made(chosen_cell=None, observed_confidence=None, requested_downlink_mbps=None)],
    ],
    ids=["scored", "not scored", "of different sizes", "with nulls"],
)
def test_a_record_comes_back_from_arrow_as_it_was(records: list[Any]) -> None:
    table = pa.table(dict(columns(records, NOON + SECOND)), schema=SCHEMA)
    assert table.schema == SCHEMA
    back = from_table(table)
    assert [same(one, other) for one, other in zip(records, back, strict=True)] == [True] * len(
        back
    )


def test_the_id_tells_the_time() -> None:
    assert decided_us_of(id_at(NOON + 5_000)) == NOON + 5_000
    assert decided_us_of("no id") is None
    assert decided_us_of(id_at(NOON).upper()) is None
    assert decided_us_of("0198c0de-0000-4000-8000-000000000001") is None  # version 4
    assert day_of(NOON) == "2026-03-02"


def test_a_decision_is_found_before_and_after_it_is_written(log: DecisionLog) -> None:
    one = made()
    log.append(one)
    assert same(log.find([one.decision_id])[one.decision_id], one)
    assert files_of(log.folder / DECISIONS) == []
    log.flush()
    assert len(files_of(log.folder / DECISIONS, "2026-03-02")) == 1
    assert same(log.find([one.decision_id])[one.decision_id], one)
    assert log.find([id_at(NOON, 9), "no id"]) == {}


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3 * DAY), st.integers(0, 50)), max_size=30, unique=True),
    st.integers(1, 7),
)
def test_every_row_is_in_one_file_of_its_day_and_is_found(
    places: list[tuple[int, int]], rows_a_file: int
) -> None:
    records = [made(NOON + us, chance) for us, chance in places]
    ids = {one.decision_id: one for one in records}
    with tempfile.TemporaryDirectory() as folder:
        log = DecisionLog(Path(folder), flush_s=LONG_S, rows_a_file=rows_a_file)
        for place, one in enumerate(ids.values()):
            log.append(one)
            if place % 5 == 4:
                log.flush()
        log.close()
        stored = list(all_decisions(Path(folder)))
        assert sorted(one.decision_id for one in stored) == sorted(ids)
        for path in files_of(Path(folder) / DECISIONS):
            days = {day_of(at.value) for at in pq.read_table(path)["event_timestamp"]}
            assert days == {path.parent.name.removeprefix("day=")}
            assert pq.read_metadata(path).num_rows <= rows_a_file
        found = read_decisions(Path(folder), list(ids))
        assert all(same(found[name], one) for name, one in ids.items())


def test_the_writer_writes_by_itself(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path, flush_s=0.05)
    log.append(made())
    end = time.monotonic() + 10
    while not files_of(tmp_path / DECISIONS) and time.monotonic() < end:
        time.sleep(0.01)
    assert len(files_of(tmp_path / DECISIONS)) == 1
    log.close()


def test_appending_never_waits_for_the_writer_and_counts_what_it_loses(tmp_path: Path) -> None:
    free, lost = threading.Event(), [0]

    def slow(record: Any) -> Any:
        free.wait(20)
        return record

    def count(rows: int) -> None:
        lost[0] += rows

    log = ParquetLog(tmp_path, slow, SCHEMA, columns, count, 0.01, 1000, most_waiting=500)
    log.append(id_at(NOON), made())
    time.sleep(0.1)  # the writer now holds the first and waits
    records = [made(NOON + n * 1000) for n in range(1, 2001)]
    begun = time.monotonic()
    kept = [log.append(one.decision_id, one) for one in records]
    assert time.monotonic() - begun < 0.5
    assert (sum(kept), lost[0]) == (500, 1500)
    free.set()
    log.close()
    assert sum(pq.read_metadata(path).num_rows for path in files_of(tmp_path)) == 501


def test_a_row_that_cannot_be_kept_takes_no_other_with_it(
    log: DecisionLog, lost: list[tuple[str, int]]
) -> None:
    good, bad = [made(chance=n) for n in range(3)], made(chance=9, five_qi="no number")
    for one in (good[0], bad, *good[1:]):
        log.append(one)
    log.flush()
    assert lost == [("decision", 1)]
    assert len(list(all_decisions(log.folder))) == 3


def test_a_disk_that_takes_no_file_loses_rows_and_counts_them(
    log: DecisionLog, lost: list[tuple[str, int]]
) -> None:
    blocked = log.folder / DECISIONS / "day=2026-03-02"
    blocked.write_bytes(b"")  # a file where the day's folder must be
    for chance in range(3):
        log.append(made(chance=chance))
    log.append(made(NOON + DAY))
    log.flush()
    assert lost == [("decision", 3)]
    assert len(list(all_decisions(log.folder))) == 1


def test_a_file_that_cannot_be_made_loses_its_rows_and_the_log_lives_on(
    log: DecisionLog, lost: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise pa.ArrowInvalid("no such file can be made")

    with monkeypatch.context() as patched:
        patched.setattr(parquet_log, "write_whole", broken)
        for n in range(3):
            log.append(made(chance=n))
        log.flush()
    assert lost == [("decision", 3)]
    log.append(made(chance=4))
    log.flush()
    assert lost == [("decision", 3)] and len(list(all_decisions(log.folder))) == 1


def test_rows_of_several_parts_come_back_in_order_but_for_what_cannot_be_written(
    log: DecisionLog, lost: list[tuple[str, int]]
) -> None:
    rows = [made(NOON + 1000 * n, n) for n in range(_SLICE + 40)]
    bad = made(NOON + 1000 * _SLICE + 500, five_qi="no number")
    for one in (*rows, bad):
        log.append(one)
    log.flush()
    assert lost == [("decision", 1)]
    found = list(all_decisions(log.folder))
    assert [one.decision_id for one in found] == [one.decision_id for one in rows]
    assert all(same(one, other) for one, other in zip(found, rows, strict=True))


def test_what_comes_after_the_end_is_counted(log: DecisionLog, lost: list[tuple[str, int]]) -> None:
    log.close()
    log.append(made())
    log.append(made(decision_id="no id"))
    assert lost == [("decision", 1), ("decision", 1)]


CRASH = """
import sys, time
from pathlib import Path
from serving.decision_log import DecisionLog
from tests.serving.record_kit import NOON, made
log = DecisionLog(Path(sys.argv[1]), flush_s=0.005, rows_a_file=50)
for n in range(10**6):
    log.append(made(NOON + n * 1000, n % 7))
    if n % 50 == 0:
        print(n, flush=True)
        time.sleep(0.001)
"""


def test_a_kill_leaves_whole_files_only(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CRASH, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line and len(files_of(tmp_path / DECISIONS)) >= 3:
                break
        process.kill()
    stored = list(all_decisions(tmp_path))
    assert len(stored) >= 50
    assert len({one.decision_id for one in stored}) == len(stored)
    part = next((tmp_path / DECISIONS).glob("day=*")) / ".x.part"
    part.write_bytes(b"torn")
    os.utime(part, (0, 0))
    DecisionLog(tmp_path).close()
    assert not part.exists()


def test_an_outcome_is_kept_once_and_found(log: DecisionLog) -> None:
    one = Outcome(id_at(NOON), "qos", "ue-0", "embb", NOON + SECOND, False, None)
    assert log.tell(one) == "accepted"
    assert log.tell(one) == "duplicate"
    log.flush()
    assert log.tell(one) == "duplicate"
    other = Outcome(id_at(NOON), "handover", "ue-0", "embb", NOON, True, None, success=True)
    assert log.tell(other) == "accepted"
    assert log.outcomes_of([id_at(NOON)]) == {id_at(NOON): {"qos": one, "handover": other}}
    log.flush()
    assert log.outcomes_of([id_at(NOON)]) == {id_at(NOON): {"qos": one, "handover": other}}


def test_feast_joins_decisions_and_outcomes_as_they_were_known(log: DecisionLog) -> None:
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.repo_config import RepoConfig
    from feast.types import Bool, Float64, String

    for n in range(3):
        one = made(NOON + n * SECOND, n, observed_confidence=0.1 * n, ue_id="ue-a")
        log.append(one)
        qos = Outcome(one.decision_id, "qos", "ue-a", "embb", NOON + n * SECOND, False, n == 1)
        log.tell(qos)
    log.flush()
    ue = Entity(name="ue", join_keys=["ue_id"], value_type=ValueType.STRING)

    def view(name: str, path: Path, *fields: Field) -> FeatureView:
        return FeatureView(
            name=name, entities=[ue], ttl=timedelta(days=9999),
            schema=[Field(name="ue_id", dtype=String), *fields],
            source=FileSource(
                name=f"{name}_source", path=str(path), timestamp_field="event_timestamp",
                created_timestamp_column="arrival_timestamp",
            ),
        )  # fmt: skip

    config = RepoConfig(
        project="p", provider="local", registry=str(log.folder / "registry.db"),
        offline_store={"type": "stores.asof.AsofOfflineStore"}, entity_key_serialization_version=3,
        online_store={"type": "sqlite", "path": str(log.folder / "online.db")},
    )  # fmt: skip
    store = FeatureStore(config=config)
    decided = view(
        "decided", log.folder / "decisions", Field(name="observed_confidence", dtype=Float64)
    )
    became = view("became", log.folder / "outcomes", Field(name="met", dtype=Bool))
    store.apply([ue, decided, became])
    now = datetime.now(UTC)
    asked = pd.DataFrame(
        {"ue_id": ["ue-a", "ue-b", "ue-a"],
         "event_timestamp": [now, now, datetime(2026, 3, 2, 12, 0, 1, tzinfo=UTC)]}
    )  # fmt: skip
    found = store.get_historical_features(
        entity_df=asked, features=["decided:observed_confidence", "became:met"]
    ).to_df()
    first, stranger, then = found.to_dict("records")
    assert first["observed_confidence"] == pytest.approx(0.2)
    assert first["met"] == np.False_
    assert pd.isna(stranger["observed_confidence"])
    assert pd.isna(then["met"])  # written only now, so not known at noon
