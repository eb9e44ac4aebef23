"""The record of a decision, made outside the request's path."""

from typing import TYPE_CHECKING, Any

import numpy as np

from serving.record import SCORES, DecisionRecord

if TYPE_CHECKING:
    from serving.predict import Assessed, Decided

_ALL = slice(None)
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
        "scores": scores_of(assessed, rows),
    }


def scores_of(assessed: "Assessed", rows: slice = _ALL) -> Any:
    """float64, rows x `SCORES`; NaN = no model tells, or not asked."""
    scores, limits = assessed.scores, assessed.limits
    met = scores.met[rows]
    found = np.full((len(met), len(SCORES)), np.nan)
    found[:, 0] = met
    if scores.disturbed is not None:
        found[:, 1] = scores.disturbed[rows]
    found[:, 2] = assessed.confidence[rows]
    for place, name in enumerate(("downlink_mbps", "delay_ms", "loss_ratio"), 3):
        found[:, place] = limits[name][rows]
    if scores.rate is not None:
        found[:, 6:9] = scores.rate[rows]
    if scores.delay is not None:
        found[:, 9:12] = scores.delay[rows]
    return found
