"""A FeatureService compiled once for reading: what to ask the store for, and how answers are named."""

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import mmh3
import numpy as np
from feast import FeatureStore, FeatureView
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.protos.feast.types.Value_pb2 import ValueType as Kind
from feast.types import FeastType
from feast.utils import _get_online_request_context, _parse_feature_ref

from stores.decode import NUMERIC

_HEAD = struct.Struct("<II")
_INT64 = struct.Struct("<IIq")
_INT32 = struct.Struct("<IIi")


class BadRequest(ValueError):
    """Entities that cannot be asked for; says which column, which row and what is allowed."""


@dataclass(frozen=True)
class Column:
    """A stored feature: where its answer stands and how it is called."""

    name: str
    view: str
    feature: str
    dtype: FeastType


@dataclass(frozen=True)
class ViewPlan:
    """A view's part of a read.

    name: as requests call it; stored_name: in the store, with its version; ttl_us: None is without
    end; key: the place of its entity in the plan.
    """

    name: str
    stored_name: str
    columns: tuple[Column, ...]
    ttl_us: int | None
    key: int


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


@dataclass(frozen=True)
class Plan:
    """A compiled read. names: the answer's features in the service's order."""

    project: str
    names: tuple[str, ...]
    keys: tuple[KeyPlan, ...]
    views: tuple[ViewPlan, ...]
    request: tuple[tuple[str, FeastType], ...]
    transforms: tuple[OnDemandFeatureView, ...]
    refs: tuple[str, ...]
    full_names: bool

    @cached_property
    def views_of(self) -> tuple[tuple[ViewPlan, ...], ...]:
        """The views of each entity."""
        return tuple(
            tuple(view for view in self.views if view.key == key) for key in range(len(self.keys))
        )

    @cached_property
    def columns_of(self) -> tuple[tuple[Column, ...], ...]:
        """The stored features of each entity, view by view."""
        return tuple(tuple(c for view in views for c in view.columns) for views in self.views_of)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """How many stored features each entity has."""
        return tuple(len(columns) for columns in self.columns_of)

    @cached_property
    def homes(self) -> dict[str, tuple[int, int]]:
        """A stored feature's entity and its place among the entity's features."""
        return {
            column.name: (entity, place)
            for entity, columns in enumerate(self.columns_of)
            for place, column in enumerate(columns)
        }

    @cached_property
    def stored_places(self) -> Any:
        """Of each answered feature: its place among all stored ones; -1 of a computed one."""
        order = {name: place for place, name in enumerate(self.homes)}
        return np.array([order.get(name, -1) for name in self.names], np.int64)

    @cached_property
    def view_places(self) -> Any:
        """Of each answered feature: its view's place, entity by entity; past the last if computed."""
        ordered = [view for views in self.views_of for view in views]
        of = {column.name: n for n, view in enumerate(ordered) for column in view.columns}
        return np.array([of.get(name, len(ordered)) for name in self.names], np.int64)

    @cached_property
    def in_order(self) -> bool:
        """Whether the answered features are all stored ones, in their order."""
        return self.names == tuple(self.homes)

    @cached_property
    def no_numbers(self) -> tuple[str, ...]:
        """The answered features that are no numbers, with their types."""
        types = {c.name: c.dtype for view in self.views for c in view.columns}
        types |= self.computed_types
        kinds = {name: str(types[name].to_value_type().name) for name in self.names}
        return tuple(f"{name} ({kind})" for name, kind in kinds.items() if kind not in NUMERIC)

    @cached_property
    def computed_types(self) -> dict[str, FeastType]:
        """The types of the features of the on-demand views, by their answered names."""
        return {
            _output_name(f"{title_of(view.projection)}:{field.name}", self.full_names): field.dtype
            for view in self.transforms
            for field in view.features
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what was compiled: changes with any definition that a read depends on."""
        functions = [str(view.to_proto().spec) for view in self.transforms]
        facts = (self.project, self.names, self.keys, self.views, self.request, self.refs)
        return hashlib.sha256(repr((facts, functions)).encode()).hexdigest()

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """The columns that a request must bring: join keys, then request data."""
        keys = [name for key in self.keys for name in key.asked if name != DUMMY_ENTITY_ID]
        return tuple(dict.fromkeys([*keys, *(name for name, _ in self.request)]))


def compile_features(
    store: FeatureStore, features: str | Sequence[str], full_feature_names: bool
) -> Plan:
    """The plan of a FeatureService by name, or of a list of `view:feature` refs.

    Raises Feast's own errors for what is not registered, ValueError for what cannot be compiled.
    """
    asked = store.get_feature_service(features) if isinstance(features, str) else list(features)
    context = _get_online_request_context(store.registry, store.project, asked, full_feature_names)
    refs, on_demand, _, _, _, grouped, _, request_names, _ = context
    order = {ref: place for place, ref in enumerate(refs)}
    keys: dict[KeyPlan, int] = {}
    views = []
    entities = {e.name: e for e in store.registry.list_entities(store.project, allow_cache=True)}
    for view, wanted in grouped:
        key = _key_plan(view, entities)
        place = keys.setdefault(key, len(keys))
        title = title_of(view.projection)
        wanted = sorted(wanted, key=lambda f: (order.get(f"{title}:{f}", len(order)), f))
        views.append(_view_plan(store, view, wanted, place, full_feature_names))
    for view in on_demand:
        if view.aggregations:
            raise ValueError(f"{view.name}: aggregations at read time cannot be compiled")
    transforms = tuple(view for view in on_demand if not view.write_to_online_store)
    types = {
        name: dtype
        for view in transforms
        for source in view.source_request_sources.values()
        for name, dtype in ((field.name, field.dtype) for field in source.schema)
    }
    return Plan(
        project=store.project,
        names=tuple(_output_name(ref, full_feature_names) for ref in refs),
        keys=tuple(keys),
        views=tuple(views),
        request=tuple((name, types[name]) for name in sorted(request_names)),
        transforms=transforms,
        refs=tuple(refs),
        full_names=full_feature_names,
    )


def field_hash(view: str, feature: str) -> bytes:
    """The field of a feature in an entity's Redis hash."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def title_of(projection: Any) -> str:
    """What requests call a view: its alias, else its name, with the version asked for."""
    return str(projection.name_to_use())


def _output_name(ref: str, full: bool) -> str:
    view, version, feature = _parse_feature_ref(ref)
    if not full:
        return str(feature)
    return f"{view}__{feature}" if version is None else f"{view}@v{version}__{feature}"


def _view_plan(
    store: FeatureStore, view: FeatureView, wanted: Sequence[str], key: int, full: bool
) -> ViewPlan:
    title = title_of(view.projection)
    types = {field.name: field.dtype for field in [*view.features, *view.projection.features]}
    versioned = store.config.registry.enable_online_feature_view_versioning
    ttl = getattr(view, "ttl", None)
    return ViewPlan(
        name=title,
        stored_name=compute_versioned_name(view, versioned),
        columns=tuple(
            Column(f"{title}__{name}" if full else name, title, name, types[name])
            for name in wanted
        ),
        ttl_us=int(ttl.total_seconds() * 1_000_000) if ttl else None,
        key=key,
    )


def _key_plan(view: FeatureView, entities: Mapping[str, Any]) -> KeyPlan:
    kinds = {field.name: field.dtype.to_value_type().name for field in view.entity_columns}
    names = [
        DUMMY_ENTITY_ID if entity not in entities else entities[entity].join_key
        for entity in view.entities
    ]
    join_keys = tuple(sorted(names or [DUMMY_ENTITY_ID]))
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
