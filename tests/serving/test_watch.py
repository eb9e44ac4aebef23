"""Every metric of the whole service, asked over HTTP: what moves it, and what must not."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from serving.drift import LEAST
from serving.jobs import Jobs
from serving.metrics import Metrics
from serving.service import service_app
from serving.settings import read_settings
from serving.watch import Watch
from tests.conftest import World
from tests.serving.core_kit import NAMES, busiest, running
from tests.serving.models_kit import Place, place_of, registered

INTERVAL_S = 0.5
Scrape = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(http: httpx.Client) -> Scrape:
    """Every sample of /metrics by name and labels."""
    families = text_string_to_metric_families(http.get("/metrics").text)
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in families
        for one in family.samples
    }


def value(found: Scrape, name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


def total(found: Scrape, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(v for (n, held), v in found.items() if n == name and wanted <= set(held))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small_world: World) -> Place:
    return place_of(small_world, tmp_path_factory.mktemp("watch"))


def app_on(place: Place, folder: Path, **changed: Any) -> FastAPI:
    given: dict[str, Any] = {
        "model": "qos@champion", "repo": place.repo, "data": folder, "store_s": 5.0,
        "registry_uri": place.uri, "log_level": "error", "rates_on": False,
        "interval_s": INTERVAL_S, "handovers_a_minute": 600,
    }  # fmt: skip
    return service_app(read_settings(**given | changed))


@pytest.fixture(scope="module")
def app(place: Place, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return app_on(place, tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="module")
def http(app: FastAPI) -> Iterator[httpx.Client]:
    with running(app) as client:
        yield client


@pytest.fixture(scope="module")
def asked(small_world: World) -> dict[str, Any]:
    ue, five_qi, cells = busiest(small_world)
    return {
        "ue_id": ue, "five_qi": five_qi, "connected_to": cells[0], "service_class": "embb",
        "thresholds": {"downlink_mbps": 5.0, "delay_ms": 100.0},
        "candidates": [{"cell_id": cell, "rsrp_dbm": -90.0 - at} for at, cell in enumerate(cells)],
    }  # fmt: skip


def decide(http: httpx.Client, asked: dict[str, Any], route: str = "predict-with-qos") -> Any:
    reply = http.post(f"/api/{route}", json=asked)
    assert reply.status_code == 200, reply.text
    return reply.json()


def until(found: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


@pytest.mark.parametrize("route", ["predict-with-qos", "predict"])
def test_every_route_that_decides_counts_one_decision_and_its_latency(
    http: httpx.Client, asked: dict[str, Any], route: str
) -> None:
    before = scraped(http)
    for _ in range(3):
        decide(http, asked, route)
    after = scraped(http)
    for name in (
        "ml_prediction_requests_total", "ml_prediction_latency_seconds_count",
        "ml_gate_decisions_total", "nef_handover_decisions_total",
    ):  # fmt: skip
        assert total(after, name) - total(before, name) == 3, name
    for stage in ("parse", "read", "score", "decide", "reply"):
        count = "ml_prediction_stage_latency_seconds_count"
        assert value(after, count, stage=stage) - value(before, count, stage=stage) == 3, stage
    stages = total(after, "ml_prediction_stage_latency_seconds_sum") - total(
        before, "ml_prediction_stage_latency_seconds_sum"
    )
    whole = value(after, "ml_prediction_latency_seconds_sum") - value(
        before, "ml_prediction_latency_seconds_sum"
    )
    assert 0 < stages <= whole
    read = total(after, "ml_feature_rows_total") - total(before, "ml_feature_rows_total")
    assert read > 0


def test_what_is_no_decision_is_counted_as_none(http: httpx.Client, asked: dict[str, Any]) -> None:
    before = scraped(http)
    for path in ("/api/models", "/api/health", "/health/live", "/health/ready", "/metrics", "/v2"):
        assert http.get(path).status_code == 200, path
    after = scraped(http)
    for name in ("ml_prediction_requests_total", "ml_prediction_latency_seconds_count"):
        assert total(after, name) == total(before, name)
    routes = {dict(labels)["route"] for name, labels in after if name.startswith("ml_http_request")}
    assert "/api/models" in routes and not routes & {"/metrics", "/health/live", "/health/ready"}


def test_refusals_are_counted_apart_and_have_no_latency(
    http: httpx.Client, asked: dict[str, Any]
) -> None:
    before = scraped(http)
    assert http.post("/api/predict", json={"ue_id": 5}).status_code == 422
    assert http.post("/api/predict/batch", json={"requests": []}).status_code == 422
    wrong = asked | {"features": {"no such feature": 1.0}}
    for route in ("predict-with-qos", "predict-async"):
        assert http.post(f"/api/{route}", json=wrong).status_code == 422
    after = scraped(http)
    name = "ml_prediction_requests_total"
    assert value(after, name, status="refused") - value(before, name, status="refused") == 4
    assert total(after, name) - total(before, name) == 4
    count = "ml_prediction_latency_seconds_count"
    assert value(after, count) == value(before, count)


def test_a_batch_counts_each_of_its_decisions(http: httpx.Client, asked: dict[str, Any]) -> None:
    before = scraped(http)
    assert http.post("/api/predict/batch", json={"requests": [asked] * 7}).status_code == 200
    after = scraped(http)
    for name in ("ml_prediction_requests_total", "nef_handover_decisions_total"):
        assert total(after, name) - total(before, name) == 7


def test_fallbacks_are_counted_by_reason_and_service(
    http: httpx.Client, asked: dict[str, Any]
) -> None:
    before = scraped(http)
    stranger = {"ue_id": "nobody", "service_class": "urllc", "candidates": [{"cell_id": "c"}]}
    assert decide(http, stranger)["reason"] == "unknown_ue"
    after = scraped(http)
    labels = {"reason": "unknown_ue"}
    for name, more in (
        ("nef_handover_fallback_total", {}), ("ml_gate_decisions_total", {}),
        ("nef_handover_fallback_service_total", {"service_type": "urllc"}),
    ):  # fmt: skip
        assert value(after, name, **labels, **more) - value(before, name, **labels, **more) == 1


def test_outcomes_move_what_is_said_of_them(http: httpx.Client, asked: dict[str, Any]) -> None:
    before, began = scraped(http), time.time()
    for got in (1.0, 9.0, 9.0, 2.0):
        reply = decide(http, asked)
        outcome = {
            "decision_id": reply["decision_id"], "downlink_mbps": got, "downlink_delay_ms": 30.0,
        }  # fmt: skip
        assert http.post("/api/qos-feedback", json=[outcome]).json()["accepted"] == 1
    after = scraped(http)

    def grew(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    embb = {"service_type": "embb"}
    assert grew("ml_qos_compliance_total", outcome="ok", **embb) == 2
    assert grew("ml_qos_compliance_total", outcome="failed", **embb) == 2
    assert grew("ml_qos_violation_total", metric="downlink_mbps", **embb) == 2
    assert grew("ml_qos_latency_observed_ms_count", **embb) == 4
    assert grew("ml_qos_latency_observed_ms_sum", **embb) == 120
    assert grew("ml_qos_throughput_observed_mbps_sum", **embb) == 21
    assert grew("ml_qos_feedback_total", outcome="accepted") == 4
    assert grew("ml_prediction_judged") == 4
    said_now = http.get("/api/model-health").json()["outcomes"]
    assert said_now["judged"] == value(after, "ml_prediction_judged")
    assert said_now["error_rate"] == value(after, "ml_prediction_error_rate")
    assert said_now["brier"] == pytest.approx(value(after, "ml_prediction_brier_score"))
    assert 0 <= value(after, "ml_prediction_error_rate") <= 1
    assert began - 1 <= value(after, "ml_qos_last_feedback_timestamp_seconds") <= time.time() + 1


def test_the_confidence_required_moves_with_the_outcomes(
    http: httpx.Client, asked: dict[str, Any]
) -> None:
    before = value(scraped(http), "ml_qos_adaptive_confidence", service_type="mmtc")
    assert before > 0
    for _ in range(8):
        reply = decide(http, asked | {"service_class": "mmtc"})
        outcome = {"decision_id": reply["decision_id"], "downlink_mbps": 0.01}
        assert http.post("/api/qos-feedback", json=[outcome]).status_code == 200
    until(lambda: value(scraped(http), "ml_qos_adaptive_confidence", service_type="mmtc") > before)


def test_what_event_a3_missed_is_no_breach_of_the_model(
    app: FastAPI, http: httpx.Client, asked: dict[str, Any]
) -> None:
    stranger = asked | {"ue_id": "nobody knows", "service_class": "urllc", "observed_qos": None,
                        "candidates": [{"cell_id": "elsewhere"}], "connected_to": "elsewhere"}  # fmt: skip
    for told in ("features", "speed_mps"):
        stranger.pop(told, None)
    for rate in (0.01, 0.01, 0.01, 900.0):
        reply = decide(http, stranger)
        assert reply["decision"] == "fallback_a3"
        told = {"decision_id": reply["decision_id"], "downlink_mbps": rate, "downlink_delay_ms": 1.0,
                "jitter_ms": 0.1, "packet_loss_ratio": 0.0}  # fmt: skip
        answer = http.post("/api/qos-feedback", json=[told]).json()
        assert answer["results"][0]["met"] is (rate > 1)
    until(lambda: app.state.service.gate.classes["urllc"].breach_rate == 0.0)


def test_drift_is_measured_on_served_rows_and_goes_past_one(
    app: FastAPI, http: httpx.Client, asked: dict[str, Any]
) -> None:
    """One UE asked about over and over is nothing like training: no bound hides it."""
    log = app.state.service.log
    for _ in range(-(-LEAST // 100)):
        assert http.post("/api/predict/batch", json={"requests": [asked] * 100}).status_code == 200
    log.flush()
    found = scraped(http)
    assert value(found, "ml_data_drift_rows") >= LEAST
    score = value(found, "ml_data_drift_score")
    assert score > 1
    parts = {labels: v for (name, labels), v in found.items() if name == "ml_feature_drift_score"}
    assert {dict(one)["feature"] for one in parts} == set(NAMES)
    assert sum(parts.values()) == pytest.approx(score)
    said = http.get("/api/model-health").json()["drift"]
    assert said["score"] == pytest.approx(score)
    assert said["features"][0]["score"] == pytest.approx(max(parts.values()))


def test_handovers_and_ping_pong_are_counted(http: httpx.Client, asked: dict[str, Any]) -> None:
    """Moved, held back at once, moved on, and held back from where it came."""
    cells = [one["cell_id"] for one in asked["candidates"]][:3]
    bad = {"rsrp_dbm": -110.0, "sinr_db": -15.0, "rsrq_db": -10.0, "prb_used_ratio": 0.95}
    good = {"rsrp_dbm": -70.0, "sinr_db": 29.0, "rsrq_db": -10.0, "prb_used_ratio": 0.05}

    def went(serving: int, best: int) -> str:
        candidates = [{"cell_id": c} | (good if n == best else bad) for n, c in enumerate(cells)]
        told = {"connected_to": cells[serving], "candidates": candidates, "priority": 1}
        easy = {"thresholds": {"downlink_mbps": 20.0}, "service_class": "default"}
        reason: str = decide(http, asked | told | easy)["reason"]
        return reason

    before = scraped(http)
    time.sleep(INTERVAL_S)
    reasons = [went(0, 1), went(0, 1)]
    time.sleep(INTERVAL_S)
    reasons.append(went(1, 2))
    time.sleep(INTERVAL_S)
    reasons.append(went(2, 1))
    assert reasons == ["best_cell", "too_soon", "best_cell", "returning"]
    after = scraped(http)

    def grew(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    assert grew("nef_handover_decisions_total", outcome="applied") == 2
    assert grew("ml_pingpong_suppressions_total", reason="too_soon") == 1
    assert grew("ml_pingpong_suppressions_total", reason="returning") == 1
    assert grew("ml_handover_interval_seconds_count") >= 1
    assert INTERVAL_S <= grew("ml_handover_interval_seconds_sum")
    assert grew("ml_antenna_predictions_total", antenna_id=cells[2]) == 2
    assert value(after, "ml_prediction_diversity") > 1


def test_a_move_away_from_a_lost_cell_is_told_apart(
    http: httpx.Client, asked: dict[str, Any]
) -> None:
    name = "nef_coverage_loss_handovers_total"
    before = value(scraped(http), name)
    unknown = {"ue_id": "nobody", "connected_to": "a", "service_class": "embb"}
    far, near = {"cell_id": "a", "rsrp_dbm": -120.0}, {"cell_id": "b", "rsrp_dbm": -80.0}
    weak = decide(http, unknown | {"candidates": [far | {"sinr_db": 3.0}, near]})
    assert weak["predicted_antenna"] == "b"
    assert value(scraped(http), name) == before
    decide(http, unknown | {"candidates": [far | {"sinr_db": -12.0}, near]})
    assert value(scraped(http), name) == before + 1


def test_the_model_in_use_is_shown_and_another_takes_its_place(
    place: Place, app: FastAPI, http: httpx.Client, asked: dict[str, Any]
) -> None:
    def version() -> list[str]:
        return [dict(labels)["version"] for (n, labels) in scraped(http) if n == "ml_model_info"]

    assert version() == ["qos/1"]
    until(lambda: value(scraped(http), "ml_model_training_accuracy") == 0.9)
    found = scraped(http)
    assert value(found, "ml_model_training_samples") == 100
    shares = [v for (name, _), v in found.items() if name == "ml_feature_importance"]
    assert len(shares) == len(NAMES) and sum(shares) == pytest.approx(1)
    registered(place.uri, seed=6, alias="challenger")
    reply = http.post("/api/models/live", json={"model": "qos@challenger"})
    assert reply.status_code == 200, reply.text
    assert version() == ["qos/2"]
    assert np.isnan(value(scraped(http), "ml_data_drift_score"))
    assert not [name for name, _ in scraped(http) if name == "ml_feature_drift_score"]
    assert value(scraped(http), "ml_prediction_judged") == 0
    health = http.get("/api/model-health").json()
    assert health["drift"] is None and health["outcomes"]["judged"] == 0
    assert http.post("/api/models/live", json={"model": "qos/1"}).status_code == 200


def test_health_is_shown_without_being_asked_for(http: httpx.Client) -> None:
    until(lambda: value(scraped(http), "ml_health_check", check="ready") == 1)
    assert value(scraped(http), "ml_health_check", check="store") == 1


def test_health_tells_of_the_breakers_and_an_open_one_is_no_good_health(
    app: FastAPI, http: httpx.Client
) -> None:
    well = http.get("/api/health").json()
    assert well["status"] == "ok", well
    assert {one["name"]: one["state"] for one in well["breakers"]} == dict.fromkeys(
        ("store", "nef", "registry"), "closed"
    )
    breakers = app.state.service.breakers
    for _ in range(100):
        breakers.failed("nef")
    try:
        ill = http.get("/api/health").json()
        assert ill["status"] == "degraded"
        assert {"name": "nef", "state": "open"} in ill["breakers"]
        assert value(scraped(http), "ml_circuit_breaker_open", breaker="nef") == 1
    finally:
        breakers.reset("nef")
    assert value(scraped(http), "ml_circuit_breaker_open", breaker="nef") == 0


def test_a_model_has_an_age_and_its_last_outcome_a_time(
    http: httpx.Client, asked: dict[str, Any]
) -> None:
    outcome = {"decision_id": decide(http, asked)["decision_id"], "success": True}
    assert http.post("/api/feedback", json=[outcome]).json()["accepted"] == 1
    health = http.get("/api/model-health").json()
    assert 0 <= health["age_s"] < 3600
    last = datetime.fromisoformat(health["outcomes"]["last_told_at"])
    assert abs(last.timestamp() - time.time()) < 60
    shown = value(scraped(http), "ml_qos_last_feedback_timestamp_seconds")
    assert shown == pytest.approx(last.timestamp(), abs=1e-3)


def test_nothing_was_lost_and_no_label_names_a_subscriber(
    http: httpx.Client, asked: dict[str, Any]
) -> None:
    text = http.get("/metrics").text
    assert total(scraped(http), "ml_losses_total") == 0, re.findall("ml_losses_total.*", text)
    assert total(scraped(http), "ml_dropped_records_total") == 0
    assert asked["ue_id"] not in text and "ue-" not in text


TRAINED = """
import sys
from pathlib import Path
from serving.job_files import conclude
tasks = {"qos_met": {"train_rows": 720, "auc": 0.97}, "throughput": {"train_rows": 9, "auc": 0.5}}
conclude(Path(sys.argv[1]), "refused", {"metrics": tasks}, "gains nothing")
"""


def test_jobs_show_how_long_they_took_and_what_was_learnt(tmp_path: Path) -> None:
    metrics = Metrics()
    watch = Watch(metrics)
    commands = {"train": [sys.executable, "-c", TRAINED], "collect": ["false"]}
    with Jobs(tmp_path, commands, finished=watch.heard) as jobs:
        for kind in ("train", "collect"):
            assert jobs.wait(jobs.submit(kind, {}).id, 30).done

    def shown(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    until(lambda: shown("ml_losses_total", what="job") == 1)
    assert shown("ml_model_training_duration_seconds_count") == 1
    took = shown("ml_model_training_duration_seconds_sum")
    assert took is not None and 0 < took < 30
    assert shown("ml_model_training_samples") == 720
    assert shown("ml_model_training_accuracy") == 0.97
