"""docs/settings.md from the settings class: `python -m serving.settings_page [--check]`."""

import sys
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import AfterValidator, SecretStr
from pydantic.fields import FieldInfo

from serving.settings import OF_OTHERS, ServingSettings

PAGE = Path("docs/settings.md")
_SIGNS = (("≥", "ge"), (">", "gt"), ("≤", "le"), ("<", "lt"))
_HEAD = """# Settings of the decision service

Generated from `serving/settings.py` by `python -m serving.settings_page`; do not edit.

Each is an environment variable, read once when the service starts. A wrong value stops it with a line
that names the variable, never its value; a variable that looks like one of these and is none is warned
of. An empty variable counts as unset. Beside them: `QOS_PSEUDONYM_KEY`, the key of the pseudonyms.
Rates are written as `60/minute` or `20/10 seconds`, or several that all hold: `10/second;100/minute`.

| variable | meaning | default | allowed |
|---|---|---|---|
"""


def page() -> str:
    """The Markdown: a row for every setting, in the order of the class."""
    rows = [
        f"| `{field.validation_alias}` | {field.description} | {_default(field)} | {_allowed(field)} |"
        for field in ServingSettings.model_fields.values()
    ]
    others = ", ".join(f"`{name}`" for name in sorted(OF_OTHERS))
    return _HEAD + "\n".join(rows) + f"\n\nOf other programs, and left alone: {others}.\n"


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return "`{}`"
    return f"`{value}`"


def _allowed(field: FieldInfo) -> str:
    kind = _kind(field.annotation)
    if any(isinstance(rule, AfterValidator) for rule in field.metadata):
        kind = "rates"
    bounds = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for sign, name in _SIGNS
        if getattr(rule, name, None) is not None
    ]
    return ", ".join([kind, *bounds])


def _kind(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Annotated:
        return _kind(get_args(kind)[0])
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in get_args(kind))
    if origin in (Union, UnionType):
        return _kind(next(one for one in get_args(kind) if one is not type(None)))
    if origin is dict:
        return "JSON object"
    if kind is SecretStr:
        return "secret"
    names = {
        int: "whole number",
        float: "number",
        bool: "`true` or `false`",
        str: "text",
        Path: "path",
    }
    return names.get(kind, "URL")


def write(
    check: Annotated[bool, typer.Option(help="only say whether the page is up to date")] = False,
) -> None:
    """Writes the page."""
    made = page()
    if not check:
        PAGE.write_text(made, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != made:
        sys.exit(f"{PAGE} is out of date: python -m serving.settings_page")


if __name__ == "__main__":
    typer.run(write)
