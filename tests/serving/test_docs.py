"""The examples of the service's pages, run against the service that the pages themselves start."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import yaml

from lifecycle.bundles import write
from models.bundle import Bundle
from serving.settings import variables
from tests.conftest import World
from tests.nef.server_kit import PASSWORD, nef_server
from tests.serving.core_kit import KEY, busiest, filled
from tests.serving.models_kit import QUICK, frame_file, registered
from tests.test_docs_examples import blocks, copy_to, environment_in, perform, text_fences

ROOT = Path(__file__).parents[2]
PAGES = ["serving-core.md", "serving-guard.md", "serving-models.md", "serving-record.md"]
SHOWN = {  # what is not run: a service's start, twenty minutes of a network, what a command prints
    "serving-core.md": ["console"],
    "serving-models.md": ["console", "console"],
    "serving-record.md": ["text"],
}
UE, DECISION = "imsi-001010000000001", "0198c0de-0000-7000-8000-000000000001"
PORT = "5050"


@dataclass
class Checkout:
    """A checkout after `make run`: store, registry with a champion and a challenger, bundle, frame."""

    folder: Path
    asked: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def after_a_run(
    tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, small_world: World
) -> Iterator[Checkout]:
    """Nothing of it is the project's own; a simulated NEF listens."""
    folder = tmp_path_factory.mktemp("after_a_run")
    filled(small_world, "embedded", folder / "feature_repo")
    copy_to(folder)
    write(bundle, folder / "data" / "bundle")
    for seed, alias in ((5, "champion"), (6, "challenger")):
        registered(f"sqlite:///{folder}/.qos/mlflow.db", seed, alias)
    rows = pl.read_parquet(frame_file(folder / "data" / "frame.parquet"))
    rows.with_columns(task=pl.lit("qos_met")).write_parquet(folder / "data" / "frame.parquet")
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    quick: dict[str, Any] = QUICK
    for section, values in quick.items():
        for name, value in values.items():
            old = params[section].get(name)
            params[section][name] = old | value if isinstance(old, dict) else value
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    # curl then fails where an answer is an error
    (folder / ".curlrc").write_text("fail-with-body\nshow-error\n", encoding="utf-8")
    ue, five_qi, cells = busiest(small_world)
    asked = {
        "ue_id": ue, "five_qi": five_qi, "connected_to": cells[0],
        "thresholds": {"downlink_mbps": 5.0, "delay_ms": 100.0},
    }  # fmt: skip
    with nef_server() as nef:
        yield Checkout(folder, asked, {
            "CURL_HOME": str(folder), "QOS_PSEUDONYM_KEY": KEY,
            "NEF_API_URL": nef.url, "NEF_USERNAME": "admin",
            "NEF_PASSWORD": PASSWORD, "ML_STORE_SECONDS": "5", "ML_ANSWER_SECONDS": "120",
        })  # fmt: skip


@contextmanager
def started(checkout: Checkout, command: str) -> Iterator[httpx.Client]:
    """A client of the service that a command of the pages starts, on a free port instead of theirs."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    environment = environment_in(checkout.folder) | checkout.environment | {"ML_PORT": port}
    told = checkout.folder / f"told-{port}.log"
    with told.open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command.replace(PORT, port)}"], cwd=checkout.folder,
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            until = time.monotonic() + 180
            while not _alive(client):
                assert process.poll() is None and time.monotonic() < until, told.read_text()
                time.sleep(0.1)
            yield client
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _alive(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.ConnectError:
        return False


def typed(page: str, start: str) -> str:
    """The one command of a page's console blocks that starts so."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    (found,) = [line for line in lines if line.startswith(f"$ {start}")]
    return found.removeprefix("$ ").split("#")[0].strip()


def places(client: httpx.Client, **others: str) -> dict[str, str]:
    """What stands in the examples instead of what the pages say."""
    address = f"127.0.0.1:{client.base_url.port}"
    return {f"localhost:{PORT}": address, f"127.0.0.1:{PORT}": address} | others


@pytest.fixture(scope="module")
def service(after_a_run: Checkout) -> Iterator[httpx.Client]:
    """As the README starts it, with the registered model."""
    with started(after_a_run, typed("README.md", "make serve")) as client:
        yield client


def test_ask_for_a_decision(after_a_run: Checkout) -> None:
    command = typed("docs/serving-core.md", "python -m serving --model")
    # its decisions are of a bundle that no registry has, so no replay of all finds its model
    with started(after_a_run, f"{command} --data data/asked") as client:
        instead = places(client) | {UE: after_a_run.asked["ue_id"]}
        perform(after_a_run.folder, "serving-core.md", instead, after_a_run.environment)
        assert client.get("/api/health").json()["version"] == "bundle"


def test_models_of_the_service(after_a_run: Checkout, service: httpx.Client) -> None:
    perform(after_a_run.folder, "serving-models.md", places(service), after_a_run.environment)
    jobs = {one["kind"]: one for one in service.get("/api/jobs").json()["jobs"]}
    assert set(jobs) == {"train", "collect"}


def test_decisions_on_record(after_a_run: Checkout, service: httpx.Client) -> None:
    asked = service.post("/api/predict-with-qos", json=after_a_run.asked).raise_for_status().json()
    told = service.post("/api/predict-with-qos", json=after_a_run.asked).raise_for_status().json()
    outcome = [{"decision_id": told["decision_id"], "downlink_mbps": 9.0}]
    service.post("/api/qos-feedback", json=outcome).raise_for_status()
    kept = after_a_run.folder / "data" / "serving"
    until = time.monotonic() + 30
    while not {"decisions", "outcomes"} <= {
        one.relative_to(kept).parts[0] for one in kept.rglob("*.parquet")
    }:
        assert time.monotonic() < until, list(kept.rglob("*"))
        time.sleep(0.1)
    instead = places(service) | {DECISION: asked["decision_id"]}
    perform(after_a_run.folder, "serving-record.md", instead, after_a_run.environment)
    why = service.get(f"/api/explain/{asked['decision_id']}").raise_for_status().json()
    assert why["cells"] and why["decision_id"] == asked["decision_id"]


def test_guard_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    perform(ROOT, "serving-guard.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_but_those_that_are_stated(page: str) -> None:
    found = blocks(page)
    assert {block.kind for block in found} <= {"bash", "python", "console", "text"}
    shown = [block for block in found if block.kind not in ("bash", "python")]
    assert [block.kind for block in shown] == SHOWN.get(page, [])
    assert text_fences(page) == 2 * sum(1 + bool(block.printed) for block in found)
