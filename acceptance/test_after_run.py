"""What somebody does after `make run`, in the clone where it has run (`make reproduce` comes here).

The tests leave the clone as they found it, in the order of the file.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.feature_server import free_port
from serving.client import DecisionClient, DecisionServiceError, explain, get
from tests.test_docs_examples import blocks, run

HERE = Path.cwd()
ONLINE = Path(".qos/online.db")
VIEW = Path("feature_repo/views/ue_motion.py")


def shell(*command: str | Path, folder: Path = HERE) -> str:
    return run(folder, [str(part) for part in command])


def stages_run(said: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", said)


@pytest.fixture(scope="session", autouse=True)
def locked() -> None:
    """Commits the lock of this machine's run: another processor may round another way."""
    for role in ("AUTHOR", "COMMITTER"):
        os.environ[f"GIT_{role}_NAME"] = "acceptance"
        os.environ[f"GIT_{role}_EMAIL"] = "acceptance@localhost"
    if shell("git", "status", "--porcelain", "--untracked-files=no"):
        shell("git", "commit", "--quiet", "--all", "--message", "This machine's run")


@pytest.fixture(autouse=True)
def as_found() -> Iterator[None]:
    """Brings tracked files and outputs back."""
    yield
    shell("git", "checkout", "--quiet", ".")
    shell("dvc", "checkout", "--quiet", "--force")


def test_a_run_with_nothing_changed_only_looks_at_the_store() -> None:
    assert stages_run(shell("dvc", "repro")) == ["publish"]
    assert "nothing changed" in shell(sys.executable, "-m", "pipelines.run")
    assert shell("git", "status", "--porcelain") == ""


def test_the_registered_model_decides(tmp_path: Path) -> None:
    port = free_port()
    environment = os.environ | {"ML_PORT": str(port), "ML_DATA": str(tmp_path)}
    serving = subprocess.Popen(["make", "serve"], env=environment, start_new_session=True)
    try:
        with DecisionClient(f"http://127.0.0.1:{port}", timeout_s=10) as service:
            ready = until_it_answers(service)
            assert ready["ready"], ready
            flow = pl.read_parquet("data/admitted/ue_flow.parquet").sort("event_timestamp")
            radio = pl.read_parquet("data/admitted/ue_radio.parquet").sort("event_timestamp")
            newest = flow.tail(1)
            ue = newest["ue_id"].item()
            cell = radio.filter(pl.col("ue_id") == ue)["cell_id"].tail(1).item()
            reply = service.decide(
                {
                    "ue_id": ue, "five_qi": newest["five_qi"].item(), "connected_to": cell,
                    "thresholds": {"downlink_mbps": 0.1, "delay_ms": 1000.0, "loss_ratio": 0.1},
                    "candidates": [{"cell_id": cell}], "explain": True, "priority": 1,
                }
            )  # fmt: skip
            assert reply.model.version.startswith("qos/")
            (only,) = reply.candidates
            assert only.probability is not None and only.throughput_mbps is not None
            assert {view.status for view in reply.features.values()} == {"present"}
            assert (reply.decision, reply.reason) == ("stay", "serving_cell_is_best")
            assert service.run(explain(reply.decision_id)).cells[0].contributions
    finally:
        os.killpg(serving.pid, signal.SIGINT)
        serving.wait(30)


def until_it_answers(service: DecisionClient, seconds: float = 60.0) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while True:
        try:
            return service.run(get("/health/ready"))
        except DecisionServiceError:
            assert time.monotonic() < end, "it does not answer"
            time.sleep(0.2)


def test_an_emptied_store_is_seen_by_a_bare_repro() -> None:
    def rows() -> int:
        with sqlite3.connect(ONLINE) as connection:
            return int(connection.execute("SELECT count(*) FROM qos_ue_radio").fetchone()[0])

    before = rows()
    assert before > 0
    ONLINE.unlink()
    shell("dvc", "repro", "publish")
    assert rows() == before


def test_a_changed_view_runs_only_what_hangs_on_it() -> None:
    text = VIEW.read_text(encoding="utf-8")
    assert '"mean_60s"' in text
    VIEW.write_text(text.replace('"mean_60s"', '"mean_60s", "std_30s"'), encoding="utf-8")
    shell(sys.executable, "-m", "feature_repo.catalog")
    assert stages_run(shell("dvc", "repro", "assemble")) == [
        "aggregate@ue_motion", "check", "assemble",
    ]  # fmt: skip


def test_dvc_compares_runs() -> None:
    params = Path("params.yaml")
    content = params.read_text(encoding="utf-8")
    params.write_text(content.replace("resamples: 1000", "resamples: 200"), encoding="utf-8")
    assert stages_run(shell("dvc", "repro", "evaluate")) == ["evaluate"]
    assert "auc_low" in shell("dvc", "metrics", "diff")
    shell("dvc", "plots", "show", "--out", ".qos/dvc_plots")
    assert "false_positive_rate" in Path(".qos/dvc_plots/index.html").read_text(encoding="utf-8")
    assert "workspace" in shell("dvc", "exp", "show", "--csv")


def test_a_clone_gets_everything_from_a_remote(tmp_path: Path) -> None:
    remote, clone = tmp_path / "remote", tmp_path / "clone"
    shell("dvc", "remote", "add", "--local", "--default", "--force", "store", remote)
    shell("dvc", "push", "--quiet")
    shell("git", "clone", "--quiet", HERE, clone)
    shell("dvc", "remote", "add", "--local", "--default", "store", remote, folder=clone)
    shell("dvc", "pull", "--quiet", folder=clone)
    for name in ("data/frame.parquet", "data/raw/ue_radio.parquet", "data/bundle/manifest.json"):
        assert (clone / name).read_bytes() == (HERE / name).read_bytes()
    assert stages_run(shell("dvc", "repro", folder=clone)) == ["publish"]
    assert (clone / ONLINE).exists()


def test_a_failed_stage_leaves_nothing_and_checkout_brings_the_last_back() -> None:
    params = Path("params.yaml")
    content = params.read_text(encoding="utf-8")
    params.write_text(
        content.replace("min_acceptance: 0.9", "min_acceptance: 1.0"), encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.run"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert re.search(
        r"admit: only \d+ of \d+ rows .* admit\.min_acceptance is 100\.0%; worst: ", said
    )
    assert "dvc checkout" in said and "Traceback" not in said
    assert not Path("data/admitted").exists()
    shell("git", "checkout", "--quiet", "params.yaml")
    shell("dvc", "checkout", "--quiet")
    assert Path("data/admitted/ue_radio.parquet").exists()


def test_the_redis_profile_has_a_receipt_of_its_own(
    redis_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QOS_REDIS", redis_address)
    said = shell(sys.executable, "-m", "pipelines.run", "--online", "--profile", "redis")
    assert "data/metrics/publish_redis.json" in said
    embedded = json.loads(Path("data/metrics/publish.json").read_text(encoding="utf-8"))
    assert (
        json.loads(Path("data/metrics/publish_redis.json").read_text(encoding="utf-8")) == embedded
    )


def test_the_benchmark_of_the_pipeline_leaves_its_keys(tmp_path: Path) -> None:
    shell(
        sys.executable,
        "-m",
        "benchmarks.pipeline",
        "--source",
        "simulator",
        "--smoke",
        "--out",
        tmp_path,
    )
    found = json.loads((tmp_path / "pipeline.json").read_text(encoding="utf-8"))
    assert {"source", "seconds", "seconds_unchanged", "peak_rss_gb", "stages"} <= set(found)
    assert found["cores"] and found["time"] and "polars" in found["versions"]
    assert found["seconds"] > found["seconds_unchanged"] > 0 < found["peak_rss_gb"]
    assert "publish@embedded" in found["stages"]


@pytest.mark.parametrize("page", ["quickstart.md", "operate.md"])
def test_the_examples_of_a_page_run(page: str) -> None:
    examples = [block for block in blocks(page) if block.kind in ("bash", "python")]
    assert examples
    for block in examples:
        command = ["bash", "-euo", "pipefail"] if block.kind == "bash" else [sys.executable, "-"]
        run(HERE, command, block.code)


def test_the_project_can_be_moved(tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(HERE, moved, ignore=shutil.ignore_patterns(".venv", "cache"), symlinks=True)
    code = (
        "from lifecycle.registry import load_version, open_registry, tracking_uri\n"
        "bundle = load_version(open_registry(tracking_uri()), 'qos@champion')\n"
        "print(sorted(bundle.tasks))\n"
    )
    assert "qos_met" in run(moved, [sys.executable, "-"], code)
