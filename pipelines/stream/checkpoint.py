"""What a consumer needs to go on: a manifest, and the admitted rows that windows still hold.

    state/lock                 held by the consumer that runs; the next one waits for it
    state/checkpoint.json      the manifest; its renaming is the moment at which a commit counts
    state/<table>-<n>.arrow    admitted rows of commit n, or of several, merged
    state/@<view>-<n>.arrow    what a view of ticks folded by commit n, or by several

Every commit has a number, and so does each file that it leaves anywhere. What bears a greater number
than the manifest was never committed: it is removed and made again.
"""

import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from schemas.errors import QosError

MANIFEST = "checkpoint.json"
_MERGED_AT = 16  # files of one series and size
_LAYOUT = 2


@dataclass
class Checkpoint:
    """name: tells the files of this state from those of others; position: id of the newest entry that
    is counted in; segments: file name to its level, by series (a table, or @ and a view); counts: since
    the first run; layout: of this folder.
    """

    name: str
    number: int = 0
    position: str = "0-0"
    watermark: dict[str, Any] = field(default_factory=dict)
    segments: dict[str, dict[str, int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    layout: int = 1


@contextmanager
def locked(folder: Path, stopped: Callable[[], bool] = lambda: False) -> Iterator[bool]:
    """The only consumer of a folder: waits for the one that runs; False where stopped while waiting.

    The lock goes with its process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        while not stopped():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
            else:
                yield True
                return
        yield False


def read(folder: Path) -> Checkpoint:
    """The last commit, or the first, empty one. Raises `QosError` for an unreadable manifest."""
    path = folder / MANIFEST
    if not path.exists():
        write(folder, Checkpoint(uuid.uuid4().hex[:8], layout=_LAYOUT))
    try:
        found = Checkpoint(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise QosError(f"{path}: no checkpoint of this version ({error})") from None
    if found.layout != _LAYOUT:
        raise QosError(
            f"{path}: layout {found.layout}, where {_LAYOUT} is read; end the consumer that wrote it "
            "and begin with another --state"
        )
    return found


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Commits; what the manifest no longer names is removed."""
    write_whole(folder / MANIFEST, json.dumps(asdict(checkpoint)).encode())
    named = {name for files in checkpoint.segments.values() for name in files}
    for path in folder.glob("*.arrow"):
        if path.name not in named:
            path.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """All of a file or nothing of it, on the disk when this returns."""
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    synced(path.parent)


def synced(path: Path) -> None:
    """Brings a file, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def add_rows(
    folder: Path, checkpoint: Checkpoint, series: str, rows: list[pl.DataFrame],
    live: Callable[[pl.DataFrame], pl.DataFrame],
) -> None:  # fmt: skip
    """Writes a series' rows of the commit in the making; merges small files into a larger one.

    live: what is still needed of rows, asked for those that are merged.
    """
    files = checkpoint.segments.setdefault(series, {})
    name = f"{series}-{checkpoint.number}.arrow"
    _write_rows(folder / name, pl.concat(rows))
    files[name] = 0
    level = 0
    while len(some := [n for n, at in files.items() if at == level]) >= _MERGED_AT:
        merged = f"{series}-{checkpoint.number}-{level + 1}.arrow"
        _write_rows(folder / merged, live(pl.concat([pl.read_ipc(folder / n) for n in some])))
        for old in some:
            del files[old]
        files[merged] = level + 1
        level += 1


def rows_of(folder: Path, checkpoint: Checkpoint) -> Mapping[str, pl.DataFrame]:
    """The rows of each series that the checkpoint holds."""
    return {
        series: pl.concat([pl.read_ipc(folder / name) for name in files])
        for series, files in checkpoint.segments.items()
        if files
    }


def _write_rows(path: Path, rows: pl.DataFrame) -> None:
    rows.write_ipc(path, compression="uncompressed")
    synced(path)
