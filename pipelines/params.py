"""Reads one section of params.yaml into a stage's frozen Params, refusing what it does not know."""

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import QosError, listed

P = typing.TypeVar("P")

PARAMS_FILE = Path("params.yaml")
TIMINGS = Path(".qos/stages")  # one JSON a stage: how long its last run took

SECTIONS = (
    "collect", "admit", "check", "aggregate", "label", "assemble", "train", "evaluate", "register",
)  # fmt: skip


class UnknownParameterError(QosError):
    """A key of params.yaml that no stage knows."""

    @classmethod
    def of(cls, path: Path, section: str, unknown: set[str], known: set[str]) -> typing.Self:
        guess = difflib.get_close_matches(min(unknown), known, n=1)
        hint = f"; did you mean {guess[0]!r}?" if guess else ""
        where = f"{path}: {section}" if section else f"{path}"
        return cls(f"{where}: unknown [{listed(sorted(unknown))}]; known: {sorted(known)}{hint}")


def read_params(path: Path, section: str, kind: type[P]) -> P:
    """`kind` filled from one section; nested dataclasses are filled from nested mappings.

    A missing section or key takes the default of the dataclass. Raises `UnknownParameterError` for a
    section or key that nobody knows and `QosError` for a value of another type.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise QosError(f"{path}: not found; stages run in the folder that holds it") from None
    except yaml.YAMLError as error:
        raise QosError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise QosError(f"{path}: is a {type(content).__name__}; it takes a mapping of sections")
    if unknown := set(map(str, content)) - set(SECTIONS):
        raise UnknownParameterError.of(path, "", unknown, set(SECTIONS))
    given = content.get(section) or {}
    if not isinstance(given, dict):
        raise QosError(
            f"{path}: {section} is {given!r} ({type(given).__name__}); it takes a mapping"
        )
    return _fill(path, section, kind, given)


def _fill(path: Path, where: str, kind: type[P], given: dict[str, Any]) -> P:
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := set(map(str, given)) - known:
        raise UnknownParameterError.of(path, where, unknown, known)
    return kind(
        **{
            name: _value(path, f"{where}.{name}", hints[name], value)
            for name, value in given.items()
        }
    )


def _value(path: Path, where: str, hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _fill(path, where, hint, value)  # type: ignore[arg-type]
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_value(path, where, typing.get_args(hint)[0], item) for item in value)
    options = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (typing.Union, types.UnionType)
        else (hint,)
    )
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(hint) is typing.Literal:
        if value not in typing.get_args(hint):
            allowed = list(typing.get_args(hint))
            raise QosError(f"{path}: {where} is {value!r}; allowed: {allowed}")
        return value
    plain = tuple(typing.get_origin(option) or option for option in options)
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        names = " or ".join(getattr(option, "__name__", str(option)) for option in plain)
        raise QosError(f"{path}: {where} is {value!r} ({type(value).__name__}); it takes {names}")
    return value
