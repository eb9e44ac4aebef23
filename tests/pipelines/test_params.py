"""params.yaml fits its stages, and what does not fit is refused with a word on what would."""

import importlib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from pipelines.params import SECTIONS, UnknownParameterError, read_params
from schemas.errors import QosError

PARAMS = Path(__file__).parents[2] / "params.yaml"


@dataclass(frozen=True)
class Inner:
    depth: int = 3


@dataclass(frozen=True)
class Outer:
    rate: float = 1.5
    rows: int = 7
    name: str = "a"
    exact: bool = False
    kind: Literal["warm", "cold"] = "warm"
    limit: float | None = None
    tasks: tuple[str, ...] = ("a", "b")
    inner: Inner = field(default_factory=Inner)


def read(tmp_path: Path, text: str) -> Outer:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return read_params(path, "train", Outer)


@pytest.mark.parametrize("text", ["", "train:", "train: {}", "label: {tasks: [a]}"])
def test_what_is_absent_takes_the_default(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == Outer()


def test_each_kind_of_value_is_filled_in(tmp_path: Path) -> None:
    text = (
        "train: {rate: 2, rows: 8, name: b, exact: true, kind: cold, limit: 4, tasks: [c],"
        " inner: {depth: 5}}"
    )
    found = read(tmp_path, text)
    assert found == Outer(2.0, 8, "b", True, "cold", 4.0, ("c",), Inner(5))
    assert isinstance(found.rate, float) and isinstance(found.limit, float)
    assert read(tmp_path, "train: {limit: null}").limit is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {rats: 2}", "train: unknown ['rats']; known: ["),
        ("train: {rats: 2}", "did you mean 'rate'?"),
        ("trian: {}", "unknown ['trian']; known: ["),
        ("trian: {}", "did you mean 'train'?"),
        ("train: {inner: {dept: 2}}", "train.inner: unknown ['dept']; known: ['depth']; did you"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(UnknownParameterError) as refused:
        read(tmp_path, text)
    assert said in str(refused.value) and "params.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rate: fast", "train.rate is 'fast' (str); it takes float"),
        ("rate: true", "train.rate is True (bool); it takes float"),
        ("rows: 1.5", "train.rows is 1.5 (float); it takes int"),
        ("rows: true", "train.rows is True (bool); it takes int"),
        ("rows: null", "train.rows is None (NoneType); it takes int"),
        ("exact: 1", "train.exact is 1 (int); it takes bool"),
        ("name: 3", "train.name is 3 (int); it takes str"),
        ("kind: hot", "train.kind is 'hot'; allowed: ['warm', 'cold']"),
        ("limit: x", "train.limit is 'x' (str); it takes float or NoneType"),
        ("tasks: a", "train.tasks is 'a' (str); it takes tuple"),
        ("tasks: [a, 1]", "train.tasks is 1 (int); it takes str"),
        ("inner: 4", "train.inner is 4 (int); it takes Inner"),
        ("inner: {depth: deep}", "train.inner.depth is 'deep' (str); it takes int"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_it_takes(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(QosError) as refused:
        read(tmp_path, f"train: {{{text}}}")
    assert str(refused.value).endswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: 3", "train is 3 (int); it takes a mapping"),
        ("train: [1, 2]", "train is [1, 2] (list); it takes a mapping"),
        ("- train", "is a list; it takes a mapping of sections"),
        ("train: {", "not YAML: "),
        ("train: {1: 2}", "train: unknown ['1']; known: ["),
        ("1: {}", "unknown ['1']; known: ["),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(QosError) as refused:
        read(tmp_path, text)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(QosError, match=r"nowhere\.yaml: not found; stages run in the folder"):
        read_params(tmp_path / "nowhere.yaml", "train", Outer)


@pytest.mark.parametrize("section", yaml.safe_load(PARAMS.read_text(encoding="utf-8")))
def test_each_section_of_the_project_fits_its_stage(section: str) -> None:
    assert section in SECTIONS
    stage: Any = getattr(importlib.import_module(f"pipelines.{section}"), section)
    kind = typing.get_type_hints(stage)["params"]
    read_params(PARAMS, section, kind)
