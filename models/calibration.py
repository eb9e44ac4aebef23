"""Turns a classifier's raw score into a probability that means what it says; plain numbers."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.errors import QosError

Floats = NDArray[np.float64]
Kind = Literal["platt", "isotonic"]

EDGE = 1e-4  # no probability is closer to 0 or 1: no finite sample proves a certainty


@dataclass(frozen=True)
class Calibration:
    """A monotone map of raw probabilities, as points or as the two numbers of a logistic curve.

    platt: sigmoid(slope * logit(raw) + intercept), which keeps the order of any two rows;
    isotonic: linear between the points (raw, probability), flat outside.
    """

    kind: Kind
    slope: float = 1.0
    intercept: float = 0.0
    raw: tuple[float, ...] = ()
    probability: tuple[float, ...] = ()


def fit_calibration(
    raw: Floats, label: NDArray[np.int64], kind: Kind, weight: Floats
) -> Calibration:
    """The calibration of raw probabilities to 0/1 labels of rows that the classifier never saw."""
    if kind == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        model = IsotonicRegression(y_min=EDGE, y_max=1 - EDGE, out_of_bounds="clip")
        model.fit(raw, label, sample_weight=weight)
        return Calibration(
            "isotonic",
            raw=tuple(float(x) for x in model.X_thresholds_),
            probability=tuple(float(y) for y in model.y_thresholds_),
        )
    from sklearn.linear_model import LogisticRegression

    curve = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000)
    curve.fit(_logit(raw)[:, None], label, sample_weight=weight)
    slope = float(curve.coef_[0, 0])
    if slope <= 0:  # a score that points the wrong way is worth no more than the class rate
        rate = float(np.clip(np.average(label, weights=weight), EDGE, 1 - EDGE))
        return Calibration("platt", slope=0.0, intercept=float(_logit(np.array([rate]))[0]))
    return Calibration("platt", slope=slope, intercept=float(curve.intercept_[0]))


def calibrated(calibration: Calibration, raw: Floats) -> Floats:
    """Probabilities, each within [EDGE, 1 - EDGE], of raw probabilities."""
    if calibration.kind == "isotonic":
        return np.interp(raw, calibration.raw, calibration.probability)
    line = calibration.slope * _logit(raw) + calibration.intercept
    return np.clip(1 / (1 + np.exp(-line)), EDGE, 1 - EDGE)


def to_json(calibration: Calibration) -> dict[str, Any]:
    """Plain numbers that `from_json` reads back to an equal calibration."""
    if calibration.kind == "platt":
        return {
            "kind": "platt", "slope": calibration.slope, "intercept": calibration.intercept
        }  # fmt: skip
    return {
        "kind": "isotonic",
        "raw": list(calibration.raw),
        "probability": list(calibration.probability),
    }


def from_json(content: dict[str, Any]) -> Calibration:
    """The calibration that `to_json` wrote; raises `QosError` for a kind it does not know."""
    if content.get("kind") == "platt":
        return Calibration("platt", float(content["slope"]), float(content["intercept"]))
    if content.get("kind") == "isotonic":
        return Calibration(
            "isotonic", raw=tuple(content["raw"]), probability=tuple(content["probability"])
        )
    raise QosError(
        f"calibration: kind {content.get('kind')!r} is not known; allowed: ['platt', 'isotonic']"
    )


def _logit(probability: Floats) -> Floats:
    inside = np.clip(probability, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(inside / (1 - inside)))
