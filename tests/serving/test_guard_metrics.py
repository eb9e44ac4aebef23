"""Metrics: names, bounded labels, and that they keep moving."""

import re
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serving.bounded import MOST_LEARNT, OTHER, Bounded
from serving.metrics import CHECKS, FEATURE_STATUSES, LOST, REASONS, STATUSES, Metrics
from tests.serving.guard_kit import app_of, client_of, series, settings_with

DOCS = Path(__file__).parents[2] / "docs"
ALL_VALUES = {*CHECKS, *FEATURE_STATUSES, *LOST, *REASONS, *STATUSES}
NAMES = """
ml_prediction_requests_total ml_prediction_latency_seconds ml_antenna_predictions_total
ml_prediction_confidence_avg ml_model_training_duration_seconds ml_model_training_samples
ml_model_training_accuracy ml_feature_importance ml_data_drift_score ml_prediction_error_rate
ml_cpu_usage_percent ml_memory_usage_bytes ml_qos_compliance_total ml_qos_violation_total
ml_qos_latency_observed_ms ml_qos_throughput_observed_mbps ml_qos_feedback_total
ml_qos_adaptive_confidence ml_pingpong_suppressions_total ml_handover_interval_seconds
ml_prediction_stage_latency_seconds nef_handover_decisions_total nef_handover_fallback_total
nef_handover_compliance_total nef_handover_fallback_service_total nef_coverage_loss_handovers_total
ml_feature_age_seconds ml_feature_rows_total ml_gate_decisions_total ml_dropped_records_total
""".split()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None, (name, labels)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_known_names_are_there(name: str) -> None:
    assert f"# TYPE {name} " in Metrics().text()[0].decode()


def test_two_services_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.answered("decided", 0.002)
    other.answered("fallback", 0.002)
    assert value(one, "ml_prediction_requests_total", status="decided") == 1
    assert value(other, "ml_prediction_requests_total", status="decided") == 0


def test_an_unknown_label_value_is_counted_as_other() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.fell_back(f"made up {number}", f"service {number}")
        metrics.compliance.labels(f"service {number}", "ok").inc()
        metrics.dropped(f"what {number}")
    assert value(metrics, "nef_handover_fallback_total", reason=OTHER) == 1000
    assert value(metrics, "ml_qos_compliance_total", service_type=OTHER, outcome="ok") == 1000
    assert value(metrics, "ml_losses_total", what=OTHER) == 1000
    metrics.fell_back(REASONS[0], "urllc")
    assert value(metrics, "nef_handover_fallback_total", reason=REASONS[0]) == 1


def test_learnt_label_values_are_bounded() -> None:
    metrics = Metrics()
    for number in range(10 * MOST_LEARNT):
        metrics.picked(f"cell-{number}", 0.7)
        metrics.read(f"view-{number}", "present", 1)
    families = {
        family.name: family for family in text_string_to_metric_families(metrics.text()[0].decode())
    }
    cells = [s for s in families["ml_antenna_predictions"].samples if s.name.endswith("_total")]
    assert len(cells) == MOST_LEARNT + 1
    assert sum(one.value for one in cells) == 10 * MOST_LEARNT
    assert len(families["ml_prediction_confidence_avg"].samples) == MOST_LEARNT + 1
    assert len(metrics._averages) <= MOST_LEARNT + 1
    assert len(metrics.chosen._children) <= MOST_LEARNT + 1


def test_the_mean_confidence_is_no_last_value() -> None:
    metrics = Metrics()
    for _ in range(100):
        metrics.picked("cell-1", 0.9)
    metrics.picked("cell-1", 0.1)
    assert value(metrics, "ml_prediction_confidence_avg", antenna_id="cell-1") == pytest.approx(
        0.86
    )


def test_drift_past_one_is_shown_as_it_is() -> None:
    metrics = Metrics()
    metrics.drift.set(1.7)
    assert value(metrics, "ml_data_drift_score") == 1.7


def test_metrics_keep_moving_after_many_requests() -> None:
    """Machine gauges too: they are measured at each scrape, by no thread that could stop."""
    metrics = Metrics()
    looked: list[int] = []
    metrics.refreshed.append(lambda: metrics.drift.set(len(looked)))

    def ask(count: int) -> None:
        for number in range(count):
            metrics.staged("read", 0.001)
            metrics.read("ue_radio", "present", 2)
            metrics.aged("ue_radio", 3.0)
            metrics.gated("best_cell")
            metrics.picked(f"cell-{number % 300}", 0.7)
            metrics.answered("decided", 0.002)

    ask(100_000)
    before = scrape(metrics)
    looked.append(1)
    ask(10_000)
    after = scrape(metrics)
    for name, grows in (
        ("ml_prediction_requests_total", 10_000), ("ml_prediction_latency_seconds_count", 10_000),
        ("ml_prediction_stage_latency_seconds_count", 10_000), ("ml_feature_rows_total", 20_000),
        ("ml_feature_age_seconds_count", 10_000), ("ml_gate_decisions_total", 10_000),
        ("ml_antenna_predictions_total", 10_000),
    ):  # fmt: skip
        assert before[name] == 10 * grows and after[name] == 11 * grows, name
    assert after["ml_prediction_latency_seconds_sum"] == pytest.approx(220)
    assert (before["ml_data_drift_score"], after["ml_data_drift_score"]) == (0, 1)
    assert after["process_cpu_seconds_total"] > before["process_cpu_seconds_total"]
    assert after["ml_memory_usage_bytes"] > 0
    until = time.monotonic() + 10
    while value(metrics, "ml_cpu_usage_percent") == 0:
        assert time.monotonic() < until


def scrape(metrics: Metrics) -> Counter[str]:
    """What a scrape gets, summed over labels."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(metrics.text()[0].decode()):
        for one in family.samples:
            found[one.name] += one.value  # type: ignore[assignment]
    return found


def test_a_metric_that_cannot_be_measured_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()

    def broken() -> None:
        raise OSError("no such thing")

    metrics.refreshed.append(broken)
    metrics.answered("decided", 0.1)
    found = scrape(metrics)
    assert found["ml_prediction_requests_total"] == 1 and found["ml_losses_total"] == 1
    assert "could not be measured" in caplog.text


def described() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Of every metric of ours: its type and labels, in the registry."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    metrics = Metrics()
    labels = {
        one.name: one.label_names for one in vars(metrics).values() if isinstance(one, Bounded)
    }
    for family in metrics.registry.collect():
        if not family.name.startswith(("process_", "python_")):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, labels.get(family.name, ()))
    return found


def test_the_page_tells_every_metric_as_it_is() -> None:
    page = (DOCS / "serving-guard.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split("|") for line in page.splitlines() if line.startswith("| `ml_")
            or line.startswith("| `nef_")]  # fmt: skip
    told = {}
    for name, kind, labels, unit, meaning in (map(str.strip, row) for row in rows):
        assert unit and meaning, name
        told[name.strip("`")] = (kind, tuple(one for one in labels.split(", ") if one))
    assert told == described()


def test_the_example_rules_ask_for_what_there_is() -> None:
    """Names and the values of labels with known ones; in what Prometheus would load."""
    folder = DOCS / "examples" / "monitoring"
    config = yaml.safe_load((folder / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    (rules_file,) = config["rule_files"]
    rules = yaml.safe_load((folder / rules_file).read_text(encoding="utf-8"))
    every = [rule for group in rules["groups"] for rule in group["rules"]]
    recorded = {rule["record"] for rule in every if "record" in rule}
    known = described()
    suffixed = {
        f"{name}_{end}" for name, (kind, _) in known.items() if kind == "histogram"
        for end in ("bucket", "sum", "count")
    }  # fmt: skip
    assert job["metrics_path"] == "/metrics"
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{settings_with().port}"]}]
    assert len([rule for rule in every if "alert" in rule]) >= 10
    for rule in every:
        text = rule["expr"]
        assert text.count("(") == text.count(")") and text.count("{") == text.count("}")
        names = set(re.findall(r"(?<![\w:])(?:service:)?(?:ml|nef)_[a-z0-9_]+(?::\w+)?", text))
        names |= {name for name in recorded if name in text}
        assert names or "up{" in text, text
        assert names <= known.keys() | suffixed | recorded, names - known.keys()
        for name, inside in re.findall(r"([a-z0-9_]+)\{([^}]*)\}", text):
            for label, said in re.findall(r'(\w+)[=!]~?"([^"]*)"', inside):
                if name != "up":
                    assert label in known[name][1], (name, label)
                    assert set(said.split("|")) <= ALL_VALUES, said
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "warn") and rule["annotations"]["summary"]


def test_a_model_that_is_replaced_is_no_longer_shown() -> None:
    metrics = Metrics()
    metrics.uses("1", "abc")
    metrics.uses("2", "def")
    assert value(metrics, "ml_model_info", version="2", catalog_hash="def") == 1
    assert 'version="1"' not in metrics.text()[0].decode()


@pytest.mark.parametrize("what", LOST)
def test_every_loss_has_a_name(what: str) -> None:
    metrics = Metrics()
    metrics.dropped(what)
    assert value(metrics, "ml_losses_total", what=what) == 1
    records = metrics.registry.get_sample_value("ml_dropped_records_total")
    assert records == (what in ("decision", "outcome", "record"))


def test_scrapes_and_health_checks_are_no_traffic_and_requests_count_once() -> None:
    made = app_of(settings_with(auth="off"))
    with client_of(made) as client:
        for _ in range(300):
            assert client.post("/api/predict-with-qos", json={}).status_code == 200
            if _ % 30 == 0:
                assert client.get("/metrics").status_code == 200
                assert client.get("/health/live").status_code == 200
        start = "ml_http_request_duration_seconds_count"
        assert series(client, start) == 300
        assert series(client, start + '{method="POST",route="/api/predict-with-qos"') == 300
        for number in range(50):
            client.get(f"/api/items/imsi-{number}")
            client.get(f"/nowhere/{number}")
        assert series(client, start) == 400
        text = client.get("/metrics").text
        assert "imsi" not in text
        assert series(client, start + '{method="GET",route="other"') == 50
