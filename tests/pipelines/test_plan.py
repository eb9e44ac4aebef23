"""The plan of a profile's online store, as it is printed."""

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from feature_repo.store import open_store
from feature_repo.views import STORED
from pipelines.plan import main, plan_of, table
from pipelines.publish import fill, source_intervals
from tests.conftest import World


@pytest.fixture
def world(small_world: World, tmp_path: Path) -> World:
    """A copy to open a store in."""
    own = World(tmp_path)
    shutil.copytree(small_world.features, own.features)
    own.repo.mkdir()
    return own


def test_what_is_planned_is_what_publish_writes(world: World) -> None:
    store = open_store(repo=world.repo)
    lines = plan_of(store, source_intervals(world.features))
    assert [line.view for line in lines] == [view.name for view in STORED]
    receipt = fill(store, world.features)
    assert {line.view: (line.rows, line.keys) for line in lines} == {
        name: (one["rows"], one["keys"]) for name, one in receipt.items()
    }
    assert [line.written for line in lines] == [line.keys for line in lines]
    assert {line.written for line in plan_of(store, source_intervals(world.features))} == {0}


def test_the_table_names_every_view_and_the_sum(world: World) -> None:
    lines = plan_of(open_store(repo=world.repo), source_intervals(world.features))
    console = Console(width=120, record=True)
    console.print(table(lines, "embedded"))
    text = console.export_text()
    assert all(view.name in text for view in STORED)
    assert f"{sum(line.keys for line in lines):,}" in text


def test_missing_rows_end_the_command_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"plan: .*not found"):
        main(tmp_path / "nothing", "embedded")
