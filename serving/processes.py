"""Processes of jobs: modest ones, and their ends."""

import contextlib
import fcntl
import os
import signal
from pathlib import Path
from typing import Any

import psutil

from schemas.errors import QosError

LEAST = 19  # niceness


def locked(folder: Path) -> int:
    """The descriptor of a lock on the folder; `QosError` where another process has it."""
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise QosError(f"{folder}: another service keeps its jobs there") from None
    return file


def make_modest(pid: int, niceness: int) -> None:
    """Lets a process yield the processor to the service, and die before it when memory is short.

    niceness: 0 to 19; at 19 it gets only the time that nobody else wants, and makes nobody wait.
    """
    with contextlib.suppress(OSError):
        now = os.getpriority(os.PRIO_PROCESS, pid)
        os.setpriority(os.PRIO_PROCESS, pid, max(niceness, now))
        if niceness == LEAST and hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("500", encoding="ascii")


def signal_group(group: int, number: signal.Signals) -> None:
    """To every process of the group, if there is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def identity(pid: int) -> dict[str, Any]:
    """`pid` and `born`, by which a process is known again after its number was given anew."""
    born = None
    with contextlib.suppress(psutil.Error):
        born = psutil.Process(pid).create_time()
    return {"pid": pid, "born": born}


def end_leftover(record: dict[str, Any]) -> None:
    """Ends the processes of a job whose service died, if they are still the same ones."""
    pid, born = record.get("pid"), record.get("born")
    if pid is None or born is None:
        return
    with contextlib.suppress(psutil.Error):
        if psutil.Process(pid).create_time() == born:
            signal_group(pid, signal.SIGKILL)
