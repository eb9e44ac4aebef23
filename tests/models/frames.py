"""A plausible frame: sessions on several days whose rate follows radio quality and its own past."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

FEATURES = [
    "ue_rsrp_dbm_mean_10s", "ue_sinr_db_mean_10s", "ue_speed_mps_mean_10s",
    "flow_downlink_mbps_mean_5s", "flow_downlink_mbps_std_10s", "cell_prb_used_ratio_mean_1m",
]  # fmt: skip
RADIO = FEATURES[:3]
CATALOG_HASH = "ca" * 32
START = datetime(2026, 1, 5, 9, tzinfo=UTC)


def plausible_frame(
    sessions: int = 24, rows: int = 60, seed: int = 1, tasks: tuple[str, ...] = ("throughput",)
) -> pl.DataFrame:
    """`sessions` x `rows` decisions a task, two sessions a day that overlap for a while."""
    random = np.random.default_rng(seed)
    parts = [_session(random, number, rows, task) for task in tasks for number in range(sessions)]
    return pl.concat(parts).sort("event_timestamp", "task", "session_id")


def _session(random: np.random.Generator, number: int, rows: int, task: str) -> pl.DataFrame:
    start = START + timedelta(days=number // 2, seconds=20 * (number % 2))
    quality = 0.3 * np.cumsum(random.normal(0, 1, rows + 10)) + random.normal(0, 1)
    rate = np.exp(2.3 + 0.6 * quality + random.normal(0, 0.3, rows + 10))
    past = np.convolve(rate, np.ones(5) / 5, mode="full")[:rows]
    future = np.array([rate[place + 1 : place + 11].mean() for place in range(rows)])
    times = [start + timedelta(seconds=second) for second in range(rows)]
    level = quality[:rows]
    columns = {
        "ue_rsrp_dbm_mean_10s": -95 + 6 * level + random.normal(0, 3, rows),
        "ue_sinr_db_mean_10s": 10 + 4 * level + random.normal(0, 3, rows),
        "ue_speed_mps_mean_10s": random.uniform(0, 30, rows),
        "flow_downlink_mbps_mean_5s": past,
        "flow_downlink_mbps_std_10s": np.abs(random.normal(0, 1, rows)) * past,
        "cell_prb_used_ratio_mean_1m": random.uniform(0, 1, rows),
    }
    frame = pl.DataFrame(
        {
            "task": [task] * rows,
            "ue_id": [f"ue-{number}"] * rows,
            "session_id": [f"session-{number:03}"] * rows,
            "cell_id": [None if number % 7 == 0 else f"cell-{number % 5}"] * rows,
            "five_qi": [9 if number % 3 else 1] * rows,
            "event_timestamp": times,
            "requested_downlink_mbps": [10.0] * rows,
            "requested_delay_ms": [None] * rows,
            "requested_loss_ratio": [None] * rows,
            "label": (future >= 10).astype(np.int8),
            "label_value": future if task == "throughput" else [None] * rows,
            "persistence_score": past,
            "persistence_value": past,
            "label_until": [time + timedelta(seconds=10) for time in times],
        }
        | columns,
        schema_overrides={
            "cell_id": pl.String, "label_value": pl.Float64, "label": pl.Int8,
            "requested_delay_ms": pl.Float64, "requested_loss_ratio": pl.Float64,
            "event_timestamp": pl.Datetime("us", "UTC"), "label_until": pl.Datetime("us", "UTC"),
        },
    )  # fmt: skip
    unknown = random.uniform(size=rows) < 0.1
    return frame.with_columns(
        pl.when(~pl.Series(unknown))
        .then(pl.col("ue_sinr_db_mean_10s"))
        .alias("ue_sinr_db_mean_10s")
    )


def write_services(path: Path, catalog_hash: str = CATALOG_HASH) -> Path:
    """A services file that names the frame's features."""
    service = {"features": FEATURES, "radio": RADIO, "catalog_hash": catalog_hash}
    path.write_text(json.dumps({"qos_v1": service}), encoding="utf-8")
    return path
