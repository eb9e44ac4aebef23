"""Training, collecting and their jobs over real HTTP, in real processes."""

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil
import pytest

from lifecycle.registry import open_registry
from lifecycle.versions import list_versions
from pipelines.capture import capture
from serving.samples import Sample, gate
from serving.state import Service
from tests.conftest import World
from tests.nef.server_kit import PASSWORD, nef_server
from tests.serving.models_kit import QUICK, Place, frame_file, place_of, samples, served

REPO = Path(__file__).parents[2]
SHORT = {  # what a capture of minutes can be learned from
    "collect": {"nef": {"session_s": 30}},
    "label": {"min_rows": 200, "handover": {"stride_s": 1}},
}


@pytest.fixture(scope="module")
def place(small_world: World, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place_of(small_world, tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def nef() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, nef_server() as server:
        patch.setenv("NEF_API_URL", server.url)
        patch.setenv("NEF_USERNAME", "admin")
        patch.setenv("NEF_PASSWORD", PASSWORD)
        yield


@pytest.fixture(scope="module")
def running_service(place: Place, nef: None) -> Iterator[tuple[httpx.Client, Service]]:
    before = Path.cwd()
    project = place.folder / "work"
    (project / "feature_repo" / "catalog").mkdir(parents=True)
    services = "feature_repo/catalog/services.json"
    (project / services).write_bytes((REPO / services).read_bytes())
    frame_file(project / "data" / "frame.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QOS_PSEUDONYM_KEY", "a key of these tests alone")
        os.chdir(project)
        try:
            with served(place, wait_s=120.0, params=QUICK | SHORT) as found:
                yield found
        finally:
            os.chdir(before)


@pytest.fixture
def client(running_service: tuple[httpx.Client, Service]) -> httpx.Client:
    running_service[0].timeout = httpx.Timeout(150)
    return running_service[0]


def aliases(place: Place) -> dict[int, tuple[str, ...]]:
    return {one.version: one.aliases for one in list_versions(open_registry(place.uri), "qos")}


def ended(client: httpx.Client, job: str, seconds: float = 60.0) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while (found := client.get(f"/api/jobs/{job}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return dict(found)


def test_one_row_is_refused_with_its_evidence_and_the_live_model_stays(
    client: httpx.Client, place: Place
) -> None:
    before = aliases(place)
    reply = client.post("/api/train", json={"samples": samples()[:1]})
    assert reply.status_code == 422, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    content = reply.json()
    assert "1 sessions of 1 rows" in content["detail"]
    result = content["job"]["result"]
    assert result["data"] == {
        "throughput": {"rows": 1, "positives": samples()[0]["label"], "sessions": 1}
    }
    assert result["registered"] is False and result["samples"]["admitted"] == 1
    assert aliases(place) == before


def test_one_class_is_refused(client: httpx.Client) -> None:
    given = [one | {"label": 1} for one in samples(sessions=12)]
    reply = client.post("/api/train", json={"samples": given})
    assert reply.status_code == 422
    assert "0 rows of label 0 in train; it takes at least 50" in reply.json()["detail"]


def test_a_model_that_gains_becomes_the_challenger_and_never_the_champion(
    client: httpx.Client, place: Place, running_service: tuple[httpx.Client, Service]
) -> None:
    live = running_service[1].live
    reply = client.post("/api/train", json={"source": "frame"})
    assert reply.status_code == 200, reply.text
    content = reply.json()
    assert (content["state"], content["progress"]) == ("succeeded", 1.0)
    result = content["result"]
    assert result["registered"] and result["aliases"] == ["challenger"]
    found = result["metrics"]["throughput"]
    assert found["gain_low"] > 0 and found["auc_low"] < found["auc"] < found["auc_high"]
    now = aliases(place)
    assert now[result["version"]] == ("challenger",) and now[1] == ("champion",)
    assert running_service[1].live is live
    told = client.get("/api/models/challenger").json()
    assert told["entry"]["digest"] == result["bundle"] and not told["entry"]["live"]
    jobs = place.folder / "serving" / "jobs" / content["id"]
    assert not (jobs / "work").exists() and not (jobs / "request").exists()


def test_no_gain_over_the_baseline_is_refused_with_its_intervals(
    client: httpx.Client, place: Place
) -> None:
    before = aliases(place)
    reply = client.post("/api/train-async", json={"samples": samples(skill=False)})
    assert reply.status_code == 202, reply.text
    job = ended(client, reply.json()["id"])
    assert job["state"] == "refused" and "is not above zero" in job["error"]
    found = job["result"]["metrics"]["throughput"]
    assert found["gain_low"] <= 0 and found["auc_persistence"] > found["auc"]
    assert aliases(place) == before


def test_a_cancelled_training_leaves_no_process_no_files_and_no_version(
    client: httpx.Client, place: Place
) -> None:
    before = aliases(place)
    job = client.post("/api/train-async", json={"source": "frame", "seed": 8}).json()["id"]
    while client.get(f"/api/jobs/{job}").json()["stage"] != "train":
        time.sleep(0.02)
    folder = place.folder / "serving" / "jobs" / job
    mine = [p for p in psutil.process_iter() if _speaks_of(p, str(folder))]
    tree = [child for one in mine for child in [one, *one.children(recursive=True)]]
    assert tree and all(_nice(one) >= 10 for one in tree)
    assert client.delete(f"/api/jobs/{job}").status_code == 202
    found = ended(client, job)
    assert (found["state"], found["error"]) == ("cancelled", "cancelled at: train")
    _, alive = psutil.wait_procs(tree, timeout=10)
    assert not alive
    assert sorted(path.name for path in folder.iterdir()) == [
        "job.json", "output.txt", "progress.json",
    ]  # fmt: skip
    assert aliases(place) == before
    assert client.delete(f"/api/jobs/{job}").status_code == 409


def test_samples_outside_the_contracts_are_refused_by_reason(client: httpx.Client) -> None:
    given = samples(sessions=2, rows=10)
    for one in given[:3]:  # degrees where dBm are expected
        one["features"] = {"ue_rsrp_dbm_last_5s": 38.0}
    given[3]["five_qi"] = 1000
    reply = client.post("/api/train-async", json={"samples": given})
    assert reply.status_code == 422
    detail = reply.json()["detail"]
    assert "16 of 20 keep the contracts, at least 90% must" in detail
    assert "'ue_rsrp_dbm_last_5s: max': 3" in detail and "'five_qi: is_in': 1" in detail


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"source": "frame", "colour": 1}', 422),
        (b'{"source": "elsewhere"}', 422),
        (b'{"source": "frame", "samples": []}', 422),
        (b'{"samples": []}', 422),
        (b'{"samples": [{"ue_id": "a"}]}', 422),
        (b" " * 70_000 + b'{"source": "frame", "colour": 1}', 422),
        (b" " * 70_000 + b'{"source": "frame"}', 422),
        (b" " * 70_000 + b"{", 400),
    ],
)
@pytest.mark.parametrize("path", ["/api/train", "/api/train-async"])
def test_bad_bodies_are_refused_at_once(
    client: httpx.Client, path: str, body: bytes, status: int
) -> None:
    reply = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"


def test_unknown_features_media_and_jobs_are_refused(client: httpx.Client) -> None:
    given = samples(sessions=1, rows=1)
    given[0]["features"] = {"ue_luck": 1.0}
    reply = client.post("/api/train", json={"samples": given})
    assert reply.status_code == 422 and "qos_v1 has no 'ue_luck'" in reply.json()["detail"]
    assert client.post("/api/train", content=b"a,b").status_code == 415
    assert client.get(f"/api/jobs/{'0' * 26}").status_code == 404
    assert client.delete(f"/api/jobs/{'0' * 26}").status_code == 404
    assert client.get("/api/jobs/..%2f..").status_code in (404, 422)


def test_a_collection_is_trained_on_by_its_name_and_too_little_of_it_is_refused(
    client: httpx.Client, place: Place
) -> None:
    before = aliases(place)
    reply = client.post("/api/collect-data", json={"duration_s": 2, "interval_s": 1})
    assert reply.status_code == 202, reply.text
    name = reply.json()["id"]
    later = client.post("/api/train-async", json={"capture": name})  # it waits for the collection
    assert later.status_code == 202, later.text
    assert later.json()["state"] == "queued"
    job = ended(client, name)
    assert job["state"] == "succeeded", job
    result = job["result"]
    assert (result["rounds"], result["ues"], result["failures"]) == (2, 8, {})
    assert result["samples"] >= 16 and result["capture"] == name
    kept = (place.folder / "serving" / "captures" / result["file"]).read_text()
    kinds = [json.loads(line)["kind"] for line in kept.splitlines()]
    assert kinds.count("ue_state") >= 8 and kinds.count("requirement") == 8
    assert len(kinds) == 1 + result["samples"] and "00101" not in kept
    places = [json.loads(line) for line in kept.splitlines() if "latitude_deg" in line]
    assert places and all(round(one["latitude_deg"] * 1e4) % 10 == 5 for one in places)

    trained = ended(client, later.json()["id"])
    assert trained["state"] == "refused", trained
    assert trained["started_at"] >= job["finished_at"]
    found = trained["result"]
    assert (found["source"], found["capture"], found["registered"]) == ("nef", name, False)
    assert "keep their contracts, admit.min_acceptance is 90.0%" in trained["error"]
    assert "arrival_before_event" in trained["error"]  # this NEF's clock runs ahead of ours
    assert aliases(place) == before


def test_a_capture_whose_model_gains_gives_a_challenger_and_leaves_the_champion(
    client: httpx.Client, place: Place, running_service: tuple[httpx.Client, Service]
) -> None:
    live = running_service[1].live
    capture(200, None, 1, place.folder / "serving" / "captures" / "evening", 0.001, (12, 2, 1))
    reply = client.post("/api/train-async", json={"capture": "evening", "tasks": ["handover"]})
    assert reply.status_code == 202, reply.text
    job = ended(client, reply.json()["id"], 400)
    assert job["state"] == "succeeded", job
    result = job["result"]
    assert (result["source"], result["capture"]) == ("nef", "evening")
    assert result["aliases"] == ["challenger"] and result["metrics"]["handover"]["gain_low"] > 0
    admission = result["admission"]
    assert admission["read"] == admission["admitted"] + admission["quarantined"] > 200 * 12
    assert result["labels"]["handover"]["decisions"] == result["data"]["handover"]["rows"] > 1000
    now = aliases(place)
    assert now[result["version"]] == ("challenger",) and now[1] == ("champion",)
    assert running_service[1].live is live
    evidence = client.get("/api/models/challenger").json()
    assert evidence["entry"]["digest"] == result["bundle"]


def test_a_capture_that_is_not_there_is_named_with_those_that_are(client: httpx.Client) -> None:
    for content in ({"capture": "elsewhere"}, {"source": "nef", "capture": "0" * 26}):
        reply = client.post("/api/train", json=content)
        assert reply.status_code == 404, reply.text
        assert f"no capture '{content['capture']}'" in reply.json()["detail"]
    for wrong in ({"capture": "../.."}, {"source": "frame", "capture": "a"}, {"capture": ""}):
        assert client.post("/api/train-async", json=wrong).status_code == 422


@pytest.mark.parametrize(
    "content", [{"duration_s": 0}, {"duration_s": 3601}, {"interval_s": 61}, {"url": "http://x"}]
)
def test_a_collection_past_its_bounds_is_refused(
    client: httpx.Client, content: dict[str, Any]
) -> None:
    assert client.post("/api/collect-data", json=content).status_code == 422


def test_the_gate_pseudonymises_and_keeps_the_last_of_equal_keys() -> None:
    given = samples(sessions=1, rows=5)
    again = given[0] | {"label": 1 - given[0]["label"]}
    read = [Sample.model_validate(one) for one in [*given, again]]
    rows, account = gate(read, b"k" * 16, datetime.now(UTC))
    assert account == {"rows": 6, "admitted": 5, "by_reason": {"duplicate": 1}}
    assert rows["ue_id"].str.contains(r"^ue-[0-9a-f]{20}$").all()
    first = datetime.fromisoformat(given[0]["event_timestamp"])
    assert rows.filter(pl.col("event_timestamp") == first)["label"].item() == again["label"]
    tomorrow = given[1] | {"label_until": "2999-01-01T00:00:00Z"}
    early = given[2] | {"label_until": "2020-01-01T00:00:00Z"}
    _, account = gate(
        [Sample.model_validate(one) for one in (tomorrow, early)], b"k" * 16, datetime.now(UTC)
    )
    assert account["admitted"] == 0
    assert account["by_reason"] == {"label_before_event": 1, "label_until: not yet": 1}


def _speaks_of(process: psutil.Process, folder: str) -> bool:
    try:
        return folder in process.cmdline()
    except psutil.Error:
        return False


def _nice(process: psutil.Process) -> int:
    try:
        return int(process.nice())
    except psutil.NoSuchProcess:
        return 10
