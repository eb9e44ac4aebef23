"""Which keys an online request may ask for."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
from feast import FeatureService, ValueType, utils
from feast.infra.registry.base_registry import BaseRegistry

_TAKEN: dict[ValueType, tuple[type, ...]] = {
    ValueType.INT32: (int, np.integer),
    ValueType.INT64: (int, np.integer),
    ValueType.STRING: (str,),
    ValueType.BYTES: (bytes, bytearray),
    ValueType.UNIX_TIMESTAMP: (datetime, date, np.datetime64, int, np.integer),
    ValueType.UUID: (str, uuid.UUID),
    ValueType.BOOL: (bool, np.bool_),
}


def check_request(
    entity_rows: Sequence[Mapping[str, Any]] | Mapping[str, Any],
    features: list[str] | FeatureService,
    registry: BaseRegistry,
    project: str,
    full_feature_names: bool,
) -> None:
    """Raises `ValueError` for a key that is null or of another type than its entity's.

    Feast makes 1 of True and of 1.5, and finds nothing under b"a" where "a" is meant.
    """
    if not isinstance(entity_rows, Mapping):
        if not entity_rows:
            raise ValueError("entity_rows is empty: ask for one row or more")
        if not entity_rows[0]:
            raise ValueError("row 0 of the request names no key")
        entity_rows = {name: [row.get(name) for row in entity_rows] for name in entity_rows[0]}
    context = utils._get_cached_request_context(registry, project, features, full_feature_names)
    for name, kind in context[3].items():
        taken = _TAKEN.get(kind)
        values = entity_rows.get(name)
        if taken is None or not isinstance(values, Sequence):
            continue
        for row, value in enumerate(values):
            if isinstance(value, taken) and (bool in taken or not isinstance(value, bool)):
                continue
            if hasattr(value, "WhichOneof"):
                continue
            what = "null" if value is None else f"{type(value).__name__} {value!r}"
            raise ValueError(f"key {name!r} is {what} in row {row} of the request, not {kind.name}")
