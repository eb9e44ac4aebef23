"""Reads what the stages left and says it in plain words: everything that the page shows, as data."""

import base64
import json
import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from feature_repo.catalog import catalog_hash
from feature_repo.views import STORED, VIEWS
from feature_repo.windows import AnyView, StaticView, View, spelled
from models.bundle import Bundle
from pipelines.train import check_columns, matrix
from schemas.errors import QosError

EVENT = "event_timestamp"
EXAMPLES = 10
FEW_SESSIONS = 10  # to draw from, for an interval by session
ASKS = {
    "throughput": "Will the mean downlink rate of the next {s:g} s reach the requested rate?",
    "handover": "Will a handover of any kind happen in the next {s:g} s?",
    "latency_loss": "Will a packet be lost or late in the next {s:g} s?",
    "qos_met": "Will rate, delay and loss of the next {s:g} s all keep to what the request asks?",
}
VALUES = {
    "throughput": ("mean downlink", "Mbps"),
    "qos_met": ("mean downlink", "Mbps"),
    "latency_loss": ("worst delay", "ms"),
}
SEEN = (
    ("RSRP", "ue_rsrp_dbm_last_5s", "dBm"),
    ("SINR", "ue_sinr_db_last_5s", "dB"),
    ("downlink", "flow_downlink_mbps_mean_5s", "Mbps"),
    ("delay", "flow_downlink_delay_ms_mean_5s", "ms"),
)
VERDICTS = {
    "better": "the model is better than persistence for {}",
    "none": "no gain shown over persistence for {}",
    "worse": "the model is worse than persistence for {}",
    "unknown": "no gain over persistence can be stated for {}",
}


def read_metrics(folder: Path, name: str) -> dict[str, Any]:
    """`folder/name.json`; raises `QosError` where it is absent or no JSON object."""
    found = read_optional(folder, name)
    if found is None:
        raise QosError(f"{folder / name}.json: not found; `dvc repro {name}` writes it")
    return found


def read_optional(folder: Path, name: str) -> dict[str, Any] | None:
    """`folder/name.json`, or None where the stage was not run; raises `QosError` if unreadable."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise QosError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise QosError(f"{path}: a {type(found).__name__}; an object is needed")
    return found


def outcome(judged: dict[str, Any]) -> str:
    """better, none, worse or unknown: where the interval of the gain over persistence lies."""
    low, high = judged.get("gain_low"), judged.get("gain_high")
    if judged.get("gain") is None or low is None or high is None:
        return "unknown"
    return "better" if low > 0 else "worse" if high < 0 else "none"


def headline(evaluate: dict[str, Any]) -> str:
    """One sentence about all tasks, the good news first and the bad said as plainly."""
    by_outcome: dict[str, list[str]] = {}
    for task in sorted(evaluate):
        by_outcome.setdefault(outcome(evaluate[task]), []).append(task)
    parts = [
        words.format(_joined(by_outcome[name]))
        for name, words in VERDICTS.items()
        if name in by_outcome
    ]
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def cautions(
    metrics: dict[str, dict[str, Any] | None], manifest: dict[str, Any]
) -> list[tuple[str, str]]:
    """What a reader must know before trusting a number: (gravity, sentence), gravest first."""
    found: list[tuple[str, str]] = []
    admit, label = metrics["admit"] or {}, metrics["label"] or {}
    if differences := (metrics["truncation"] or {}).get("differences"):
        found.append(
            ("bad", f"Future leaks: {differences:,} values change when the future is cut.")
        )
    if failed := (metrics["check"] or {}).get("failed"):
        found.append(("bad", f"Data checks: {failed:,} expectations failed."))
    for task, judged in sorted((metrics["evaluate"] or {}).items()):
        if judged.get("bundle") not in (None, manifest["digest"]):
            found.append(("bad", f"{task}: judged with another bundle than the one shown here."))
        found += [("warn", f"{task}: {text}") for text in _doubts(judged, _coverage(manifest))]
    for task, counted in label.items():
        if not counted["used"]:
            rows, positives = counted["decisions"], counted["positives"]
            found.append(
                ("note", f"{task}: not learned; {rows:,} decisions, {positives:,} positive.")
            )
    if admit.get("source") == "simulator":
        text = "The network is simulated: the numbers show that the platform works, not a live network."
        found.append(("note", text))
    return found


def _doubts(judged: dict[str, Any], aim: float) -> list[str]:
    texts = []
    radio, low = judged.get("auc_radio_only"), judged.get("auc_low")
    if radio is not None and low is not None and radio >= low:
        texts.append(
            f"radio features alone do as well (AUC {radio:.3f}, the model has {judged['auc']:.3f}); "
            "traffic history adds nothing that the interval can tell."
        )
    if judged["sessions"] < FEW_SESSIONS:
        texts.append(f"judged on {judged['sessions']} sessions only; its intervals are rough.")
    if judged["brier"] >= judged["brier_class_rate"]:
        texts.append("its probabilities are no better than the class rate (Brier score).")
    inside = judged.get("band_coverage")
    bottom, top = judged.get("band_coverage_low"), judged.get("band_coverage_high")
    if inside is not None and bottom is not None and top is not None and not bottom <= aim <= top:
        side = "it is wider than needed" if inside > aim else "it is too narrow"
        held = f"the band holds {100 * inside:.1f}\u00a0% of the values"
        texts.append(f"{held}, {100 * aim:.0f}\u00a0% is the aim: {side}.")
    return texts


def _coverage(manifest: dict[str, Any]) -> float:
    return float(manifest.get("settings", {}).get("coverage", 0.8))


def views(
    features: Path, frame: pl.DataFrame, publish: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Coverage and freshness of every view; None where a folder or a column is absent."""
    stored = {view.name: _stored(features, view) for view in STORED}
    windowed = [
        v for view in STORED if isinstance(view, View) and (v := stored[view.name])["newest"]
    ]
    end = max((view["newest"] for view in windowed), default=None)
    return [_view(view, stored.get(view.name), end, frame, publish) for view in VIEWS]


def _view(
    view: AnyView,
    stored: dict[str, Any] | None,
    end: datetime | None,
    frame: pl.DataFrame,
    publish: dict[str, Any] | None,
) -> dict[str, Any]:
    ttl = view.ttl if isinstance(view, View) else None
    fresh = None
    if stored is not None and ttl is not None and end is not None and stored["by_key"] is not None:
        fresh = int((stored["by_key"] >= end - ttl).sum())
    shares = stored["shares"] if stored else {}
    return {
        "name": view.name,
        "description": view.description,
        "kind": "windows" if ttl else "static" if isinstance(view, StaticView) else "at request",
        "keys": ", ".join(getattr(view, "keys", ())) or None,
        "ttl": spelled(ttl) if ttl else None,
        "rows": stored["rows"] if stored else None,
        "entities": stored["entities"] if stored else None,
        "newest": clock(stored["newest"]) if stored and ttl and stored["newest"] else None,
        "behind": _ago(end - stored["newest"])
        if stored and ttl and stored["newest"] and end
        else None,
        "fresh": fresh,
        "absent": stored is not None and stored["rows"] is None,
        "online": (publish or {}).get(view.name),
        "hash": catalog_hash((view.name,)),
        "features": [
            {
                "name": feature.name,
                "unit": feature.unit,
                "range": _range(feature.low, feature.high),
                "description": feature.description,
                "share": shares.get(feature.name),
                "in_frame": _share(frame, feature.name),
            }
            for feature in view.features()
        ],
    }


def _stored(features: Path, view: View | StaticView) -> dict[str, Any]:
    paths = sorted((features / view.name).rglob("*.parquet"))
    empty: dict[str, Any] = {
        "rows": None,
        "entities": None,
        "newest": None,
        "shares": {},
        "by_key": None,
    }
    if not paths:
        return empty
    rows = pl.scan_parquet(paths, hive_partitioning=False)
    names = set(rows.collect_schema().names())
    keys = list(view.keys)
    known = [feature.name for feature in view.features() if feature.name in names]
    total = rows.select(pl.len(), pl.col(EVENT).max().alias("newest"), *(
        pl.col(name).count().name.suffix("_known") for name in known
    )).collect().row(0, named=True)  # fmt: skip
    by_key = rows.group_by(keys).agg(pl.col(EVENT).max()).collect()
    count = total["len"]
    return {
        "rows": count,
        "entities": len(by_key),
        "newest": total["newest"],
        "shares": {name: total[f"{name}_known"] / count if count else None for name in known},
        "by_key": by_key[EVENT],
    }


def _share(frame: pl.DataFrame, name: str) -> float | None:
    """Of the frame's rows, the share in which the column is known."""
    if name not in frame.columns or not len(frame):
        return None
    return 1 - frame[name].null_count() / len(frame)


def tasks(
    frame: pl.DataFrame,
    metrics: dict[str, dict[str, Any] | None],
    bundle: Bundle,
    plots: Path,
) -> list[dict[str, Any]]:
    """Every task that was tried, learned or judged, with all that is known of it."""
    label, evaluate = metrics["label"] or {}, metrics["evaluate"] or {}
    curves, bins, gains = (_of_task(plots, name) for name in ("roc", "calibration", "importance"))
    found = []
    for task in [*label, *sorted((set(evaluate) | set(bundle.tasks)) - set(label))]:
        value, unit = VALUES.get(task, ("value", ""))
        found.append({
            "name": task,
            "asks": _asks(frame, task),
            "label": label.get(task),
            "about": bundle.manifest["tasks"].get(task),
            "judged": evaluate.get(task),
            "outcome": outcome(evaluate[task]) if task in evaluate else None,
            "five_qi": _by_number(evaluate.get(task, {}).get("by_five_qi", {})),
            "value": value,
            "unit": unit,
            "roc": _curves(curves.get(task, [])),
            "bins": bins.get(task, []),
            "gains": gains.get(task, [])[:8],
            "band": _picture(plots / f"band_{task}.png"),
        })  # fmt: skip
    return found


def _by_number(groups: dict[str, Any]) -> list[tuple[str, Any]]:
    """The groups in the order of their numbers, those without a number last."""
    return sorted(groups.items(), key=lambda one: (not one[0].isdigit(), one[0].zfill(6)))


def _asks(frame: pl.DataFrame, task: str) -> str | None:
    first = frame.filter(pl.col("task") == task).head(1)
    if task not in ASKS or first.is_empty():
        return None
    horizon = first["label_until"][0] - first[EVENT][0]
    return ASKS[task].format(s=horizon.total_seconds())


def _of_task(plots: Path, name: str) -> dict[str, list[dict[str, Any]]]:
    path = plots / f"{name}.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    return by_task


def _curves(rows: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        point = row["false_positive_rate"], row["true_positive_rate"]
        curves.setdefault(row["score"], []).append(point)
    return curves


def _picture(path: Path) -> str | None:
    """The PNG as a data URI, or None where it was not drawn."""
    if not path.exists():
        return None
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def examples(frame: pl.DataFrame, bundle: Bundle) -> list[dict[str, Any]]:
    """Unseen decisions with forecast and outcome; none is picked by hand.

    Of each task's test part those whose probability comes nearest to evenly spaced ones are shown.
    """
    check_columns(frame, bundle.features)
    parts = {task: _test_part(frame, bundle, task) for task in sorted(bundle.tasks, key=_place)}
    parts = {task: rows for task, rows in parts.items() if len(rows)}
    found = []
    for place, (task, rows) in enumerate(parts.items()):
        number = EXAMPLES // len(parts) + (place < EXAMPLES % len(parts))
        probability, band = bundle.predict(task, matrix(rows, bundle.features))
        aims = [(step + 0.5) / number for step in range(number)]
        nearest = dict.fromkeys(int(abs(probability - aim).argmin()) for aim in aims)
        for chosen in nearest:
            limits = None if band is None else [float(limit) for limit in band[chosen]]
            row = rows.row(chosen, named=True)
            found.append(_example(task, row, float(probability[chosen]), limits))
    return found


def _place(task: str) -> int:
    """Requests first: they show best what was asked and what was got."""
    return -list(ASKS).index(task) if task in ASKS else 1


def _test_part(frame: pl.DataFrame, bundle: Bundle, task: str) -> pl.DataFrame:
    split = bundle.manifest["tasks"][task]["split"]
    begin = pl.lit(split["test_from"]).str.to_datetime(time_unit="us", time_zone="UTC")
    return frame.filter(
        pl.col("task") == task, pl.col("session_id").is_in(split["test"]), pl.col(EVENT) >= begin
    ).sort(EVENT, "session_id", "ue_id", "five_qi")


def _example(
    task: str, row: dict[str, Any], probability: float, band: list[float] | None
) -> dict[str, Any]:
    value, unit = VALUES.get(task, ("value", ""))
    asked = (
        ("≥", row["requested_downlink_mbps"], "Mbps"),
        ("≤", row["requested_delay_ms"], "ms delay"),
        ("≤", row["requested_loss_ratio"], "loss ratio"),
    )
    seen = [(name, row.get(column), unit) for name, column, unit in SEEN]
    return {
        "task": task,
        "when": clock(row[EVENT]),
        "ue": row["ue_id"],
        "cell": row["cell_id"],
        "five_qi": row["five_qi"],
        "asked": _said(asked),
        "seen": _said(seen),
        "probability": probability,
        "band": band,
        "persistence_value": row["persistence_value"],
        "value": row["label_value"],
        "value_name": value,
        "unit": unit,
        "label": row["label"],
        "right": (probability >= 0.5) == bool(row["label"]),
    }


def _said(quantities: Iterable[tuple[str, float | None, str]]) -> list[str]:
    """Those that are known, in words; zero has no sign."""
    return [
        f"{name} {number + 0.0:,.4g} {unit}"
        for name, number, unit in quantities
        if number is not None and not math.isnan(number)
    ]


def clock(moment: datetime) -> str:
    """A time in UTC to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _ago(span: timedelta) -> str:
    """A span in its two largest units, to the second."""
    seconds = round(span.total_seconds())
    sizes = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    parts = []
    for size, unit in sizes:
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _range(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:g} to {high:g}"


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
