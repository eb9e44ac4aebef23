"""Makes the many files of the stream few: `python -m pipelines.stream.compact --help`.

    features/lock                                 shared by readers, held alone while files change places
    features/<view>/day=<day>/stream-<s>-<n>.parquet         commit n of state s
    features/<view>/day=<day>/commits-<s>-<n>-<m>.parquet    its commits n to m, merged

A merged file takes its name before those that it replaces go. What lies within the range of another is
such a leftover, and goes at the next time. Commits that are not in the manifest are not touched.
"""

import fcntl
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import polars as pl
import typer

from pipelines.stream import checkpoint
from pipelines.stream.outputs import FEATURES, STATE
from schemas.errors import QosError

_FILE = re.compile(
    r"(?:stream|commits)-(?P<name>[0-9a-f]+)-(?P<first>\d+)(?:-(?P<last>\d+))?\.parquet"
)
_AT_LEAST = 12  # files of the day that is still written
_PATIENCE_S = 60.0


class Part(NamedTuple):
    """A file, and the commits whose rows it has."""

    path: Path
    first: int
    last: int


@contextmanager
def reading(features: Path) -> Iterator[None]:
    """While it lasts no file of the stream's features is replaced; new ones may come."""
    with _lock(features, "lock", fcntl.LOCK_SH):
        yield


def compact(features: Path, name: str, number: int) -> int:
    """Merges the committed files of a state (its name, its last commit) day by day; how many went.

    A day that is over becomes one file, the newest one's commits are merged as they become many.
    Raises `QosError` where another one is at work, or readers leave no instant for a minute.
    """
    with _lock(features, "compact.lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
        gone = 0
        for view in sorted(path for path in features.iterdir() if path.is_dir()):
            days = sorted(view.glob("day=*"))
            gone += sum(
                _compact_day(features, day, name, number, is_over=day != days[-1]) for day in days
            )
        return gone


def _compact_day(features: Path, day: Path, name: str, number: int, *, is_over: bool) -> int:
    for begun in day.glob(".commits-*.part"):
        begun.unlink()
    parts = _parts(day, name, number)
    leftover = [p for p in parts if any(_within(p, other) for other in parts)]
    parts = [p for p in parts if p not in leftover]
    merged = parts if is_over else [p for p in parts if p.path.name.startswith("stream-")]
    if len(merged) < (2 if is_over else _AT_LEAST):
        merged = []
    if not merged:
        return _replace(features, None, None, leftover)
    target = day / f"commits-{name}-{merged[0].first}-{max(p.last for p in merged)}.parquet"
    beside = target.with_name(f".{target.name}.part")
    pl.scan_parquet([p.path for p in merged], hive_partitioning=False).sink_parquet(beside)
    checkpoint.synced(beside)
    return _replace(features, beside, target, [*leftover, *merged])


def _replace(features: Path, beside: Path | None, target: Path | None, gone: list[Part]) -> int:
    if not gone:
        return 0
    with _lock(features, "lock", fcntl.LOCK_EX):
        if beside is not None and target is not None:
            beside.replace(target)
            checkpoint.synced(target.parent)
        for part in gone:
            part.path.unlink()
    return len(gone)


def _parts(day: Path, name: str, number: int) -> list[Part]:
    found = []
    for path in day.glob("*.parquet"):
        match = _FILE.fullmatch(path.name)
        if match and match["name"] == name:
            first = int(match["first"])
            found.append(Part(path, first, int(match["last"] or first)))
    return sorted((p for p in found if p.last <= number), key=lambda part: part.first)


def _within(part: Part, other: Part) -> bool:
    inside = other.first <= part.first and part.last <= other.last
    return inside and (part.first, part.last) != (other.first, other.last)


@contextmanager
def _lock(features: Path, name: str, how: int) -> Iterator[None]:
    features.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _PATIENCE_S
    with (features / name).open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if how & fcntl.LOCK_NB or time.monotonic() > deadline:
                    raise QosError(f"{features / name}: held by another process") from None
                time.sleep(0.02)
        yield


def main(
    features: Annotated[Path, typer.Option(help="the stream's features")] = FEATURES,
    state: Annotated[Path, typer.Option(help="the state of the consumer that writes them")] = STATE,
) -> None:
    """Merges the stream's files of features; safe beside a running consumer and readers."""
    manifest = state / checkpoint.MANIFEST
    if not manifest.exists():
        sys.exit(f"{manifest}: there is none, so no commit is known")
    try:
        saved = checkpoint.read(state)
        print(f"{compact(features, saved.name, saved.number)} files merged", file=sys.stderr)
    except QosError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    typer.run(main)
