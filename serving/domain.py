"""Where a model has learnt: the range of every feature in training, and how much each one weighs."""

import re
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from schemas.errors import QosError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
TASK = "qos_met"  # the task whose classifier answers for the whole request


@dataclass(frozen=True)
class Domain:
    """low, high: range of each feature in training, in the bundle's order and the feature's unit, NaN
    where training never had it; weight: its share of the classifier's gain, summing to 1."""

    low: Floats
    high: Floats
    weight: Floats

    def outside(self, matrix: Floats) -> Bools:
        """Rows x features: known values that training never saw; NaN is never outside."""
        with np.errstate(invalid="ignore"):
            return (matrix < self.low) | (matrix > self.high)

    def shares(self, *places: Bools) -> Floats:
        """Of each marking (rows x features) and row, how much of the classifier's gain (0..1) rests on
        the marked features."""
        marked = np.where(np.stack(places), self.weight, 0.0)
        return np.asarray(marked.sum(axis=2))  # the same for any rows


def domain_of(bundle: Bundle, task: str = TASK) -> Domain:
    """The domain of a task's classifier.

    Ranges are those of the manifest's `domain` (feature to [low, high]) where it has them, else the
    extremes of training that the model's own text states. Raises `QosError` for a text without them.
    """
    text = bundle.tasks[task].classifier
    infos = _line(text, "feature_infos")
    if infos is None or len(infos) != len(bundle.features):
        raise QosError(f"bundle: {task}/classifier.txt states no range for every feature")
    ranges = np.array([_range(info) for info in infos])
    stated: dict[str, Any] = bundle.manifest.get("domain", {})
    for place, name in enumerate(bundle.features):
        if name in stated:
            ranges[place] = stated[name]
    gain = lgb.Booster(model_str=text).feature_importance("gain").astype(np.float64)
    total = gain.sum()
    weight = gain / total if total > 0 else np.full(len(gain), 1 / len(gain))
    return Domain(ranges[:, 0].copy(), ranges[:, 1].copy(), weight)


def _line(text: str, name: str) -> list[str] | None:
    found = re.search(rf"^{name}=(.*)$", text, re.MULTILINE)
    return found[1].split(" ") if found else None


def _range(info: str) -> tuple[float, float]:
    found = re.fullmatch(r"\[([^:\]]+):([^:\]]+)\]", info)
    return (float(found[1]), float(found[2])) if found else (np.nan, np.nan)
