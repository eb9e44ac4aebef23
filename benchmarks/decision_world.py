"""What the decision service is measured with: a Redis of its own that holds the features of a finished
run, and what a network would ask. Run as it is needed, removed at the end."""

import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from benchmarks.redis_process import redis_server
from feature_repo.store import open_store
from pipelines.publish import fill

CANDIDATES, KEPT = 4, 256
Features = Annotated[Path, typer.Option(help="folder of the features")]
Bundles = Annotated[Path, typer.Option(help="folder of the bundle")]
FEATURES, BUNDLE = Path("data/features"), Path("data/bundle")


@dataclass(frozen=True)
class World:
    """folder: for what the benchmark needs besides; address: of Redis; repo: folder of the store;
    asked: requests of `/api/predict-with-qos`."""

    folder: Path
    address: str
    repo: Path
    asked: list[dict[str, Any]]


@contextmanager
def decision_world(features: Path, bundle: Path) -> Iterator[World]:
    """A filled Redis, which the environment then names, and its requests."""
    with tempfile.TemporaryDirectory() as scratch, redis_server(Path(scratch)) as address:
        folder = Path(scratch)
        os.environ["QOS_REDIS"] = address
        os.environ.setdefault("QOS_PSEUDONYM_KEY", "a key of this benchmark")
        yield World(folder, address, filled(folder, features), questions(features, bundle))


def filled(folder: Path, features: Path, profile: str = "redis") -> Path:
    """The folder of a store that holds the features; exits where there are none."""
    if not features.exists():
        sys.exit(f"{features}: not there; `make run` makes it")
    repo = folder / "feature_repo"
    repo.mkdir()
    (folder / "data").mkdir()
    (folder / "data" / "features").symlink_to(features.absolute())
    fill(open_store(profile, repo), features)
    return repo


def questions(features: Path, bundle: Path) -> list[dict[str, Any]]:
    """What a network would ask of the UEs whose flows were measured last; seeded."""
    if not bundle.exists():
        sys.exit(f"{bundle}: not there; `make run` makes it")
    drawn = random.Random(8)
    parts = [pl.read_parquet(path) for path in sorted((features / "ue_flow").rglob("*.parquet"))]
    newest = pl.concat(parts, how="diagonal").sort("event_timestamp").tail(2000)
    flows = newest.select("ue_id", "five_qi").unique(maintain_order=True)
    tasks = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["tasks"]
    cells = sorted(
        {cell for task in tasks.values() for kind in task["cells"].values() for cell in kind}
    )
    known = flows.rows()
    return [question(drawn, drawn.choice(known), cells) for _ in range(KEPT)]


def question(drawn: random.Random, flow: tuple[Any, ...], cells: list[str]) -> dict[str, Any]:
    """One request of a flow (UE, 5QI) with its candidates, the first of them serving."""
    chosen = drawn.sample(cells, CANDIDATES)
    return {
        "ue_id": flow[0],
        "five_qi": flow[1],
        "connected_to": chosen[0],
        "speed_mps": 3.0,
        "observed_qos": {
            "downlink_mbps": drawn.uniform(1, 60), "downlink_delay_ms": drawn.uniform(10, 60),
            "jitter_ms": 3.0, "packet_loss_ratio": 0.0,
        },
        "candidates": [
            {
                "cell_id": cell, "rsrp_dbm": drawn.uniform(-115, -80), "rsrq_db": -11.0,
                "sinr_db": drawn.uniform(-3, 20), "prb_used_ratio": drawn.uniform(0, 1),
                "active_ue_count": drawn.randint(0, 30),
            }
            for cell in chosen
        ],
    }  # fmt: skip
