"""The service's Prometheus metrics: a registry of their own, and bounded label sets."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import nan

import psutil
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Gauge,
    GCCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.service_class import SERVICE_CLASSES
from serving.bounded import MOST_LEARNT, Bounded, Spread, Tally
from serving.bounded import OTHER as OTHER

log = logging.getLogger(__name__)
_CPU = "CPU of this process since the last measure, % of one core"
_MEMORY = "Resident memory of this process"

STATUSES = ("decided", "fallback", "refused", "failed")
STAGES = ("parse", "read", "score", "decide", "reply")
SERVICES = tuple(SERVICE_CLASSES)
SUPPRESSIONS = ("too_soon", "returning", "too_many")
REASONS = (
    "best_cell", "serving_cell_is_best", "serving_cell_meets_request", "low_confidence",
    "qos_compliance_failed", "out_of_domain", "no_candidates", "unknown_ue", "stale_features",
    "missing_features", "unknown_features", "unreadable_features", "store_away", "model_failed",
    "no_model", "too_late", *SUPPRESSIONS, "ml_service_unavailable",
    "ml_invalid_response", "local_ml_error", "coverage_loss",
)  # fmt: skip
QUANTITIES = ("downlink_mbps", "delay_ms", "loss_ratio", "jitter_ms", "reliability")
MET = ("ok", "failed", "unknown")
FEEDBACK = ("accepted", "duplicate", "unknown", "late", "refused", "lost")
FEATURE_STATUSES = ("present", "not_found", "outside_max_age")
LOST = ("decision", "outcome", "record", "score", "log", "job", "measure")
CHECKS = ("model", "registry", "catalog", "service", "store", "freshness", "ready")
BREAKERS = ("store", "nef", "registry")
ROUTE_GROUPS = (
    "login",
    "refresh",
    "predict",
    "train",
    "train_async",
    "collect",
    "feedback",
    "default",
)
REFUSALS = ("missing", "wrong", "expired", "role", "login")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
LATENCY_S = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.02,
    0.03,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
)
AGE_S = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 86400)
TRAINING_S = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)


class _Machine(Collector):
    """CPU [% of one core] and resident memory [bytes], measured at scrapes, CPU once a second at most:
    two scrapers do not take each other's measure away."""

    def __init__(self) -> None:
        self._process, self._lock = psutil.Process(), threading.Lock()
        self._process.cpu_percent()
        self._at, self._percent = time.monotonic(), 0.0

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() - self._at >= 1.0:
                self._at, self._percent = time.monotonic(), self._process.cpu_percent()
            percent = self._percent
        yield GaugeMetricFamily("ml_cpu_usage_percent", _CPU, value=percent)
        memory = self._process.memory_info().rss
        yield GaugeMetricFamily("ml_memory_usage_bytes", _MEMORY, value=memory)

    def describe(self) -> Iterable[Metric]:
        return (
            GaugeMetricFamily("ml_cpu_usage_percent", _CPU),
            GaugeMetricFamily("ml_memory_usage_bytes", _MEMORY),
        )


class Metrics:
    """Counters, gauges and histograms by the names that dashboards use; times in seconds.

    refreshed: called at each scrape, to measure what is not counted as it happens.
    """

    def __init__(self) -> None:
        """All at 0, in a registry of their own."""
        self.registry = r = CollectorRegistry()
        self.refreshed: list[Callable[[], None]] = []
        self._averages: dict[str, float] = {}

        def counter(name: str, told: str, **labels: Iterable[str] | None) -> Bounded[Tally]:
            made = Bounded(name, tally(name, told, tuple(labels)), labels)
            if len(labels) == 1:
                for value in next(iter(labels.values())) or ():
                    made.labels(
                        value
                    )  # shown from 0 on, so that the first one counts as an increase
            return made

        def gauge(name: str, told: str, **labels: Iterable[str] | None) -> Bounded[Gauge]:
            return Bounded(name, Gauge(name, told, tuple(labels), registry=r), labels)

        def histogram(
            name: str, told: str, buckets: Sequence[float], **labels: Iterable[str] | None
        ) -> Bounded[Spread]:
            return Bounded(name, spread(name, told, buckets, tuple(labels)), labels)

        def tally(name: str, told: str, labels: tuple[str, ...] = ()) -> Tally:
            made = Tally(name, told, labels)
            r.register(made)
            return made

        def spread(
            name: str, told: str, buckets: Sequence[float], labels: tuple[str, ...] = ()
        ) -> Spread:
            made = Spread(name, told, buckets, labels)
            r.register(made)
            return made

        def unknown(name: str, told: str) -> Gauge:
            made = Gauge(name, f"{told}; NaN: not known", registry=r)
            made.set(nan)
            return made

        self.requests = counter("ml_prediction_requests", "Decisions asked for", status=STATUSES)
        self.latency = spread(
            "ml_prediction_latency_seconds", "From a request to its decision", LATENCY_S
        )
        self.stage = histogram("ml_prediction_stage_latency_seconds", "Of it, each stage",
                               LATENCY_S, stage=STAGES)  # fmt: skip
        self.chosen = counter("ml_antenna_predictions", "Chosen cells", antenna_id=None)
        self.confidence = gauge("ml_prediction_confidence_avg", "Moving mean of the confidence (weight"
                                " of the newest 0.05)", antenna_id=None)  # fmt: skip
        self.gate = counter("ml_gate_decisions", "Decisions by reason", reason=REASONS)
        self.fallback = counter(
            "nef_handover_fallback", "Decisions left to event A3", reason=REASONS
        )
        self.fallback_service = counter("nef_handover_fallback_service", "The same by service",
                                        service_type=SERVICES, reason=REASONS)  # fmt: skip
        self.decisions = counter("nef_handover_decisions", "Decisions by what was done",
                                 outcome=("applied", "none"))  # fmt: skip
        self.handover_compliance = counter("nef_handover_compliance", "Verdicts on QoS",
                                           outcome=("ok", "failed"))  # fmt: skip
        self.coverage_loss = tally("nef_coverage_loss_handovers", "Away from a cell that was lost")
        self.compliance = counter("ml_qos_compliance", "Outcomes of decisions",
                                  service_type=SERVICES, outcome=MET)  # fmt: skip
        self.violation = counter("ml_qos_violation", "Thresholds that were not met",
                                 service_type=SERVICES, metric=QUANTITIES)  # fmt: skip
        self.feedback = counter("ml_qos_feedback", "Outcomes told, by what became of them",
                                outcome=FEEDBACK)  # fmt: skip
        self.observed_delay = histogram(
            "ml_qos_latency_observed_ms", "Observed one-way delay",
            (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000), service_type=SERVICES,
        )  # fmt: skip
        self.observed_throughput = histogram(
            "ml_qos_throughput_observed_mbps", "Observed downlink",
            (0.1, 0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000), service_type=SERVICES,
        )  # fmt: skip
        self.required = gauge("ml_qos_adaptive_confidence", "Confidence required of the class now",
                              service_type=SERVICES)  # fmt: skip
        self.suppressed = counter(
            "ml_pingpong_suppressions", "Handovers held back", reason=SUPPRESSIONS
        )
        self.interval = spread("ml_handover_interval_seconds", "Between two handovers decided of a UE",
                               (0.5, 1, 2, 5, 10, 30, 60, 300, 900))  # fmt: skip
        self.feature_age = histogram("ml_feature_age_seconds", "Age of what the store answered", AGE_S,
                                     view=None)  # fmt: skip
        self.feature_status = counter("ml_feature_rows", "Rows read, by status", view=None,
                                      status=FEATURE_STATUSES)  # fmt: skip
        self.dropped_records = tally(
            "ml_dropped_records", "Decisions and outcomes that were not kept"
        )
        self.losses = counter("ml_losses", "What was lost or failed inside", what=LOST)
        self.training = spread("ml_model_training_duration_seconds", "Training jobs", TRAINING_S)
        self.training_samples = unknown(
            "ml_model_training_samples", "Rows that the newest model learnt from (task qos_met)"
        )
        self.training_accuracy = unknown(
            "ml_model_training_accuracy", "Its area under the ROC curve on unseen sessions, 0..1"
        )
        self.importance = gauge("ml_feature_importance", "Share of the model's gain", feature=None)
        self.drift = unknown(
            "ml_data_drift_score", "Population stability index of served against training rows, 0.."
        )
        self.drift_of = gauge("ml_feature_drift_score", "Part of it that is a feature's",
                              feature=None)  # fmt: skip
        self.drift_rows = Gauge("ml_data_drift_rows", "Served rows that it rests on", registry=r)
        self.error_rate = unknown(
            "ml_prediction_error_rate", "Share of judged predictions on the wrong side of 0.5, 0..1"
        )
        self.brier = unknown(
            "ml_prediction_brier_score", "Mean squared error of their probability, 0..1"
        )
        self.judged = Gauge("ml_prediction_judged", "Predictions that both rest on", registry=r)
        self.last_outcome = unknown(
            "ml_qos_last_feedback_timestamp_seconds", "When an outcome was told last, since 1970"
        )
        self.diversity = unknown(
            "ml_prediction_diversity", "Cells that the latest decisions spread over evenly, 1.."
        )
        self.check = gauge("ml_health_check", "1: ok, 0: bad, NaN: not known", check=CHECKS)
        self.model = gauge(
            "ml_model_info", "1 for the model in use", version=None, catalog_hash=None
        )
        self.jobs = gauge("ml_jobs", "Jobs by state", state=("queued", "running"))
        self.breaker_open = gauge("ml_circuit_breaker_open", "1: left alone", breaker=BREAKERS)
        self.breaker_changes = counter("ml_circuit_breaker_changes", "Times that it opened or closed",
                                       breaker=BREAKERS, to=("open", "closed"))  # fmt: skip
        self.limited = counter("ml_rate_limited", "Refused as too many", route=ROUTE_GROUPS)
        self.denied = counter("ml_auth_failures", "Refused as not allowed", reason=REFUSALS)
        self.http = histogram("ml_http_request_duration_seconds", "Requests but /metrics and health",
                              LATENCY_S, method=METHODS, route=None,
                              status=("2xx", "3xx", "4xx", "5xx"))  # fmt: skip
        r.register(_Machine())
        ProcessCollector(registry=r)
        GCCollector(registry=r)

    def answered(self, status: str, seconds: float) -> None:
        """A request for a decision was answered: decided, fallback, refused or failed."""
        self.requests.labels(status).inc()
        if status in ("decided", "fallback"):
            self.latency.observe(seconds)

    def staged(self, stage: str, seconds: float) -> None:
        """A stage took so long."""
        self.stage.labels(stage).observe(seconds)

    def fell_back(self, reason: str, service: str | None = None) -> None:
        """A decision was left to event A3."""
        self.fallback.labels(reason).inc()
        if service is not None:
            self.fallback_service.labels(service, reason).inc()

    def gated(self, reason: str) -> None:
        """A decision was made, for this reason."""
        self.gate.labels(reason).inc()
        if reason in SUPPRESSIONS:
            self.suppressed.labels(reason).inc()

    def picked(self, cell: str, confidence: float) -> None:
        """A cell was chosen with this confidence (0..1)."""
        self.chosen.labels(cell).inc()
        gauge = self.confidence.labels(cell)
        key = cell if len(self._averages) < MOST_LEARNT or cell in self._averages else OTHER
        before = self._averages.get(key, confidence)
        self._averages[key] = before + 0.05 * (confidence - before)
        gauge.set(self._averages[key])

    def read(self, view: str, status: str, rows: int) -> None:
        """So many rows of a view had this status."""
        self.feature_status.labels(view, status).inc(rows)

    def aged(self, view: str, age_s: float) -> None:
        """The age of the view's freshest row of a read; NaN: there is none."""
        self.feature_age.labels(view).observe(age_s)

    def dropped(self, what: str) -> None:
        """Something was lost: a decision, an outcome, a score."""
        self.losses.labels(what).inc()
        if what in ("decision", "outcome", "record"):
            self.dropped_records.inc()

    def uses(self, version: str, catalog_hash: str) -> None:
        """Another model answers from now on."""
        self.model.forget()
        self.model.labels(version, catalog_hash).set(1)

    def text(self) -> tuple[bytes, str]:
        """What a scrape gets, and its content type."""
        for one in self.refreshed:
            try:
                one()
            except Exception:  # what cannot be looked at must not hide the rest
                log.exception("a metric could not be measured")
                self.dropped("measure")
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
