"""What the service answers to what it cannot take: the table of docs/serving-core.md, over HTTP."""

import json
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from lifecycle.bundles import write
from lifecycle.registry import Evidence, open_registry, register_bundle
from models.bundle import bundle_of
from serving.service import service_app
from serving.tokens import Tokens
from tests.conftest import World
from tests.serving.core_kit import NAMES, SERVICE, busiest, running, small_bundle
from tests.serving.guard_kit import KEYS, SECRET, secured, series
from tests.serving.models_kit import PARTS, Place, place_of

PAGE = Path(__file__).parents[2] / "docs" / "serving-core.md"
PATH, INFER = "/api/predict-with-qos", "/v2/models/qos/infer"
CELL = "00101-000001001"


@dataclass(frozen=True)
class Asked:
    """The service that runs, and what else its registry knows."""

    http: httpx.Client
    other_catalog: str
    cut_short: str

    def post(self, content: Any, path: str = PATH, **headers: str | None) -> httpx.Response:
        """With the key of an admin, as JSON, unless the headers say otherwise."""
        given = {"content_type": "application/json", "x_api_key": KEYS["admin"]} | headers
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        told = {n.replace("_", "-"): value for n, value in given.items() if value is not None}
        return self.http.post(path, content=body, headers=told)

    def begun(self, length: int) -> httpx.Response:
        """The answer to a body of that length of which only the first byte comes."""
        port = self.http.base_url.port
        assert port is not None
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEYS['predict']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", port), 10) as line:
            line.sendall(head.encode() + b"{")
            parts = b""
            while part := line.recv(65536):
                parts += part
        start, _, body = parts.partition(b"\r\n\r\n")
        first, *rest = start.decode().split("\r\n")
        headers = dict(one.split(": ", 1) for one in rest)
        return httpx.Response(int(first.split()[1]), headers=headers, content=body)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, small_world: World) -> Iterator[Asked]:
    place = place_of(small_world, tmp_path_factory.mktemp("bad"))
    other, cut = another(place, "other", catalog_hash="0" * 16), another(place, "cut")
    files = sorted(place.folder.joinpath("mlartifacts").rglob("classifier.txt"))
    newest = max(files, key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:1000])
    settings = secured(
        model="qos@champion", repo=place.repo, data=place.folder / "data", registry_uri=place.uri,
        log_level="error", store_s=5.0, body_s=0.5,
    )  # fmt: skip
    with running(service_app(settings)) as http:
        yield Asked(http, other, cut)


def another(place: Place, name: str, **changed: Any) -> str:
    """One more registered version, not the champion; changed: entries of its manifest."""
    made = small_bundle(seed=6)
    kept = {n: made.manifest[n] for n in made.manifest.keys() - {"files", "digest", "format"}}
    kept |= {"parameters": {}, "data_hash": "da" * 32, "libraries": {}} | changed
    kept["tasks"] = {
        task: about | {"parts": PARTS, "band": True} for task, about in kept["tasks"].items()
    }
    bundle = bundle_of(kept, made.tasks)
    write(bundle, place.folder / name)
    registry = open_registry(place.uri)
    metrics: dict[str, Any] = {task: {"bundle": bundle.digest} for task in bundle.tasks}
    found = register_bundle(registry, "qos", place.folder / name, Evidence(metrics, None, {}), name)
    shutil.rmtree(place.folder / name)
    return f"qos/{found.version}"


def candidate(**heard: Any) -> dict[str, Any]:
    return {"ue_id": "u", "candidates": [{"cell_id": CELL} | heard]}


def tensor(**changed: Any) -> dict[str, Any]:
    good = {"name": NAMES[0], "shape": [1], "datatype": "FP64", "data": [-90.0]}
    return {"inputs": [good | changed]}


def expired() -> str:
    return "Bearer " + Tokens(SECRET, clock=lambda: time.time() - 7200).give("ana", "access")


Case = tuple[Callable[[Asked], httpx.Response], int, str, str]
CASES: dict[str, Case] = {
    "a position in degrees": (
        lambda to: to.post({"ue_id": "u", "latitude": 38.0, "longitude": 23.7}),
        422, "latitude", "not permitted"),
    "an unknown field": (
        lambda to: to.post({"ue_id": "u", "latency_requirement_ms": 10}),
        422, "latency_requirement_ms", "not permitted"),
    "a level that is no dBm": (
        lambda to: to.post(candidate(rsrp_dbm=97.5)),
        422, "candidates.0.rsrp_dbm", "less than or equal to -31"),
    "a load in percent": (
        lambda to: to.post(candidate(prb_used_ratio=50)),
        422, "candidates.0.prb_used_ratio", "less than or equal to 1"),
    "a number as text": (
        lambda to: to.post({"ue_id": "u", "speed_mps": "3"}), 422, "speed_mps", "valid number"),
    "NaN or infinite": (
        lambda to: to.post(b'{"ue_id": "u", "speed_mps": NaN}'), 422, "speed_mps", "finite"),
    "an unknown service class": (
        lambda to: to.post({"ue_id": "u", "service_class": "gaming"}),
        422, "service_class", "'urllc'"),
    "10,000 candidates": (
        lambda to: to.post(
            {"ue_id": "u", "candidates": [{"cell_id": str(n)} for n in range(10_000)]}
        ),
        422, "candidates", "at most 64"),
    "a cell named twice": (
        lambda to: to.post({"ue_id": "u", "candidates": [{"cell_id": CELL}] * 2}),
        422, "body", "named twice"),
    "an override of no feature": (
        lambda to: to.post({"ue_id": "u", "features": {"nothing": 1.0}}),
        422, "features", "no feature of service 'qos_v1'"),
    "an override out of its range": (
        lambda to: to.post({"ue_id": "u", "features": {"ue_rsrp_dbm_last_5s": 38.0}}),
        422, "features", "allowed: -156 to -31 [dBm]"),
    "no JSON": (lambda to: to.post(b'{"ue_id": '), 400, "body", "JSON"),
    "nesting without end": (lambda to: to.post(b"[" * 100_000), 400, "body", "JSON"),
    "an outcome that is no JSON": (
        lambda to: to.post(b"[{", "/api/feedback"), 400, "body", "JSON"),
    "another content type": (
        lambda to: to.post(b"{}", content_type="text/plain"),
        415, "content-type", "application/json"),
    "another content type at infer": (
        lambda to: to.post(b"{}", INFER, content_type="text/plain"),
        415, "content-type", "application/json or application/octet-stream"),
    "a compressed body": (
        lambda to: to.post(b"{}", content_encoding="gzip"),
        415, "content-encoding", "not read"),
    "a body of 50 MB": (lambda to: to.begun(50 << 20), 413, "body", "at most 1048576 bytes"),
    "a body slower than its time": (lambda to: to.begun(100), 408, "body", "within 0.5 s"),
    "no key": (lambda to: to.post({"ue_id": "u"}, x_api_key=None), 401, "authorization", "X-API-Key"),
    "an expired token": (
        lambda to: to.post({"ue_id": "u"}, x_api_key=None, authorization=expired()),
        401, "authorization", "over"),
    "a key without the role": (
        lambda to: to.post({"ue_id": "u"}, x_api_key=KEYS["feedback"]), 403, "role", "'predict'"),
    "a bundle of another catalog": (
        lambda to: to.post({"model": to.other_catalog}, "/api/models/live"),
        409, "model", "catalog 000000000000"),
    "a model file cut short": (
        lambda to: to.post({"model": to.cut_short}, "/api/models/live"),
        409, "model", "classifier.txt"),
    "a tensor out of its range": (
        lambda to: to.post(tensor(data=[38.0]), INFER), 400, "", "-156 to -31 [dBm]"),
    "a tensor of another shape": (
        lambda to: to.post(tensor(shape=[3]), INFER), 400, "", "1 values, its shape"),
}  # fmt: skip
FALLBACKS = {
    "a UE never seen": (candidate() | {"five_qi": 9}, "unknown_ue"),
    "no candidate": ({"ue_id": "u", "candidates": []}, "no_candidates"),
}


@pytest.mark.parametrize("what", CASES)
def test_it_is_refused_with_what_where_and_what_was_allowed(asked: Asked, what: str) -> None:
    send, status, place, allowed = CASES[what]
    reply = send(asked)
    assert reply.status_code == status, reply.text
    if reply.headers["content-type"] == "application/json":  # as the inference protocol has it
        assert place == "" and allowed in reply.json()["error"]
        return
    assert reply.headers["content-type"] == "application/problem+json"
    told = reply.json()
    assert told["status"] == status and told["title"]
    assert any(one["place"] == place and allowed in one["reason"] for one in told["errors"]), told


@pytest.mark.parametrize("what", FALLBACKS)
def test_it_is_left_to_a3_with_the_reason(asked: Asked, what: str) -> None:
    content, reason = FALLBACKS[what]
    reply = asked.post(content)
    assert reply.status_code == 200
    told = reply.json()
    assert (told["decision"], told["reason"], told["confidence"]) == ("fallback_a3", reason, 0)


def test_a_model_that_does_not_load_leaves_the_one_that_answers(asked: Asked) -> None:
    for wrong in (asked.other_catalog, asked.cut_short):
        assert asked.post({"model": wrong}, "/api/models/live").status_code == 409
    live = asked.http.get("/api/models/live", headers={"x-api-key": KEYS["admin"]}).json()
    assert (live["model"]["name"], live["model"]["version"]) == ("qos", "1")


def test_a_sure_model_is_not_believed_far_from_what_it_learnt(
    asked: Asked, small_world: World
) -> None:
    ue, five_qi, cells = busiest(small_world)
    usual = {"ue_id": ue, "five_qi": five_qi, "connected_to": cells[0],
             "candidates": [{"cell_id": cell, "rsrp_dbm": -90.0} for cell in cells]}  # fmt: skip
    ends = {
        one.name: one.low if "prb_used" in one.name or "request" in one.name else one.high
        for one in SERVICE.features() if one.high is not None
    }  # fmt: skip
    far = asked.post(usual | {"features": ends}).json()
    assert any(one["probability"] > 0.9 for one in far["candidates"])
    for one in far["candidates"]:
        assert one["out_of_domain_share"] > 0.9 and one["confidence"] < 0.1
    assert (far["decision"], far["reason"]) == ("fallback_a3", "low_confidence")
    assert not far["qos_compliance"]["service_priority_ok"]
    assert [one["ok"] for one in far["qos_compliance"]["details"]] == [None] * len(
        far["qos_compliance"]["details"]
    )


def test_the_example_of_the_page_is_answered_as_it_stands(asked: Asked) -> None:
    example = re.search(r"-d '(\{.*?\n\})'", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    assert asked.post(example[1].encode()).status_code == 200


def test_each_decision_counts_once_and_each_refusal_apart(asked: Asked) -> None:
    def counted() -> tuple[float, ...]:
        http, name = asked.http, "ml_prediction_requests_total"
        latencies = series(http, "ml_prediction_latency_seconds_count")
        return series(http, name), series(http, f'{name}{{status="refused"}}'), latencies

    for path in (PATH, "/api/predict", PATH):
        before = counted()
        asked.post({"ue_id": "u"}, path)
        asked.post({"ue_id": "u", "strange": 1}, path)
        asked.http.get("/api/jobs", headers={"x-api-key": KEYS["admin"]})
        assert [now - then for now, then in zip(counted(), before, strict=True)] == [2, 1, 1]


def test_the_page_states_every_answer() -> None:
    part = PAGE.read_text(encoding="utf-8").partition("## Bad input\n")[2].partition("\n## ")[0]
    stated = re.findall(r"^\| ([^|]+?) \| (\d{3})[^|]* \|", part, re.MULTILINE)
    tested = {what: one[1] for what, one in CASES.items()} | dict.fromkeys(FALLBACKS, 200)
    assert {what: int(status) for what, status in stated} == tested
