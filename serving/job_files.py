"""The files through which a job's process and the service talk; imports nothing heavy."""

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Any

import orjson

PROGRESS, RESULT, REQUEST, WORK = "progress.json", "result.json", "request", "work"


def new_id() -> str:
    """26 characters: milliseconds since 1970 in hexadecimal, then chance; sorts by time."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(7)}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in the file, or None where there is none."""
    with contextlib.suppress(OSError, orjson.JSONDecodeError):
        content = orjson.loads(path.read_bytes())
        return content if isinstance(content, dict) else None
    return None


def tell(folder: Path, progress: float, stage: str) -> None:
    """What a job's process is at; progress: 0 to 1."""
    write_json(folder / PROGRESS, {"progress": round(progress, 3), "stage": stage})


def conclude(
    folder: Path, state: str, result: dict[str, Any] | None = None, error: str | None = None
) -> None:
    """A process's last word; state: succeeded, refused or failed."""
    write_json(folder / RESULT, {"state": state, "result": result, "error": error})
