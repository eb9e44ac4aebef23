"""The processes of the demo: started, waited for, watched, and ended all together."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from lifecycle.pseudonym import redacted
from schemas.errors import QosError

END_S = 8.0  # for a child to end by itself
_LINES = 3
PAUSE_S = 0.05


class ChildDied(QosError):
    """A child that ended, or did not start in time: which, how, and the end of its log."""


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Raises `KeyboardInterrupt` for a signal to end only after the block; in the main thread."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda got, _: came.append(got))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


@dataclass
class Child:
    """One process in a session of its own, what it says in a file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)

    def last_lines(self) -> str:
        """The end of its log on one line, without subscriber ids."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()][-_LINES:]
        return redacted(" | ".join(lines)) or "its log is empty"

    def check(self) -> None:
        """Raises `ChildDied` where it has ended."""
        code = self.process.poll()
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            took = time.monotonic() - self.began
            raise ChildDied(f"{self.name}: {how} after {took:.0f} s; {self.last_lines()}")


@dataclass
class Children:
    """All of them; leaving the block ends every one, in the reverse order of their start."""

    folder: Path
    all: list[Child] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Starts one; its log is `<name>.log` in the folder."""
        log = self.folder / f"{name.replace(' ', '-')}.log"
        with undisturbed(), log.open("wb") as told:
            process = subprocess.Popen(
                list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=told,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            child = Child(name, process, log)
            self.all.append(child)
        return child

    def check(self) -> None:
        """Raises `ChildDied` for the first that has ended."""
        for child in self.all:
            child.check()

    def ready(self, child: Child, ready: Callable[[], bool], seconds: float) -> float | None:
        """After how many seconds it became ready, None if it is not yet; any child's death raises
        `ChildDied`, and so does it not being ready so many seconds after its start."""
        self.check()
        took = time.monotonic() - child.began
        if ready():
            return took
        if took > seconds:
            raise ChildDied(f"{child.name}: not ready after {seconds:g} s; {child.last_lines()}")
        return None

    def end(self) -> None:
        """Asks each to end, and ends what has not after `END_S`, with whatever it started."""
        for child in reversed(self.all):
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + END_S
        for child in reversed(self.all):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, until - time.monotonic()))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all."""
        with undisturbed():
            self.end()


def free_ports(count: int) -> list[int]:
    """So many ports of loopback that nothing listens on."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
