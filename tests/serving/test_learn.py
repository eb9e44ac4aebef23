"""The command that learns: at once and through a service, with real processes and a real NEF."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle.registry import open_registry
from lifecycle.versions import list_versions
from serving.captures import UnknownCapture, capture_names, capture_of
from serving.jobs import Jobs
from tests.nef.server_kit import PASSWORD, Server, nef_server
from tests.serving.models_kit import frame_file

REPO = Path(__file__).parents[2]
TINY = """
collect: {simulator: {sites: 1, ues: 2, minutes: 1, sessions: 1, concurrent: 2}}
train: {forecaster: {rounds: 25, folds: 2, rows_per_leaf: 20}}
evaluate: {resamples: 200}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages learn quickly, with a frame and an empty registry."""
    folder = tmp_path_factory.mktemp("learn")
    services = folder / "feature_repo" / "catalog" / "services.json"
    services.parent.mkdir(parents=True)
    services.write_bytes((REPO / "feature_repo/catalog/services.json").read_bytes())
    (folder / "params.yaml").write_text(TINY)
    frame_file(folder / "data" / "frame.parquet")
    return folder


@pytest.fixture(scope="module")
def nef() -> Iterator[Server]:
    with nef_server(speed=1.0, ues=4) as server:
        yield server


def environment(project: Path, **more: str) -> dict[str, str]:
    return os.environ | {
        "ML_DATA": str(project / "serving"),
        "ML_REGISTRY_URI": f"sqlite:///{project}/mlflow.db",
        "NEF_USERNAME": "admin",
        "NEF_PASSWORD": PASSWORD,
        "COLUMNS": "200",
    } | more  # fmt: skip


def learn(project: Path, *given: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving.learn", *given],
        cwd=project, env=environment(project, **more), capture_output=True, text=True, timeout=400,
        check=False,
    )  # fmt: skip


def test_a_frame_that_gains_is_registered_as_challenger_and_the_gain_is_told(
    project: Path,
) -> None:
    done = learn(project, "frame", "--task", "throughput")
    assert done.returncode == 0, done.stderr
    gain = re.search(r"^gain +throughput: \+(\S+) \(\+(\S+) … \+(\S+)\) of AUC", done.stdout, re.M)
    assert gain is not None and float(gain[2]) < float(gain[1]) < float(gain[3]), done.stdout
    assert re.search(
        r"^data +throughput: 1,440 decisions, \d+ positive, 24 sessions$", done.stdout, re.M
    )
    assert "verdict    qos version 1, challenger; the champion stays" in done.stdout
    [version] = list_versions(open_registry(f"sqlite:///{project}/mlflow.db"), "qos")
    assert version.aliases == ("challenger",)
    assert not (project / "serving" / "jobs").exists()


def test_too_little_of_a_nef_is_refused_with_what_there_was_and_the_capture_stays(
    project: Path, nef: Server
) -> None:
    done = learn(project, "nef", "--nef-url", nef.url, "--duration", "2", "--interval", "1")
    assert done.returncode == 1
    told = re.search(
        r"collected +([\d,]+) answers of 4 UEs kept in (\d) rounds; 0 refused", done.stdout
    )
    assert told is not None and int(told[1]) >= 8, done.stdout
    assert re.search(r"^rows +\d+ read, \d+ admitted \(100.0%\)$", done.stdout, re.M), done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("training refused: ")
    assert "no task has 500 labelled decisions of both kinds" in done.stderr
    [name] = capture_names(project / "serving" / "captures")
    assert f"capture    {name}" in done.stdout


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["nef", "--nef-url", "http://127.0.0.1:1", "--duration", "1"], "no answer"),
        (["moon"], "source: Input should be"),
        (["nef", "--duration", "0"], "duration_s: Input should be greater than or equal to 1"),
        (["simulator", "--duration", "5"], "only where a NEF is collected from"),
        (["frame", "--capture", "a"], "is of source 'nef', not of 'frame'"),
        (["nef", "--capture", "a"], "no capture 'a'"),
        (["nef", "--job", "--nef-url", "http://x"], "asks the NEF of its own environment"),
        (["--follow", "x", "--url", "http://127.0.0.1:1"], "no answer: ConnectError"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_1(
    project: Path, given: list[str], told: str
) -> None:
    done = learn(project, *given)
    assert done.returncode == 1, done.stdout
    assert told in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_wrong_login_is_told_without_the_password(project: Path, nef: Server) -> None:
    done = learn(
        project, "nef", "--nef-url", nef.url, "--duration", "1", NEF_PASSWORD="not this one"
    )
    assert done.returncode == 1
    assert done.stderr.startswith("collection refused: not one sample in 1 rounds: NEF login: 400")
    assert "not this one" not in done.stdout + done.stderr


def test_the_newest_capture_is_meant_where_none_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with Jobs(tmp_path / "jobs", {"collect": command, "train": command}) as jobs:
        assert capture_of(None, jobs, tmp_path) == (None, None)
        for name in ("b", "a"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "nef.ndjson").touch()
            time.sleep(0.02)
        (tmp_path / "empty").mkdir()
        assert capture_names(tmp_path) == ["a", "b"]
        assert capture_of(None, jobs, tmp_path) == ("a", None)
        assert capture_of("b", jobs, tmp_path) == ("b", None)
        made = jobs.submit("collect", {}).id
        assert capture_of(made, jobs, tmp_path) == (made, made)
        jobs.cancel(made)
        jobs.wait(made, 20)
        for name in (made, "empty", jobs.submit("train", {}).id):
            with pytest.raises(UnknownCapture, match=f"no capture '{name}'; newest first: "):
                capture_of(name, jobs, tmp_path)
