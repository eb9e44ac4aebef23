"""A job, and the files through which its process and the service talk; imports nothing heavy."""

import contextlib
import dataclasses
import os
import secrets
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import orjson

PROGRESS, RESULT, REQUEST, WORK = "progress.json", "result.json", "request", "work"
COMMANDS = {
    "train": (sys.executable, "-m", "serving.training"),
    "collect": (sys.executable, "-m", "serving.collecting"),
}
State = Literal["queued", "running", "succeeded", "refused", "failed", "cancelled"]
DONE: frozenset[State] = frozenset(("succeeded", "refused", "failed", "cancelled"))


@dataclass(frozen=True)
class Job:
    """How a job stands. state: `refused` where its input was not good enough, `failed` where the
    process broke off; progress: 0 to 1; stage: what it is at; result: what it found, None before the
    end; error: why it ended otherwise, else None; times are UTC, None before they come; after: the job
    whose success it waits for; most_s: that it may run, None: as `Bounds` say."""

    id: str
    kind: str
    state: State
    created_at: datetime
    progress: float = 0.0
    stage: str = "waiting"
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    after: str | None = None
    most_s: float | None = None

    @property
    def done(self) -> bool:
        """Whether nothing of it will change."""
        return self.state in DONE


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


def record_of(job: Job) -> dict[str, Any]:
    """For `job.json`."""
    return dataclasses.asdict(job)


def job_of(record: dict[str, Any]) -> Job:
    """What `record_of` kept; other keys are left alone."""
    names = [one.name for one in dataclasses.fields(Job)]
    known = {name: record[name] for name in names if name in record}
    for name in ("created_at", "started_at", "finished_at"):
        if known.get(name) is not None:
            known[name] = datetime.fromisoformat(known[name])
    return Job(**known)
