"""Bootstrap by session: rows of one session stand or fall together, so whole sessions are redrawn.

Every statistic is prepared once as sums per session (or, for the AUC, as concordant pairs per pair
of sessions); a resample is then a weighting of those sums, a thousand of them one matrix product.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_SESSIONS = 5  # fewer sessions say too little about the next one for an interval
INTERVAL = (2.5, 97.5)  # percentiles of a 95 % interval


def resample_weights(sessions: int, resamples: int, seed: int) -> Floats:
    """How often each session was drawn, shape (resamples, sessions); rows sum to `sessions`."""
    random = np.random.default_rng(seed)
    return random.multinomial(sessions, np.full(sessions, 1 / sessions), size=resamples).astype(
        np.float64
    )


def interval(values: Floats) -> tuple[float, float] | None:
    """95 % percentile interval; None if over half of the resamples left the statistic undefined."""
    defined = values[np.isfinite(values)]
    if len(defined) < len(values) / 2 or len(defined) == 0:
        return None
    low, high = np.percentile(defined, INTERVAL)
    return float(low), float(high)


@dataclass(frozen=True)
class PairCounts:
    """What the AUC of any weighting of sessions needs.

    concordant[s, t]: pairs of a positive of session s above a negative of session t, ties as half.
    """

    concordant: Floats
    positives: Floats
    negatives: Floats


def pair_counts(label: Ints, score: Floats, session: Ints, sessions: int) -> PairCounts:
    """`PairCounts` of rows with a 0/1 label, a score without NaN and a session number."""
    positive = label == 1
    order = np.argsort(session[positive], kind="stable")
    positive_score = score[positive][order]
    positive_session = session[positive][order]
    starts = np.searchsorted(positive_session, np.arange(sessions + 1))
    concordant = np.zeros((sessions, sessions))
    for other in range(sessions):
        negative = np.sort(score[~positive & (session == other)])
        if len(negative):
            below = np.searchsorted(negative, positive_score, side="left")
            not_above = np.searchsorted(negative, positive_score, side="right")
            total = np.concatenate([[0.0], np.cumsum((below + not_above) / 2)])
            concordant[:, other] = total[starts[1:]] - total[starts[:-1]]
    return PairCounts(
        concordant,
        np.bincount(session[positive], minlength=sessions).astype(np.float64),
        np.bincount(session[~positive], minlength=sessions).astype(np.float64),
    )


def auc_of(pairs: PairCounts, weights: Floats) -> Floats:
    """AUC of each weighting of the sessions; NaN where one class is missing."""
    concordant = ((weights @ pairs.concordant) * weights).sum(axis=1)
    pairs_drawn = (weights @ pairs.positives) * (weights @ pairs.negatives)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs_drawn > 0, concordant / pairs_drawn, np.nan)


def session_sums(values: Floats, session: Ints, sessions: int) -> Floats:
    """Sum of `values` by session, shape (sessions,)."""
    return np.bincount(session, weights=values, minlength=sessions).astype(np.float64)


def mean_of(values: Floats, session: Ints, weights: Floats) -> Floats:
    """Mean of a per-row value for each weighting of the sessions; NaN without rows."""
    sessions = weights.shape[1]
    rows = weights @ session_sums(np.ones(len(values)), session, sessions)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(
            rows > 0, (weights @ session_sums(values, session, sessions)) / rows, np.nan
        )


def average_precision_of(
    label: Ints, score: Floats, session: Ints, weights: Floats, chunk: int = 50
) -> Floats:
    """Average precision (step-wise, equal scores share one threshold) for each weighting."""
    order = np.argsort(-score, kind="stable")
    positive = (label[order] == 1).astype(np.float64)
    owner = session[order]
    ranked = score[order]
    last_of_tie = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    parts = []
    for start in range(0, len(weights), chunk):
        drawn = weights[start : start + chunk][:, owner]
        hits = np.cumsum(drawn * positive, axis=1)[:, last_of_tie]
        seen = np.cumsum(drawn, axis=1)[:, last_of_tie]
        gained = np.diff(hits, axis=1, prepend=0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(seen > 0, hits / seen, 0.0)
            parts.append(
                (gained * precision).sum(axis=1) / np.where(hits[:, -1] > 0, hits[:, -1], np.nan)
            )
    return np.concatenate(parts)


def calibration_error_of(
    label: Ints, probability: Floats, session: Ints, weights: Floats, bins: int = 10
) -> Floats:
    """Expected calibration error over equal-width bins of the probability, for each weighting."""
    sessions = weights.shape[1]
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    slot = session * bins + place
    off = np.bincount(slot, weights=probability - label, minlength=sessions * bins)
    rows = weights @ np.bincount(session, minlength=sessions).astype(np.float64)
    gaps = np.abs(weights @ off.reshape(sessions, bins)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rows > 0, gaps / rows, np.nan)
