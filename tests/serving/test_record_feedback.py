"""Outcomes over HTTP, and the explanation of decisions, on a real server."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from benchmarks.replay_world import NAMES, small_bundle
from serving.decision_log import DecisionLog
from serving.explain_api import explain_routes
from serving.feedback_api import feedback_routes
from serving.messages.outcomes import QosOutcome
from serving.problems import install
from serving.record import SCORES, DecisionRecord
from serving.score import Scorer
from tests.served import served
from tests.serving.record_kit import SECOND, id_at, made

HOUR = 3600 * SECOND


class Counted:
    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []
        self.watched: list[tuple[float | None, float | None, bool | None]] = []

    def feedback(self, state: str) -> None:
        self.seen.append(("told", state))

    def complied(self, service_type: str, outcome: str) -> None:
        self.seen.append((service_type, outcome))

    def violated(self, service_type: str, metric: str) -> None:
        self.seen.append((service_type, metric))

    def observed(self, record: DecisionRecord, told: QosOutcome, met: bool | None) -> None:
        self.watched.append((told.downlink_mbps, told.downlink_delay_ms, met))


@pytest.fixture(scope="module")
def bundle() -> Any:
    return small_bundle(rounds=3, rows=400)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    log = DecisionLog(tmp_path, flush_s=3600)
    yield log
    log.close()


@pytest.fixture
def client(bundle: Any, log: DecisionLog, counted: Counted) -> Iterator[httpx.Client]:
    app = FastAPI()
    layout = SimpleNamespace(names=tuple(NAMES))
    live = SimpleNamespace(bundle=bundle, scorer=Scorer(bundle), layout=layout)
    app.state.service = SimpleNamespace(log=log, live=live)
    install(app)
    app.include_router(feedback_routes(counted))
    app.include_router(explain_routes(lambda version: small_bundle(2, rounds=3, rows=400)))
    with served(app) as url, httpx.Client(base_url=url) as client:
        yield client


def now_us() -> int:
    return time.time_ns() // 1000


def logged(log: DecisionLog, chance: int = 0, ago_us: int = SECOND, **changed: Any) -> str:
    record = made(now_us() - ago_us, chance, **changed)
    log.append(record)
    return record.decision_id


def told(client: httpx.Client, place: str, *outcomes: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post(f"/api/{place}", json=list(outcomes))
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert answer.json()["accepted"] == sum(o["status"] in ("accepted", "late") for o in results)
    return results


@pytest.mark.parametrize(
    ("seen", "met", "broken", "unobserved"),
    [
        ({"downlink_mbps": 10.0, "downlink_delay_ms": 50.0}, True, [], []),
        ({"downlink_mbps": 9.9, "downlink_delay_ms": 50.0}, False, ["downlink_mbps"], []),
        ({"downlink_mbps": 9.9}, False, ["downlink_mbps"], ["delay_ms"]),
        ({"downlink_mbps": 99.0}, None, [], ["delay_ms"]),
        ({}, None, [], ["downlink_mbps", "delay_ms"]),
    ],
    ids=["both kept", "one broken", "broken and unobserved", "half observed", "nothing observed"],
)
def test_what_was_not_observed_is_never_met(
    client: httpx.Client, log: DecisionLog, counted: Counted, seen: dict[str, float],
    met: bool | None, broken: list[str], unobserved: list[str],
) -> None:  # fmt: skip
    (state,) = told(client, "qos-feedback", {"decision_id": logged(log), **seen})
    assert (state["status"], state["met"]) == ("accepted", met)
    assert (state["not_kept"], state["not_observed"]) == (broken, unobserved)
    outcome = {True: "ok", False: "failed", None: "unknown"}[met]
    assert counted.seen == [
        ("embb", outcome), *(("embb", name) for name in broken), ("told", "accepted")
    ]  # fmt: skip
    assert counted.watched == [(seen.get("downlink_mbps"), seen.get("downlink_delay_ms"), met)]


def test_a_decision_that_asks_nothing_is_neither_met_nor_not(
    client: httpx.Client, log: DecisionLog
) -> None:
    one = logged(log, requested_downlink_mbps=None, requested_delay_ms=None)
    (state,) = told(client, "qos-feedback", {"decision_id": one, "downlink_mbps": 1.0})
    assert state["met"] is None


def test_each_outcome_is_told_what_became_of_it(
    client: httpx.Client, log: DecisionLog, counted: Counted
) -> None:
    first, second = logged(log, 1), logged(log, 2)
    log.flush()  # one decision in a file, one in memory
    third, old = logged(log, 3), logged(log, 4, ago_us=2 * HOUR)
    stranger = id_at(now_us(), 99)
    outcomes = [
        {"decision_id": name, "success": True} for name in (first, third, first, stranger, old, "x")
    ]
    before = datetime.fromtimestamp(now_us() / 1e6 - 60, UTC).isoformat()
    after = datetime.fromtimestamp(now_us() / 1e6 + 600, UTC).isoformat()
    outcomes += [
        {"decision_id": second, "success": True, "observed_at": before},
        {"decision_id": second, "success": True, "observed_at": after},
    ]
    states = told(client, "feedback", *outcomes)
    assert [one["status"] for one in states] == [
        "accepted", "accepted", "duplicate", "unknown", "late", "unknown", "refused", "refused",
    ]  # fmt: skip
    assert "before the decision" in states[6]["reason"]
    assert "in the future" in states[7]["reason"]
    assert counted.seen == [("told", one["status"]) for one in states]
    log.flush()
    kept = log.outcomes_of([first, second, third, old, stranger])
    assert {name: kinds["handover"].late for name, kinds in kept.items()} == {
        first: False, third: False, old: True,
    }  # fmt: skip
    (again,) = told(client, "feedback", {"decision_id": first, "success": False})
    assert again["status"] == "duplicate"


def test_one_of_many_at_once_is_kept(client: httpx.Client, log: DecisionLog) -> None:
    one = logged(log)
    states: list[str] = []

    def tell() -> None:
        (state,) = told(client, "feedback", {"decision_id": one, "success": True})
        states.append(state["status"])

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    log.flush()
    for thread in threads:
        thread.join()
    assert sorted(states) == ["accepted", *["duplicate"] * 7]


@pytest.mark.parametrize(
    "body",
    [
        [], {}, [{}], [{"decision_id": "x", "success": "yes"}],
        [{"decision_id": "x", "success": True, "latitude": 1.0}],
        [{"decision_id": "x", "success": True}] * 1001,
    ],
    ids=["none", "no list", "empty", "text", "unknown field", "too many"],
)  # fmt: skip
def test_a_malformed_body_is_refused(client: httpx.Client, body: Any) -> None:
    answer = client.post("/api/feedback", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_impossible_observation_is_refused(client: httpx.Client, log: DecisionLog) -> None:
    body = [{"decision_id": logged(log), "packet_loss_ratio": 5.0}]
    assert client.post("/api/qos-feedback", json=body).status_code == 422


def scored(bundle: Any, **changed: Any) -> DecisionRecord:
    drawn = np.random.default_rng(3)
    vectors = drawn.uniform(0, 10, (2, len(NAMES)))
    vectors[1, :9] = np.nan
    record = made(
        now_us(), model_digest=bundle.digest, vectors=vectors,
        statuses=np.full(vectors.shape, 1, np.uint8), scores=drawn.random((2, len(SCORES))),
    )  # fmt: skip
    return replace(record, **changed)


def test_an_explanation_adds_up_to_the_model(
    client: httpx.Client, log: DecisionLog, bundle: Any
) -> None:
    record = scored(bundle)
    log.append(record)
    told(client, "feedback", {"decision_id": record.decision_id, "success": True})
    found = client.get(f"/api/explain/{record.decision_id}").json()
    assert found["requested"] == {"downlink_mbps": 10.0, "delay_ms": 50.0}
    assert [one["kind"] for one in found["outcomes"]] == ["handover"]
    booster = bundle.forecasts["qos_met"].classifier
    raw = booster.predict(record.vectors, raw_score=True)
    parts = [Scorer(bundle).contributions(row)[0] for row in record.vectors]
    for cell, total, part in zip(found["cells"], raw, parts, strict=True):
        shown = sum(one["contribution"] for one in cell["contributions"])
        rest = part.sum() - sum(sorted(part, key=abs)[-20:])
        assert cell["base"] + shown + rest == pytest.approx(total)
        assert cell["scores"].keys() == set(SCORES)
        assert cell["age_s"] == {"one": pytest.approx(5e-6), "two": pytest.approx(5e-6)}
    assert [one["chosen"] for one in found["cells"]] == [True, False]


def test_an_explanation_says_what_it_cannot_explain(
    client: httpx.Client, log: DecisionLog, bundle: Any
) -> None:
    for name in ("x", id_at(now_us(), 5)):
        assert client.get(f"/api/explain/{name}").status_code == 404
    gone = scored(bundle, model_digest="f" * 64)
    log.append(gone)
    answer = client.get(f"/api/explain/{gone.decision_id}")
    assert answer.status_code == 409
    assert "the decision's had ffffffffffff" in answer.json()["detail"]
    fallback = logged(log, 8, cells=0, reason="store_away")
    found = client.get(f"/api/explain/{fallback}").json()
    assert (found["reason"], found["cells"]) == ("store_away", [])


def test_a_former_model_explains_what_it_decided(
    client: httpx.Client, log: DecisionLog, bundle: Any
) -> None:
    former = small_bundle(2, rounds=3, rows=400)
    record = scored(former)
    log.append(record)
    found = client.get(f"/api/explain/{record.decision_id}").json()
    expected = Scorer(former).contributions(record.vectors[0])[1]
    assert found["cells"][0]["base"] == pytest.approx(expected)
