"""The journal under kill -9, torn lines, full disks and second writers."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nef.client import journal as module
from nef.client.journal import Journal, read_journal
from schemas.errors import QosError

WRITER = """
import sys
from pathlib import Path
from nef.client.journal import Journal
with Journal(Path(sys.argv[1]), batch=8) as journal:
    while True:
        number = journal.append({"text": "x" * 200})
        sys.stdout.write(f"{number}\\n"); sys.stdout.flush()
"""


def numbers(path: Path) -> list[int]:
    return [record["sequence"] for record in read_journal(path)]


def test_kill_9_loses_no_line_that_append_returned_and_writing_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    told = 0
    for run in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(50 + 37 * run):
            told = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split("\n")[:-1]  # a number without its end was not told
        writer.stdout.close()
        writer.wait()
        told = int(rest[-1]) if rest else told
        found = numbers(path)
        assert found == list(range(1, len(found) + 1))
        assert told <= len(found) <= told + 1
    with Journal(path) as journal:
        assert journal.append({}) == len(found) + 1


def test_a_torn_last_line_is_cut_off_told_and_its_number_used_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    with Journal(path) as journal:
        journal.append({"a": 1})
        journal.append({"a": 2})
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert numbers(path) == [1]
    with Journal(path) as journal:
        assert journal.torn == b'{"sequence":2,"a":2}\n'[:-5]
        assert journal.append({"a": 3}) == 2
    assert [record["a"] for record in read_journal(path)] == [1, 3]


@given(cut=st.integers(0, 200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_file_cut_anywhere_keeps_every_whole_line(tmp_path: Path, cut: int) -> None:
    lines = [orjson.dumps({"sequence": n, "t": "é" * n}) + b"\n" for n in range(1, 6)]
    path = tmp_path / f"cut-{cut}.ndjson"
    path.write_bytes(b"".join(lines)[:cut])
    whole = path.read_bytes().count(b"\n")
    assert numbers(path) == list(range(1, whole + 1))
    with Journal(path) as journal:
        assert journal.append({}) == whole + 1
    assert numbers(path) == list(range(1, whole + 2))
    path.unlink()


def test_a_line_in_the_middle_that_is_no_record_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    path.write_bytes(b'{"sequence":1}\nnonsense\n{"sequence":3}\n')
    with pytest.raises(QosError, match="line 2: not JSON"):
        numbers(path)
    path.write_bytes(b'{"sequence":1}\n[]\n')
    with pytest.raises(QosError, match="last line: no record"):
        Journal(path)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    with Journal(path), pytest.raises(QosError, match="another process is writing"):
        Journal(path)
    Journal(path).close()


def test_a_batch_is_synced_when_full_and_the_rest_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(module.os, "fdatasync", lambda file: (synced.append(1), real(file))[1])
    with Journal(tmp_path / "journal.ndjson", batch=4, every_s=3600) as journal:
        for _ in range(9):
            journal.append({})
        assert len(synced) == 2 and journal.synced == 8
        assert journal.sync() == 9 and len(synced) == 3
        journal.sync()
        assert len(synced) == 3  # nothing new


def test_a_quiet_journal_is_synced_at_the_next_line_after_its_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.ndjson", batch=1000, every_s=0.05) as journal:
        journal.append({})
        time.sleep(0.06)
        journal.append({})
        assert journal.synced == 2


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.ndjson"
    real = os.write

    def half_then_full(file: int, data: bytes) -> int:
        if len(data) < 30:
            raise OSError(28, "No space left on device")
        return real(file, data[: len(data) // 2])

    with Journal(path) as journal:
        journal.append({"a": 1})
        with monkeypatch.context() as full:
            full.setattr(module.os, "write", half_then_full)
            with pytest.raises(OSError, match="No space"):
                journal.append({"text": "x" * 100})
        assert journal.append({"a": 2}) == 2
    assert [record["a"] for record in read_journal(path)] == [1, 2]


def test_threads_append_whole_lines_with_their_own_numbers(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    given_out: list[int] = []
    with Journal(path, batch=16) as journal:

        def write() -> None:
            for _ in range(200):
                given_out.append(journal.append({"text": "x" * 50}))

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(given_out) == numbers(path) == list(range(1, 801))


def test_reading_goes_on_after_a_number_and_a_missing_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    assert numbers(path) == []
    with Journal(path) as journal:
        for _ in range(5):
            journal.append({})
    assert [record["sequence"] for record in read_journal(path, after=3)] == [4, 5]


def test_the_file_is_its_owners_alone_and_refuses_writing_when_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "journal.ndjson")
    assert journal.path.stat().st_mode & 0o777 == 0o600
    journal.close()
    journal.close()
    with pytest.raises(QosError, match="closed"):
        journal.append({})
    with pytest.raises(QosError, match="batch"):
        Journal(journal.path, batch=0)
