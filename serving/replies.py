"""What the decision service answers: the documented shapes, and the answer of a decision."""

from functools import lru_cache
from typing import Any

import numpy as np

from serving.predict import Assessed, Decided
from serving.vectors import OVERRIDDEN, STATUS, SUBSTITUTED, UNKNOWN

MOST_CONTRIBUTIONS = 10


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
            chance = _number(one.assessed.told.limits[metric][row])
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
    told, serving, start = assessed.told, question.serving, one.start
    limits = told.limits.items()
    return [
        {
            "cell_id": cell,
            "serving": row - start == serving,
            "probability": told.met[row],
            "confidence": told.confidence[row],
            "unknown_share": told.unknown[row],
            "substituted_share": told.substituted[row],
            "out_of_domain_share": told.outside[row],
            "out_of_domain": _at(one, assessed.outside[row]) if told.strange[row] else [],
            "thresholds": {name: of[row] for name, of in limits if of[row] == of[row]},
            "throughput_mbps": None if told.rate is None else _band(told.rate[row]),
            "delay_ms": None if told.delay is None else _band(told.delay[row]),
        }
        for row, cell in enumerate(question.cells, start)
    ]


def _unscored(cell: str, serving: bool) -> dict[str, Any]:
    return {
        "cell_id": cell, "serving": serving, "probability": None, "confidence": None,
        "unknown_share": None, "substituted_share": None, "out_of_domain_share": None,
        "out_of_domain": [], "thresholds": {}, "throughput_mbps": None, "delay_ms": None,
    }  # fmt: skip


def _band(found: list[float]) -> dict[str, float]:
    return {"p10": found[0], "p50": found[1], "p90": found[2]}


def _views(one: Decided, row: int) -> dict[str, dict[str, Any]]:
    told = _assessed(one).told
    return {
        view: {"status": STATUS[status], "age_s": _number(age)}
        for view, status, age in zip(
            one.live.layout.views, told.view_status[row], told.age_s[row], strict=True
        )
    }


def _named(one: Decided, row: int) -> tuple[list[str], list[str], list[str]]:
    """The features that are unknown, substituted, overridden."""
    status: Any = _assessed(one).vectors.status[row]
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
    vectors, names = _assessed(one).vectors, one.live.layout.names
    parts, base = one.live.scorer.contributions(vectors.matrix[row])
    status = [STATUS[code] for code in vectors.status[row].tolist()]
    largest = np.argsort(-np.abs(parts), kind="stable")[:MOST_CONTRIBUTIONS].tolist()
    return {
        "base": base,
        "contributions": [
            {
                "feature": names[at], "value": _number(float(vectors.matrix[row, at])),
                "status": status[at], "contribution": float(parts[at]),
            }
            for at in largest
        ],
        "statuses": dict(zip(names, status, strict=True)),
    }  # fmt: skip


def _assessed(one: Decided) -> Assessed:
    assert one.assessed is not None  # only what was scored is shown
    return one.assessed


def _number(value: float) -> float | None:
    return value if value == value else None
