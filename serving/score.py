"""A bundle's models compiled for few rows at once: what each candidate could expect."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, BundleError
from models.calibration import calibrated
from models.conformal import adjusted
from serving.trees import together

Floats = NDArray[np.float64]
WHOLE, DELAY, RATE = "qos_met", "latency_loss", "throughput"
_LEVELS = (0.1, 0.5, 0.9)
_LEAST = 0.01  # no threshold's probability is nearer to 0 or 1: a band proves no certainty


@dataclass(frozen=True)
class Scores:
    """One entry a row. met: calibrated probability that the whole request is met; disturbed: that a
    packet is lost or late, or None; rate [Mbps] and delay [ms]: rows x p10, p50, p90, or None."""

    met: Floats
    disturbed: Floats | None
    rate: Floats | None
    delay: Floats | None


class Scorer:
    """The models of a bundle that a decision needs, asked in one call."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises `BundleError` for a bundle that has not learnt whether requests are met."""
        if WHOLE not in bundle.tasks:
            raise BundleError(f"bundle: no task {WHOLE!r}; it has {sorted(bundle.tasks)}")
        self._bundle = bundle
        rate = next((t for t in (WHOLE, RATE) if t in bundle.tasks and _banded(bundle, t)), None)
        delay = DELAY if DELAY in bundle.tasks and _banded(bundle, DELAY) else None
        texts = [bundle.tasks[WHOLE].classifier]
        self._places: dict[str, int] = {}
        if DELAY in bundle.tasks:
            self._places["disturbed"] = len(texts)
            texts.append(bundle.tasks[DELAY].classifier)
        for name, task in (("rate", rate), ("delay", delay)):
            if task is not None:
                self._places[name] = len(texts)
                texts += bundle.tasks[task].quantiles
        self.rate_task, self.delay_task = rate, delay
        self._raw = together(texts)

    def __call__(self, matrix: Floats) -> Scores:
        """Equal to `Bundle.predict` of each task, to the last bit. matrix: float64, rows x features."""
        raw, tasks = self._raw(matrix), self._bundle.tasks
        places = self._places
        disturbed = places.get("disturbed")
        return Scores(
            met=calibrated(tasks[WHOLE].calibration, raw[:, 0]),
            disturbed=None
            if disturbed is None
            else calibrated(tasks[DELAY].calibration, raw[:, disturbed]),
            rate=self._band(raw, "rate", self.rate_task),
            delay=self._band(raw, "delay", self.delay_task),
        )

    def contributions(self, row: Floats) -> tuple[Floats, float]:
        """Of one row (features): each feature's part of the log-odds of being met before
        calibration, and the part that no feature has."""
        booster = self._bundle.forecasts[WHOLE].classifier
        parts = np.asarray(booster.predict(row[None], pred_contrib=True, num_threads=1))[0]
        return parts[:-1], float(parts[-1])

    def _band(self, raw: Floats, name: str, task: str | None) -> Floats | None:
        if task is None:
            return None
        first, bands = self._places[name], self._bundle.tasks[task].bands
        assert bands is not None
        return np.sinh(adjusted(bands, np.sort(raw[:, first : first + 3], axis=1)))


def below(band: Floats, limit: Floats) -> Floats:
    """Probability of each row that the value stays at or below its limit, within [0.01, 0.99].

    band: rows x p10, p50, p90; limit: rows, NaN gives NaN. The distribution is taken as linear in
    asinh(value) between the three quantiles and beyond them with the slope of the nearer half; equal
    quantiles make a step.
    """
    scaled, x = np.arcsinh(band), np.arcsinh(limit)
    low, middle, high = scaled.T
    with np.errstate(divide="ignore", invalid="ignore"):
        left = _LEVELS[1] + (x - middle) / (middle - low) * 0.4
        right = _LEVELS[1] + (x - middle) / (high - middle) * 0.4
    found = np.where(x < middle, left, right)
    found = np.where(np.isnan(found), np.where(x < middle, 0.0, 1.0), found)
    return np.where(np.isnan(x), np.nan, np.clip(found, _LEAST, 1 - _LEAST))


def _banded(bundle: Bundle, task: str) -> bool:
    model: Any = bundle.tasks[task]
    return bool(model.quantiles) and model.bands is not None
