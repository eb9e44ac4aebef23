"""A simulated network with a feature store and a registered model of its own, to decide and replay in."""

import asyncio
import contextlib
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from feature_repo.catalog import catalog_hash
from feature_repo.services import SERVICES
from feature_repo.store import apply, open_store, quiet
from feature_repo.views import STORED
from feature_repo.windows import View
from lifecycle.bundles import load, write
from lifecycle.registry import Evidence, open_registry, register_bundle
from models.bundle import Bundle, bundle_of
from models.forecaster import Rows, Settings, fit_task
from nef.simulator import SimulatorParams
from pipelines.admit import split
from pipelines.aggregate import aggregate
from pipelines.publish import source_intervals
from pipelines.sources.simulator import simulator
from pipelines.stage import write_all
from serving.domain import domain_of
from serving.live import Live
from serving.predict import Decided, decide_all
from serving.requests import PredictRequest
from serving.score import Scorer
from serving.state import CoreSettings, DecisionLog, Service, Silent
from serving.vectors import Layout
from stores.reader import Limits, open_reader

if TYPE_CHECKING:
    from feast import FeatureStore

KEY = bytes(32)
SERVICE = next(one for one in SERVICES if one.name == "qos_v1")
FEATURES = SERVICE.features()
NAMES = [one.name for one in FEATURES]
PATIENT = Limits(connect_s=5, read_s=5, budget_s=5, attempts=2)
SMALL = SimulatorParams(
    sites=2, ues=8, minutes=6.0, sessions=3, concurrent=4, spread_hours=12.0, seed=3
)


def write_features(folder: Path, params: SimulatorParams = SMALL) -> None:
    """Fills `folder`/data/features with every view of a simulated network."""
    data = folder / "data"
    raw = simulator(params).tables
    write_all([(data / "admitted" / f"{n}.parquet", split(n, rows)[0]) for n, rows in raw.items()])
    for view in STORED:
        names = (view.table, view.clock_table) if isinstance(view, View) else (None, None)
        tables = [None if n is None else data / "admitted" / f"{n}.parquet" for n in names]
        write_all([(data / "features" / view.name, aggregate(view.name, *tables))])


def small_bundle(seed: int = 1, rounds: int = 12, rows: int = 1500) -> Bundle:
    """A bundle of two tasks with bands, learnt from chance within the features' ranges."""
    drawn = np.random.default_rng(seed)
    low = np.array([-100.0 if one.low is None else one.low for one in FEATURES])
    high = np.array([100.0 if one.high is None else min(one.high, 1000) for one in FEATURES])
    matrix = drawn.uniform(low, np.maximum(high, low + 1), (rows, len(NAMES)))
    weights = drawn.normal(size=len(NAMES)) / np.maximum(high - low, 1)
    signal = (matrix - low) @ weights
    matrix[drawn.random(matrix.shape) < 0.2] = np.nan
    label = (signal > np.median(signal)).astype(np.int64)
    session = np.arange(rows) * 12 // rows
    settings = Settings(rounds=rounds, folds=2, rows_per_leaf=20)

    def fitted(value: Any) -> Any:
        learnt = Rows(matrix, label, session, session >= 9, np.abs(value))
        return fit_task(learnt, NAMES, NAMES[:5], settings, seed)

    tasks = {"qos_met": fitted(signal * 20), "latency_loss": fitted(signal * 30)}
    manifest = {
        "service": SERVICE.name, "features": NAMES, "radio": NAMES[:5],
        "catalog_hash": catalog_hash(SERVICE.views), "data_hash": "-", "parameters": {"seed": seed},
        "settings": {}, "libraries": {},
        "tasks": {name: {"band": True, "cells": {}} for name in tasks},
    }  # fmt: skip
    return bundle_of(manifest, tasks)


def registered_bundle(folder: Path, bundle: Bundle, uri: str) -> tuple[Bundle, str]:
    """The bundle as read from its folder, and its version in the registry at `uri`."""
    place = folder / f"bundle-{bundle.digest[:8]}"
    write(bundle, place)
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    (plots / "roc.png").write_bytes(b"\x89PNG")
    made = register_bundle(open_registry(uri), "qos", place, Evidence({}, plots, {}), "auto")
    return load(place), f"{made.name}/{made.version}"


@dataclass(frozen=True)
class World:
    """folder: holds data/features and feature_repo/; intervals: of each view's event times."""

    folder: Path
    store: "FeatureStore"
    intervals: dict[str, tuple[datetime, datetime]]

    def fill(self, until: datetime) -> None:
        """Brings the online store up to a time."""
        begin = min(start for start, _ in self.intervals.values()) - timedelta(seconds=1)
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            self.store.materialize(begin, until, list(self.intervals))


def open_world(folder: Path, profile: str = "embedded") -> World:
    """The store over `folder`/data/features, its definitions applied and nothing online."""
    repo = folder / "feature_repo"
    repo.mkdir(exist_ok=True)
    store = open_store(profile, repo)
    apply(store)
    return World(folder, store, source_intervals(folder / "data" / "features"))


def live_of(world: World, bundle: Bundle, version: str) -> Live:
    """The model as the service holds it."""
    layout = Layout(bundle)
    with quiet():
        reader = open_reader(world.store, layout.refs, limits=PATIENT)
    return Live(bundle, version, layout, Scorer(bundle), domain_of(bundle), reader, None, (), KEY)


def decide(
    live: Live, requests: Sequence[PredictRequest], log: DecisionLog | None = None
) -> list[Decided]:
    """The decisions of the service, each asked for alone."""
    settings = replace(CoreSettings(), store_s=5.0, most_unknown=1.0)
    service = Service(settings, live, log=log or Silent())

    async def each() -> list[Decided]:
        try:
            return [one for request in requests for one in await decide_all(service, [request])]
        finally:
            await live.close()  # the loop's connections end with it

    return asyncio.run(each())


def moments(world: World, count: int) -> list[datetime]:
    """Times at which UEs are seen, in order, over the whole of the data."""
    path = world.folder / "data" / "features" / "ue_radio" / "**" / "*.parquet"
    times = pl.read_parquet(path, columns=["event_timestamp"])["event_timestamp"].unique().sort()
    places = np.linspace(len(times) // (2 * count), len(times) - 1, count).astype(int)
    found: list[datetime] = times.gather(places).to_list()
    return found


def requests_of(folder: Path, count: int, seed: int, until: datetime) -> list[PredictRequest]:
    """Requests of UEs and the cells that they hear at a time, a third with observations or overrides,
    some for a UE or a cell that there is none of."""
    chance = random.Random(seed)
    cells = _recent(folder, "ue_cell_link", "cell_id", until)
    flows = dict(_recent(folder, "ue_flow", "five_qi", until))
    asked = [chance.choice(cells) for _ in range(count)]
    return [_request(chance, ue, heard, flows.get(ue, [9])) for ue, heard in asked]


def _recent(folder: Path, view: str, key: str, until: datetime) -> list[tuple[str, list[Any]]]:
    """Each UE with the keys that the view had of it within the last 30 s."""
    rows = pl.read_parquet(folder / "data" / "features" / view / "**" / "*.parquet")
    now = pl.col("event_timestamp").is_between(until - timedelta(seconds=30), until)
    found = rows.filter(now).group_by("ue_id").agg(pl.col(key).unique().sort()).sort("ue_id")
    return list(found.iter_rows())


def _request(chance: random.Random, ue: str, cells: list[str], flows: list[int]) -> PredictRequest:
    chosen = chance.sample(cells, min(len(cells), chance.randint(1, 4)))
    if chance.random() < 0.05:
        chosen.append("00101-0000nowhere")
    candidates: list[dict[str, Any]] = [{"cell_id": cell} for cell in chosen]
    said: dict[str, Any] = {
        "ue_id": "ue-" + "0" * 20 if chance.random() < 0.05 else ue,
        "candidates": candidates,
        "service_class": chance.choice(["embb", "urllc", "default", None]),
        "five_qi": chance.choice([*flows, *flows, None]),
        "connected_to": chance.choice([*cells, None]),
    }
    if chance.random() < 0.33:
        for one in candidates:
            one |= {"rsrp_dbm": chance.uniform(-130, -60), "sinr_db": chance.uniform(-10, 25)}
    if chance.random() < 0.33:
        said["observed_qos"] = {
            "downlink_mbps": chance.uniform(0, 90), "downlink_delay_ms": chance.uniform(1, 80),
        }  # fmt: skip
    if chance.random() < 0.33:
        said["features"] = {"ue_sinr_db_mean_10s": chance.uniform(-10, 20)}
        said["speed_mps"] = chance.uniform(0, 30)
    return PredictRequest.model_validate(said)
