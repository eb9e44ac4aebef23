"""A function as a stage: its flags, its one line of error, outputs that are whole or as before."""

import ast
import importlib
import inspect
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import polars as pl
import pytest
import yaml

from pipelines import stage
from pipelines.stage import read_table, run, write_all
from schemas.errors import QosError
from schemas.tables import UeMotion, dtypes

ROOT = Path(__file__).parents[2]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PACKAGES = ("schemas", "stores", "feature_repo", "models", "lifecycle", "pipelines", "nef")


@dataclass(frozen=True)
class Params:
    factor: float = 2.0


class Result(NamedTuple):
    table: pl.DataFrame
    few_facts: dict[str, object]


def label(rows: pl.DataFrame, name: str, params: Params, count: int = 3) -> Result:
    """Doubles x."""
    if name == "bad":
        raise QosError(f"rows: {count} of them are bad")
    if name == "broken":
        raise ZeroDivisionError("a fault of ours")
    return Result(rows.with_columns(pl.col("x") * params.factor), {"name": name, "count": count})


def assemble(rows: Annotated[pl.DataFrame, UeMotion]) -> pl.DataFrame:
    """Validates."""
    return rows


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("label: {}\n")
    pl.DataFrame({"x": [1.0, 2.0]}).write_parquet("rows.parquet")
    return tmp_path


ARGV = ["--rows", "rows.parquet", "--out-table", "out/t.parquet", "--out-few-facts", "out/f.json"]


def test_a_function_becomes_a_command_with_a_flag_for_each_parameter_and_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "read_params", lambda path, section, kind: kind(factor=10.0))
    run(label, [*ARGV, "--name", "n", "--count", "4"])
    assert pl.read_parquet("out/t.parquet")["x"].to_list() == [10.0, 20.0]
    assert json.loads((folder / "out/f.json").read_text()) == {"name": "n", "count": 4}
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["f.json", "t.parquet"]
    timing = json.loads((folder / ".qos/stages/label.json").read_text())
    assert timing["stage"] == "label" and timing["seconds"] >= 0 and timing["peak_rss_gb"] > 0


@pytest.mark.parametrize("missing", ["--rows", "--name", "--out-table", "--out-few-facts"])
def test_a_flag_left_out_is_named(
    missing: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*ARGV, "--name", "n"]
    place = argv.index(missing)
    with pytest.raises(SystemExit) as ended:
        run(label, argv[:place] + argv[place + 2 :])
    assert ended.value.code == 2 and missing in capsys.readouterr().err


def test_a_users_fault_is_one_line_and_writes_nothing(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/f.json").write_text("as before")
    with pytest.raises(SystemExit) as ended:
        run(label, [*ARGV, "--name", "bad"])
    said = str(ended.value.code).splitlines()
    assert said[0] == "label: rows: 3 of them are bad"
    assert said[1:] == [
        "label: nothing was written; `dvc checkout` brings the last good outputs back"
    ]
    assert [p.read_text() for p in (folder / "out").iterdir()] == ["as before"]
    assert not (folder / ".qos").exists()


def test_a_fault_of_ours_is_not_dressed_as_the_users(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run(label, [*ARGV, "--name", "broken"])


def test_the_real_command_ends_with_code_1_and_no_traceback(folder: Path) -> None:
    command = [sys.executable, "-m", "pipelines.aggregate", "--view", "no_view", "--out", "o"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 1
    assert done.stderr.startswith("aggregate: --view 'no_view': no such view; there are")
    assert "Traceback" not in done.stderr and not (folder / "o").exists()


def test_a_table_is_held_to_its_contract(folder: Path) -> None:
    with pytest.raises(QosError, match=r"nowhere\.parquet: not found; `dvc repro` makes it"):
        read_table(Path("nowhere.parquet"))
    with pytest.raises(SystemExit, match=r"assemble: rows\.parquet: .*missing") as ended:
        run(assemble, ["--rows", "rows.parquet", "--out", "o.parquet"])
    assert len(str(ended.value.code).splitlines()) == 2
    pl.DataFrame(schema=dtypes("ue_motion")).write_parquet("rows.parquet")
    run(assemble, ["--rows", "rows.parquet", "--out", "o.parquet"])
    assert Path("o.parquet").exists()


# --- outputs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """Writes one file, then fails if told to."""

    text: str
    fault: Exception | None = None

    def write(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "a.txt").write_text(self.text)
        if self.fault:
            raise self.fault


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_what_fails_half_way_leaves_every_old_output_as_it_was(
    tmp_path: Path, fault: Exception
) -> None:
    old: list[tuple[Path, Any]] = [
        (tmp_path / "d", Folder("old")),
        (tmp_path / "f.json", {"a": "old"}),
    ]
    write_all(old)
    with pytest.raises(type(fault)):
        write_all([(tmp_path / "f.json", {"a": 1}), (tmp_path / "d", Folder("new", fault))])
    assert (tmp_path / "d" / "a.txt").read_text() == "old"
    assert json.loads((tmp_path / "f.json").read_text()) == {"a": "old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "f.json"]


def test_a_value_that_json_cannot_hold_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_all([(tmp_path / "a" / "x.json", {"a": 1}), (tmp_path / "y.json", {"a": object()})])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_new_output_replaces_the_old_one_whole(tmp_path: Path) -> None:
    write_all([(tmp_path / "d", Folder("old"))])
    (tmp_path / "d" / "stale.txt").write_text("of a former run")
    write_all([(tmp_path / "d", Folder("new"))])
    assert [(p.name, p.read_text()) for p in (tmp_path / "d").iterdir()] == [("a.txt", "new")]


# --- dvc.yaml ----------------------------------------------------------------------------------


def _stages() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and definition of each stage, a foreach's with its first item filled in."""
    for name, defined in DVC["stages"].items():
        if "foreach" not in defined:
            yield name, defined
            continue
        for key, item in defined["foreach"].items():
            text = json.dumps(defined["do"]).replace("${key}", key)
            for part, value in item.items():
                text = text.replace(f"${{item.{part}}}", value)
            yield f"{name}@{key}", json.loads(text)


STAGES = dict(_stages())
each_stage = pytest.mark.parametrize("name", STAGES)


def _command(name: str) -> tuple[str, dict[str, str]]:
    """The module of a stage and its flags with their values."""
    python, dash_m, module, *flags = shlex.split(STAGES[name]["cmd"])
    assert (python, dash_m) == ("python", "-m")
    return module, dict(zip(flags[::2], flags[1::2], strict=True))


@each_stage
def test_each_flag_of_a_stage_is_one_of_its_functions(name: str) -> None:
    module, flags = _command(name)
    function = getattr(importlib.import_module(module), module.rsplit(".", 1)[1])
    argv = [part for pair in flags.items() for part in pair]
    parsed = vars(stage._parser(function).parse_args(argv))
    assert len(parsed) >= len(flags)
    for flag, value in flags.items():
        key = flag.removeprefix("--").replace("-", "_")
        where = f"out:{key.removeprefix('out').removeprefix('_')}" if key.startswith("out") else key
        assert str(parsed[where]) == value, flag
    takes_params = "params" in inspect.signature(function).parameters
    assert STAGES[name].get("params", []) == ([module.rsplit(".", 1)[1]] if takes_params else [])


@each_stage
def test_what_a_stage_writes_is_what_dvc_is_told(name: str) -> None:
    _, flags = _command(name)
    written = {value for flag, value in flags.items() if flag.startswith("--out")}
    written -= {place for place in written if place.startswith(".qos/")}  # a machine's own
    told = {
        out if isinstance(out, str) else next(iter(out))
        for kind in ("outs", "metrics")
        for out in STAGES[name].get(kind, [])
    }
    assert written == told


@each_stage
def test_what_a_stage_reads_is_a_dependency(name: str) -> None:
    _, flags = _command(name)
    read = {v for flag, v in flags.items() if not flag.startswith("--out") and "/" in v}
    assert {path for path in read if not _covered(path, STAGES[name]["deps"])} == set()


def _covered(path: str, deps: list[str]) -> bool:
    return any(f"{path}/".startswith(f"{dep}/") or dep.startswith(f"{path}/") for dep in deps)


def _imports(path: Path) -> set[Path]:
    """The project's modules that a module imports anywhere in it, and the packages above them."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in PACKAGES:
                place = ROOT.joinpath(*name.split("."))
                found |= {
                    p for p in (place.with_suffix(".py"), place / "__init__.py") if p.exists()
                }
    return found


# What runs every stage alike, and the definitions, which reach the stages as feature_repo/catalog.
EVERYWHERE = ("pipelines/stage.py", "pipelines/params.py", "schemas/errors.py")
BY_CATALOG = ("feature_repo/views", "feature_repo/services.py", "feature_repo/windows.py",
              "feature_repo/catalog.py", "feature_repo/definitions.py", "schemas/five_qi.py",
              "feature_repo/feast_objects.py", "feature_repo/frames.py")  # fmt: skip


def missing_dependencies(name: str) -> list[str]:
    """The project's modules that a stage's module imports, over others too, and DVC does not watch."""
    module, _ = _command(name)
    deps = STAGES[name]["deps"]
    by_catalog = any(dep.startswith("feature_repo/catalog") for dep in deps)
    passed = [*EVERYWHERE, *(BY_CATALOG if by_catalog else ())]
    todo, seen = [ROOT.joinpath(*module.split(".")).with_suffix(".py")], set()
    while todo:
        path = todo.pop()
        if path not in seen and not _covered(str(path.relative_to(ROOT)), passed):
            seen.add(path)
            todo += _imports(path)
    paths = {str(path.relative_to(ROOT)) for path in seen if path.name != "__init__.py"}
    return sorted(path for path in paths if not _covered(path, deps))


@each_stage
def test_dvc_watches_every_module_that_a_stage_runs(name: str) -> None:
    assert missing_dependencies(name) == []
