"""The service over real HTTP, on a real Redis and on SQLite."""

import asyncio
import json
import math
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from fastapi import FastAPI

from lifecycle.bundles import write
from lifecycle.pseudonym import pseudonym
from models.bundle import Bundle, BundleError
from nef.server.decision import Verdict
from serving.live import swap
from serving.messages.decisions import BatchReply, DecisionReply, PendingReply, PlainReply
from serving.state import Service
from tests.conftest import World
from tests.serving.core_kit import KEY, app_on, bundle_folder, busiest, filled, running

WITH_QOS = "/api/predict-with-qos"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    found = tmp_path_factory.mktemp("bundle")
    write(bundle, found)
    return found


@pytest.fixture(scope="module", params=["embedded", "redis"])
def app(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, folder: Path,
    small_world: World,
) -> Iterator[FastAPI]:  # fmt: skip
    repo = tmp_path_factory.mktemp(request.param) / "feature_repo"
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "redis":
            address = request.getfixturevalue("redis_address")
            host, port = address.split(":")
            redis.Redis(host=host, port=int(port)).flushall()
            patch.setenv("QOS_REDIS", address)
        yield app_on(folder, request.param, filled(small_world, request.param, repo), store_s=5.0)


@pytest.fixture(scope="module")
def loops(app: FastAPI) -> list[asyncio.AbstractEventLoop]:
    """Those in which the service was started."""
    found: list[asyncio.AbstractEventLoop] = []

    async def started(_: Service) -> None:
        found.append(asyncio.get_running_loop())

    app.state.service.started.append(started)
    return found


@pytest.fixture(scope="module")
def client(app: FastAPI, loops: list[asyncio.AbstractEventLoop]) -> Iterator[httpx.Client]:
    with running(app) as found:
        yield found


@pytest.fixture
def service(app: FastAPI) -> Service:
    found: Service = app.state.service
    return found


@pytest.fixture(scope="module")
def asked(small_world: World) -> dict[str, Any]:
    """What a NEF would send of the UE that was heard of last."""
    ue, five_qi, cells = busiest(small_world)
    return {
        "ue_id": ue,
        "event_timestamp": "2026-03-04T10:00:00+00:00",
        "five_qi": five_qi,
        "connected_to": cells[0],
        "speed_mps": 1.5,
        "observed_qos": {"downlink_mbps": 20.0, "downlink_delay_ms": 20.0, "jitter_ms": None,
                         "packet_loss_ratio": 0.0},
        "candidates": [
            {"cell_id": cell, "rsrp_dbm": -90.0 - 2 * place, "rsrq_db": -11.0, "sinr_db": 12.0 - place,
             "prb_used_ratio": 0.3, "active_ue_count": 4}
            for place, cell in enumerate(cells)
        ],
    }  # fmt: skip


def decided(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(WITH_QOS, json=body)
    assert answer.status_code == 200, answer.text
    DecisionReply.model_validate_json(answer.content)
    found: dict[str, Any] = answer.json()
    return found


def without_ids(reply: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in reply.items() if key not in ("decision_id", "decided_at")}


def test_a_decision_and_what_it_rests_on(
    client: httpx.Client, asked: dict[str, Any], bundle: Bundle
) -> None:
    found = decided(client, asked)
    cells = [one["cell_id"] for one in asked["candidates"]]
    assert [one["cell_id"] for one in found["candidates"]] == cells
    assert found["predicted_antenna"] in cells
    assert found["ue_id"] == pseudonym(asked["ue_id"], KEY.encode())
    assert decided(client, asked | {"ue_id": found["ue_id"]})["ue_id"] == found["ue_id"]
    assert found["model"]["digest"] == bundle.digest
    assert all(view["status"] == "present" for name, view in found["features"].items()
               if name in ("ue_radio", "ue_flow", "qos_class"))  # fmt: skip
    serving, other = found["candidates"][0], found["candidates"][1]
    assert (serving["serving"], other["serving"]) == (True, False)
    assert other["substituted_share"] > 0 and other["unknown_share"] > serving["unknown_share"]
    for one in found["candidates"]:
        trust = max(0, 1 - one["unknown_share"] - one["substituted_share"] / 2)
        trust *= 1 - one["out_of_domain_share"]
        assert one["confidence"] == pytest.approx(one["probability"] * trust)
        assert one["throughput_mbps"]["p10"] <= one["throughput_mbps"]["p90"]
    details = {one["metric"]: one for one in found["qos_compliance"]["details"]}
    assert details["jitter_ms"]["ok"] is None  # not observed is not met
    assert details["downlink_mbps"]["ok"] == (20.0 >= details["downlink_mbps"]["required"])


def test_a_nef_can_read_it(client: httpx.Client, asked: dict[str, Any]) -> None:
    verdict = Verdict.model_validate(decided(client, asked))
    assert verdict.cell_id in {one["cell_id"] for one in asked["candidates"]}
    assert verdict.qos_compliance is not None


def test_the_probability_is_the_bundles_own_of_the_vector(
    client: httpx.Client, asked: dict[str, Any], service: Service, bundle: Bundle
) -> None:
    kept: list[Any] = []

    class Log:
        def append(self, one: Any) -> None:
            kept.append(one)

    plain, service.log = service.log, Log()
    try:
        found = decided(client, asked)
    finally:
        service.log = plain
    assert kept[0].decision_id == found["decision_id"]
    said, band = bundle.predict("qos_met", kept[0].assessed.vectors.matrix)
    assert [one["probability"] for one in found["candidates"]] == said.tolist()
    assert band is not None
    assert [one["throughput_mbps"]["p50"] for one in found["candidates"]] == band[:, 1].tolist()


def test_a_subscriber_id_is_nowhere_in_an_answer(
    client: httpx.Client, asked: dict[str, Any]
) -> None:
    digits = asked["ue_id"].removeprefix("imsi-")
    assert digits not in json.dumps(decided(client, asked | {"explain": True}))


def test_the_cells_that_the_store_knows_a_ue_hears(
    client: httpx.Client, asked: dict[str, Any], small_world: World
) -> None:
    body = {key: value for key, value in asked.items() if key != "candidates"}
    found = decided(client, body)
    heard = {one["cell_id"] for one in found["candidates"]}
    assert asked["connected_to"] in heard
    _, _, cells = busiest(small_world)
    assert heard <= set(cells) and len(heard) > 1


def test_explained(client: httpx.Client, asked: dict[str, Any], bundle: Bundle) -> None:
    assert decided(client, asked)["explanation"] is None
    found = decided(client, asked | {"explain": True})["explanation"]
    assert list(found["statuses"]) == bundle.features
    sizes = [abs(one["contribution"]) for one in found["contributions"]]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 10


def test_an_override_counts_and_is_marked(client: httpx.Client, asked: dict[str, Any]) -> None:
    worse = {"ue_sinr_db_last_5s": -20.0, "cell_prb_used_ratio_last_1m": 1.0}
    plain, changed = decided(client, asked), decided(client, asked | {"features": worse})
    assert set(worse) <= set(changed["overridden_features"])
    assert changed["candidates"][0]["probability"] < plain["candidates"][0]["probability"]


def test_out_of_domain_lowers_the_confidence_and_says_so(
    client: httpx.Client, asked: dict[str, Any]
) -> None:
    strange = {"features": {"ue_sinr_db_last_5s": 40.0}}  # training ended at 30
    found = decided(client, asked | strange)["candidates"][0]
    assert "ue_sinr_db_last_5s" in found["out_of_domain"]
    assert found["confidence"] < found["probability"] * (1 - 0.05)


def test_a_ue_never_seen_is_left_to_a3(client: httpx.Client, asked: dict[str, Any]) -> None:
    bare = [{"cell_id": one["cell_id"]} for one in asked["candidates"]]
    body = {"ue_id": "imsi-999990000000009", "five_qi": 9, "candidates": bare,
            "connected_to": asked["connected_to"]}  # fmt: skip
    found = decided(client, body)
    assert (found["decision"], found["reason"]) == ("fallback_a3", "unknown_ue")
    assert found["confidence"] == 0 and found["predicted_antenna"] == asked["connected_to"]
    assert found["qos_compliance"]["observed_confidence"] is None
    assert not found["qos_compliance"]["service_priority_ok"]


def test_too_little_known_is_left_to_a3(
    client: httpx.Client, asked: dict[str, Any], service: Service
) -> None:
    body = asked | {"ue_id": "imsi-999990000000009", "connected_to": None}
    shares = [one["unknown_share"] for one in decided(client, body)["candidates"]]
    plain = service.settings
    service.settings = replace(plain, most_unknown=min(shares) / 4)  # type: ignore[type-var]
    try:
        found = decided(client, body)
    finally:
        service.settings = plain
    assert (found["decision"], found["reason"]) == ("fallback_a3", "missing_features")
    assert found["predicted_antenna"] == asked["candidates"][0]["cell_id"]  # the strongest


def test_no_candidate_at_all(client: httpx.Client) -> None:
    for body in ({"ue_id": "x"}, {"ue_id": "x", "candidates": []}):
        found = decided(client, body)
        assert (found["decision"], found["reason"]) == ("fallback_a3", "no_candidates")
        assert found["predicted_antenna"] is None and found["candidates"] == []


def test_a_batch_is_its_requests_one_by_one(client: httpx.Client, asked: dict[str, Any]) -> None:
    bodies = [
        asked | {"connected_to": None}, {"ue_id": "nobody", "candidates": []},
        asked | {"five_qi": 82, "connected_to": None, "explain": True},
    ]  # fmt: skip
    answer = client.post("/api/predict/batch", json={"requests": bodies * 8})
    assert answer.status_code == 200
    BatchReply.model_validate_json(answer.content)
    single = [without_ids(decided(client, body)) for body in bodies]
    assert [without_ids(one) for one in answer.json()["decisions"]] == single * 8


def test_the_short_answer(client: httpx.Client, asked: dict[str, Any]) -> None:
    answer = client.post("/api/predict", json=asked | {"connected_to": None})
    found = PlainReply.model_validate_json(answer.content).model_dump()
    whole = decided(client, asked | {"connected_to": None})
    assert {k: v for k, v in found.items() if k != "decision_id"} == {
        key: whole[key] for key in found if key != "decision_id"
    }


def test_a_decision_asked_for_now_and_fetched_later(
    client: httpx.Client, asked: dict[str, Any]
) -> None:
    answer = client.post("/api/predict-async", json=asked | {"connected_to": None})
    assert answer.status_code == 202
    job = PendingReply.model_validate_json(answer.content).job_id
    deadline = time.monotonic() + 5
    while (found := client.get(f"/api/predict-async/{job}").json())["status"] == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    whole = decided(client, asked | {"connected_to": None})
    assert without_ids(found["result"]) == without_ids(whole)
    assert client.get("/api/predict-async/none").status_code == 404


@pytest.mark.parametrize(
    ("content", "kind", "status", "said"),
    [
        (b"{", "application/json", 400, "JSON"),
        (b"\xff\xfe", "application/json", 400, ""),
        (b"{}", "application/json", 422, "ue_id"),
        (b"{}", "text/plain", 415, "application/json"),
        (b'{"ue_id": "a", "speed_mps": NaN}', "application/json", 422, "speed_mps"),
        (b'{"ue_id": "a", "latitude_deg": 38.0}', "application/json", 422, "latitude_deg"),
        (b'{"ue_id": "a", "features": {"nope": 1}}', "application/json", 422, "nope"),
        (b" " * 2_000_000, "application/json", 413, "1048576"),
        (b"[" * 100_000, "application/json", 400, ""),
    ],
)
def test_bad_input_is_a_problem(
    client: httpx.Client, content: bytes, kind: str, status: int, said: str
) -> None:
    for path in (WITH_QOS, "/api/predict", "/api/predict-async"):
        answer = client.post(path, content=content, headers={"content-type": kind})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert set(body) == {"type", "title", "status", "detail", "errors"}
        assert said in (body["detail"] or "")


def test_a_body_that_never_says_its_length_is_cut_off(client: httpx.Client) -> None:
    parts = (b" " * 100_000 for _ in range(500))
    answer = client.post(WITH_QOS, content=parts, headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_ten_thousand_candidates_are_refused(client: httpx.Client) -> None:
    body = {"ue_id": "a", "candidates": [{"cell_id": str(n)} for n in range(10_000)]}
    answer = client.post(WITH_QOS, json=body)
    assert answer.status_code == 422 and "64" in answer.json()["detail"]


def test_no_value_given_is_repeated_in_a_problem(client: httpx.Client) -> None:
    answer = client.post(
        WITH_QOS, json={"ue_id": "imsi-262019876543210", "priority": "262019876543210"}
    )
    assert answer.status_code == 422 and "262019876543210" not in answer.text


def test_nothing_else_is_served(client: httpx.Client) -> None:
    assert client.get(WITH_QOS).status_code == 405
    assert client.get("/none").json()["status"] == 404


@pytest.mark.parametrize("fault", ["raises", "nan"])
def test_a_model_that_fails_is_a_fallback(
    client: httpx.Client, asked: dict[str, Any], service: Service, fault: str
) -> None:
    plain = service.live

    def broken(matrix: Any) -> Any:
        if fault == "raises":
            raise RuntimeError("broken")
        scores = plain.scorer(matrix)
        scores.met[0] = math.nan
        return scores

    service.live = replace(plain, scorer=broken)  # type: ignore[arg-type]
    try:
        found = decided(client, asked)
    finally:
        service.live = plain
    assert (found["decision"], found["reason"]) == ("fallback_a3", "model_failed")
    assert found["candidates"][0]["probability"] is None


def test_the_model_is_replaced_under_requests(
    client: httpx.Client, asked: dict[str, Any], service: Service, tmp_path: Path, bundle: Bundle,
    loops: list[asyncio.AbstractEventLoop],
) -> None:  # fmt: skip
    other = bundle_folder(tmp_path / "other", seed=9)
    settings = replace(service.settings, model=str(other))  # type: ignore[type-var]
    found: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, timeout=20) as mine:
            while not stop.is_set():
                found.append(mine.post(WITH_QOS, json=asked).status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    before = decided(client, asked)
    try:
        asyncio.run_coroutine_threadsafe(swap(service, settings), loops[-1]).result(60)
        after = decided(client, asked)
        asyncio.run_coroutine_threadsafe(swap(service, service.settings), loops[-1]).result(60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(found) == {200} and len(found) > 3
    assert before["model"]["digest"] == bundle.digest != after["model"]["digest"]


def test_a_model_that_cannot_be_loaded_leaves_the_old_one(
    client: httpx.Client, asked: dict[str, Any], service: Service, tmp_path: Path,
    loops: list[asyncio.AbstractEventLoop],
) -> None:  # fmt: skip
    old = service.live
    broken = bundle_folder(tmp_path / "broken")
    (broken / "qos_met" / "p50.txt").write_text("cut short")
    settings = replace(service.settings, model=str(broken))  # type: ignore[type-var]
    with pytest.raises(BundleError, match="changed or truncated"):
        asyncio.run_coroutine_threadsafe(swap(service, settings), loops[-1]).result(60)
    assert service.live is old
    decided(client, asked)


def test_the_openapi_names_every_message(client: httpx.Client) -> None:
    made = client.get("/openapi.json").json()
    shapes = made["components"]["schemas"]
    text = json.dumps(made)
    for reference in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert reference in shapes
    assert shapes["PredictRequest"]["examples"]
    assert made["paths"][WITH_QOS]["post"]["requestBody"]["required"]
