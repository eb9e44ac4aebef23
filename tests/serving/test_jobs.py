"""Jobs: states, progress, cancel, bounds and what a restart finds, with real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from schemas.errors import QosError
from serving.job_files import Job, job_of, record_of
from serving.jobs import Bounds, Jobs, QueueFull, UnknownJob

WORK = Path(__file__).with_name("job_work.py")
COMMANDS = {
    what: [sys.executable, str(WORK), what]
    for what in ("count", "refuse", "fail", "hang", "stubborn")
}


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def hanging(jobs: Jobs, kind: str = "hang") -> tuple[Job, int]:
    """A running job of that kind and its process."""
    job = jobs.submit(kind, {})
    until(lambda: jobs.get(job.id).stage == "hanging")
    return job, json.loads((jobs.folder / job.id / "job.json").read_text())["pid"]


def test_a_job_succeeds_at_low_priority_and_leaves_no_input(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS, Bounds(niceness=7)) as jobs:
        first = jobs.submit("count", {"text": b"hello"})
        assert first.state == "queued" and first.progress == 0.0
        done = jobs.wait(first.id, 20)
        assert (done.state, done.progress, done.stage) == ("succeeded", 1.0, "done")
        assert done.result == {"request": "hello", "niceness": max(7, os.nice(0))}
        assert done.started_at is not None and done.finished_at is not None
        assert done.created_at <= done.started_at <= done.finished_at
    assert not (tmp_path / first.id / "request").exists()
    assert not (tmp_path / first.id / "work").exists()


def test_progress_is_seen_while_it_runs(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS) as jobs:
        job = jobs.submit("count", {"text": b""})
        seen: list[float] = []

        def done() -> bool:
            now = jobs.get(job.id)
            seen.append(now.progress)
            return now.done

        until(done)
    assert seen == sorted(seen) and any(0 < progress < 1 for progress in seen)


def test_a_refusal_bears_its_evidence_and_a_failure_does_not_show_its_output(
    tmp_path: Path,
) -> None:
    with Jobs(tmp_path, COMMANDS) as jobs:
        refused = jobs.wait(jobs.submit("refuse", {}).id, 20)
        failed = jobs.wait(jobs.submit("fail", {}).id, 20)
    assert (refused.state, refused.result) == ("refused", {"rows": 1})
    assert refused.error == "one row is too few"
    assert (failed.state, failed.result) == ("failed", None)
    assert failed.error == "exit code 3, at: starting"


def test_cancel_ends_the_whole_process_group_and_leaves_nothing_half_written(
    tmp_path: Path,
) -> None:
    with Jobs(tmp_path, COMMANDS) as jobs:
        job, pid = hanging(jobs)
        child = int((tmp_path / job.id / "child").read_text())
        assert (tmp_path / job.id / "work" / "half").exists()
        jobs.cancel(job.id)
        done = jobs.wait(job.id, 20)
        assert (done.state, done.error) == ("cancelled", "cancelled at: hanging")
        until(lambda: gone(pid) and gone(child))
        assert not (tmp_path / job.id / "work").exists()
        assert jobs.cancel(job.id) == done


def test_a_process_that_does_not_listen_is_killed_after_the_grace(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS, Bounds(grace_s=0.2)) as jobs:
        job, pid = hanging(jobs, "stubborn")
        jobs.cancel(job.id)
        assert jobs.wait(job.id, 20).state == "cancelled"
        assert gone(pid)


def test_a_job_that_takes_too_long_fails(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS, Bounds(seconds=1.0)) as jobs:
        job = jobs.wait(jobs.submit("hang", {}).id, 20)
    assert job.state == "failed" and job.error is not None
    assert job.error.startswith("ended after 1 s, the most that a job may take")


def test_no_more_run_than_workers_and_no_more_wait_than_the_queue_holds(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS, Bounds(workers=2, queue=1)) as jobs:
        first, _ = hanging(jobs)
        second, _ = hanging(jobs)
        third = jobs.submit("count", {"text": b""})
        with pytest.raises(QueueFull, match="1 jobs wait and 2 run; at most 1 may wait"):
            jobs.submit("count", {"text": b""})
        assert jobs.get(third.id).state == "queued"
        assert [job.id for job in jobs.list()] == [third.id, second.id, first.id]
        jobs.cancel(first.id)
        assert jobs.wait(third.id, 20).state == "succeeded"


def test_a_queued_job_is_cancelled_without_a_process(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS) as jobs:
        hanging(jobs)
        waiting = jobs.submit("count", {"text": b""})
        assert jobs.cancel(waiting.id).state == "cancelled"
        assert not (tmp_path / waiting.id / "output.txt").exists()


def test_an_ending_service_ends_its_job_and_the_next_runs_what_waited(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS) as jobs:
        running, pid = hanging(jobs)
        waiting = jobs.submit("count", {"text": b"later"})
    assert gone(pid)
    with Jobs(tmp_path, COMMANDS) as jobs:
        done = jobs.wait(waiting.id, 20)
        assert done.state == "succeeded" and done.result is not None
        assert done.result["request"] == "later"
        before = jobs.get(running.id)
        assert before.error == "the service ended while it ran, at: hanging"
        assert before.state == "failed"


def test_a_killed_service_leaves_no_process_and_no_lost_job(tmp_path: Path) -> None:
    service = (
        "import sys, time\nfrom pathlib import Path\nfrom serving.jobs import Jobs\n"
        f"jobs = Jobs(Path({str(tmp_path)!r}), {COMMANDS!r})\n"
        "print(jobs.submit('hang', {}).id, jobs.submit('count', {'text': b''}).id, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", service], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        running, waiting = process.stdout.readline().decode().split()
        until(lambda: (tmp_path / running / "child").exists())
        child = int((tmp_path / running / "child").read_text())
        until(lambda: "pid" in json.loads((tmp_path / running / "job.json").read_text()))
        pid = json.loads((tmp_path / running / "job.json").read_text())["pid"]
        process.send_signal(signal.SIGKILL)
    (tmp_path / "half").mkdir()  # one whose record was never written
    with Jobs(tmp_path, COMMANDS) as jobs:
        until(lambda: gone(pid) and gone(child))
        assert jobs.get(running).state == "failed"
        assert jobs.wait(waiting, 20).state == "succeeded"
    assert not (tmp_path / "half").exists()


def test_a_folder_has_one_service(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS), pytest.raises(QosError, match="another service keeps"):
        Jobs(tmp_path, COMMANDS)
    Jobs(tmp_path, COMMANDS).close()


def test_only_so_many_finished_jobs_are_kept(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS, Bounds(keep=2)) as jobs:
        ids = [jobs.wait(jobs.submit("refuse", {}).id, 20).id for _ in range(3)]
        assert [job.id for job in jobs.list()] == [ids[2], ids[1]]
        with pytest.raises(UnknownJob, match=ids[0]):
            jobs.get(ids[0])
    assert not (tmp_path / ids[0]).exists()


def test_a_listener_hears_of_every_end_and_its_faults_hurt_nobody(tmp_path: Path) -> None:
    heard: list[str] = []

    def listen(job: Job) -> None:
        heard.append(job.state)
        raise RuntimeError("a fault of the listener")

    with Jobs(tmp_path, COMMANDS, finished=listen) as jobs:
        jobs.wait(jobs.submit("refuse", {}).id, 20)
        jobs.wait(jobs.submit("fail", {}).id, 20)
    assert heard == ["refused", "failed"]


@pytest.mark.parametrize(
    "bounds", [{"workers": 0}, {"queue": -1}, {"seconds": 0.0}, {"niceness": 20}]
)
def test_bounds_that_let_nothing_run_are_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(QosError, match="jobs: "):
        Bounds(**bounds)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS) as jobs, pytest.raises(QosError, match="no kind 'bake'; known"):
        jobs.submit("bake", {})


def test_a_job_comes_back_from_its_record_as_it_was(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS) as jobs:
        job = jobs.wait(jobs.submit("refuse", {}, most_s=7.5).id, 20)
    kept = json.loads((tmp_path / job.id / "job.json").read_text())
    assert job_of(kept) == job and kept["created_at"].endswith("+00:00")
    json.dumps(kept, allow_nan=False)
    assert job_of(json.loads(orjson.dumps(record_of(job)))) == job


def test_a_job_waits_for_the_one_that_it_is_after(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS, Bounds(workers=2)) as jobs:
        first, _ = hanging(jobs)
        after = jobs.submit("count", {"text": b""}, after=first.id)
        beside = jobs.submit("count", {"text": b""})
        assert jobs.wait(beside.id, 20).state == "succeeded"
        assert jobs.get(after.id).state == "queued"
        jobs.cancel(first.id)
        found = jobs.wait(after.id, 20)
        assert found.state == "refused" and found.started_at is None
        assert (
            found.error
            == f"the job {first.id} that it waited for: cancelled: cancelled at: hanging"
        )
        good = jobs.submit("count", {"text": b""})
        last = jobs.wait(jobs.submit("count", {"text": b"x"}, after=good.id).id, 20)
        assert last.state == "succeeded" and last.started_at is not None
        before = jobs.get(good.id).finished_at
        assert before is not None and before <= last.started_at
        lost = jobs.wait(jobs.submit("count", {"text": b""}, after="0" * 26).id, 20)
        assert lost.state == "refused" and "forgotten" in (lost.error or "")


def test_kinds_apart_take_no_worker_and_no_place_of_the_others(tmp_path: Path) -> None:
    bounds = Bounds(workers=1, queue=1, apart=frozenset({"hang"}))
    with Jobs(tmp_path, COMMANDS, bounds) as jobs:
        hanging(jobs)
        second = jobs.submit("hang", {})
        with pytest.raises(QueueFull, match="1 jobs wait and 1 run"):
            jobs.submit("hang", {})
        for _ in range(2):
            assert jobs.wait(jobs.submit("count", {"text": b""}).id, 20).state == "succeeded"
        assert jobs.get(second.id).state == "queued"


def test_a_job_may_have_more_or_less_time_than_the_others(tmp_path: Path) -> None:
    with Jobs(tmp_path, COMMANDS, Bounds(seconds=600, grace_s=0.5)) as jobs:
        found = jobs.wait(jobs.submit("hang", {}, most_s=0.5).id, 20)
        assert found.state == "failed" and "ended after 0.5 s" in (found.error or "")
    with Jobs(tmp_path / "other", COMMANDS, Bounds(seconds=0.01)) as jobs:
        longer = jobs.submit("count", {"text": b""}, most_s=60)
        assert jobs.wait(longer.id, 20).state == "succeeded"
