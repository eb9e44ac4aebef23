"""When the service does not start, and what it does while its store is away."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.feature_server import free_port
from benchmarks.redis_process import redis_server
from feature_repo.store import open_store
from models.bundle import Bundle, BundleError
from schemas.errors import QosError
from serving.live import load_live
from serving.pending import Pending
from serving.predict import decide_all
from serving.requests import PredictRequest
from serving.state import CoreSettings, NoBreakers, Service
from tests.conftest import World
from tests.serving.core_kit import app_on, bundle_folder, busiest, filled, running
from tests.serving.models_kit import registered


@pytest.fixture
def repo(tmp_path: Path, small_world: World) -> Path:
    return filled(small_world, "embedded", tmp_path / "here" / "feature_repo")


def settings(folder: Path, repo: Path) -> CoreSettings:
    return CoreSettings(model=str(folder), repo=repo)


def test_a_bundle_of_another_catalog_does_not_start(tmp_path: Path, repo: Path) -> None:
    folder = bundle_folder(tmp_path / "b", catalog_hash="0" * 16)
    with pytest.raises(BundleError, match="trained with catalog 000000000000"):
        load_live(settings(folder, repo))


@pytest.mark.parametrize(
    "name", ["manifest.json", "qos_met/classifier.txt", "latency_loss/p90.txt"]
)
def test_a_bundle_cut_short_does_not_start(tmp_path: Path, repo: Path, name: str) -> None:
    folder = bundle_folder(tmp_path / "b")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_live(settings(folder, repo))


def test_a_registered_bundle_that_is_not_read_says_which_and_what_to_do(
    tmp_path: Path, repo: Path
) -> None:
    uri = f"sqlite:///{tmp_path / 'registry' / 'mlflow.db'}"
    registered(uri)
    for manifest in (tmp_path / "registry" / "mlartifacts").rglob("manifest.json"):
        manifest.write_text(manifest.read_text(encoding="utf-8")[:40], encoding="utf-8")
    wanted = CoreSettings(model="qos@champion", repo=repo, registry_uri=uri)
    with pytest.raises(BundleError, match=r"qos/1: .*`--model` takes another .*qos@challenger"):
        load_live(wanted)


def test_a_store_without_the_service_does_not_start(tmp_path: Path) -> None:
    folder, empty = bundle_folder(tmp_path / "b"), tmp_path / "empty" / "feature_repo"
    empty.mkdir(parents=True)
    with pytest.raises(QosError, match="'qos_v1' is not registered"):
        load_live(settings(folder, empty))


def test_a_store_of_another_service_does_not_start(tmp_path: Path, repo: Path) -> None:
    folder, store = bundle_folder(tmp_path / "b"), open_store("embedded", repo)
    service = store.get_feature_service("qos_v1")
    service.feature_view_projections.pop(0)
    store.registry.apply_feature_service(service, store.project)
    with pytest.raises(QosError, match="they differ in 'ue_"):
        load_live(settings(folder, repo))


def test_the_command_says_in_one_line_why_it_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving", "--model", "qos@nobody", "--port", str(free_port())]
    place = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        command, cwd=tmp_path, env=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no model 'qos@nobody'" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


class Seen(NoBreakers):
    """Breakers that remember."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def succeeded(self, name: str) -> None:
        self.said.append("up")

    def failed(self, name: str) -> None:
        self.said.append("down")


def test_a_store_that_goes_away_is_a_fallback_at_once_and_comes_back(
    tmp_path: Path, small_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ue, five_qi, cells = busiest(small_world)
    body: dict[str, Any] = {
        "ue_id": ue, "five_qi": five_qi, "connected_to": cells[0],
        "candidates": [{"cell_id": cell, "rsrp_dbm": -90.0 + 4 * n} for n, cell in enumerate(cells)],
    }  # fmt: skip
    with redis_server(tmp_path) as address:
        monkeypatch.setenv("QOS_REDIS", address)
        repo = filled(small_world, "redis", tmp_path / "r" / "feature_repo")
        app = app_on(bundle_folder(tmp_path / "b"), "redis", repo, store_s=0.5)
    app.state.service.breakers = seen = Seen()
    with running(app) as client:
        for _ in range(3):
            began = time.monotonic()
            answer = client.post("/api/predict-with-qos", json=body)
            assert answer.status_code == 200 and time.monotonic() - began < 3
            found = answer.json()
            assert (found["decision"], found["reason"]) == ("fallback_a3", "store_away")
            assert found["predicted_antenna"] == cells[-1]  # the strongest by more than 3 dB
            assert found["features"] == {} and found["confidence"] == 0
        nothing = client.post("/api/predict-with-qos", json={"ue_id": ue}).json()
        assert (nothing["reason"], nothing["predicted_antenna"]) == ("store_away", None)
        began = time.monotonic()
        many = {"requests": [{"ue_id": ue, "connected_to": cells[0]}] * 50}
        told = client.post("/api/predict/batch", json=many).json()["decisions"]
        assert {one["reason"] for one in told} == {"store_away"}
        assert time.monotonic() - began < 3  # the store is asked once for all
    assert set(seen.said) == {"down"}


class Open(NoBreakers):
    def is_open(self, name: str) -> bool:
        return name == "store"


def test_an_open_breaker_leaves_the_store_alone(bundle: Bundle, tmp_path: Path, repo: Path) -> None:
    import asyncio

    live = load_live(settings(bundle_folder(tmp_path / "b"), repo))
    service = Service(settings(tmp_path, repo), live, breakers=Open())
    request = PredictRequest.model_validate({"ue_id": "u", "candidates": [{"cell_id": "a"}]})
    found = asyncio.run(decide_all(service, [request]))
    assert found[0].choice.reason == "store_away" and found[0].assessed is None


def test_pending_jobs_are_bounded_and_forgotten() -> None:
    pending = Pending(kept_s=0.05)
    first, second = pending.open(2), pending.open(2)
    assert first and second and pending.open(2) is None
    pending.done(first, {"a": 1})
    third = pending.open(2)
    assert third is not None
    found = pending.look(first)
    assert found is not None and found.result == {"a": 1}
    time.sleep(0.06)
    assert pending.look(first) is None and pending.look("none") is None
