"""Processes of the demo: named when they die, gone when it ends."""

import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from demo import children as module
from demo.children import Child, ChildDied, Children, free_ports, undisturbed

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("grandchild", child.pid, flush=True)
time.sleep(600)
"""


def start(group: Children, name: str, code: str) -> Child:
    return group.start(name, [sys.executable, "-c", code], {})


def until_dead(group: Children) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            group.check()
        except ChildDied as error:
            return str(error)
        time.sleep(0.01)
    raise AssertionError("it did not die")


def alive(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_that_ends_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    code = (
        "import sys; print('a\\nb\\n\\nof imsi-001010000000001', flush=True); sys.exit('no such')"
    )
    with Children(tmp_path) as group:
        start(group, "decision service", code)
        told = until_dead(group)
    assert told.startswith("decision service: ended with code 1 after ")
    assert told.endswith("; b | of <subscriber id> | no such") and "\n" not in told
    assert (tmp_path / "decision-service.log").exists()


def test_one_that_is_killed_and_said_nothing(tmp_path: Path) -> None:
    with Children(tmp_path) as group:
        child = start(group, "Redis", "import time; time.sleep(600)")
        child.process.send_signal(signal.SIGKILL)
        told = until_dead(group)
    assert "killed by signal 9" in told and told.endswith("its log is empty")


def test_leaving_ends_those_that_will_not_and_what_they_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_S", 0.2)
    with pytest.raises(KeyboardInterrupt), Children(tmp_path) as group:
        child = start(group, "stubborn", STUBBORN)
        polite = start(group, "polite", "import time; time.sleep(600)")
        while "\n" not in child.log.read_text():
            group.check()
            time.sleep(0.01)
        grandchild = int(child.log.read_text().split()[1])
        assert alive(grandchild)
        raise KeyboardInterrupt
    end = time.monotonic() + 20
    while alive(grandchild) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(alive(one) for one in (child.process.pid, polite.process.pid, grandchild))


def test_one_that_is_never_ready_is_said(tmp_path: Path) -> None:
    with Children(tmp_path) as group:
        child = start(group, "stream", "import time; time.sleep(600)")
        assert group.ready(child, lambda: False, 60) is None
        took = group.ready(child, lambda: True, 60)
        assert took is not None and took > 0
        time.sleep(0.01)
        with pytest.raises(ChildDied, match="stream: not ready after"):
            group.ready(child, lambda: False, 0.01)


def test_free_ports_differ() -> None:
    found = free_ports(20)
    assert len(set(found)) == 20 and all(1024 <= port <= 65535 for port in found)


def test_an_interrupt_waits_until_a_child_that_starts_is_known() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), undisturbed():
        signal.raise_signal(signal.SIGINT)
        reached.append(True)
    assert reached and signal.getsignal(signal.SIGINT) is signal.default_int_handler
