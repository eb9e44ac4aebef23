"""Outcomes of decisions, told by decision id; see `serving.outcome` for what is kept of them."""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Request
from pydantic import Field

from serving.decision_log import DecisionLog
from serving.messages.outcomes import FeedbackReply, HandoverOutcome, OutcomeState, QosOutcome
from serving.outcome import Outcome, met_of, violations
from serving.problems import problem_responses
from serving.record import DecisionRecord
from serving.state import service_of

MOST_AT_ONCE = 1000
LATE_S = 3600.0  # outcomes told later than this after the decision are kept and marked late
_AHEAD_S = 60.0  # clocks may differ by so much
_UNKNOWN = "no decision of this id is in the log"


class Told(Protocol):
    """What the outcomes are counted with, as the service's metrics have it."""

    def feedback(self, state: str) -> None:
        """An outcome was told, and this became of it."""
        ...

    def complied(self, service_type: str, outcome: str) -> None:
        """A decision turned out ok, failed or unknown."""
        ...

    def violated(self, service_type: str, metric: str) -> None:
        """A threshold was not kept."""
        ...

    def observed(self, record: DecisionRecord, told: QosOutcome, met: bool | None) -> None:
        """What the flow of a decision got, and whether its request was met."""
        ...


_ERRORS = problem_responses(400, 413, 415, 422)
_MANY = Field(min_length=1, max_length=MOST_AT_ONCE)


def feedback_routes(told: Told) -> APIRouter:
    """The routes that take outcomes, counted with `told`."""
    router = APIRouter(tags=["outcomes"])

    @router.post("/api/feedback", summary="Whether decisions succeeded", responses=_ERRORS)
    async def feedback(
        request: Request, outcomes: Annotated[list[HandoverOutcome], _MANY]
    ) -> FeedbackReply:
        """Keeps the first outcome of each decision; says of every other why it was not kept."""
        return await _answer(request, outcomes, told)

    @router.post("/api/qos-feedback", summary="What flows got after decisions", responses=_ERRORS)
    async def qos_feedback(
        request: Request, outcomes: Annotated[list[QosOutcome], _MANY]
    ) -> FeedbackReply:
        """Keeps the first outcome of each decision; says which thresholds it did not keep."""
        return await _answer(request, outcomes, told)

    return router


async def _answer(
    request: Request, outcomes: Sequence[HandoverOutcome | QosOutcome], told: Told
) -> FeedbackReply:
    log: Any = service_of(request).log
    results = await asyncio.to_thread(tell_all, log, outcomes, time.time_ns() // 1000, told)
    kept = sum(one.status in ("accepted", "late") for one in results)
    return FeedbackReply(accepted=kept, results=results)


def tell_all(
    log: DecisionLog,
    outcomes: Sequence[HandoverOutcome | QosOutcome],
    now_us: int,
    counted: Told,
) -> list[OutcomeState]:
    """Keeps the outcomes, one after the other; reads files. now_us: microseconds since 1970."""
    known = log.find(list(dict.fromkeys(one.decision_id for one in outcomes)))
    states = [_tell(log, one, known.get(one.decision_id), now_us, counted) for one in outcomes]
    for one in states:
        counted.feedback(one.status)
    return states


def _tell(
    log: DecisionLog,
    told: HandoverOutcome | QosOutcome,
    record: DecisionRecord | None,
    now_us: int,
    counted: Told,
) -> OutcomeState:
    if record is None:
        return OutcomeState(decision_id=told.decision_id, status="unknown", reason=_UNKNOWN)
    at = now_us if told.observed_at is None else round(told.observed_at.timestamp() * 1e6)
    if (wrong := _wrong_time(at, record.decided_us, now_us)) is not None:
        return OutcomeState(decision_id=told.decision_id, status="refused", reason=wrong)
    late = now_us - record.decided_us > LATE_S * 1e6
    broken: list[str] = []
    unobserved: list[str] = []
    met: bool | None = None
    plain = told.model_dump(exclude={"decision_id", "observed_at"})
    if isinstance(told, QosOutcome):
        broken, unobserved = violations(record, **plain)
        met = met_of(record, broken, unobserved)
    kept = log.tell(
        Outcome(
            decision_id=told.decision_id,
            kind="qos" if isinstance(told, QosOutcome) else "handover",
            ue_id=record.ue_id,
            service_class=record.service_class,
            observed_us=at,
            late=late,
            met=met,
            **plain,
        )
    )
    if kept == "accepted" and isinstance(told, QosOutcome):
        outcome = {True: "ok", False: "failed", None: "unknown"}[met]
        counted.complied(record.service_class, outcome)
        counted.observed(record, told, met)
        for name in broken:
            counted.violated(record.service_class, name)
    return OutcomeState(
        decision_id=told.decision_id,
        status="late" if late and kept == "accepted" else kept,
        met=met,
        not_kept=broken,
        not_observed=unobserved,
        reason="the decision has an outcome of this kind already" if kept == "duplicate" else None,
    )


def _wrong_time(at_us: int, decided_us: int, now_us: int) -> str | None:
    if at_us < decided_us:
        return f"observed_at is {(decided_us - at_us) / 1e6:.3f} s before the decision"
    if at_us > now_us + _AHEAD_S * 1e6:
        return f"observed_at is {(at_us - now_us) / 1e6:.3f} s in the future"
    return None
