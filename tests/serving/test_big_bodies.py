"""Long bodies of the wired service: rows to infer, samples, batches, and the memory that all may take."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from models.bundle import Bundle
from serving.oip import MATRIX, MOST_ROWS
from serving.service import service_app
from tests.conftest import World
from tests.serving.core_kit import NAMES, rows_of, running, wired_on
from tests.serving.guard_kit import settings_with

INFER, BATCH, TRAIN = "/v2/models/bundle/infer", "/api/predict/batch", "/api/train"
BODY, SAMPLES = 4096, 100_000
HELD = 4 * SAMPLES
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, small_world: World
) -> dict[str, Any]:
    wired = wired_on(tmp_path_factory.mktemp("big"), bundle, small_world)
    return wired | {"auth": "off", "rates_on": False}


@pytest.fixture(scope="module")
def usual(places: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of the service with the bounds that it has unless told otherwise."""
    data: Path = tmp_path_factory.mktemp("usual")
    with running(service_app(settings_with(**places | {"data": data}))) as http:
        http.timeout = httpx.Timeout(60)
        yield http


@pytest.fixture(scope="module")
def narrow(places: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One of a service whose bounds are small."""
    data: Path = tmp_path_factory.mktemp("narrow")
    bounds = {"max_body_bytes": BODY, "max_samples_bytes": SAMPLES}
    with running(service_app(settings_with(**places | bounds | {"data": data}))) as http:
        yield http


def tensor(matrix: np.ndarray) -> bytes:
    """All rows in the longest text that a client writes: every digit, a space after each value."""
    data = [[None if np.isnan(one) else one for one in row] for row in matrix.tolist()]
    given = {"name": MATRIX, "shape": list(matrix.shape), "datatype": "FP64", "data": data}
    outputs = [{"name": "qos_met_probability"}]
    return json.dumps({"inputs": [given], "outputs": outputs}).encode()


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    """One row more than may come."""
    return rows_of(MOST_ROWS + 1)[0]


@pytest.mark.parametrize("path", [INFER, "/v2/models/bundle/versions/{version}/infer"])
def test_ten_thousand_rows_are_scored(
    usual: httpx.Client, bundle: Bundle, many: np.ndarray, path: str
) -> None:
    body = tensor(many[:MOST_ROWS])
    assert len(body) > 8 << 20
    path = path.format(version=bundle.digest[:12])
    reply = usual.post(path, content=body, headers=JSON)
    assert reply.status_code == 200, reply.text[:500]
    (found,) = reply.json()["outputs"]
    assert found["data"] == bundle.predict("qos_met", many[:MOST_ROWS])[0].tolist()


def test_ten_thousand_rows_are_scored_from_bytes(
    usual: httpx.Client, bundle: Bundle, many: np.ndarray
) -> None:
    raw = many[:MOST_ROWS].astype("<f8").tobytes()
    given = {
        "name": MATRIX, "shape": [MOST_ROWS, len(NAMES)], "datatype": "FP64",
        "parameters": {"binary_data_size": len(raw)},
    }  # fmt: skip
    header = orjson.dumps({"inputs": [given], "outputs": [{"name": "qos_met_probability"}]})
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(header)),
    }
    reply = usual.post(INFER, content=header + raw, headers=headers)
    assert reply.status_code == 200, reply.text[:500]
    (found,) = reply.json()["outputs"]
    assert found["data"] == bundle.predict("qos_met", many[:MOST_ROWS])[0].tolist()


def test_one_row_more_is_refused_by_its_number(usual: httpx.Client, many: np.ndarray) -> None:
    reply = usual.post(INFER, content=tensor(many), headers=JSON)
    assert reply.status_code == 400
    assert f"1 to {MOST_ROWS} rows are taken" in reply.json()["error"]


@pytest.mark.parametrize(
    ("path", "most"),
    [
        (INFER, SAMPLES), ("/v2/models/bundle/versions/1/infer", SAMPLES), (TRAIN, SAMPLES),
        ("/api/train-async", SAMPLES), (BATCH, 16 * BODY), ("/api/predict", BODY),
        ("/v2/models/a/b/infer", BODY), ("/v2/models/bundle/infer/more", BODY),
    ],
)  # fmt: skip
def test_a_body_past_the_bound_of_its_route_is_refused_before_it_is_looked_at(
    narrow: httpx.Client, path: str, most: int
) -> None:
    assert narrow.post(path, content=b" " * most, headers=JSON).status_code in (400, 404)
    reply = narrow.post(path, content=b" " * (most + 1), headers=JSON)
    assert reply.status_code == 413
    assert f"at most {most} bytes" in reply.json()["detail"]


def begun(http: httpx.Client, path: str, length: int) -> socket.socket:
    """A request of which all but the last byte has been sent."""
    port = http.base_url.port
    assert port is not None
    line = socket.create_connection(("127.0.0.1", port), 10)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    line.sendall(head.encode() + b" " * (length - 1))
    return line


def answered(line: socket.socket, seconds: float) -> bytes:
    """What has come within that time; empty: nothing."""
    line.settimeout(seconds)
    try:
        return line.recv(65536)
    except TimeoutError:
        return b""


def test_long_bodies_of_all_routes_share_one_bound_and_let_go_of_it(narrow: httpx.Client) -> None:
    for _ in range(2):  # the second time: nothing is left of the first
        with contextlib.ExitStack() as lines:
            waiting = [
                lines.enter_context(begun(narrow, path, length))
                for path, length in (
                    (TRAIN, SAMPLES), (INFER, SAMPLES), ("/api/feedback", SAMPLES),
                    (BATCH, 16 * BODY),
                )
            ]  # fmt: skip
            assert sum((3 * SAMPLES, 16 * BODY)) < HELD
            assert [answered(line, 0.2) for line in waiting] == [b""] * 4
            past = lines.enter_context(begun(narrow, TRAIN, SAMPLES))
            told = answered(past, 5)
            assert told.startswith(b"HTTP/1.1 503"), told
            assert b"retry-after: 1" in told.lower() and b"too many long bodies" in told
            assert narrow.post("/api/predict", json={"ue_id": "u"}).status_code == 200
            for line in waiting:
                line.sendall(b" ")
                assert answered(line, 20).startswith((b"HTTP/1.1 400", b"HTTP/1.1 422"))


GOOD: dict[str, Any] = {
    "ue_id": "imsi-001010000000001", "event_timestamp": "2026-03-01T12:00:00Z", "label": 1,
    "features": {"ue_rsrp_dbm_last_5s": -90.0},
}  # fmt: skip


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"label": True}, "label"), ({"label": "1"}, "label"), ({"label": 1.0}, "label"),
    ({"label": 2}, "label"), ({"five_qi": "9"}, "five_qi"), ({"five_qi": True}, "five_qi"),
    ({"label_value": "1"}, "label_value"), ({"label_value": False}, "label_value"),
    ({"persistence_score": float("nan")}, "persistence_score"),
    ({"persistence_value": float("inf")}, "persistence_value"),
    ({"features": {"ue_rsrp_dbm_last_5s": "-90"}}, "features.ue_rsrp_dbm_last_5s"),
    ({"features": {"ue_rsrp_dbm_last_5s": True}}, "features.ue_rsrp_dbm_last_5s"),
    ({"features": {"ue_rsrp_dbm_last_5s": float("nan")}}, "features.ue_rsrp_dbm_last_5s"),
    ({"ue_id": 1}, "ue_id"), ({"event_timestamp": 1772366400}, "event_timestamp"),
    ({"event_timestamp": "1772366400"}, "event_timestamp"), ({"latitude": 1.0}, "latitude"),
]  # fmt: skip


@pytest.mark.parametrize("long", [False, True])  # a long one is read by a process of its own
def test_a_sample_is_taken_as_it_is_or_not_at_all(usual: httpx.Client, long: bool) -> None:
    given = [GOOD, *(GOOD | changed for changed, _ in WRONG)]
    body = json.dumps({"samples": given}).encode() + b" " * 70_000 * long
    reply = usual.post(TRAIN, content=body, headers=JSON)
    assert reply.status_code == 422, reply.text
    wanted = [f"samples.{number}.{place}" for number, (_, place) in enumerate(WRONG, 1)]
    assert [one["place"] for one in reply.json()["errors"]] == wanted


def test_the_times_of_a_decision_are_no_numbers(usual: httpx.Client) -> None:
    for given, status in (("1772366400", 422), (1772366400, 422), (GOOD["event_timestamp"], 200)):
        asked = {"ue_id": "u", "event_timestamp": given}
        assert usual.post("/api/predict", json=asked).status_code == status


@pytest.mark.parametrize(
    ("field", "given"),
    [("seed", "7"), ("seed", True), ("seed", 7.0), ("tasks", "qos_met"), ("colour", 1)],
)
def test_what_is_asked_of_training_is_taken_as_it_is_or_not_at_all(
    usual: httpx.Client, field: str, given: Any
) -> None:
    reply = usual.post(TRAIN, json={"source": "frame", field: given})
    assert reply.status_code == 422, reply.text
    assert [one["place"] for one in reply.json()["errors"]] == [field]
