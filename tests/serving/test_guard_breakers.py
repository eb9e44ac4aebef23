"""Circuit breakers: when they open, that a lost probe does not keep them open, and what admins see."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.feature_server import free_port
from benchmarks.outage import hang, kill
from benchmarks.redis_process import redis_server
from lifecycle.bundles import write
from models.bundle import Bundle
from nef.client.retry import CircuitOpen
from serving.breakers import Breakers, breakers_of
from serving.metrics import Metrics
from serving.models_part import ModelsPart
from serving.service import service_app
from tests.conftest import World
from tests.serving.core_kit import busiest, filled, running
from tests.serving.guard_kit import KEYS, app_of, client_of, secured, settings_with


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def made(failures: int = 3, open_s: float = 10.0) -> tuple[Breakers, Clock, Metrics]:
    clock, metrics = Clock(), Metrics()
    return Breakers({"store": (failures, open_s)}, metrics, clock), clock, metrics


def fail(breakers: Breakers, times: int) -> None:
    for _ in range(times):
        assert not breakers.is_open("store")
        breakers.failed("store")


def test_it_opens_after_failures_in_a_row_and_closes_when_a_probe_succeeds() -> None:
    breakers, clock, metrics = made()
    fail(breakers, 2)
    breakers.succeeded("store")
    fail(breakers, 3)
    assert breakers.is_open("store")
    assert breakers.status("store").state == "open"
    shown = metrics.registry.get_sample_value
    assert shown("ml_circuit_breaker_open", {"breaker": "store"}) == 1
    clock.now = 10.0
    assert breakers.status("store").state == "half_open"
    assert not breakers.is_open("store")  # the probe
    assert breakers.is_open("store")  # one at a time
    breakers.succeeded("store")
    assert not breakers.is_open("store")
    assert breakers.status("store").state == "closed"
    assert shown("ml_circuit_breaker_open", {"breaker": "store"}) == 0
    changes = "ml_circuit_breaker_changes_total"
    assert shown(changes, {"breaker": "store", "to": "open"}) == 1
    assert shown(changes, {"breaker": "store", "to": "closed"}) == 1


def test_a_probe_that_fails_opens_it_again() -> None:
    breakers, clock, _ = made()
    fail(breakers, 3)
    clock.now = 10.0
    assert not breakers.is_open("store")
    breakers.failed("store")
    clock.now = 19.9
    assert breakers.is_open("store")
    clock.now = 20.0
    assert not breakers.is_open("store")


def test_a_probe_that_never_ends_does_not_keep_it_open() -> None:
    breakers, clock, _ = made()
    fail(breakers, 3)
    clock.now = 10.0
    assert not breakers.is_open("store")
    clock.now = 19.9
    assert breakers.is_open("store")
    clock.now = 20.0
    assert not breakers.is_open("store")
    breakers.succeeded("store")
    assert breakers.status("store").state == "closed"


def test_a_cancelled_try_says_nothing() -> None:
    breakers, clock, _ = made()
    fail(breakers, 3)
    clock.now = 10.0
    with pytest.raises(asyncio.CancelledError), breakers.guarding("store", OSError):
        raise asyncio.CancelledError
    with pytest.raises(OSError, match="away"), breakers.guarding("store", OSError):
        raise OSError("away")
    with pytest.raises(CircuitOpen, match="store"), breakers.guarding("store", OSError):
        raise AssertionError("not reached")
    clock.now = 20.0
    with breakers.guarding("store", OSError):
        pass
    assert breakers.status("store").state == "closed"
    assert breakers.status("store").refused == 1


def test_reset_closes_it() -> None:
    breakers, _, _ = made()
    fail(breakers, 3)
    breakers.reset("store")
    assert not breakers.is_open("store")
    fail(breakers, 2)
    assert breakers.status("store").state == "closed"  # counts from 0 again


@given(st.lists(st.sampled_from(["fail", "succeed", "wait", "lose"]), max_size=60))
def test_it_opens_exactly_when_the_last_tries_failed(steps: list[str]) -> None:
    """Beside a slow description: counts in a row, one probe per open_s."""
    breakers, clock, _ = made(failures=2, open_s=5.0)
    row, until, probe = 0, 0.0, None
    for step in steps:
        if step == "wait":
            clock.now += 3.0
            continue
        if probe is not None and clock.now >= probe:
            probe = None
        refused = row >= 2 and (probe is not None or clock.now < until)
        assert breakers.is_open("store") == refused
        if refused:
            continue
        if row >= 2:
            probe = clock.now + 5.0
        if step == "fail":
            breakers.failed("store")
            row, probe, until = row + 1, None, clock.now + 5.0
        elif step == "succeed":
            breakers.succeeded("store")
            row, probe = 0, None


def test_threads_let_one_probe_through() -> None:
    breakers, clock, _ = made()
    fail(breakers, 3)
    clock.now = 10.0
    passed: list[bool] = []
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait(10)
        passed.append(not breakers.is_open("store"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(10)
    assert sum(passed) == 1
    assert len(passed) == 8


def test_the_service_has_three_with_the_bounds_of_its_settings() -> None:
    breakers = breakers_of(settings_with(auth="off", store_failures=1, nef_failures=2))
    assert breakers.names == ("store", "nef", "registry")
    breakers.failed("store")
    breakers.failed("nef")
    assert breakers.is_open("store")
    assert not breakers.is_open("nef")


def test_admins_see_and_reset_them_and_nobody_else() -> None:
    made_app = app_of(secured(store_failures=1, store_open_s=600))
    made_app.breakers.failed("store")
    with client_of(made_app) as client:
        admin, other = {"x-api-key": KEYS["admin"]}, {"x-api-key": KEYS["train"]}
        assert client.get("/api/circuit-breakers").status_code == 401
        assert client.get("/api/circuit-breakers", headers=other).status_code == 403
        path = "/api/circuit-breakers/store/reset"
        assert client.post(path, headers=other).status_code == 403
        shown = client.get("/api/circuit-breakers", headers=admin).json()["breakers"]
        assert [(one["name"], one["state"]) for one in shown] == [
            ("store", "open"), ("nef", "closed"), ("registry", "closed"),
        ]  # fmt: skip
        assert client.post(path, headers=admin).json()["state"] == "closed"
        assert not made_app.breakers.is_open("store")
        wrong = client.post("/api/circuit-breakers/stores/reset", headers=admin)
        assert wrong.status_code == 404
        assert "store, nef, registry" in wrong.json()["detail"]


def test_where_probes_are_made_apart_no_request_makes_one() -> None:
    clock = Clock()
    breakers = Breakers({"store": (1, 10.0)}, None, clock, probed=("store",))
    assert not breakers.probe_due("store")  # closed
    breakers.failed("store")
    assert breakers.is_open("store") and not breakers.probe_due("store")
    clock.now = 10.0
    assert breakers.is_open("store")
    assert breakers.probe_due("store") and not breakers.probe_due("store")
    breakers.failed("store")
    clock.now = 20.0
    assert breakers.probe_due("store")
    breakers.succeeded("store")
    assert not breakers.is_open("store")


@dataclass
class Wired:
    """The whole service on a Redis of its own, asked by an admin."""

    app: FastAPI
    http: httpx.Client
    asked: dict[str, Any]
    port: int
    folder: Path
    servers: contextlib.ExitStack

    def reason(self) -> str:
        reply = self.http.post("/api/predict", json=self.asked)
        assert reply.status_code == 200
        return str(reply.json()["reason"])

    def breaker(self, name: str) -> dict[str, Any]:
        shown = self.http.get("/api/circuit-breakers").json()["breakers"]
        return next(dict(one) for one in shown if one["name"] == name)

    def wait_for(self, name: str, state: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (found := self.breaker(name)["state"]) != state:
            assert time.monotonic() < until, f"{name} is {found} after {seconds} s"
            time.sleep(0.02)

    def reset(self, name: str) -> str:
        reply = self.http.post(f"/api/circuit-breakers/{name}/reset")
        return str(reply.json()["state"])


@pytest.fixture(scope="module")
def wired(
    tmp_path_factory: pytest.TempPathFactory, bundle: Bundle, small_world: World
) -> Iterator[Wired]:
    folder = tmp_path_factory.mktemp("wired")
    with contextlib.ExitStack() as servers, pytest.MonkeyPatch.context() as patch:
        address = servers.enter_context(redis_server(folder))
        patch.setenv("QOS_REDIS", address)
        patch.setenv("NEF_API_URL", f"http://127.0.0.1:{free_port()}")
        write(bundle, folder / "bundle")
        settings = secured(
            model=str(folder / "bundle"), profile="redis", data=folder / "data", log_level="error",
            repo=filled(small_world, "redis", folder / "feature_repo"),
            registry_uri=f"sqlite:///{folder / 'mlflow.db'}",
            store_s=0.3, store_failures=2, store_open_s=0.3, nef_failures=1, registry_failures=1,
        )  # fmt: skip
        app = service_app(settings)
        ue, five_qi, cells = busiest(small_world)
        asked = {"ue_id": ue, "five_qi": five_qi, "connected_to": cells[0]}
        with running(app) as http:
            http.headers["x-api-key"] = KEYS["admin"]
            port = int(address.rpartition(":")[2])
            yield Wired(app, http, asked, port, folder, servers)


FAULTS: dict[str, Callable[[Wired], Callable[[], float]]] = {
    "hangs": lambda wired: hang(wired.port),
    "dies": lambda wired: kill(wired.port, wired.folder, wired.servers),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_service_leaves_an_absent_redis_alone_and_comes_back_by_itself(
    wired: Wired, fault: str
) -> None:
    assert wired.reason() != "store_away"
    back = FAULTS[fault](wired)
    try:
        assert [wired.reason() for _ in range(3)] == ["store_away"] * 3
        found = wired.breaker("store")
        assert found["state"] != "closed" and found["refused"] > 0
        began = time.monotonic()
        assert {wired.reason() for _ in range(10)} == {"store_away"}
        assert time.monotonic() - began < 10 * 0.3  # nobody waits for it any more
        wired.http.get("/health/ready")  # what was remembered may be of before
        time.sleep(2.1)
        ready = wired.http.get("/health/ready")
        assert ready.status_code == 503
        assert {c["name"]: c["state"] for c in ready.json()["checks"]}["store"] == "bad"
        assert wired.http.get("/health/live").status_code == 200
    finally:
        back()
    wired.wait_for("store", "closed", 10)  # though nobody asked for a decision
    assert wired.reason() != "store_away"


def test_an_admin_closes_the_stores_breaker_and_it_is_tried_at_once(wired: Wired) -> None:
    back = hang(wired.port)
    try:
        while wired.breaker("store")["state"] == "closed":
            assert wired.reason() == "store_away"
        before = wired.breaker("store")["opened"]
        assert wired.reset("store") == "closed"
        assert [wired.reason() for _ in range(3)] == ["store_away"] * 3
        assert wired.breaker("store")["opened"] > before
    finally:
        back()
    wired.wait_for("store", "closed", 10)


def test_a_broken_registry_is_left_alone_until_an_admin_says_so(wired: Wired) -> None:
    broken = wired.folder / "broken.db"
    broken.write_text("no database" * 100)
    owners = [getattr(one, "__self__", None) for one in wired.app.state.service.started]
    registered = next(one for one in owners if isinstance(one, ModelsPart)).readiness.registered
    good, registered.uri = registered.uri, f"sqlite:///{broken}"
    assert wired.http.get("/api/models").status_code == 503
    assert wired.breaker("registry")["state"] == "open"
    registered.uri = good
    away = wired.http.get("/api/models")
    assert away.status_code == 503 and "left alone" in away.json()["detail"]
    assert wired.reset("registry") == "closed"
    assert wired.http.get("/api/models").status_code == 200
    assert wired.breaker("registry")["successes"] > 0


def test_a_nef_that_is_away_is_left_alone_until_an_admin_says_so(wired: Wired) -> None:
    collect = {"duration_s": 1}
    first = wired.http.post("/api/collect-data", json=collect)
    assert first.status_code == 202
    wired.wait_for("nef", "open", 120)
    assert wired.http.post("/api/collect-data", json=collect).status_code == 503
    assert wired.reset("nef") == "closed"
    again = wired.http.post("/api/collect-data", json=collect)
    assert again.status_code == 202
    wired.http.delete(f"/api/jobs/{again.json()['id']}")
