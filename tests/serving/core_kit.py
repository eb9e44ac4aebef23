"""A small bundle of the real service, a filled online store and a running decision service."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
from fastapi import FastAPI

from feature_repo.catalog import catalog_hash
from feature_repo.services import SERVICES
from feature_repo.store import open_store
from lifecycle.bundles import write
from lifecycle.pseudonym import pseudonym
from models.bundle import Bundle, bundle_of
from models.forecaster import Rows, Settings, TaskModel, fit_task
from pipelines.publish import fill
from serving.app import create_app
from serving.state import CoreSettings
from tests.conftest import World
from tests.served import served

SERVICE = next(one for one in SERVICES if one.name == "qos_v1")
NAMES = [one.name for one in SERVICE.features()]
RADIO = NAMES[:34]
QUICK = Settings(rounds=25, patience=25, folds=2, leaves=15)
REPO = "feature_repo"
KEY = "a key of these tests alone"


def rows_of(count: int = 3000, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Features within their ranges, every tenth unknown; and the rate that follows from some."""
    random = np.random.default_rng(seed)
    low = np.array([-100.0 if one.low is None else one.low for one in SERVICE.features()])
    high = np.array([100.0 if one.high is None else one.high for one in SERVICE.features()])
    middle, width = (low + high) / 2, (high - low) / 8
    features = random.normal(middle, width, (count, len(NAMES))).clip(low, high)
    at = {name: place for place, name in enumerate(NAMES)}
    features[:, at["request_downlink_mbps"]] = random.uniform(1, 100, count)
    sinr = random.normal(8, 8, count).clip(-20, 30)
    features[:, at["ue_sinr_db_last_5s"]] = sinr
    features[:, at["ue_rsrp_dbm_last_5s"]] = (-95 + sinr).clip(-140, -40)
    load = random.uniform(0, 1, count)
    features[:, at["cell_prb_used_ratio_last_1m"]] = load
    rate = 60 * (1 - load) * np.exp(sinr / 20) + random.normal(0, 3, count)
    features[random.uniform(size=features.shape) < 0.1] = np.nan
    return features, rate.clip(0.1)


def small_bundle(seed: int = 5, **changed: Any) -> Bundle:
    """Two tasks, fitted in about a second; changed: entries of its manifest."""
    tasks = _tasks(seed)
    cells = {"familiar": _cells(), "rare": []}
    manifest = {
        "service": "qos_v1",
        "features": NAMES,
        "radio": RADIO,
        "catalog_hash": catalog_hash(SERVICE.views),
        "tasks": {name: {"cells": cells, "fitted": task.fitted} for name, task in tasks.items()},
    } | changed
    return bundle_of(json.loads(json.dumps(manifest)), tasks)


@cache
def _tasks(seed: int) -> dict[str, TaskModel]:
    features, rate = rows_of(seed=seed)
    count = len(rate)
    asked = features[:, NAMES.index("request_downlink_mbps")]
    session = np.arange(count) // 100
    dev = session >= 24
    met = np.where(np.isnan(asked), rate > 40, rate >= asked).astype(np.int64)
    delay = 400 / rate
    return {
        "qos_met": _fit(features, met, session, dev, rate),
        "latency_loss": _fit(features, (delay > 20).astype(np.int64), session, dev, delay),
    }


def _fit(features: Any, label: Any, session: Any, dev: Any, value: Any) -> TaskModel:
    return fit_task(Rows(features, label, session, dev, value), NAMES, RADIO, QUICK, 1)


def _cells() -> list[str]:
    return [f"00101-{site:09}" for site in (1001, 1002, 1003, 2001, 2002, 2003)]


def bundle_folder(folder: Path, **changed: Any) -> Path:
    """The bundle written down."""
    write(small_bundle(**changed), folder)
    return folder


def filled(world: World, profile: str, repo: Path) -> Path:
    """The folder of a feature store that holds the small world's features, subscribers by pseudonym."""
    if profile != "embedded":
        return _filled(world, profile, repo)
    shutil.copytree(_embedded(world).parent, repo.parent, dirs_exist_ok=True)
    if repo.name != REPO:
        (repo.parent / REPO).rename(repo)
    return repo


@cache
def _embedded(world: World) -> Path:
    """Filled once, to be copied."""
    return _filled(world, "embedded", world.folder.with_name("filled") / REPO)


def _filled(world: World, profile: str, repo: Path) -> Path:
    features = repo.parent / "data" / "features"
    for path in world.features.rglob("*.parquet"):
        rows = pl.read_parquet(path)
        if "ue_id" in rows.columns:
            named = {one: pseudonym(one, KEY.encode()) for one in rows["ue_id"].unique()}
            rows = rows.with_columns(pl.col("ue_id").replace_strict(named))
        beside = features / path.relative_to(world.features)
        beside.parent.mkdir(parents=True, exist_ok=True)
        rows.write_parquet(beside)
    repo.mkdir(parents=True)
    fill(open_store(profile, repo), features)
    return repo


def wired_on(folder: Path, bundle: Bundle, world: World) -> dict[str, Any]:
    """Settings of the whole service with that model on a filled store; all it keeps is in the folder."""
    write(bundle, folder / "bundle")
    repo = filled(world, "embedded", folder / "feature_repo")
    return {
        "model": str(folder / "bundle"), "repo": repo, "data": folder / "data", "store_s": 5.0,
        "registry_uri": f"sqlite:///{folder / 'mlflow.db'}", "log_level": "error",
    }  # fmt: skip


def busiest(world: World) -> tuple[str, int, list[str]]:
    """The UE heard of last with its 5QI, and the cells that it hears, the serving one first."""
    flow = pl.read_parquet(world.admitted / "ue_flow.parquet").sort("arrival_timestamp")
    newest = flow.tail(1)
    ue = newest["ue_id"].item()
    heard = (
        world.table("ue_neighbour").filter(pl.col("ue_id") == ue).sort("event_timestamp", "rank")
    )
    last = heard.filter(pl.col("event_timestamp") == pl.col("event_timestamp").max())
    return ue, newest["five_qi"].item(), last["cell_id"].unique(maintain_order=True).to_list()


def app_on(bundle: Path, profile: str, repo: Path, **changed: Any) -> FastAPI:
    """The application on that store."""
    return create_app(CoreSettings(model=str(bundle), profile=profile, repo=repo, **changed))


@contextmanager
def running(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of the application, served over loopback in a thread."""
    with served(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client
