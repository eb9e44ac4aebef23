"""How good a forecast is: metrics with intervals by session, null with a reason if undefined."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import bootstrap as bs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

QUANTILES = (0.1, 0.5, 0.9)
THRESHOLD = 0.5  # of the confusion matrix


@dataclass(frozen=True)
class Judged:
    """The test rows of one task, one entry a row.

    label 0/1; session: a number each, 0, 1, ...; probability: calibrated; radio: score of the
    radio-only classifier; persistence: score of the naive forecast, NaN where there was no past.
    value, band (rows x 3: p10, p50, p90) and persistence_value: the continuous target, or None.
    class_rate: share of positives in train.
    """

    label: Ints
    session: Ints
    probability: Floats
    radio: Floats | None
    persistence: Floats
    class_rate: float
    value: Floats | None = None
    band: Floats | None = None
    persistence_value: Floats | None = None


@dataclass
class _Sheet:
    """Metrics and, for those that are undefined, the reason."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, point: float | None, resampled: Floats | None, reason: str) -> None:
        """Notes a metric with its interval; `reason` says why a part of it may be undefined."""
        known = point is not None and bool(np.isfinite(point))
        self.values[name] = point if known else None
        if not known:
            self.reasons[name] = reason
        low_high = bs.interval(resampled) if known and resampled is not None else None
        self.values[f"{name}_low"], self.values[f"{name}_high"] = low_high or (None, None)
        if known and low_high is None:
            self.reasons[f"{name}_low"] = self.reasons[f"{name}_high"] = reason


def judge(rows: Judged, resamples: int, seed: int) -> dict[str, Any]:
    """The metrics of one task, keys as in docs; a value is None where `reasons` says why.

    Intervals are percentiles over `resamples` draws of whole sessions; the gain over persistence is
    paired: both AUCs of a draw are taken on the same sessions and rows.
    """
    sessions = int(rows.session.max()) + 1 if len(rows.session) else 0
    sheet = _Sheet()
    positives = int(rows.label.sum())
    sheet.values |= {"rows": len(rows.label), "positives": positives, "sessions": sessions}
    weights = np.ones((1, sessions))
    if sessions >= bs.LEAST_SESSIONS:
        weights = np.concatenate([weights, bs.resample_weights(sessions, resamples, seed)])
    few = f"{sessions} sessions; an interval needs at least {bs.LEAST_SESSIONS}"
    one_class = "only one class among the rows" if positives in (0, len(rows.label)) else few
    _ranking(sheet, rows, weights, one_class)
    _probability(sheet, rows, weights, few)
    _band(sheet, rows, weights, few)
    sheet.values["confusion"] = confusion(rows.label, rows.probability)
    sheet.values["reasons"] = sheet.reasons
    sheet.values["verdict"] = verdict(sheet.values)
    return sheet.values


def _split(values: Floats) -> tuple[float, Floats | None]:
    """The point (all sessions once) and the resamples, if there are any."""
    return float(values[0]), values[1:] if len(values) > 1 else None


def _ranking(sheet: _Sheet, rows: Judged, weights: Floats, reason: str) -> None:
    sessions = weights.shape[1]

    def auc(score: Floats, chosen: NDArray[np.bool_] | slice = slice(None)) -> Floats:
        pairs = bs.pair_counts(rows.label[chosen], score[chosen], rows.session[chosen], sessions)
        return bs.auc_of(pairs, weights)

    sheet.put("auc", *_split(auc(rows.probability)), reason)
    if rows.radio is None:
        sheet.put("auc_radio_only", None, None, "the source has no radio features")
    else:
        sheet.put("auc_radio_only", *_split(auc(rows.radio)), reason)
    known = np.isfinite(rows.persistence)
    sheet.values["rows_with_persistence"] = int(known.sum())
    if known.any():
        persistence = auc(rows.persistence, known)
        sheet.put("auc_persistence", *_split(persistence), reason)
        sheet.put("gain", *_split(auc(rows.probability, known) - persistence), reason)
    else:
        missing = "no row has a persistence score"
        sheet.put("auc_persistence", None, None, missing)
        sheet.put("gain", None, None, missing)
    ap = bs.average_precision_of(rows.label, rows.probability, rows.session, weights)
    sheet.put("ap", *_split(ap), reason)


def _probability(sheet: _Sheet, rows: Judged, weights: Floats, reason: str) -> None:
    squared = (rows.probability - rows.label) ** 2
    sheet.put("brier", *_split(bs.mean_of(squared, rows.session, weights)), reason)
    sheet.values["brier_class_rate"] = float(np.mean((rows.class_rate - rows.label) ** 2))
    sheet.values["class_rate"] = rows.class_rate
    ece = bs.calibration_error_of(rows.label, rows.probability, rows.session, weights)
    sheet.put("ece", *_split(ece), reason)


def _band(sheet: _Sheet, rows: Judged, weights: Floats, reason: str) -> None:
    if rows.value is None or rows.band is None:
        for name in ("band_coverage", "pinball", "band_width"):
            sheet.put(name, None, None, "the task has no continuous target")
        return
    known = np.isfinite(rows.value)
    value, band, session = rows.value[known], rows.band[known], rows.session[known]
    inside = ((value >= band[:, 0]) & (value <= band[:, 2])).astype(np.float64)
    sheet.put("band_coverage", *_split(bs.mean_of(inside, session, weights)), reason)
    sheet.put("pinball", *_split(bs.mean_of(pinball(value, band), session, weights)), reason)
    width = band[:, 2] - band[:, 0]
    sheet.put("band_width", *_split(bs.mean_of(width, session, weights)), reason)
    sheet.values["mae_p50"] = float(np.abs(value - band[:, 1]).mean())
    if rows.persistence_value is not None:
        naive = rows.persistence_value[known]
        both = np.isfinite(naive)
        if both.any():
            sheet.values["mae_persistence"] = float(np.abs(value - naive)[both].mean())


def pinball(value: Floats, band: Floats) -> Floats:
    """Mean pinball loss over p10, p50 and p90 of each row, in the target's unit."""
    losses = [
        np.maximum(level * (value - band[:, place]), (level - 1) * (value - band[:, place]))
        for place, level in enumerate(QUANTILES)
    ]
    return np.asarray(np.mean(losses, axis=0))


def confusion(label: Ints, probability: Floats) -> dict[str, float | int | None]:
    """Counts, precision and recall at the threshold; a ratio without rows is None."""
    said = probability >= THRESHOLD
    hit, miss = int((said & (label == 1)).sum()), int((~said & (label == 1)).sum())
    false, right = int((said & (label == 0)).sum()), int((~said & (label == 0)).sum())
    return {
        "threshold": THRESHOLD,
        "true_positive": hit,
        "false_positive": false,
        "false_negative": miss,
        "true_negative": right,
        "precision": hit / (hit + false) if hit + false else None,
        "recall": hit / (hit + miss) if hit + miss else None,
    }


def of_group(rows: Judged, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Point metrics of a part of the rows (a 5QI, a group of cells), without intervals."""
    label, probability = rows.label[chosen], rows.probability[chosen]
    session = np.zeros(len(label), dtype=np.int64)
    whole = np.ones((1, 1))
    auc = float(bs.auc_of(bs.pair_counts(label, probability, session, 1), whole)[0])
    content: dict[str, Any] = {
        "rows": len(label),
        "positives": int(label.sum()),
        "auc": auc if np.isfinite(auc) else None,
        "brier": float(np.mean((probability - label) ** 2)),
        "ece": float(bs.calibration_error_of(label, probability, session, whole)[0]),
        "band_coverage": None,
    }
    if rows.value is not None and rows.band is not None:
        value, band = rows.value[chosen], rows.band[chosen]
        known = np.isfinite(value)
        if known.any():
            inside = (value >= band[:, 0]) & (value <= band[:, 2])
            content["band_coverage"] = float(inside[known].mean())
    if content["auc"] is None:
        content["reason"] = "auc: only one class among the rows"
    return content


def verdict(metrics: dict[str, Any]) -> str:
    """One plain sentence: is the model better than persistence, and how sure is that."""
    gain, low, high = metrics["gain"], metrics["gain_low"], metrics["gain_high"]
    if gain is None:
        return f"No gain over persistence can be stated: {metrics['reasons']['gain']}."
    if low is None:
        return f"AUC gain over persistence {gain:+.4f}, unproven: {metrics['reasons']['gain_low']}."
    span = f"{gain:+.4f}, 95 % interval by session {low:+.4f} to {high:+.4f}"
    if low > 0:
        return f"Better than persistence: AUC gain {span}."
    if high < 0:
        return f"Worse than persistence: AUC gain {span}."
    return f"No gain over persistence is shown: AUC gain {span}, which includes zero."
