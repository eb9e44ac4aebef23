"""The point-in-time join in two loops: slow, obvious, and right."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

Row = Mapping[str, Any]


def join(
    entities: Sequence[Row],
    features: Sequence[Row],
    keys: Sequence[str],
    ttl: timedelta | None,
    *,
    as_known_at: bool,
) -> list[Row | None]:
    """For each entity row the feature row that it sees, or None. Times are `at`, `event`, `created`."""
    return [_seen(entity, features, keys, ttl, as_known_at=as_known_at) for entity in entities]


def _seen(
    entity: Row,
    features: Sequence[Row],
    keys: Sequence[str],
    ttl: timedelta | None,
    *,
    as_known_at: bool,
) -> Row | None:
    best: Row | None = None
    for feature in features:
        if any(entity[key] is None or entity[key] != feature[key] for key in keys):
            continue
        if entity["at"] is None or feature["event"] is None or feature["event"] > entity["at"]:
            continue
        if as_known_at and feature["created"] is not None and feature["created"] > entity["at"]:
            continue
        if best is None or _order(feature) >= _order(best):
            best = feature
    if best is not None and ttl and best["event"] < entity["at"] - ttl:
        return None
    return best


def _order(feature: Row) -> tuple[datetime, bool, datetime]:
    created = feature["created"]
    return feature["event"], created is not None, created or feature["event"]
