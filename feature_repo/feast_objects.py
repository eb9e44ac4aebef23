"""Views and services in Feast's form; with definitions.py the only file that imports Feast."""

import importlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from feast import (
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
    ValueType,
)
from feast.transformation.pandas_transformation import PandasTransformation
from feast.types import Float64, Int64, String

from feature_repo.services import Service
from feature_repo.views import VIEWS
from feature_repo.windows import Feature, OnDemandView, StaticView, View
from schemas.errors import QosError, listed

FEATURES = "../data/features"  # from this folder; one folder of Parquet files a view
_VALUE_TYPES = {
    "ue_id": ValueType.STRING,
    "cell_id": ValueType.STRING,
    "five_qi": ValueType.INT64,
}
_FIELD_TYPES = {"ue_id": String, "cell_id": String, "five_qi": Int64}


class UncomputedFieldError(QosError):
    """A Feast Field that no window or function computes."""


def entity(name: str, join_key: str, description: str) -> Entity:
    """An entity by its one join key."""
    return Entity(
        name=name,
        join_keys=[join_key],
        value_type=_VALUE_TYPES[join_key],
        description=description,
    )


def field(feature: Feature) -> Field:
    """Name, Float64, description, and tags: unit, low, high, source, op, span, column."""
    tags = {
        "unit": feature.unit,
        "low": _text(feature.low),
        "high": _text(feature.high),
        "source": feature.source,
        "column": feature.column,
        "op": feature.op,
        "span": feature.span or "-",
    }
    return Field(
        name=feature.name,
        dtype=Float64,
        description=f"{feature.description} [{feature.unit}]",
        tags=tags,
    )


def _text(bound: float | None) -> str:
    return "unbounded" if bound is None else f"{bound:g}"


def feature_view(view: View | StaticView, *entities: Entity) -> FeatureView:
    """The view over its Parquet folder, with arrival as Feast's created time."""
    return FeatureView(
        name=view.name,
        description=view.description,
        entities=list(entities),
        ttl=view.ttl if isinstance(view, View) else timedelta(0),
        schema=[
            *(Field(name=key, dtype=_FIELD_TYPES[key]) for key in view.keys),
            *(field(feature) for feature in view.features()),
        ],
        source=FileSource(
            name=f"{view.name}_source",
            path=f"{FEATURES}/{view.name}",
            timestamp_field="event_timestamp",
            created_timestamp_column="arrival_timestamp",
            description=f"features of {view.name}, one folder a day",
        ),
        online=True,
        tags={"entity": view.entity},
    )


class _Declared(PandasTransformation):
    """A transformation whose fields are declared: Feast infers bare ones, without unit or text, and
    takes declared ones for missing."""

    schema: list[Field]

    def infer_features(
        self, random_input: dict[str, Any], *args: Any, **kwargs: Any
    ) -> list[Field]:
        """The declared fields."""
        return self.schema


def on_demand_feature_view(
    view: OnDemandView, sources: Iterable[FeatureView]
) -> OnDemandFeatureView:
    """The view as a pandas-mode transformation over the sources and the request's fields."""
    schema = [field(feature) for feature in view.features()]
    module, name = view.on_frame.rsplit(".", 1)
    function = getattr(importlib.import_module(module), name)
    # Feast runs this text when it reads the registry; it names the function and holds no code.
    text = f"from {module} import {name}\n"
    transformation = _Declared(udf=function, udf_string=text)
    transformation.schema = schema
    return OnDemandFeatureView(
        name=view.name,
        description=view.description,
        schema=schema,
        sources=[
            *sources,
            RequestSource(
                name=f"{view.name}_request",
                schema=[Field(name=name, dtype=Float64) for name in view.request],
                description="what the application asks for",
            ),
        ],
        feature_transformation=transformation,
        mode="pandas",
    )


def feature_service(service: Service, views: Mapping[str, Any]) -> FeatureService:
    """The service over whole views, in the service's order."""
    made = FeatureService(
        name=service.name,
        description=service.description,
        features=[views[name] for name in service.views],
    )
    for projection in made.feature_view_projections:
        if isinstance(views[projection.name], OnDemandFeatureView):
            # Feast 0.67 reads on-demand fields back without their tags and then finds that the
            # service's tagged ones are others.
            projection.features = [Field(name=f.name, dtype=f.dtype) for f in projection.features]
    return made


def check_computed(views: Iterable[Any]) -> None:
    """Raises `UncomputedFieldError` naming each field that no declared feature computes."""
    computed = {(feature.view, feature.name) for view in VIEWS for feature in view.features()}
    for view in views:
        keys = set(getattr(view, "join_keys", ()))
        strays = [
            f.name
            for f in view.features
            if (view.name, f.name) not in computed and f.name not in keys
        ]
        if strays:
            raise UncomputedFieldError(
                f"feature_repo/definitions.py: {view.name}: {len(strays)} fields that no window or "
                f"function computes: {listed(strays)}; declare them in feature_repo/views/"
            )
