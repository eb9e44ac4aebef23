"""The keys of a read: join keys as Feast's entity key holds them (serialisation v3)."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from feast import FeatureView
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.protos.feast.types.Value_pb2 import ValueType as Kind

_HEAD = struct.Struct("<II")
_INT64 = struct.Struct("<IIq")
_INT32 = struct.Struct("<IIi")


class BadRequest(ValueError):
    """Entities that cannot be asked for; says which column, which row and what is allowed."""


@dataclass(frozen=True)
class KeyPlan:
    """The key of one entity: stored join keys (sorted), the request's columns and their types."""

    join_keys: tuple[str, ...]
    asked: tuple[str, ...]
    kinds: tuple[str, ...]
    prefix: bytes

    def encode(self, entities: Mapping[str, Sequence[Any]], rows: int) -> list[bytes]:
        """Feast's entity key (serialisation v3), one a row.

        Raises BadRequest: a missing column, a null or a value of another type.
        """
        prefix = self.prefix
        if self.asked == (DUMMY_ENTITY_ID,):
            return [prefix + _encoded("", "STRING", DUMMY_ENTITY_VAL, 0)] * rows
        parts = [
            encode_values(name, kind, entities[name])
            for name, kind in zip(self.asked, self.kinds, strict=True)
        ]
        if len(parts) == 1:
            return [prefix + part for part in parts[0]]
        return [prefix + b"".join(row) for row in zip(*parts, strict=True)]


def join_keys_of(view: Any, entities: Mapping[str, Any]) -> tuple[str, ...]:
    """The stored join keys of a view, sorted; `entities`: the registry's, by name."""
    names = [
        DUMMY_ENTITY_ID if entity not in entities else entities[entity].join_key
        for entity in view.entities or []
    ]
    return tuple(sorted(names or [DUMMY_ENTITY_ID]))


def key_plan(view: FeatureView, entities: Mapping[str, Any]) -> KeyPlan:
    """How a view\'s entity is encoded. Raises `ValueError` for a key type that Feast cannot encode."""
    kinds = {field.name: field.dtype.to_value_type().name for field in view.entity_columns}
    join_keys = join_keys_of(view, entities)
    for name in join_keys:
        kinds.setdefault(name, "STRING")
        if kinds[name] not in _ENCODERS:
            raise ValueError(
                f"{view.name}: join key {name} is {kinds[name]}; a key is one of {list(_ENCODERS)}"
            )
    return KeyPlan(
        join_keys=join_keys,
        asked=tuple(view.projection.join_key_map.get(name, name) for name in join_keys),
        kinds=tuple(kinds[name] for name in join_keys),
        prefix=serialize_entity_key_prefix(list(join_keys)),
    )


def encode_values(name: str, kind: str, values: Sequence[Any]) -> list[bytes]:
    """The values of one join key as Feast's entity key holds them. Raises BadRequest."""
    encode = _ENCODERS[kind]
    items = values.tolist() if isinstance(values, np.ndarray) else values
    try:
        return [encode(value) for value in items]
    except (TypeError, ValueError, struct.error, AttributeError):
        for row, value in enumerate(items):
            _encoded(name, kind, value, row)
        raise


def _encoded(name: str, kind: str, value: Any, row: int) -> bytes:
    try:
        return _ENCODERS[kind](value)
    except (TypeError, ValueError, struct.error, AttributeError):
        said = "null" if value is None else f"{value!r} of type {type(value).__name__}"
        raise BadRequest(f"join key {name}: row {row} is {said}; allowed: {kind}") from None


def _int64(value: Any) -> bytes:
    return _INT64.pack(Kind.INT64, 8, value)


def _int32(value: Any) -> bytes:
    return _INT32.pack(Kind.INT32, 4, value)


def _string(value: Any) -> bytes:
    data = str.encode(value)
    return _HEAD.pack(Kind.STRING, len(data)) + data


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError
    return _HEAD.pack(Kind.BYTES, len(value)) + value


def _seconds(value: Any) -> bytes:
    if isinstance(value, datetime):
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
        value = int(aware.timestamp())
    return _INT64.pack(Kind.UNIX_TIMESTAMP, 8, value)


_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "INT64": _int64,
    "INT32": _int32,
    "STRING": _string,
    "BYTES": _bytes,
    "UNIX_TIMESTAMP": _seconds,
}
