"""The record of a decision, made outside the request's path."""

from typing import TYPE_CHECKING, Any

import numpy as np

from serving.record import SCORES, DecisionRecord

if TYPE_CHECKING:
    from serving.predict import Assessed, Decided

_BESIDE = {"ue_id", "features"}  # of the request: kept in columns of their own


def record_of(decided: "Decided") -> DecisionRecord:
    """What is kept of a decision."""
    question, choice, live = decided.question, decided.choice, decided.live
    asked, manifest = question.asked, live.bundle.manifest
    return DecisionRecord(
        decision_id=decided.decision_id,
        decided_us=decided.decided_us,
        ue_id=question.ue,
        five_qi=asked.five_qi,
        service_class=asked.service,
        priority=asked.priority,
        requested_downlink_mbps=asked.downlink_mbps,
        requested_delay_ms=asked.delay_ms,
        requested_loss_ratio=asked.loss_ratio,
        requested_jitter_ms=asked.jitter_ms,
        connected_to=question.request.connected_to,
        cells=question.cells,
        chosen_cell=choice.cell,
        decision=choice.verdict,
        reason=choice.reason,
        required_confidence=choice.required,
        observed_confidence=choice.confidence,
        model_version=live.version,
        model_digest=manifest["digest"],
        service=live.layout.service,
        catalog_hash=manifest["catalog_hash"],
        request=question.request.model_dump_json(exclude=_BESIDE, exclude_none=True),
        overrides=dict(question.request.features or {}),
        views=live.layout.views,
        **_rows(decided),
    )


def _rows(decided: "Decided") -> dict[str, Any]:
    assessed = decided.assessed
    if assessed is None:
        names = ("event_us", "view_status", "vectors", "statuses", "scores")
        kinds = (np.int64, np.uint8, np.float64, np.uint8, np.float64)
        empty = {name: np.empty((0, 0), kind) for name, kind in zip(names, kinds, strict=True)}
        return {"clock_us": None} | empty
    rows = decided.rows
    vectors: Any = assessed.vectors
    return {
        "clock_us": vectors.clock_us,
        "event_us": vectors.event_us[rows],
        "view_status": vectors.view_status[rows],
        "vectors": vectors.matrix[rows],
        "statuses": vectors.status[rows],
        "scores": scores_of(assessed)[rows],
    }


def scores_of(assessed: "Assessed") -> Any:
    """float64, rows x `SCORES`; NaN = no model tells, or not asked."""
    scores, limits = assessed.scores, assessed.limits
    nothing = np.full(len(scores.met), np.nan)
    bands = [
        np.column_stack([nothing] * 3) if band is None else band
        for band in (scores.rate, scores.delay)
    ]
    columns = [
        scores.met,
        nothing if scores.disturbed is None else scores.disturbed,
        assessed.confidence,
        limits["downlink_mbps"],
        limits["delay_ms"],
        limits["loss_ratio"],
        *bands[0].T,
        *bands[1].T,
    ]
    assert len(columns) == len(SCORES)
    return np.column_stack(columns)
