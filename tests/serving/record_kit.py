"""Records without a model, and ids of chosen times."""

import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np

from serving.record import SCORES, DecisionRecord

NOON = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()) * 1_000_000
SECOND, DAY = 1_000_000, 86_400_000_000


def id_at(us: int, chance: int = 0) -> str:
    """The decision id of a time."""
    return str(uuid.UUID(int=(us // 1000) << 80 | 7 << 76 | 2 << 62 | chance))


def made(us: int = NOON, chance: int = 0, cells: int = 2, **changed: Any) -> DecisionRecord:
    """A record of two views and three features; cells 0: nothing was scored."""
    drawn = np.random.default_rng(chance)
    vectors = drawn.normal(size=(cells, 3)) if cells else np.empty((0, 0))
    vectors[::2, 1:2] = np.nan
    content: dict[str, Any] = {
        "decision_id": id_at(us, chance), "decided_us": us, "ue_id": f"ue-{chance:020x}",
        "five_qi": 9, "service_class": "embb", "priority": 3, "requested_downlink_mbps": 10.0,
        "requested_delay_ms": 50.0, "requested_loss_ratio": None, "requested_jitter_ms": None,
        "connected_to": None, "cells": tuple(f"cell-{n}" for n in range(max(cells, 1))),
        "chosen_cell": "cell-0", "decision": "apply", "reason": "best_cell",
        "required_confidence": 0.6, "observed_confidence": 0.7, "model_version": "qos/1",
        "model_digest": "ab" * 32, "service": "qos_v1", "catalog_hash": "0" * 16,
        "request": "{}", "overrides": {"b": 2.5}, "clock_us": us if cells else None,
        "views": ("one", "two"),
        "event_us": np.full((cells, 2 if cells else 0), us - 5, np.int64),
        "view_status": np.ones((cells, 2 if cells else 0), np.uint8), "vectors": vectors,
        "statuses": np.ones(vectors.shape, np.uint8),
        "scores": drawn.random((cells, len(SCORES) if cells else 0)),
    }  # fmt: skip
    return DecisionRecord(**(content | changed))


def same(one: DecisionRecord, other: DecisionRecord) -> bool:
    """Equal in every field, NaN being equal to NaN."""
    for name, value in one.__dict__.items():
        there = getattr(other, name)
        if isinstance(value, np.ndarray):
            if value.dtype != there.dtype or not np.array_equal(
                value, there, equal_nan=value.dtype == np.float64
            ):
                return False
        elif value != there:
            return False
    return True
