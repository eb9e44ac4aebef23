"""A FeatureService compiled once for reading: what to ask the store for, and how answers are named."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import numpy as np
from feast import FeatureStore, FeatureView
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.types import FeastType
from feast.utils import _get_online_request_context, _parse_feature_ref

from stores.decode import NUMERIC
from stores.keys import KeyPlan, join_keys_of, key_plan

_MICROSECOND = timedelta(microseconds=1)
_TIMES = 2  # fields of a view beside its features: event and created time


@dataclass(frozen=True)
class Column:
    """A stored feature: where its answer stands and how it is called."""

    name: str
    view: str
    feature: str
    dtype: FeastType

    @property
    def ref(self) -> str:
        """view:feature."""
        return f"{self.view}:{self.feature}"


@dataclass(frozen=True)
class Stored:
    """Where a stored feature stands: entity, place in its columns, place in all, place of its view."""

    entity: int
    place: int
    flat: int
    view: int
    column: Column


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
class Plan:
    """A compiled read. names, refs: the answer's features in the service's order.

    held: how many fields the registry's views keep under each entity's key, times included.
    """

    project: str
    names: tuple[str, ...]
    keys: tuple[KeyPlan, ...]
    views: tuple[ViewPlan, ...]
    request: tuple[tuple[str, FeastType], ...]
    transforms: tuple[OnDemandFeatureView, ...]
    refs: tuple[str, ...]
    full_names: bool
    held: tuple[int, ...]

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
    def stored(self) -> dict[str, Stored]:
        """Where each stored feature stands, by its ref, in the order of the entities' columns."""
        columns = [
            (entity, place, view, column)
            for entity, views in enumerate(self.views_of)
            for place, (view, column) in enumerate((v, c) for v in views for c in v.columns)
        ]
        order = {id(view): n for n, view in enumerate(v for views in self.views_of for v in views)}
        return {
            column.ref: Stored(entity, place, flat, order[id(view)], column)
            for flat, (entity, place, view, column) in enumerate(columns)
        }

    @cached_property
    def homes(self) -> dict[str, tuple[int, int]]:
        """An answered stored feature's entity and its place among the entity's columns, by name."""
        return {
            name: (self.stored[ref].entity, self.stored[ref].place)
            for name, ref in zip(self.names, self.refs, strict=True)
            if ref in self.stored
        }

    @cached_property
    def stored_places(self) -> Any:
        """Of each answered feature: its place among all stored ones; -1 of a computed one."""
        found = [self.stored[ref].flat if ref in self.stored else -1 for ref in self.refs]
        return np.array(found, np.int64)

    @cached_property
    def view_places(self) -> Any:
        """Of each answered feature: its view's place, entity by entity; past the last if computed."""
        past = len(self.views)
        found = [self.stored[ref].view if ref in self.stored else past for ref in self.refs]
        return np.array(found, np.int64)

    @cached_property
    def wanted_places(self) -> tuple[tuple[int, ...] | None, ...]:
        """Of each entity: the places of its answered columns; None where all are answered."""
        asked = set(self.refs)
        found = [
            tuple(place for place, column in enumerate(columns) if column.ref in asked)
            for columns in self.columns_of
        ]
        return tuple(
            None if len(places) == width else places
            for places, width in zip(found, self.widths, strict=True)
        )

    @cached_property
    def number_places(self) -> Any:
        """Of each answered feature: its place among the answered stored ones; -1 of a computed one."""
        answered = {ref: n for n, ref in enumerate(r for r in self.stored if r in set(self.refs))}
        return np.array([answered.get(ref, -1) for ref in self.refs], np.int64)

    @cached_property
    def in_order(self) -> bool:
        """Whether the answered features are all stored ones, in their order."""
        return self.refs == tuple(self.stored)

    @cached_property
    def types(self) -> tuple[FeastType, ...]:
        """The types of the answered features."""
        computed = {
            f"{title_of(view.projection)}:{field.name}": field.dtype
            for view in self.transforms
            for field in view.features
        }
        return tuple(
            self.stored[ref].column.dtype if ref in self.stored else computed[ref]
            for ref in self.refs
        )

    @cached_property
    def no_numbers(self) -> tuple[str, ...]:
        """The answered features that are no numbers, with their types."""
        kinds = [str(dtype.to_value_type().name) for dtype in self.types]
        named = zip(self.names, kinds, strict=True)
        return tuple(f"{name} ({kind})" for name, kind in named if kind not in NUMERIC)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what was compiled: changes with any definition that a read depends on."""
        views = [
            (v.name, v.stored_name, v.ttl_us, v.key, [(c.feature, str(c.dtype)) for c in v.columns])
            for v in self.views
        ]
        request = [(name, str(dtype)) for name, dtype in self.request]
        functions = [_definition(view) for view in self.transforms]
        facts = (self.project, self.names, self.refs, self.keys, views, request, functions)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

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
    order = {_canonical(ref): place for place, ref in enumerate(refs)}
    keys: dict[KeyPlan, int] = {}
    views = []
    entities = {e.name: e for e in store.registry.list_entities(store.project, allow_cache=True)}
    for view, wanted in grouped:
        key = key_plan(view, entities)
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
        refs=tuple(_canonical(ref) for ref in refs),
        full_names=full_feature_names,
        held=tuple(_held(store, key.join_keys, entities) for key in keys),
    )


def _definition(view: OnDemandFeatureView) -> Any:
    transformation: Any = view.feature_transformation
    sources = view.source_feature_view_projections.values()
    return (
        title_of(view.projection),
        view.mode,
        view.singleton,
        [(field.name, str(field.dtype)) for field in view.features],
        [(title_of(source), [field.name for field in source.features]) for source in sources],
        getattr(transformation, "udf_string", "") or getattr(transformation, "substrait_plan", b""),
    )


def title_of(projection: Any) -> str:
    """What requests call a view: its alias, else its name, with the version asked for."""
    return str(projection.name_to_use())


def _output_name(ref: str, full: bool) -> str:
    view, version, feature = _parse_feature_ref(ref)
    if not full:
        return str(feature)
    return f"{view}__{feature}" if version is None else f"{view}@v{version}__{feature}"


def _canonical(ref: str) -> str:
    view, version, feature = _parse_feature_ref(ref)
    return f"{view}:{feature}" if version is None else f"{view}@v{version}:{feature}"


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
        ttl_us=ttl // _MICROSECOND if ttl else None,
        key=key,
    )


def _held(store: FeatureStore, join_keys: tuple[str, ...], entities: Mapping[str, Any]) -> int:
    views = store.registry.list_all_feature_views(store.project, allow_cache=True)
    return sum(
        len(view.features) + _TIMES
        for view in views
        if hasattr(view, "entities") and join_keys_of(view, entities) == join_keys
    )
