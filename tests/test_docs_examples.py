"""The examples of docs/, run block by block in a checkout of their own.

A block whose first line is `# <path>` is that file; any other bash or python block is run where the
packages are, and the text block after it is what it prints (… stands for anything). A console block, with
its `$`, shows what is typed by hand and is not run in its turn: what does not end, what takes minutes, or
what changes the checkout behind a page's back.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from nef.simulator import SimulatorParams
from pipelines import admit, collect
from pipelines.stage import write_all
from tests.conftest import SMALL, World

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COPIED = (
    "Makefile", "benchmarks", "docs", "dvc.yaml", "feature_repo", "lifecycle", "models", "nef",
    "data/capture/.gitignore", "params.yaml", "pipelines", "pyproject.toml", "schemas", "serving",
    "stores", "tests/__init__.py", "tests/conftest.py", "tests/feature_repo/__init__.py",
)  # fmt: skip
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w/.-]+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """kind: bash, python, yaml or text; printed: the text that the page says comes out, or ""."""

    kind: str
    code: str
    printed: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page; a text block right after another one belongs to that one."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for match in _BLOCK.finditer(text):
        kind, code = match.groups()
        directly = text[end : match.start()].strip() == ""
        if kind == "text" and found and directly:
            found[-1] = Block(found[-1].kind, found[-1].code, code)
        else:
            found.append(Block(kind, code, ""))
        end = match.end()
    return found


def environment_in(folder: Path) -> dict[str, str]:
    """Of a command in the checkout."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return inherited | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "QOS_PSEUDONYM_KEY": "a key of this test alone",
    }


def run(
    folder: Path, command: list[str], code: str = "", changed: Mapping[str, str] | None = None
) -> str:
    """What a command prints in the checkout; fails with what it said. changed: of its environment."""
    done = subprocess.run(
        command,
        input=code,
        cwd=folder,
        env=environment_in(folder) | dict(changed or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{code or command}\n{done.stdout}{done.stderr}"
    return done.stdout


def perform(
    folder: Path, page: str, instead: Mapping[str, str] | None = None,
    changed: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Runs every block of the page in its order and compares what comes out.

    instead: what stands in the blocks for what the page says, as an address; changed: of the environment.
    """
    for block in blocks(page):
        if placed := _FILE.match(block.code):
            path = folder / placed[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code.removeprefix(placed[0]), encoding="utf-8")
        elif block.kind in ("bash", "python"):
            runner = ["bash", "-euo", "pipefail"] if block.kind == "bash" else [sys.executable, "-"]
            code = block.code
            for said, meant in (instead or {}).items():
                code = code.replace(said, meant)
            printed = run(folder, runner, code, changed)
            wanted = re.escape(block.printed.strip()).replace("…", ".*")
            if block.printed:
                assert re.fullmatch(wanted, printed.strip()), (block.code, printed)


def copy_to(folder: Path) -> None:
    """What the pages' commands need; the environment stands ready."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns("*.db", "*.pyc.*")
            shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)
    ready = folder / ".venv" / ".ready"  # `make` would install what this process already has
    ready.parent.mkdir()
    (folder / "uv.lock").touch()
    ready.touch()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Under DVC but without outputs."""
    copy_to(tmp_path)
    run(tmp_path, [sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"])
    return tmp_path


@pytest.fixture
def computed(checkout: Path, small_world: World) -> Path:
    """A checkout in which raw, admitted and feature rows are up to date."""
    data = checkout / "data"
    shutil.copytree(small_world.features, data / "features")
    params = yaml.safe_load((checkout / "params.yaml").read_text(encoding="utf-8"))
    plain = SimulatorParams()
    changed = {k: v for k, v in vars(SMALL).items() if v != getattr(plain, k)}
    params["collect"]["simulator"] = changed
    (checkout / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    write_all([(data / "raw", collect.collect(collect.Params(simulator=SMALL)))])
    found = admit.admit(data / "raw", admit.Params())
    write_all([(data / "admitted", found.admitted), (data / "quarantine", found.quarantine)])
    write_all([(data / "metrics" / "admit.json", found.metrics)])
    stages = ["collect", "admit", "aggregate"]
    run(checkout, [sys.executable, "-m", "dvc", "commit", "--quiet", "--force", *stages])
    return checkout


def test_bring_your_own_data(checkout: Path) -> None:
    perform(checkout, "bring-your-own-data.md")
    mapping = "docs/examples/drive-test.yaml"
    shown, kept = checkout / mapping, ROOT / mapping
    assert yaml.safe_load(shown.read_text()) == yaml.safe_load(kept.read_text())
    raw = b"".join(path.read_bytes() for path in (checkout / "data" / "raw").iterdir())
    assert b"262019876543210" not in raw


def test_the_page_shows_the_first_lines_of_its_file() -> None:
    lines = (DOCS / "examples" / "drive-test.csv").read_text(encoding="utf-8").splitlines()
    assert blocks("bring-your-own-data.md")[0].code.splitlines() == lines[:2]


def test_add_a_feature(computed: Path) -> None:
    perform(computed, "add-a-feature.md")


@pytest.mark.parametrize("page", ["bring-your-own-data.md", "add-a-feature.md"])
def test_every_block_is_of_a_kind_that_is_run(page: str) -> None:
    found = blocks(page)
    assert {block.kind for block in found} <= {"bash", "python", "yaml", "text"}
    assert all(_FILE.match(block.code) for block in found if block.kind == "yaml")
    assert text_fences(page) == 2 * sum(1 + bool(block.printed) for block in found)


def text_fences(page: str) -> int:
    """How many fence lines the page has."""
    return (DOCS / page).read_text(encoding="utf-8").count("```")


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_links_lead_to_files(page: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)", (DOCS / page).read_text(encoding="utf-8"))
    assert all((DOCS / target).exists() for target in targets), targets
