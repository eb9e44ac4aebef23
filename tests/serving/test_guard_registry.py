"""Every use of the registry in a request goes through its breaker: swap, explanation and list."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from lifecycle.registry import Registry, RegistryError, RegistryUnavailable
from lifecycle.registry import find_version as find
from serving.breakers import Breakers
from serving.registered import RegistryAway, ask_registry
from serving.service import service_app
from tests.conftest import World
from tests.serving.core_kit import busiest, running
from tests.serving.guard_kit import settings_with
from tests.serving.models_kit import Place, place_of, registered

FAILURES = 2


@dataclass
class Wired:
    """The whole service on a registry with two versions, of which the second came later."""

    app: FastAPI
    http: httpx.Client
    place: Place
    asked: dict[str, Any]

    def swap(self, model: str) -> httpx.Response:
        return self.http.post("/api/models/live", json={"model": model})

    def decide(self) -> dict[str, Any]:
        reply = self.http.post("/api/predict-with-qos", json=self.asked)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def breaker(self) -> dict[str, Any]:
        shown = self.http.get("/api/circuit-breakers").json()["breakers"]
        return next(dict(one) for one in shown if one["name"] == "registry")

    def reset(self) -> None:
        self.http.post("/api/circuit-breakers/registry/reset").raise_for_status()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Its database is none, for a while."""
        database = Path(self.place.uri.removeprefix("sqlite:///"))
        good = database.read_bytes()
        database.write_bytes(b"no database" * 10_000)
        try:
            yield
        finally:
            database.write_bytes(good)


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory, small_world: World) -> Iterator[Wired]:
    place = place_of(small_world, tmp_path_factory.mktemp("registry"))
    registered(place.uri, seed=6, alias="challenger")
    settings = settings_with(
        auth="off", model="qos@champion", repo=place.repo, data=place.folder / "data",
        registry_uri=place.uri, log_level="error", store_s=5.0, registry_failures=FAILURES,
        registry_open_s=600.0, answer_s=120.0,
    )  # fmt: skip
    ue, five_qi, cells = busiest(small_world)
    asked = {"ue_id": ue, "five_qi": five_qi, "connected_to": cells[0]}
    app = service_app(settings)
    with running(app) as http:
        http.timeout = httpx.Timeout(120)
        yield Wired(app, http, place, asked)


@pytest.fixture(autouse=True)
def closed(wired: Wired) -> None:
    wired.reset()


def stated(reply: httpx.Response) -> str:
    """The reason of a 503 that speaks of the registry and says when to come back."""
    assert reply.status_code == 503, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert int(reply.headers["retry-after"]) > 0
    (fault,) = reply.json()["errors"]
    assert fault["place"] == "registry"
    return str(fault["reason"])


def test_a_swap_opens_the_breaker_and_is_then_refused_at_once(wired: Wired) -> None:
    live = wired.app.state.service.live
    with wired.away():
        for _ in range(FAILURES):
            assert "does not answer" in stated(wired.swap("qos@challenger"))
    assert wired.breaker()["state"] == "open"
    refused = wired.breaker()["refused"]
    assert "left alone" in stated(wired.swap("qos@challenger"))  # though it would answer again
    assert wired.breaker()["refused"] == refused + 1
    assert wired.app.state.service.live is live
    assert wired.decide()["model"]["version"] == live.version
    wired.reset()
    assert wired.swap("qos@challenger").status_code == 200
    assert wired.decide()["model"]["version"] == "qos/2"
    assert wired.swap("qos@champion").json()["before"] == "qos/2"


def test_an_explanation_by_a_model_that_is_not_live_heeds_the_breaker(wired: Wired) -> None:
    assert wired.swap("qos/1").status_code == 200
    decided = wired.decide()
    assert decided["candidates"]
    why = f"/api/explain/{decided['decision_id']}"
    assert wired.http.get(why).status_code == 200  # of the live model: no registry is asked
    assert wired.swap("qos/2").status_code == 200
    with wired.away():
        for _ in range(FAILURES):
            assert "does not answer" in stated(wired.http.get(why))
    assert wired.breaker()["state"] == "open"
    assert "left alone" in stated(wired.http.get(why))
    assert "left alone" in stated(wired.swap("qos/1"))
    wired.reset()
    assert wired.http.get(why).json()["model_version"] == "qos/1"
    assert wired.swap("qos/1").status_code == 200


def test_what_the_registry_has_not_is_an_answer_and_opens_nothing(wired: Wired) -> None:
    before = wired.breaker()
    for _ in range(FAILURES + 1):
        assert wired.swap("qos@nowhere").status_code == 409
        assert wired.swap("other/1").status_code == 409
        assert wired.swap("qos/x").status_code == 409
    after = wired.breaker()
    assert (after["state"], after["failures"]) == ("closed", before["failures"])
    # readiness may have asked meanwhile
    assert after["successes"] >= before["successes"] + 3 * (FAILURES + 1)


@pytest.mark.parametrize(
    ("error", "raised", "failures"),
    [
        (RegistryError("none such"), RegistryError, 0),
        (RegistryUnavailable("away"), RegistryAway, 1),
        (OSError("no route"), RegistryAway, 1),
    ],
)
def test_only_a_registry_that_does_not_answer_counts_as_a_failure(
    error: Exception, raised: type[Exception], failures: int
) -> None:
    breakers = Breakers({"registry": (1, 60.0)})

    def ask() -> None:
        raise error

    with pytest.raises(raised):
        ask_registry(breakers, ask)
    found = breakers.status("registry")
    assert (found.failures, found.successes) == (failures, 1 - failures)


def test_a_server_that_goes_away_between_two_questions_is_told_from_an_absent_model() -> None:
    from mlflow.exceptions import MlflowException

    class Gone:
        def get_model_version(self, name: str, version: str) -> None:
            raise MlflowException("API request failed: connection refused")

    with pytest.raises(RegistryUnavailable, match="does not answer: API request failed"):
        find(Registry(Gone(), "http://127.0.0.1:9", None), "qos/1")  # type: ignore[arg-type]
