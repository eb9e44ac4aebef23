"""What the service's metrics say beyond plain counts: measured at scrapes, in the log's thread, or now
and then in the loop, and never on the way of a request but for a few additions."""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from math import log, nan
from typing import Any

from models.gate import Observation
from schemas.service_class import SERVICE_CLASSES
from serving.domain import TASK
from serving.drift import Drift, Shift
from serving.gate import AdaptiveGate
from serving.job_files import Job
from serving.jobs import Jobs
from serving.judged import Judged, Judgement
from serving.live import Live
from serving.messages.outcomes import QosOutcome
from serving.metrics import Metrics
from serving.predict import Decided
from serving.ready import Readiness, is_ready
from serving.record import DecisionRecord
from serving.registered import RegistryAway
from serving.state import Service

LOST_SINR_DB = -8.0  # 3GPP TS 38.133, 8.1: a link of about 10 % block errors is out of sync
_LATEST = 1000
_LOOK_S = 15.0
_STATES = {"ok": 1.0, "bad": 0.0}
_SEEN: dict[bool | None, Observation] = {True: "met", False: "missed", None: "unknown"}
logger = logging.getLogger(__name__)


class Watch:
    """Of one service, from `attach` on."""

    def __init__(self, metrics: Metrics) -> None:
        """Nothing seen yet."""
        self.metrics = metrics
        self._drift, self._judged = Drift(), Judged()
        self.last_outcome_us = 0
        self._chosen: deque[str] = deque(maxlen=_LATEST)
        self._service: Service | None = None
        self._gate: AdaptiveGate | None = None
        self._jobs: Jobs | None = None
        self._shown: Live | None = None
        self._proved: Live | None = None
        self._learn: Callable[[str, Observation], None] = lambda service_type, seen: None
        metrics.refreshed.append(self.refresh)

    def attach(
        self, service: Service, gate: AdaptiveGate, jobs: Jobs, readiness: Readiness
    ) -> None:
        """Before the service starts."""
        self._service, self._gate, self._jobs = service, gate, jobs

        async def begin(service: Service) -> None:
            loop = asyncio.get_running_loop()

            def learn(service_type: str, seen: Observation) -> None:
                loop.call_soon_threadsafe(gate.outcome, service_type, seen)

            self._learn = learn
            service.in_background(self._keep_looking(service, readiness))

        service.started.append(begin)

    def drift(self, live: Live) -> Shift | None:
        """The newest measure of a model; None: too few rows."""
        return self._drift.look(live.bundle)

    def judgement(self, live: Live) -> Judgement:
        """How the latest predictions of a model turned out."""
        return self._judged.look(live.bundle.digest)

    def decided(self, made: Decided) -> None:
        """On the way of a request: what a decision does and whether its request is expected to be met."""
        choice, question = made.choice, made.question
        serving = question.request.connected_to
        applied = choice.cell is not None and choice.cell != serving
        self.metrics.decisions.labels("applied" if applied else "none").inc()
        if choice.ok or choice.reason == "low_confidence":
            self.metrics.handover_compliance.labels("ok" if choice.ok else "failed").inc()
        if choice.cell is not None:
            self._chosen.append(choice.cell)
        if applied and question.serving is not None and _lost(made, question.serving):
            self.metrics.coverage_loss.inc()

    def recorded(self, record: DecisionRecord) -> None:
        """In the log's thread."""
        service = self._service
        if service is not None:
            try:
                self._drift.take(record, service.live.bundle)
            except Exception:  # a record is written down whatever drift makes of it
                logger.exception("drift could not be measured")
                self.metrics.dropped("measure")

    def feedback(self, state: str) -> None:
        """An outcome was told, and this became of it."""
        self.metrics.feedback.labels(state).inc()
        self.last_outcome_us = time.time_ns() // 1000

    def complied(self, service_type: str, outcome: str) -> None:
        """A decision turned out ok, failed or unknown."""
        self.metrics.compliance.labels(service_type, outcome).inc()

    def violated(self, service_type: str, metric: str) -> None:
        """A threshold was not kept."""
        self.metrics.violation.labels(service_type, metric).inc()

    def observed(self, record: DecisionRecord, told: QosOutcome, met: bool | None) -> None:
        """What a flow got after a decision; the gate learns from it in its own loop.

        A request that event A3 was left to and that was missed is no breach of the model: it would
        raise what is required until every request is left to event A3.
        """
        kind, metrics = record.service_class, self.metrics
        if met or record.decision != "fallback_a3":
            self._learn(kind, _SEEN[met])
        if told.downlink_delay_ms is not None:
            metrics.observed_delay.labels(kind).observe(told.downlink_delay_ms)
        if told.downlink_mbps is not None:
            metrics.observed_throughput.labels(kind).observe(told.downlink_mbps)
        if self._service is not None:
            self._judged.take(record, met, self._service.live.bundle.digest)

    def heard(self, job: Job) -> None:
        """A job ended; in the queue's thread."""
        if job.state == "failed":
            self.metrics.dropped("job")
        if job.kind != "train" or job.started_at is None or job.finished_at is None:
            return
        self.metrics.training.observe((job.finished_at - job.started_at).total_seconds())
        tasks = (job.result or {}).get("metrics") or {}
        if tasks:
            found = tasks.get(TASK) or tasks[min(tasks)]
            self._trained(found.get("train_rows"), found.get("auc"))

    def refresh(self) -> None:
        """At a scrape, in the loop."""
        service, metrics = self._service, self.metrics
        if service is None or self._gate is None or self._jobs is None:
            return
        if service.live is not self._shown:
            self._show(service.live)
        for name, kind in SERVICE_CLASSES.items():
            metrics.required.labels(name).set(self._gate.required(name, kind.priority))
        states = Counter(job.state for job in self._jobs.list())
        for state in ("queued", "running"):
            metrics.jobs.labels(state).set(states[state])
        self._show_drift(self.drift(service.live))
        judged = self.judgement(service.live)
        metrics.judged.set(judged.count)
        metrics.error_rate.set(_or_nan(judged.error_rate))
        metrics.brier.set(_or_nan(judged.brier))
        metrics.last_outcome.set(self.last_outcome_us / 1e6 or nan)
        metrics.diversity.set(_spread(Counter([*self._chosen])))

    def _show(self, live: Live) -> None:
        """Another model answers."""
        self._shown, metrics = live, self.metrics
        metrics.uses(live.version, live.bundle.manifest["catalog_hash"])
        metrics.importance.forget()
        for name, share in zip(live.layout.names, live.domain.weight.tolist(), strict=True):
            metrics.importance.labels(name).set(share)
        parts = live.bundle.manifest["tasks"][TASK].get("parts", {})
        self._trained(parts.get("train", {}).get("rows"), None)

    def _show_drift(self, shift: Shift | None) -> None:
        metrics = self.metrics
        metrics.drift.set(nan if shift is None else shift.score)
        metrics.drift_rows.set(0 if shift is None else shift.rows)
        if shift is None:
            metrics.drift_of.forget()
        else:
            for name, part in shift.parts.items():
                metrics.drift_of.labels(name).set(part)

    def _trained(self, rows: int | None, auc: float | None) -> None:
        self.metrics.training_samples.set(_or_nan(rows))
        self.metrics.training_accuracy.set(_or_nan(auc))

    async def _keep_looking(self, service: Service, readiness: Readiness) -> None:
        """Health and the model's evidence, as long as the service runs."""
        while True:
            try:
                await self._look(service, readiness)
            except Exception:  # the next look may see more
                logger.exception("health could not be measured")
                self.metrics.dropped("measure")
            await asyncio.sleep(_LOOK_S)

    async def _look(self, service: Service, readiness: Readiness) -> None:
        checks = await readiness.checks(service)
        for one in checks:
            self.metrics.check.labels(one.name).set(_STATES.get(one.state, nan))
        self.metrics.check.labels("ready").set(is_ready(checks))
        live = service.live
        if live is self._proved or "/" not in live.version:
            return
        try:
            registered = readiness.registered
            version = await registered.version(live.version, service.breakers)
            if version is not None:
                _, found = await registered.evidence(version, service.breakers)
                self._prove(live, found.get(TASK, {}))
        except RegistryAway:
            return

    def _prove(self, live: Live, found: dict[str, Any]) -> None:
        if live is not self._shown:
            self._show(live)
        self.metrics.training_accuracy.set(_or_nan(found.get("auc")))
        self._proved = live


def _lost(made: Decided, serving: int) -> bool:
    """Whether the UE reports other cells and not the serving one, or that one below any use."""
    said = made.question.reported[serving]
    if said is None:
        return any(one is not None for one in made.question.reported)
    return said.sinr_db is not None and said.sinr_db < LOST_SINR_DB


def _spread(counts: Counter[str]) -> float:
    """The number of cells that, chosen equally often, would be as diverse (exponential of Shannon's
    entropy); NaN: nothing chosen."""
    total = sum(counts.values())
    if not total:
        return nan
    return float(2.718281828459045 ** -sum(n / total * log(n / total) for n in counts.values()))


def _or_nan(value: float | None) -> float:
    return nan if value is None else float(value)
