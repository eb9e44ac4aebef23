"""Draws what `evaluate` found: PNG for people, the same data as JSON for `dvc plots`."""

import io
import json
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from models.bundle import Bundle
from models.metrics import Judged

Floats = NDArray[np.float64]

INK, QUIET, MODEL, NAIVE, RADIO = "#1f2933", "#9aa5b1", "#1464b4", "#c2571a", "#3d8f5f"
POINTS = 200  # of a curve in the DVC data
BINS = 10  # of the reliability diagram
SHOWN_FEATURES = 20
TARGETS = {
    "throughput": "mean downlink, Mbps",
    "qos_met": "mean downlink, Mbps",
    "latency_loss": "worst delay, ms",
}
EXAMPLE_ROWS = 300  # of the session in the band's picture


def figures(
    bundle: Bundle,
    rows: dict[str, Judged],
    frames: dict[str, pl.DataFrame],
    metrics: dict[str, Any],
) -> dict[str, bytes]:
    """File name to content: `<kind>_<task>.png`, and `roc`, `calibration`, `importance` as JSON.

    frames: the judged rows of each task in the order of `rows`. A picture that makes no sense
    (ROC with one class, a band without a continuous target) is left out.
    """
    files: dict[str, bytes] = {}
    data: dict[str, list[dict[str, Any]]] = {
        "roc": [],
        "calibration": [],
        "importance": [],
    }
    for task, judged in rows.items():
        if metrics[task]["auc"] is not None:
            curves = _roc(judged)
            files[f"roc_{task}.png"] = _draw_roc(task, curves, metrics[task])
            data["roc"] += [
                {
                    "task": task,
                    "score": name,
                    "false_positive_rate": x,
                    "true_positive_rate": y,
                }
                for name, (false, true) in curves.items()
                for x, y in zip(false.tolist(), true.tolist(), strict=True)
            ]
        bins = _reliability(judged)
        files[f"calibration_{task}.png"] = _draw_reliability(task, bins, metrics[task])
        data["calibration"] += [{"task": task} | one for one in bins]
        gains = importance(bundle, task)
        files[f"importance_{task}.png"] = _draw_importance(task, gains)
        data["importance"] += [{"task": task, "feature": n, "gain_share": s} for n, s in gains]
        files[f"confusion_{task}.png"] = _draw_confusion(task, metrics[task]["confusion"])
        if judged.band is not None:
            files[f"band_{task}.png"] = _draw_band(task, judged, frames[task])
    for name, content in data.items():
        files[f"{name}.json"] = (json.dumps(content, indent=0) + "\n").encode()
    return files


def importance(bundle: Bundle, task: str) -> list[tuple[str, float]]:
    """The strongest features and their share of the classifier's total split gain, best first."""
    booster = lgb.Booster(model_str=bundle.tasks[task].classifier)
    gains = booster.feature_importance("gain")
    total = float(gains.sum()) or 1.0
    ranked = sorted(zip(bundle.features, gains, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return [(name, float(gain) / total) for name, gain in ranked[:SHOWN_FEATURES] if gain > 0]


def _roc(judged: Judged) -> dict[str, tuple[Floats, Floats]]:
    known = np.isfinite(judged.persistence)
    scores: dict[str, tuple[NDArray[np.int64], Floats]] = {
        "model": (judged.label, judged.probability)
    }
    if judged.radio is not None:
        scores["radio only"] = (judged.label, judged.radio)
    if len(np.unique(judged.label[known])) == 2:
        scores["persistence"] = (judged.label[known], judged.persistence[known])
    curves = {}
    for name, (label, score) in scores.items():
        false, true, _ = roc_curve(label, score)
        place = np.linspace(0, 1, POINTS)
        grid = np.interp(place, np.linspace(0, 1, len(false)), np.arange(len(false))).astype(int)
        curves[name] = (false[grid], true[grid])
    return curves


def _reliability(judged: Judged) -> list[dict[str, float]]:
    """Forecast against observed share, in bins of equal width that hold any row."""
    place = np.minimum((judged.probability * BINS).astype(int), BINS - 1)
    return [
        {
            "forecast": float(judged.probability[place == number].mean()),
            "observed": float(judged.label[place == number].mean()),
            "rows": int((place == number).sum()),
        }
        for number in range(BINS)
        if (place == number).any()
    ]


def _axes(title: str, across: str, up: str, width: float = 5.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, 4.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.set_xlabel(across, color=INK)
    axes.set_ylabel(up, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(color=QUIET, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_roc(
    task: str, curves: dict[str, tuple[Floats, Floats]], metrics: dict[str, Any]
) -> bytes:
    figure, axes = _axes(
        f"{task}: ROC on unseen sessions", "false positive rate", "true positive rate"
    )
    keys = {
        "model": "auc",
        "radio only": "auc_radio_only",
        "persistence": "auc_persistence",
    }
    colours = {"model": MODEL, "radio only": RADIO, "persistence": NAIVE}
    for name, (false, true) in curves.items():
        label = f"{name}, AUC {metrics[keys[name]]:.3f}"
        axes.plot(false, true, color=colours[name], linewidth=1.8, label=label)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle="--")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return _png(figure)


def _draw_reliability(task: str, bins: list[dict[str, float]], metrics: dict[str, Any]) -> bytes:
    figure, axes = _axes(f"{task}: reliability", "forecast probability", "observed share")
    rows = np.array([one["rows"] for one in bins], dtype=np.float64)
    forecast = [one["forecast"] for one in bins]
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle="--")
    axes.plot(forecast, [one["observed"] for one in bins], color=MODEL, linewidth=1.2)
    axes.scatter(
        forecast,
        [one["observed"] for one in bins],
        s=20 + 160 * rows / rows.max(),
        color=MODEL,
    )
    axes.axhline(
        metrics["positives"] / metrics["rows"],
        color=NAIVE,
        linewidth=0.8,
        linestyle=":",
    )
    axes.text(
        0.02, 0.96, f"ECE {metrics['ece']:.3f}, Brier {metrics['brier']:.3f}\ndotted: class rate; "
        "dot size: rows", transform=axes.transAxes, va="top", fontsize=8, color=INK,
    )  # fmt: skip
    return _png(figure)


def _draw_importance(task: str, gains: list[tuple[str, float]]) -> bytes:
    figure, axes = _axes(f"{task}: what the model looks at", "share of split gain", "", width=7.2)
    names = [name for name, _ in reversed(gains)]
    axes.barh(names, [share for _, share in reversed(gains)], color=MODEL, height=0.7)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", labelsize=7)
    return _png(figure)


def _draw_confusion(task: str, counts: dict[str, Any]) -> bytes:
    figure, axes = _axes(
        f"{task}: said and came true (threshold {counts['threshold']})", "said", "true"
    )
    table = np.array(
        [
            [counts["true_negative"], counts["false_positive"]],
            [counts["false_negative"], counts["true_positive"]],
        ]
    )
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(2):
        for column in range(2):
            axes.text(
                column, row, f"{table[row, column]:,}\n{share[row, column]:.1%} of the row",
                ha="center", va="center", fontsize=10,
                color="white" if share[row, column] > 0.5 else INK,
            )  # fmt: skip
    axes.set_xticks([0, 1], ["no", "yes"])
    axes.set_yticks([0, 1], ["no", "yes"])
    axes.grid(visible=False)
    return _png(figure)


def _draw_band(task: str, judged: Judged, frame: pl.DataFrame) -> bytes:
    """The liveliest session: its value over time inside the p10 to p90 band."""
    assert judged.band is not None and judged.value is not None
    spread = [
        (float(np.nanstd(np.arcsinh(judged.value[judged.session == number]))), -number)
        for number in np.unique(judged.session)
        if np.isfinite(judged.value[judged.session == number]).sum() > 1
    ]
    number = -max(spread)[1] if spread else 0
    chosen = np.flatnonzero(judged.session == number)[:EXAMPLE_ROWS]
    times = frame["event_timestamp"].to_numpy()[chosen]
    seconds = (times - times[0]) / np.timedelta64(1, "s")
    figure, axes = _axes(
        f"{task}: forecast band over one unseen session",
        "seconds",
        TARGETS.get(task, "target"),
        width=7.2,
    )
    band, value = judged.band[chosen], judged.value[chosen]
    axes.fill_between(
        seconds,
        band[:, 0],
        band[:, 2],
        color=MODEL,
        alpha=0.2,
        linewidth=0,
        label="p10 to p90",
    )
    axes.plot(seconds, band[:, 1], color=MODEL, linewidth=1.2, label="p50")
    axes.plot(seconds, value, color=INK, linewidth=0.9, label="came true")
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)
