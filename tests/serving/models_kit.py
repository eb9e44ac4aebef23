"""A service on a registered model, with the part that owns models, and frames to train on."""

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
from fastapi import FastAPI

from lifecycle.bundles import write
from lifecycle.registry import Evidence, Registered, open_registry, register_bundle
from models.bundle import bundle_of
from serving.app import create_app
from serving.models_part import ModelsPart, PartSettings
from serving.state import CoreSettings, Service
from tests.conftest import World
from tests.models.frames import START, plausible_frame
from tests.serving.core_kit import NAMES, filled, running, small_bundle

DATABASE = "mlflow.db"
SKILL = {
    "rows": 500, "auc": 0.9, "auc_low": 0.85, "auc_high": 0.95, "auc_persistence": 0.8, "gain": 0.1,
    "gain_low": 0.05, "gain_high": 0.15, "brier": 0.1, "ece": 0.02, "band_coverage": 0.8,
    "pinball": 1.0, "verdict": "Better than persistence.",
}  # fmt: skip
QUICK = {
    "train": {"forecaster": {"rounds": 25, "folds": 2, "rows_per_leaf": 20}},
    "evaluate": {"resamples": 200},
}
PARTS = {part: {"rows": 100, "positives": 50, "sessions": 5} for part in ("train", "dev", "test")}


def registered(uri: str, seed: int = 5, alias: str = "champion") -> Registered:
    """A small bundle as the next version of `qos`, with evidence of its gain."""
    database = Path(uri.removeprefix("sqlite:///"))
    if seed == 5 and alias == "champion" and not database.exists():
        folder, made = _first()
        shutil.copytree(folder, database.parent, dirs_exist_ok=True)
        (database.parent / DATABASE).rename(database)
        return made
    return _registered(uri, seed, alias)


@cache
def _first() -> tuple[Path, Registered]:
    """A registry with one champion, made once, to be copied."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return folder, _registered(f"sqlite:///{folder / DATABASE}", 5, "champion")


def _registered(uri: str, seed: int, alias: str) -> Registered:
    made = small_bundle(seed=seed)
    manifest = {n: made.manifest[n] for n in made.manifest.keys() - {"files", "digest", "format"}}
    manifest |= {"parameters": {"seed": seed}, "data_hash": "da" * 32, "libraries": {}}
    manifest["tasks"] = {
        task: about | {"parts": PARTS, "band": True} for task, about in manifest["tasks"].items()
    }
    bundle = bundle_of(manifest, made.tasks)
    folder = Path(uri.removeprefix("sqlite:///")).parent / f"bundle-{seed}"
    write(bundle, folder)
    metrics = {task: SKILL | {"bundle": bundle.digest} for task in bundle.tasks}
    return register_bundle(open_registry(uri), "qos", folder, Evidence(metrics, None, {}), alias)


@dataclass
class Place:
    """A filled store, a registry and the folders of a service."""

    world: World
    folder: Path
    repo: Path
    uri: str
    settings: dict[str, Any] = field(default_factory=dict)

    def app(self, **changed: Any) -> FastAPI:
        """The application; changed: of `PartSettings`."""
        given: dict[str, Any] = {
            "data": self.folder / "serving",
            "registry_uri": self.uri,
            "params": QUICK,
        }
        part = ModelsPart(PartSettings(**(given | self.settings | changed)))
        core = CoreSettings(model="qos@champion", registry_uri=self.uri, repo=self.repo)
        try:
            return create_app(core, parts=part.attach, routers=part.routers)
        except BaseException:
            part.jobs.close()
            raise


def place_of(world: World, folder: Path) -> Place:
    """With one champion in its registry."""
    folder.mkdir(parents=True, exist_ok=True)
    repo = filled(world, "embedded", folder / "project" / "feature_repo")
    uri = f"sqlite:///{folder}/mlflow.db"
    registered(uri)
    return Place(world, folder, repo, uri)


def copied(place: Place, folder: Path, store: bool = False) -> Place:
    """The same registry again, and the same store again if it is to be hurt."""
    folder.mkdir(parents=True)
    shutil.copytree(place.folder / "mlartifacts", folder / "mlartifacts")
    shutil.copy(place.folder / "mlflow.db", folder / "mlflow.db")
    repo = place.repo
    if store:
        shutil.copytree(place.repo.parent, folder / "project", symlinks=True)
        repo = folder / "project" / "feature_repo"
    return Place(place.world, folder, repo, f"sqlite:///{folder}/mlflow.db")


@contextmanager
def served(place: Place, **changed: Any) -> Iterator[tuple[httpx.Client, Service]]:
    """A client, and the service behind it."""
    app = place.app(**changed)
    with running(app) as client:
        yield client, app.state.service


def samples(
    sessions: int = 24, rows: int = 60, seed: int = 1, skill: bool = True
) -> list[dict[str, Any]]:
    """Decisions whose outcome follows the features; the baseline knows little of it, or (without
    skill) everything."""
    frame = plausible_frame(sessions, rows, seed)
    random = np.random.default_rng(seed)
    rate = frame["label_value"].to_numpy()
    noisy = rate + random.normal(0, 1, len(rate))
    baseline = random.normal(0, 1, len(rate)) if skill else rate
    found = []
    for number, row in enumerate(frame.iter_rows(named=True)):
        features = {
            "ue_rsrp_dbm_last_5s": float(np.clip(row["ue_rsrp_dbm_mean_10s"], -140, -45)),
            "ue_sinr_db_last_5s": float(np.clip(noisy[number] - 10, -20, 35)),
        }
        found.append(
            {
                "task": "throughput",
                "ue_id": f"imsi-00101{row['session_id'][-3:]:0>10}",
                "session_id": row["session_id"],
                "event_timestamp": (row["event_timestamp"]).isoformat(),
                "label_until": (row["event_timestamp"] + timedelta(seconds=10)).isoformat(),
                "label": row["label"],
                "label_value": row["label_value"],
                "persistence_score": float(baseline[number]),
                "persistence_value": row["persistence_value"],
                "five_qi": 9,
                "features": features,
            }
        )
    return found


def frame_file(path: Path) -> Path:
    """A frame as the pipeline assembles it, with every feature of the service."""
    from datetime import UTC, datetime

    from serving.samples import Sample, gate

    given = [Sample.model_validate_json(json.dumps(one)) for one in samples()]
    rows, account = gate(given, b"k" * 32, datetime.now(UTC))
    assert account["admitted"] == len(given) and set(NAMES) < set(rows.columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.with_columns(pl.col("label").cast(pl.Int8)).write_parquet(path)
    return path


__all__ = ["START", "Place", "frame_file", "place_of", "registered", "samples", "served"]
