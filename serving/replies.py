"""What the decision service answers: the documented shapes, and the answer of a decision."""

import math
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from serving.predict import Assessed, Decided
from serving.vectors import OVERRIDDEN, STATUS, SUBSTITUTED, UNKNOWN

MOST_CONTRIBUTIONS = 10
Probability = Annotated[float, Field(ge=0, le=1)]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Band(_Reply):
    """A forecast: 8 of 10 values should lie between p10 and p90."""

    p10: float
    p50: float
    p90: float


class Detail(_Reply):
    """One threshold. required and observed in its unit; probability: that it is kept in the chosen
    cell, null: no model tells; ok: what was observed keeps it, null: not observed, which is not met."""

    metric: Literal["downlink_mbps", "delay_ms", "loss_ratio", "jitter_ms"]
    required: float
    observed: float | None
    probability: Probability | None
    method: Literal["band", "classifier_lower_bound", "none"]
    ok: bool | None


class Compliance(_Reply):
    """Whether the request is met as surely as its priority needs; null confidence: not scored."""

    service_priority_ok: bool
    required_confidence: Probability
    observed_confidence: Probability | None
    details: list[Detail]


class Scored(_Reply):
    """A candidate. probability: calibrated, that the whole request is met; confidence: that probability
    times what is left of 1 less the shares; shares: of the classifier's gain, resting on unknown, on
    substituted (which count by half) and on out-of-domain features; thresholds: per threshold asked,
    the probability that it is kept; null: not scored."""

    cell_id: str
    serving: bool
    probability: Probability | None
    confidence: Probability | None
    unknown_share: Probability | None
    substituted_share: Probability | None
    out_of_domain_share: Probability | None
    out_of_domain: list[str]
    thresholds: dict[str, Probability]
    throughput_mbps: Band | None
    delay_ms: Band | None


class AskedFor(_Reply):
    """What the request was understood to ask; null: not asked."""

    service: str
    priority: int
    five_qi: int
    source: str
    downlink_mbps: float | None
    delay_ms: float | None
    loss_ratio: float | None
    jitter_ms: float | None


class ViewRead(_Reply):
    """A feature view as the store had it; age_s: from its event to the store's clock."""

    status: str
    age_s: float | None


class ModelUsed(_Reply):
    """The model that answered."""

    version: str
    digest: str
    service: str
    catalog_hash: str


class Contribution(_Reply):
    """A feature's part of the log-odds of being met, before calibration; value null: unknown."""

    feature: str
    value: float | None
    status: str
    contribution: float


class Explanation(_Reply):
    """Of the chosen cell: the largest contributions, the part of no feature, every feature's status."""

    base: float
    contributions: list[Contribution]
    statuses: dict[str, str]


class DecisionReply(_Reply):
    """A decision. predicted_antenna: the cell where the UE should be, null: no cell is known;
    confidence: that the request is met there, 0 where nothing could be scored (a fallback)."""

    decision_id: str
    decided_at: str
    ue_id: str
    decision: Literal["apply", "stay", "fallback_a3"]
    reason: str
    predicted_antenna: str | None
    connected_to: str | None
    confidence: Probability
    required_confidence: Probability
    qos_compliance: Compliance
    asked: AskedFor
    candidates: list[Scored]
    features: dict[str, ViewRead]
    unknown_features: list[str]
    substituted_features: list[str]
    overridden_features: list[str]
    model: ModelUsed
    explanation: Explanation | None


class BatchReply(_Reply):
    """One decision a request, in their order."""

    decisions: list[DecisionReply]


class PlainReply(_Reply):
    """The short answer of /api/predict."""

    decision_id: str
    ue_id: str
    predicted_antenna: str | None
    confidence: Probability
    decision: Literal["apply", "stay", "fallback_a3"]
    reason: str


class PendingReply(_Reply):
    """An asynchronous request; result is null until it is done."""

    job_id: str
    status: Literal["pending", "done", "failed"]
    result: DecisionReply | None


def reply_of(one: Decided) -> dict[str, Any]:
    """The content of a `DecisionReply`."""
    question, choice, assessed = one.question, one.choice, one.assessed
    asked, manifest = question.asked, one.live.bundle.manifest
    shown = choice.place if choice.place is not None else 0
    row = one.start + shown
    seconds, micros = divmod(one.decided_us, 1_000_000)
    scored = assessed is not None
    unknown, substituted, overridden = _named(one, row) if scored else ([], [], [])
    return {
        "decision_id": one.decision_id,
        "decided_at": f"{_second(seconds)}.{micros:06d}Z",
        "ue_id": question.ue,
        "decision": choice.verdict,
        "reason": choice.reason,
        "predicted_antenna": choice.cell,
        "connected_to": question.request.connected_to,
        "confidence": choice.confidence or 0.0,
        "required_confidence": choice.required,
        "qos_compliance": {
            "service_priority_ok": choice.ok,
            "required_confidence": choice.required,
            "observed_confidence": choice.confidence,
            "details": _details(one, row),
        },
        "asked": {
            "service": asked.service, "priority": asked.priority, "five_qi": asked.five_qi,
            "source": asked.source, "downlink_mbps": asked.downlink_mbps,
            "delay_ms": asked.delay_ms, "loss_ratio": asked.loss_ratio,
            "jitter_ms": asked.jitter_ms,
        },
        "candidates": _candidates(one),
        "features": _views(one, row) if scored else {},
        "unknown_features": unknown,
        "substituted_features": substituted,
        "overridden_features": overridden,
        "model": {
            "version": one.live.version, "digest": manifest["digest"],
            "service": one.live.layout.service, "catalog_hash": manifest["catalog_hash"],
        },
        "explanation": _explanation(one, row) if scored and question.request.explain else None,
    }  # fmt: skip


@lru_cache(maxsize=4)
def _second(since_1970: int) -> str:
    return str(np.datetime64(since_1970, "s"))


def plain_of(one: Decided) -> dict[str, Any]:
    """The content of a `PlainReply`."""
    return {
        "decision_id": one.decision_id,
        "ue_id": one.question.ue,
        "predicted_antenna": one.choice.cell,
        "confidence": one.choice.confidence or 0.0,
        "decision": one.choice.verdict,
        "reason": one.choice.reason,
    }


def _details(one: Decided, row: int) -> list[dict[str, Any]]:
    asked, got = one.question.asked, one.question.request.observed_qos
    seen = (
        (None,) * 4
        if got is None
        else (got.downlink_mbps, got.downlink_delay_ms, got.packet_loss_ratio, got.jitter_ms)
    )
    found: list[dict[str, Any]] = []
    for metric, required, observed in zip(
        ("downlink_mbps", "delay_ms", "loss_ratio", "jitter_ms"),
        (asked.downlink_mbps, asked.delay_ms, asked.loss_ratio, asked.jitter_ms),
        seen,
        strict=True,
    ):
        if required is None:
            continue
        chance, method = None, "none"
        if one.assessed is not None and metric in one.assessed.limits:
            chance = _number(one.assessed.limits[metric][row])
            if chance is not None:
                method = "classifier_lower_bound" if metric == "loss_ratio" else "band"
        ok = None
        if observed is not None:
            ok = observed >= required if metric == "downlink_mbps" else observed <= required
        found.append(
            {
                "metric": metric, "required": required, "observed": observed,
                "probability": chance, "method": method, "ok": ok,
            }
        )  # fmt: skip
    return found


def _candidates(one: Decided) -> list[dict[str, Any]]:
    question, assessed = one.question, one.assessed
    if assessed is None:
        return [_unscored(cell, at == question.serving) for at, cell in enumerate(question.cells)]
    rows, scores = one.rows, assessed.scores
    shares = zip(
        scores.met[rows].tolist(),
        assessed.confidence[rows].tolist(),
        assessed.unknown_share[rows].tolist(),
        assessed.substituted_share[rows].tolist(),
        assessed.outside_share[rows].tolist(),
        strict=True,
    )
    limits = {name: values[rows].tolist() for name, values in assessed.limits.items()}
    rate, delay = (
        [None] * len(question.cells) if band is None else band[rows].tolist()
        for band in (scores.rate, scores.delay)
    )
    outside: Any = assessed.outside[rows]
    strange = outside.any(axis=1).tolist()
    return [
        {
            "cell_id": cell,
            "serving": at == question.serving,
            "probability": met,
            "confidence": sure,
            "unknown_share": min(1.0, unknown),
            "substituted_share": min(1.0, substituted),
            "out_of_domain_share": min(1.0, out),
            "out_of_domain": _at(one, outside[at]) if strange[at] else [],
            "thresholds": {n: v[at] for n, v in limits.items() if not math.isnan(v[at])},
            "throughput_mbps": _band(rate[at]),
            "delay_ms": _band(delay[at]),
        }
        for at, (cell, (met, sure, unknown, substituted, out)) in enumerate(
            zip(question.cells, shares, strict=True)
        )
    ]


def _unscored(cell: str, serving: bool) -> dict[str, Any]:
    return {
        "cell_id": cell, "serving": serving, "probability": None, "confidence": None,
        "unknown_share": None, "substituted_share": None, "out_of_domain_share": None,
        "out_of_domain": [], "thresholds": {}, "throughput_mbps": None, "delay_ms": None,
    }  # fmt: skip


def _band(found: list[float] | None) -> dict[str, float] | None:
    return None if found is None else {"p10": found[0], "p50": found[1], "p90": found[2]}


def _views(one: Decided, row: int) -> dict[str, dict[str, Any]]:
    vectors = _vectors(one).vectors
    return {
        view: {"status": STATUS[status], "age_s": _number(age)}
        for view, status, age in zip(
            one.live.layout.views,
            vectors.view_status[row].tolist(),
            vectors.age_s[row].tolist(),
            strict=True,
        )
    }


def _named(one: Decided, row: int) -> tuple[list[str], list[str], list[str]]:
    """The features that are unknown, substituted, overridden."""
    status: Any = _vectors(one).vectors.status[row]
    return _names_by_status(one.live.layout.names, status.tobytes())


@lru_cache(maxsize=4096)
def _names_by_status(
    names: tuple[str, ...], status: bytes
) -> tuple[list[str], list[str], list[str]]:
    found: dict[int, list[str]] = {code: [] for code in STATUS}
    for name, code in zip(names, status, strict=True):
        found[code].append(name)
    unknown = [name for code in UNKNOWN for name in found[code]]
    return unknown, found[SUBSTITUTED], found[OVERRIDDEN]


def _at(one: Decided, marked: Any) -> list[str]:
    names = one.live.layout.names
    return [names[place] for place in np.flatnonzero(marked).tolist()]


def _explanation(one: Decided, row: int) -> dict[str, Any]:
    vectors, names = _vectors(one).vectors, one.live.layout.names
    parts, base = one.live.scorer.contributions(vectors.matrix[row])
    status = [STATUS[code] for code in vectors.status[row].tolist()]
    largest = np.argsort(-np.abs(parts), kind="stable")[:MOST_CONTRIBUTIONS].tolist()
    return {
        "base": base,
        "contributions": [
            {
                "feature": names[at], "value": _number(vectors.matrix[row, at]),
                "status": status[at], "contribution": float(parts[at]),
            }
            for at in largest
        ],
        "statuses": dict(zip(names, status, strict=True)),
    }  # fmt: skip


def _vectors(one: Decided) -> Assessed:
    assert one.assessed is not None  # only what was scored is shown
    return one.assessed


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
