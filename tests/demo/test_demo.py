"""The demo as it is run: decisions on features that are there, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.serving.core_kit import bundle_folder

LONGEST_S = 280.0


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, its temporary folder below `folder`."""
    command = [sys.executable, "-m", "demo", "--ues=10", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(folder)},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=20)[1]


def begun(process: subprocess.Popen[str], parts: int) -> list[psutil.Process]:
    """Its children, once there are so many."""
    end = time.monotonic() + 120
    while len(found := below(process)) < parts:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    return found


def a_manifest(folder: Path) -> Path:
    """A folder that is a bundle at first sight."""
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return folder


def ended(
    folder: Path, act: Callable[[subprocess.Popen[str], list[psutil.Process]], None]
) -> tuple[int, str]:
    """Exit code and errors of a demo to which something is done while its parts start."""
    with demo(folder, f"--model={a_manifest(folder.parent / 'bundle')}") as process:
        children = begun(process, 3)
        act(process, children)
        _, told = process.communicate(timeout=60)
    assert gone(children) and not list(folder.iterdir())
    return process.returncode, told


def test_a_few_seconds_of_decisions(tmp_path: Path) -> None:
    bundle, folder = bundle_folder(tmp_path / "bundle"), tmp_path / "tmp"
    folder.mkdir()
    with demo(folder, "--seconds=5", f"--model={bundle}") as process:
        children = begun(process, 5)
        said, told = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, told
    seconds = [line for line in said.splitlines() if "views present" in line]
    assert len(seconds) >= 3, said
    asked, present = re.search(r"s  (\d+) decisions .*views present (\d+)%", seconds[-1]).groups()  # type: ignore[union-attr]
    # of nine views, cell_history is never there and cell_radio only after the clock's first full minute
    assert int(asked) >= 5 and int(present) >= 75
    assert "no answer" not in said and "stale_features" not in said and "unknown_ue" not in said
    assert re.search(r"^stream +rows in \d", said, re.MULTILINE)
    assert gone(children) and not list(folder.iterdir())


def test_a_part_that_dies_is_named_and_ends_the_others(tmp_path: Path) -> None:
    def kill_redis(_: object, children: list[psutil.Process]) -> None:
        next(one for one in children if "redis" in one.name()).kill()

    (folder := tmp_path / "tmp").mkdir()
    code, told = ended(folder, kill_redis)
    lines = told.strip().splitlines()
    assert code == 1 and len(lines) == 1, told
    assert lines[0].startswith("demo: Redis: was killed by signal 9 after ")


def test_ctrl_c_ends_every_part(tmp_path: Path) -> None:
    (folder := tmp_path / "tmp").mkdir()
    code, told = ended(folder, lambda process, _: process.send_signal(signal.SIGINT))
    assert code == 130 and "Traceback" not in told


def test_without_a_model_nothing_is_started(tmp_path: Path) -> None:
    places = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--model=qos@nobody"], cwd=tmp_path, env=places, text=True,
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr.startswith("demo: qos@nobody: no bundle's folder")
        and "\n" not in done.stderr[:-1]
    )
    assert "make run" in done.stderr and not list(tmp_path.iterdir())
