"""An append-only NDJSON file that a kill -9 cannot hurt: whole lines, numbered, synced by batch.

A line is handed to the kernel when it is appended, so the process's death loses none; the disk has
it after the batch's fsync, so the machine's death loses at most a batch that nobody was told of.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import orjson

from schemas.errors import QosError

MAX_LINE_BYTES = 4 << 20


class Journal:
    """One writer's hold on the file.

    batch, every_s: fsync after so many lines, or at the first append so long after the last one.
    sequence: number of the last line, 0 for none; synced: of the last line known to be on the disk;
    torn: bytes of a half-written last line, which opening cut off (empty for none).
    """

    def __init__(self, path: Path, batch: int = 64, every_s: float = 1.0) -> None:
        """Opens or makes the file, mode 600; `QosError` where another process holds it or a line
        before the last is no record."""
        if batch < 1:
            raise QosError(f"{path}: batch: {batch}, must be 1 or more")
        self.path, self._batch, self._every_s = path, batch, every_s
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise QosError(f"{path}: another process is writing it") from None
        try:
            self.torn = self._cut_torn_line()
            self._size = os.fstat(self._file).st_size
            self.sequence = self._last_sequence()
        except BaseException:
            os.close(self._file)
            raise
        self.synced = self.sequence
        self._synced_at = time.monotonic()
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        self._closed = False
        _sync_folder(path.parent)

    def append(self, record: dict[str, Any]) -> int:
        """Writes one line and returns its number; the line is on the disk once `synced` reaches it.

        Raises `OSError` where the disk is full: then the file is as it was before.
        """
        with self._writing:
            if self._closed:
                raise QosError(f"{self.path}: closed")
            number = self.sequence + 1
            line = orjson.dumps({"sequence": number} | record) + b"\n"
            if len(line) > MAX_LINE_BYTES:
                raise QosError(
                    f"{self.path}: a record of {len(line)} bytes, at most {MAX_LINE_BYTES}"
                )
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except BaseException:
                os.ftruncate(self._file, self._size)
                raise
            self._size += len(line)
            self.sequence = number
            due = number - self.synced >= self._batch
            due |= time.monotonic() - self._synced_at >= self._every_s
        if due:
            self.sync()
        return number

    def sync(self) -> int:
        """Waits until the disk has every line so far; returns the last one's number."""
        with self._syncing:
            if not self._closed and self.synced < (number := self.sequence):
                os.fdatasync(self._file)
                self.synced = number
            self._synced_at = time.monotonic()
            return self.synced

    def close(self) -> None:
        """Syncs and lets go of the file; a second call does nothing."""
        self.sync()
        with self._writing, self._syncing:
            if not self._closed:
                self._closed = True
                os.close(self._file)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def _cut_torn_line(self) -> bytes:
        size = os.fstat(self._file).st_size
        tail = os.pread(self._file, MAX_LINE_BYTES, max(0, size - MAX_LINE_BYTES))
        torn = tail[tail.rfind(b"\n") + 1 :]
        if torn:
            os.ftruncate(self._file, size - len(torn))
            os.fsync(self._file)
        return torn

    def _last_sequence(self) -> int:
        tail = os.pread(self._file, MAX_LINE_BYTES, max(0, self._size - MAX_LINE_BYTES))
        if not tail:
            return 0
        last = tail.rstrip(b"\n").rpartition(b"\n")[2]
        return int(_record(last, f"{self.path}: last line")["sequence"])


def read_journal(path: Path, after: int = 0) -> Iterator[dict[str, Any]]:
    """The records after that number, in order; a last line without its end is left out.

    Raises `QosError` for a line before it that is no record. A file that is not there has none.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            record = _record(line, f"{path}: line {number}")
            if record["sequence"] > after:
                yield record


def _record(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise QosError(f"{where}: not JSON at character {error.pos}") from None
    if not isinstance(record, dict) or not isinstance(record.get("sequence"), int):
        raise QosError(f"{where}: no record with its sequence number")
    return record


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
