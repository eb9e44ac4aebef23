"""The clean-up of a profile's online store, as it is printed."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from feature_repo.store import open_store
from pipelines import cleanup as command
from pipelines.publish import fill
from stores.cleanup import Finding
from tests.conftest import World


def test_a_dry_run_says_what_apply_removes(
    small_world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = World(tmp_path)
    shutil.copytree(small_world.features, own.features)
    own.repo.mkdir()
    store = open_store(repo=own.repo)
    fill(store, own.features)
    monkeypatch.setattr(command, "open_store", lambda profile: open_store(profile, own.repo))
    with closing(sqlite3.connect(tmp_path / ".qos" / "online.db")) as connection, connection:
        connection.execute(
            "UPDATE qos_ue_radio SET feature_name = 'no_such' WHERE feature_name IN "
            "(SELECT min(feature_name) FROM qos_ue_radio)"
        )
        ((rows,),) = connection.execute(
            "SELECT count(*) FROM qos_ue_radio WHERE feature_name = 'no_such'"
        )
    command.main("embedded", apply=False, grace_hours=1e6)
    dry = capsys.readouterr().out
    assert "orphaned feature" in dry and "ue_radio" in dry and f"{rows:,}" in dry
    command.main("embedded", apply=True, grace_hours=1e6)
    assert "removed from" in capsys.readouterr().out
    command.main("embedded", apply=False, grace_hours=1e6)
    assert "nothing to remove" in capsys.readouterr().out


def test_the_table_has_a_line_a_finding() -> None:
    console = Console(width=100, record=True)
    found = [Finding("expired", "ue_radio", 1_200, 24_000)]
    console.print(command.table(found, "redis", applied=False))
    text = console.export_text()
    assert all(word in text for word in ("expired", "ue_radio", "1,200", "24,000", "--apply"))


def test_an_unknown_profile_ends_the_command_with_one_line() -> None:
    with pytest.raises(SystemExit, match="cleanup: profile 'nowhere'"):
        command.main("nowhere", apply=False, grace_hours=24.0)
