"""Captures of a NEF: which there are to learn from, and which one is meant."""

from pathlib import Path

from schemas.errors import QosError, listed
from serving.jobs import Jobs, UnknownJob
from serving.stages import JOURNAL

COLLECTION_MARGIN_S = 120.0  # that a collection may take beyond its duration


class UnknownCapture(QosError):
    """No capture of that name."""


def capture_names(folder: Path) -> list[str]:
    """Of the captures in the folder, the newest first."""
    made = sorted(folder.glob(f"*/{JOURNAL}"), key=lambda path: path.stat().st_mtime_ns)
    return [path.parent.name for path in reversed(made)]


def capture_of(name: str | None, jobs: Jobs, folder: Path) -> tuple[str | None, str | None]:
    """The capture's name, and the job to wait for where that still makes it.

    Without a name the newest one, None where there is none: then that of `make capture` is meant.
    Raises `UnknownCapture`.
    """
    names = capture_names(folder)
    if name is None:
        return (names[0] if names else None), None
    if name in names:
        return name, None
    try:
        job = jobs.get(name)
    except UnknownJob:
        job = None
    if job is not None and job.kind == "collect" and not job.done:
        return name, name
    told = f"newest first: {listed(names)}" if names else "there is none"
    raise UnknownCapture(f"no capture {name!r}; {told}")
