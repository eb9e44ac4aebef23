"""Work that takes longer than an answer may: a queue of processes of low priority, kept as files.

Each job has a folder `<id>/` with `job.json` (what it is and how it stands), `request/` (what it was
given), `progress.json` and `result.json` (what its process says), and `work/`, which goes when the job
ends. A service that starts again finds its jobs: queued ones run, one that was running has failed.
"""

import contextlib
import dataclasses
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from schemas.errors import QosError, listed
from serving.job_files import (
    PROGRESS,
    REQUEST,
    RESULT,
    WORK,
    Job,
    State,
    job_of,
    new_id,
    read_json,
    record_of,
    write_json,
)
from serving.processes import end_leftover, identity, locked, make_modest, signal_group

RECORD = "job.json"
log = logging.getLogger(__name__)
_LONGEST_ERROR = 2000  # characters of a process's last words
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


class UnknownJob(QosError):
    """No job of that id."""


class QueueFull(QosError):
    """As many jobs wait as may wait."""


@dataclass(frozen=True)
class Bounds:
    """workers: processes at once; queue: jobs that may wait; seconds: that one may run; niceness: of
    the processes, 0 to 19; keep: finished jobs to remember; grace_s: between asking a process to end
    and ending it; apart: kinds that run one at a time beside the workers, and wait apart."""

    workers: int = 1
    queue: int = 16
    seconds: float = 600.0
    niceness: int = 10
    keep: int = 200
    grace_s: float = 5.0
    apart: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raises `QosError` for a bound that lets no job run."""
        if self.workers < 1 or self.queue < 0 or self.seconds <= 0 or not 0 <= self.niceness <= 19:
            raise QosError(
                f"jobs: {self}: workers must be 1 or more, queue 0 or more, seconds above 0 and "
                f"niceness in [0, 19]"
            )


@dataclass
class _Running:
    kind: str
    process: subprocess.Popen[bytes]
    deadline: float
    ended: Literal["", "cancelled", "late", "stopped"] = ""
    kill_at: float = field(default=float("inf"))


class Jobs:
    """The queue; safe to use from several threads. `commands`: the command line of each kind of job,
    to which the job's folder is added.

        with Jobs(Path("data/jobs"), {"train": [sys.executable, "-m", "serving.training"]}) as jobs:
            job = jobs.submit("train", {"request.json": b"{}"})
    """

    def __init__(
        self,
        folder: Path,
        commands: Mapping[str, Sequence[str]],
        bounds: Bounds | None = None,
        finished: Callable[[Job], None] = lambda job: None,
    ) -> None:
        """Takes up what an earlier service left; `QosError` where another one uses the folder.
        finished: told of every job as it ends, on the queue's own thread."""
        self.folder, self.bounds = folder.absolute(), bounds or Bounds()
        self._commands, self._finished = dict(commands), finished
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_file = locked(self.folder)
        self._changed = threading.Condition(threading.RLock())
        self._running: dict[str, _Running] = {}
        self._jobs: dict[str, Job] = {}
        self._closing = False
        with self._changed:
            self._take_up()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def submit(
        self,
        kind: str,
        request: Mapping[str, bytes],
        after: str | None = None,
        most_s: float | None = None,
    ) -> Job:
        """A queued job; `request`: file name to content, for its process; after, most_s: see `Job`.
        Raises `QueueFull`."""
        if kind not in self._commands:
            raise QosError(f"jobs: no kind {kind!r}; known: {listed(sorted(self._commands))}")
        job = Job(new_id(), kind, "queued", datetime.now(UTC), after=after, most_s=most_s)
        folder = self.folder / job.id
        with self._changed:
            if self._closing:
                raise QueueFull("jobs: the service is ending; no new job is taken")
            waiting = sum(
                other.state == "queued" and self._lane(other.kind) == self._lane(kind)
                for other in self._jobs.values()
            )
            running, room = self._room(kind)
            if waiting >= self.bounds.queue + max(0, room):
                raise QueueFull(
                    f"jobs: {waiting} jobs wait and {running} run; at most "
                    f"{self.bounds.queue} may wait"
                )
            self._jobs[job.id] = job  # holds its place while the files are written
        try:
            (folder / REQUEST).mkdir(parents=True, mode=0o700)
            for name, content in request.items():
                (folder / REQUEST / name).write_bytes(content)
            write_json(folder / RECORD, record_of(job))
        except BaseException:
            with self._changed:
                del self._jobs[job.id]
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._changed:
            if self._jobs[job.id].state == "queued":  # not cancelled meanwhile
                self._ready.append(job.id)
            self._changed.notify_all()
        return job

    def get(self, job_id: str) -> Job:
        """How it stands now; raises `UnknownJob`."""
        with self._changed:
            if job_id not in self._jobs:
                raise UnknownJob(f"jobs: no job {job_id[:64]!r}")
            job = self._jobs[job_id]
        return self._with_progress(job) if job.state == "running" else job

    def list(self) -> list[Job]:
        """Every remembered job, the newest first."""
        with self._changed:
            ids = sorted(self._jobs, key=lambda i: self._jobs[i].created_at, reverse=True)
        return [self.get(one) for one in ids if one in self._jobs]

    def cancel(self, job_id: str) -> Job:
        """Ends a job's processes, or takes it from the queue; a finished job stays as it is."""
        with self._changed:
            job = self.get(job_id)
            if job.state == "queued":
                with contextlib.suppress(ValueError):
                    self._ready.remove(job_id)
                self._end(job, "cancelled", error="cancelled before it started")
            elif job.state == "running":
                self._ask_to_end(self._running[job_id], "cancelled")
            self._changed.notify_all()
            return self.get(job_id)

    def wait(self, job_id: str, timeout_s: float) -> Job:
        """The job once it is done, or as it stands after the time."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while not (job := self.get(job_id)).done:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, 0.5))
            return job

    def close(self) -> None:
        """Ends what runs (it counts as failed) and keeps what waits for the next start."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            for running in self._running.values():
                self._ask_to_end(running, "stopped")
            self._changed.notify_all()
        self._thread.join()
        os.close(self._lock_file)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def _work(self) -> None:
        """The queue's thread: starts, watches and ends processes."""
        while True:
            with self._changed:
                for job_id in [*self._running]:
                    self._look_at(job_id)
                while (ready := self._next()) is not None:
                    self._ready.remove(ready)
                    self._start(ready)
                if self._closing and not self._running:
                    return
                self._changed.wait(0.05 if self._running else None)

    def _next(self) -> str | None:
        """The one that waits longest and may start: its kind has room, what it is after has ended."""
        if self._closing:
            return None
        for job_id in self._ready:
            job = self._jobs[job_id]
            before = self._jobs.get(job.after or "")
            if (before is None or before.done) and self._room(job.kind)[1] > 0:
                return job_id
        return None

    def _lane(self, kind: str) -> str:
        """Kinds of one lane share its workers."""
        return kind if kind in self.bounds.apart else ""

    def _room(self, kind: str) -> tuple[int, int]:
        """How many run in the kind's lane, and how many more may."""
        lane = self._lane(kind)
        running = sum(self._lane(one.kind) == lane for one in self._running.values())
        return running, (1 if lane else self.bounds.workers) - running

    def _start(self, job_id: str) -> None:
        job, folder = self._jobs[job_id], self.folder / job_id
        if job.after is not None:
            first = self._jobs.get(job.after)
            if first is None or first.state != "succeeded":
                how = f"{first.state}: {first.error}" if first else "forgotten"
                self._end(job, "refused", error=f"the job {job.after} that it waited for: {how}")
                return
        (folder / WORK).mkdir(exist_ok=True)
        try:
            with (folder / "output.txt").open("wb") as output:
                process = subprocess.Popen(
                    [*self._commands[job.kind], str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=os.environ | dict.fromkeys(_THREADS, "1"),
                )
        except OSError as error:
            self._end(job, "failed", error=f"the process could not start: {error.strerror}")
            return
        make_modest(process.pid, self.bounds.niceness)
        deadline = time.monotonic() + (job.most_s or self.bounds.seconds)
        self._running[job_id] = _Running(job.kind, process, deadline)
        started = dataclasses.replace(
            job, state="running", stage="starting", started_at=datetime.now(UTC)
        )
        self._jobs[job_id] = started
        write_json(folder / RECORD, record_of(started) | identity(process.pid))

    def _look_at(self, job_id: str) -> None:
        running, now = self._running[job_id], time.monotonic()
        code = running.process.poll()
        if code is None:
            if now > running.kill_at:
                signal_group(running.process.pid, signal.SIGKILL)
            elif now > running.deadline and not running.ended:
                self._ask_to_end(running, "late")
            return
        signal_group(running.process.pid, signal.SIGKILL)  # what it left behind
        del self._running[job_id]
        job = self._with_progress(self._jobs[job_id])
        said = read_json(self.folder / job_id / RESULT)
        if said is not None and said.get("state") in ("succeeded", "refused"):
            self._end(job, said["state"], result=said.get("result"), error=said.get("error"))
        elif running.ended == "cancelled":
            self._end(job, "cancelled", error=f"cancelled at: {job.stage}")
        elif running.ended == "late":
            told = (
                f"ended after {job.most_s or self.bounds.seconds:g} s, the most that a job may take"
            )
            self._end(job, "failed", error=f"{told}, at: {job.stage}")
        elif running.ended == "stopped":
            self._end(job, "failed", error=f"the service ended while it ran, at: {job.stage}")
        else:
            why = said.get("error") if said else None
            self._end(job, "failed", error=why or f"exit code {code}, at: {job.stage}")

    def _ask_to_end(
        self, running: _Running, reason: Literal["cancelled", "late", "stopped"]
    ) -> None:
        if not running.ended:
            running.ended = reason
            running.kill_at = time.monotonic() + self.bounds.grace_s
            signal_group(running.process.pid, signal.SIGTERM)

    def _end(
        self,
        job: Job,
        state: State,
        result: dict[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        folder = self.folder / job.id
        ended = dataclasses.replace(
            job,
            state=state,
            progress=1.0 if state == "succeeded" else job.progress,
            stage="done" if state == "succeeded" else job.stage,
            finished_at=datetime.now(UTC),
            result=result,
            error=error[:_LONGEST_ERROR] if error else None,
        )
        self._jobs[job.id] = ended
        for name in (WORK, REQUEST):
            shutil.rmtree(folder / name, ignore_errors=True)
        with contextlib.suppress(OSError):  # a full disk must not end the queue
            write_json(folder / RECORD, record_of(ended))
        self._forget_old()
        self._changed.notify_all()
        try:
            self._finished(ended)
        except Exception:  # a listener's fault is no fault of the queue
            log.exception("who listens to jobs failed on %s", ended.id)

    def _forget_old(self) -> None:
        done = [job for job in self._jobs.values() if job.done and job.finished_at is not None]
        done.sort(key=lambda job: job.finished_at or job.created_at)
        for job in done[: max(0, len(done) - self.bounds.keep)]:
            del self._jobs[job.id]
            shutil.rmtree(self.folder / job.id, ignore_errors=True)

    def _with_progress(self, job: Job) -> Job:
        said = read_json(self.folder / job.id / PROGRESS)
        if said is None:
            return job
        return dataclasses.replace(job, progress=said["progress"], stage=said["stage"])

    def _take_up(self) -> None:
        self._ready: list[str] = []
        for path in sorted(self.folder.glob(f"*/{RECORD}")):
            content = read_json(path)
            if content is None:
                continue
            job = job_of(content)
            self._jobs[job.id] = job
            if job.state == "queued" and job.kind in self._commands:
                self._ready.append(job.id)
            elif not job.done:
                end_leftover(content)
                self._end(job, "failed", error=f"the service ended while it ran, at: {job.stage}")
        for folder in self.folder.iterdir():
            if folder.is_dir() and folder.name not in self._jobs:
                shutil.rmtree(folder, ignore_errors=True)  # submitted by half
        self._ready.sort(key=lambda one: self._jobs[one].created_at)
