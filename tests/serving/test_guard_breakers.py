"""Circuit breakers: when they open, that a lost probe does not keep them open, and what admins see."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nef.client.retry import CircuitOpen
from serving.breakers import Breakers, breakers_of
from serving.metrics import Metrics
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
