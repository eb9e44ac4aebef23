"""The commands of an example's README, run in a copy, print what the README says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
MADE = ("data", "registry.db", "online.db", "online.db-wal", "online.db-shm", "__pycache__")
_BLOCK = re.compile(r"^```(bash|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", [folder.name for folder in EXAMPLES.iterdir()])
def test_the_readme_of_an_example_holds(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns(*MADE))
    blocks = _BLOCK.findall((folder / "README.md").read_text(encoding="utf-8"))
    assert [kind for kind, _ in blocks].count("bash") >= 3
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    printed = ""
    for kind, text in blocks:
        if kind == "text":
            assert text.rstrip() == printed.rstrip()
            continue
        done = subprocess.run(
            ["bash", "-e"], input=text, text=True, cwd=folder, env=environment,
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        printed = done.stdout


def test_the_rides_use_the_stores_alone() -> None:
    ours = {"schemas", "feature_repo", "models", "lifecycle", "pipelines", "nef", "serving"}
    for file in (EXAMPLES / "rides").glob("*.py"):
        imported = re.findall(r"^(?:from|import) (\w+)", file.read_text(), re.MULTILINE)
        assert not ours & set(imported), file
