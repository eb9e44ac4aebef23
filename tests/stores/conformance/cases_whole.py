"""Cases 36 to 39: the whole: batch equals online, threads, saved answers, memory."""

import json
import re
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pandas as pd
from feast import FeatureStore
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from tests.stores.conformance.cases import Variants, case
from tests.stores.conformance.cases_times import histories
from tests.stores.conformance.harness import (
    Harness,
    OnlineHarness,
    forall,
    quiet,
    read_online,
    refused,
    same,
)  # fmt: skip
from tests.stores.conformance.world import HOUR, MICROSECOND, NOON, View, references, trips

BOUNDS = (NOON - HOUR, NOON)


@case("pull_latest and pull_all take both ends of their range, and so does what is online")
def case_36_pulls(harness: Harness) -> None:
    start, end = BOUNDS
    rows = [
        (1, start, start, 5), (2, start - MICROSECOND, start, 6), (3, end, end, 7),
        (4, end + MICROSECOND, end, 8), (5, start, start, 9), (5, end, end, 10), (5, end, end - HOUR, 11),
    ]  # fmt: skip
    _pulled(harness, trips(*rows, ttl=None))
    forall(harness, histories(), lambda drawn: _pulled(harness, trips(*drawn[0], ttl=None)), 8)


def _pulled(harness: Harness, view: View) -> None:
    start, end = BOUNDS
    inside = [row for row in view.rows() if row["event"] and start <= row["event"] <= end]
    latest: dict[Any, Any] = {}
    for row in inside:
        have = latest.get(row["driver_id"])
        if have is None or (row["event"], row["created"]) >= (have["event"], have["created"]):
            latest[row["driver_id"]] = row
    wanted = {key: row["count"] for key, row in latest.items()}
    if isinstance(harness, OnlineHarness):
        for latest_only in (True, False):
            store = harness.open([view], materialization={"pull_latest_features": latest_only})
            with quiet():
                store.materialize(start, end)
            keys = sorted({row["driver_id"] for row in view.rows()} | {0})
            found = read_online(store, references([view]), [{"driver_id": k} for k in keys], end)
            same(found, [(wanted.get(key),) for key in keys])
        return
    store = harness.open([view])
    kinds = ("pull_latest_from_table_or_query", "pull_all_from_table_or_query")
    pulled = {kind: _pull(store, kind, start, end) for kind in kinds}
    found_latest = {row["driver_id"]: row["count"] for row in pulled[kinds[0]]}
    assert len(pulled[kinds[0]]) == len(wanted), f"{len(pulled[kinds[0]])} keys of {len(wanted)}"
    same(sorted(found_latest.items()), sorted(wanted.items()))
    every = [
        (row["driver_id"], row["count"] is None, row["count"] or 0) for row in pulled[kinds[1]]
    ]
    same(
        sorted(every), sorted((r["driver_id"], r["count"] is None, r["count"] or 0) for r in inside)
    )


def _pull(store: FeatureStore, kind: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    view = store.get_feature_view("trips")
    provider: Any = store._get_provider()
    with quiet():
        rows: list[dict[str, Any]] = getattr(provider.offline_store, kind)(
            config=store.config, data_source=view.batch_source, join_key_columns=["driver_id"],
            feature_name_columns=["count"], timestamp_field="event",
            created_timestamp_column="created", start_date=start, end_date=end,
        ).to_arrow().to_pylist()  # fmt: skip
    return rows


@case("retrievals of one process at once do not disturb each other")
def case_37_at_once(harness: Harness) -> None:
    rows = [(d, NOON, NOON, d * d) for d in range(200)]
    view = trips(*rows)
    store = harness.open([view])
    if isinstance(harness, OnlineHarness):
        harness.materialize_as_at(store, [view], NOON)

    def one(number: int) -> list[Any]:
        keys = [(number * 7 + n) % 220 for n in range(50)]
        if harness.online:
            return read_online(store, references([view]), [{"driver_id": k} for k in keys], NOON)
        frame = pd.DataFrame({"driver_id": keys, "event_timestamp": NOON, "n": range(50)})
        job = store.get_historical_features(frame, features=references([view]))
        found = job.to_arrow().to_pylist()
        return [(row["count"],) for row in sorted(found, key=lambda row: row["n"])]

    with quiet(), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(32)))
    for number, found in enumerate(answers):
        keys = [(number * 7 + n) % 220 for n in range(50)]
        same(found, [(k * k if k < 200 else None,) for k in keys])


@case(
    "a saved dataset holds the answer, and is overwritten only where asked",
    not_online="nothing is saved from online reads",
)
def case_38_saved_dataset(harness: Harness) -> None:
    view = trips((1, NOON, NOON, 5))
    store = harness.open([view])
    path = str(harness.folder / "saved.parquet")
    frame = pd.DataFrame({"driver_id": [1, 2], "event_timestamp": [NOON, NOON]})

    def save(overwrite: bool) -> list[Any]:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            job = store.get_historical_features(frame, features=references([view]))
            store.create_saved_dataset(
                job, "saved", SavedDatasetFileStorage(path=path), allow_overwrite=overwrite
            )
            found = store.get_saved_dataset("saved").to_df()
        found = found.sort_values("driver_id")
        return [None if pd.isna(value) else int(value) for value in found["count"]]

    variants = Variants("ways to save")
    with variants.variant("once"):
        assert save(False) == [5, None]
    with variants.variant("again"), refused("saved"):
        save(False)
    with variants.variant("over it"):
        assert save(True) == [5, None]
    variants.settle()


GIGABYTES, PROCESSOR_S, PATIENCE_S = 3.0, 60, 240


@case(
    "a million entity rows against a thousand rows a key stay below 3 GB and a processor minute",
    not_online="an online store joins nothing",
)
def case_39_bounded_memory(harness: Harness) -> None:
    command = [sys.executable, "-m", "tests.stores.conformance.million", harness.name]
    with subprocess.Popen(
        [*command, str(GIGABYTES), str(PROCESSOR_S)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            out, error = child.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            raise AssertionError(f"not done after {PATIENCE_S} s") from None
    assert child.returncode not in (-signal.SIGXCPU, -signal.SIGKILL), (
        f"not done after {PROCESSOR_S} s of processor time"
    )
    raised = [line for line in error.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
    assert child.returncode == 0, raised[-1] if raised else f"ended with {child.returncode}"
    measured = json.loads(out.splitlines()[-1])
    assert measured["wrong"] == 0, f"{measured['wrong']:,} wrong rows"
    assert measured["peak_gb"] < GIGABYTES, f"{measured['peak_gb']:.1f} GB"
