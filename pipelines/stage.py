"""Turns one pure function into one DVC stage: flags from its signature, params, checks, safe writes.

    def aggregate(rows: Annotated[pl.DataFrame, UE_RADIO], params: Params) -> Result: ...

    if __name__ == "__main__":
        run(aggregate)

- `x: pl.DataFrame` becomes `--x FILE.parquet`; annotated with a dataframely contract it is validated.
- `x: Path` becomes `--x PATH`; `x: str` and `x: int` a plain option.
- `params: Params` is the section of params.yaml that bears the module's name.
- the result is one value (`--out PATH`) or a NamedTuple (one `--out-<field> PATH` each). A DataFrame
  is written as Parquet, a dict as JSON, anything else offers `write(path)`.

Outputs are written beside their place and renamed when all are complete, so that none is ever half
written. A `QosError` ends the stage with one line and exit code 1.
"""

import argparse
import inspect
import json
import os
import resource
import shutil
import sys
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl

from pipelines.params import PARAMS_FILE, TIMINGS, read_params
from schemas.errors import QosError


def run(function: Callable[..., Any], argv: list[str] | None = None) -> None:
    """Runs one stage from the command line and exits; see the module's docstring."""
    stage = function.__name__
    started = time.perf_counter()
    try:
        arguments = _parser(function).parse_args(argv)
        result = function(**_inputs(function, stage, arguments))
        write_all(_outputs(function, result, arguments))
    except QosError as error:
        sys.exit(
            f"{stage}: {error}\n"
            f"{stage}: nothing was written; `dvc checkout` brings the last good outputs back"
        )
    _note_timing(stage, arguments, time.perf_counter() - started)


def _parser(function: Callable[..., Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {_module(function)}", description=inspect.getdoc(function)
    )
    for name, parameter in inspect.signature(function).parameters.items():
        if name != "params":
            kind, _ = _kind_and_contract(function, name)
            required = parameter.default is inspect.Parameter.empty
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                dest=name,
                required=required,
                default=None if required else parameter.default,
                type=kind if kind in (str, int) else Path,
                help=f"{getattr(kind, '__name__', kind)}",
            )
    for field in _result_fields(function):
        parser.add_argument(
            _out_flag(field),
            dest=f"out:{field}",
            type=Path,
            required=True,
            metavar="PATH",
        )
    return parser


def _module(function: Callable[..., Any]) -> str:
    return (
        Path(inspect.getfile(function)).stem
        if function.__module__ == "__main__"
        else (function.__module__)
    )


def _kind_and_contract(function: Callable[..., Any], name: str) -> tuple[Any, Any]:
    hint = typing.get_type_hints(function, include_extras=True)[name]
    if typing.get_origin(hint) is typing.Annotated:
        kind, contract = typing.get_args(hint)[:2]
        return kind, contract
    return hint, None


def _result_fields(function: Callable[..., Any]) -> tuple[str, ...]:
    result = typing.get_type_hints(function)["return"]
    return getattr(result, "_fields", ("",))


def _out_flag(field: str) -> str:
    return f"--out-{field.replace('_', '-')}" if field else "--out"


def _inputs(
    function: Callable[..., Any], stage: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for name in inspect.signature(function).parameters:
        kind, contract = _kind_and_contract(function, name)
        if name == "params":
            inputs[name] = read_params(PARAMS_FILE, stage, kind)
        elif kind is pl.DataFrame:
            inputs[name] = read_table(getattr(arguments, name), contract)
        else:
            inputs[name] = getattr(arguments, name)
    return inputs


def read_table(path: Path, contract: type[dy.Schema] | None = None) -> pl.DataFrame:
    """The Parquet table at `path`, validated if a contract is given; raises `QosError`."""
    if not path.exists():
        raise QosError(f"{path}: not found; `dvc repro` makes it")
    table = pl.read_parquet(path)
    if contract is None:
        return table
    try:
        return contract.validate(table)
    except (dy.exc.ValidationError, dy.exc.SchemaError) as error:
        raise QosError(f"{path}: {' '.join(str(error).split())}") from None


def _outputs(
    function: Callable[..., Any], result: Any, arguments: argparse.Namespace
) -> list[tuple[Path, Any]]:
    fields = _result_fields(function)
    values = (result,) if fields == ("",) else tuple(result)
    return [
        (getattr(arguments, f"out:{field}"), value)
        for field, value in zip(fields, values, strict=True)
    ]


def write_all(outputs: list[tuple[Path, Any]]) -> None:
    """Writes every value beside its path, then renames all: either each output is whole or absent."""
    pending: list[tuple[Path, Path]] = []
    try:
        for path, value in outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".{path.name}.{os.getpid()}.part")
            pending.append((beside, path))
            _write(value, beside)
        for beside, path in pending:
            if path.is_dir():
                shutil.rmtree(path)
            beside.replace(path)
    finally:
        for beside, _ in pending:
            shutil.rmtree(beside) if beside.is_dir() else beside.unlink(missing_ok=True)


def _write(value: Any, path: Path) -> None:
    if isinstance(value, pl.DataFrame):
        value.write_parquet(path, compression="zstd", statistics=True)
    elif isinstance(value, dict):
        path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    else:
        value.write(path)


def _note_timing(stage: str, arguments: argparse.Namespace, seconds: float) -> None:
    """Leaves seconds and peak memory of the stage's run where `make run` and the benchmark look."""
    label = next((v for n, v in vars(arguments).items() if n in ("view", "profile") and v), None)
    name = f"{stage}@{label}" if label else stage
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    write_all(
        [
            (
                TIMINGS / f"{name}.json",
                {
                    "stage": name,
                    "seconds": round(seconds, 3),
                    "peak_rss_gb": round(peak_gb, 3),
                    "finished_unix_s": time.time(),
                },
            )
        ]
    )
