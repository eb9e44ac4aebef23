"""How likely a request is met in each candidate cell: what a decision on a handover rests on.

Pure: arrays in, probabilities out. A row is a UE and one of its candidate cells, at the time of the
decision; what came of it is a label and never a feature. The same rows and seed give the same bytes.
"""

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import calibration, trees
from models.calibration import EDGE, Calibration, Kind, calibrated, fit_calibration
from models.trees import Trees, grown, json_bytes
from schemas.errors import QosError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WHAT = "selector"
CALIBRATION = "calibration.json"
BINS = 10  # of the expected calibration error
SUBCARRIERS = 12.0  # of a PRB, over which RSRQ is counted (TS 38.215, 5.1.3)


@dataclass(frozen=True)
class Pairs:
    """UEs and candidate cells at decision time, one entry a pair; NaN: not known.

    Of the UE: what it asks for; whether its 5QI has a guaranteed rate (0 or 1); speed; for how long
    it has had its cell; what the last second gave it, and the mean of lately. Of its serving cell and
    of the candidate: RSRP (rsrp_mean_dbm: of lately), RSRQ, the cell's own report of its load, and
    the UEs on it. serving: 1 where the candidate is the serving cell, else 0. other_dbm: RSRP of the
    strongest cell besides the candidate.
    """

    requested_downlink_mbps: Floats
    requested_delay_ms: Floats
    requested_loss_ratio: Floats
    guaranteed: Floats
    speed_mps: Floats
    since_s: Floats
    sinr_db: Floats
    downlink_mbps: Floats
    downlink_mean_mbps: Floats
    downlink_delay_ms: Floats
    delay_mean_ms: Floats
    packet_loss_ratio: Floats
    loss_mean_ratio: Floats
    serving_rsrp_dbm: Floats
    serving_rsrp_mean_dbm: Floats
    serving_rsrq_db: Floats
    serving_prb_used_ratio: Floats
    serving_active_ue_count: Floats
    serving: Floats
    rsrp_dbm: Floats
    rsrp_mean_dbm: Floats
    rsrq_db: Floats
    prb_used_ratio: Floats
    active_ue_count: Floats
    other_dbm: Floats


RATIOS = (
    "better_db", "better_mean_db", "clear_db", "trend_db", "estimated_sinr_db", "free_prb_ratio",
    "estimated_mbps_ratio", "served_ratio", "served_mean_ratio", "delay_ratio", "delay_mean_ratio",
    "loss_over", "loss_mean_over", "prb_more",
)  # fmt: skip
FEATURES = (*(one.name for one in fields(Pairs)), *RATIOS)


def features(pairs: Pairs) -> Floats:
    """(pairs, FEATURES) the model's matrix: the quantities of `Pairs` and what follows from them.

    estimated_sinr_db is what RSRQ says of the candidate without its own load; estimated_mbps_ratio
    sets what its free PRBs could then carry, in bit/s/Hz, against the Mbps asked for.
    """
    given = {one.name: getattr(pairs, one.name) for one in fields(pairs)}
    asked = np.maximum(pairs.requested_downlink_mbps, 0.01)
    ratio = SUBCARRIERS * 10.0 ** (pairs.rsrq_db / 10.0)
    left = np.maximum(1.0 - ratio * np.minimum(pairs.prb_used_ratio, 1.0), 1e-3)
    sinr = ratio / left
    share = np.maximum(1.0 - pairs.prb_used_ratio, 1.0 / (1.0 + pairs.active_ue_count))
    made = {
        "better_db": pairs.rsrp_dbm - pairs.serving_rsrp_dbm,
        "better_mean_db": pairs.rsrp_mean_dbm - pairs.serving_rsrp_mean_dbm,
        "clear_db": pairs.rsrp_dbm - pairs.other_dbm,
        "trend_db": pairs.rsrp_dbm - pairs.rsrp_mean_dbm,
        "estimated_sinr_db": 10.0 * np.log10(sinr),
        "free_prb_ratio": share,
        "estimated_mbps_ratio": np.log2(1.0 + sinr) * share / asked,
        "served_ratio": pairs.downlink_mbps / asked,
        "served_mean_ratio": pairs.downlink_mean_mbps / asked,
        "delay_ratio": pairs.downlink_delay_ms / pairs.requested_delay_ms,
        "delay_mean_ratio": pairs.delay_mean_ms / pairs.requested_delay_ms,
        "loss_over": pairs.packet_loss_ratio - pairs.requested_loss_ratio,
        "loss_mean_over": pairs.loss_mean_ratio - pairs.requested_loss_ratio,
        "prb_more": pairs.prb_used_ratio - pairs.serving_prb_used_ratio,
    }
    columns = given | {name: made[name] for name in RATIOS}
    return np.column_stack([np.asarray(columns[name], dtype=np.float64) for name in FEATURES])


@dataclass(frozen=True)
class Settings:
    """How the trees grow, and how many folds of runs the calibration is fitted across."""

    rounds: int = 120
    learning_rate: float = 0.08
    leaves: int = 31
    rows_per_leaf: int = 100
    feature_share: float = 0.5
    row_share: float = 0.8
    l2: float = 10.0
    folds: int = 4
    calibration: Kind = "isotonic"


@dataclass(frozen=True)
class Selector:
    """The trees, their calibration, and what they were trained on."""

    trees: Trees
    calibration: Calibration
    fitted: dict[str, Any]

    def probability(self, matrix: Floats) -> Floats:
        """Of each row of `features`: the calibrated probability that the request is met there.

        Raises QosError for another number of columns.
        """
        raw = self.trees.predict(matrix)
        return np.clip(calibrated(self.calibration, raw), EDGE, 1.0 - EDGE)


def fit(matrix: Floats, met: Ints, run: Ints, settings: Settings, seed: int) -> Selector:
    """The selector learned from decisions. matrix: of `features`; met: 0 or 1, whether the request was
    met after it; run: number of the run that each row is of.

    Calibration is fitted across folds of runs: each row is scored by trees that saw none of its run.
    Raises QosError for fewer runs than folds, or where all or none were met.
    """
    runs = np.unique(run)
    if runs.size < settings.folds:
        raise QosError(f"selector: {runs.size} runs, at least {settings.folds} are asked for")
    if np.unique(met).size != 2:
        raise QosError(
            f"selector.met: {len(met)} rows, all of them {met[:1].tolist()}; both 0 and 1 are needed"
        )
    raw = np.zeros(len(met))
    for fold in range(settings.folds):
        held = np.isin(run, runs[fold :: settings.folds])
        raw[held] = _grown(matrix[~held], met[~held], settings, seed).predict(matrix[held])
    fitted = fit_calibration(raw, met, settings.calibration, np.ones(len(met)))
    across = calibrated(fitted, raw)
    told = {
        "rows": len(met), "runs": int(runs.size), "met": round(float(met.mean()), 5), "seed": seed,
        "log_loss": round(_log_loss(met, across), 5),
    }  # fmt: skip
    return Selector(_grown(matrix, met, settings, seed), fitted, told)


def calibration_error(probability: Floats, met: Ints, bins: int = BINS) -> float:
    """Expected calibration error, 0..1: how far the mean probability of equally wide bins lies from
    the share that was met, weighted by the rows in each; NaN without rows.
    """
    if not len(met):
        return float("nan")
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    off = np.bincount(place, weights=probability - met, minlength=bins)
    return float(np.abs(off).sum() / len(met))


def to_files(selector: Selector) -> dict[str, bytes]:
    """The selector as file name to text; `from_files` reads it back."""
    beside = {CALIBRATION: json_bytes(calibration.to_json(selector.calibration))}
    return trees.to_files(selector.trees, selector.fitted, beside)


def from_files(files: dict[str, bytes], where: str = WHAT) -> Selector:
    """The selector in `files`; `where` names it in errors.

    Raises QosError if a file is missing, changed or truncated, or is of other features than these.
    """
    found, fitted = trees.from_files(files, WHAT, FEATURES, where, [CALIBRATION])
    return Selector(found, calibration.from_json(json.loads(files[CALIBRATION])), fitted)


def _grown(matrix: Floats, met: Ints, settings: Settings, seed: int) -> Trees:
    parameters = {
        "objective": "binary", "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves, "feature_fraction": settings.feature_share,
        "min_data_in_leaf": settings.rows_per_leaf, "bagging_fraction": settings.row_share,
        "bagging_freq": 1, "lambda_l2": settings.l2,
    }  # fmt: skip
    return grown(WHAT, FEATURES, matrix, met, parameters, settings.rounds, seed)


def _log_loss(met: Ints, probability: Floats) -> float:
    return float(-np.log(np.where(met == 1, probability, 1.0 - probability)).mean())
