"""The JSON of Feast's `POST /get-online-features`: what is asked, what is refused, what is answered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from feast.errors import FeastError, FeastObjectNotFoundException

from stores.decode import UnreadableValue
from stores.keys import BadRequest
from stores.redis_server import OnlineStoreAway, OnlineStoreRefuses

FLAGS = ("full_feature_names", "include_feature_view_version_metadata")
KNOWN = ("entities", "feature_service", "features", *FLAGS)


class Refused(Exception):
    """A request that is answered with an error. status: of HTTP; body: JSON of one sentence."""

    def __init__(self, status: int, why: str, body: bytes | None = None):
        super().__init__(why)
        self.status, self.body = status, body or detail(why)


@dataclass(frozen=True)
class Asked:
    """A request. features: a service's name, or refs `view:feature`; rows: entities asked for."""

    features: str | tuple[str, ...]
    full_feature_names: bool
    versions: bool
    entities: dict[str, list[Any]]
    rows: int


def parse(body: bytes, max_rows: int) -> Asked:
    """The request in a body. Raises Refused: 422 for another shape, 413 for too many rows."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as why:
        raise Refused(422, f"the body is no JSON: {why}") from None
    if not isinstance(found, dict):
        raise Refused(
            422, f"the body is a {_kind(found)}; wanted an object with {', '.join(KNOWN)}"
        )
    entities = found.get("entities")
    if not isinstance(entities, dict):
        raise Refused(
            422, f"entities is {_kind(entities)}; wanted an object of lists, one a column"
        )
    for name, column in entities.items():
        if not isinstance(column, list):
            raise Refused(422, f"entities.{name} is {_kind(column)}; wanted a list of values")
    lengths = {name: len(column) for name, column in entities.items()}
    rows = max(lengths.values(), default=0)
    if len(set(lengths.values())) > 1:
        raise Refused(422, f"entities has columns of different lengths: {lengths}")
    if rows > max_rows:
        raise Refused(413, f"entities has {rows} rows; at most {max_rows} in one request")
    for flag in FLAGS:
        if not isinstance(found.get(flag, False), bool):
            raise Refused(422, f"{flag} is {_kind(found[flag])}; wanted true or false")
    return Asked(
        features=_features(found.get("feature_service"), found.get("features")),
        full_feature_names=found.get("full_feature_names", False),
        versions=found.get("include_feature_view_version_metadata", False),
        entities=entities,
        rows=rows,
    )


def _features(service: Any, features: Any) -> str | tuple[str, ...]:
    if isinstance(service, str) and service:
        return service
    if service is not None and not isinstance(service, str):
        raise Refused(422, f"feature_service is {_kind(service)}; wanted a name")
    if not isinstance(features, list) or not all(isinstance(ref, str) for ref in features):
        if features is None:
            raise Refused(422, "neither feature_service nor features is given; wanted one of them")
        raise Refused(422, f"features is {_kind(features)}; wanted a list of view:feature")
    if not features:
        raise Refused(422, "neither feature_service nor features is given; wanted one of them")
    for ref in features:
        if ":" not in ref:
            raise Refused(422, f"features: {ref!r} is no view:feature")
    return tuple(features)


def _kind(value: Any) -> str:
    if value is None:
        return "missing"
    kinds = {dict: "object", list: "list", str: "string", bool: "boolean"}
    return kinds.get(type(value), "number")


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "DOUBLE": (int, float),
    "FLOAT": (int, float),
    "INT64": (int,),
    "INT32": (int,),
    "BOOL": (bool,),
    "STRING": (str,),
}


def check(name: str, kind: str, column: list[Any]) -> None:
    """Raises Refused where request data is not of its declared type; null is of every type."""
    allowed = _JSON_TYPES.get(kind)
    if allowed is None:
        return
    for row, value in enumerate(column):
        right = isinstance(value, allowed) and (kind == "BOOL" or not isinstance(value, bool))
        if value is not None and not right:
            said = f"{value!r:.50} of type {type(value).__name__}"
            raise Refused(400, f"request data {name}: row {row} is {said}; allowed: {kind}")


def refusal_of(error: Exception) -> Refused | None:
    """The refusal that an error stands for; None: it is a fault of the server's own.

    Feast's own errors have Feast's own body, which its clients turn back into the exception.
    """
    if isinstance(error, FeastError):
        status = 404 if isinstance(error, FeastObjectNotFoundException) else 400
        return Refused(status, str(error), orjson.dumps(error.to_error_detail()))
    if isinstance(error, BadRequest):
        return Refused(400, str(error))
    if isinstance(error, OnlineStoreAway | OnlineStoreRefuses):
        return Refused(503, str(error))
    if isinstance(error, TimeoutError):
        return Refused(504, "no answer in time")
    if isinstance(error, UnreadableValue):
        return Refused(500, str(error))
    return None


def detail(why: str) -> bytes:
    """A body of one sentence."""
    return orjson.dumps({"detail": why})


def response(results: Sequence[Any], metadata: dict[str, Any]) -> bytes:
    """The body of an answer: results, one a name, of values, statuses and event_timestamps."""
    return orjson.dumps(
        {"results": results, "metadata": metadata}, option=orjson.OPT_SERIALIZE_NUMPY
    )


def feast_body(found: dict[str, Any]) -> bytes:
    """The body of an answer that Feast itself made."""
    try:
        return orjson.dumps(found)
    except TypeError:  # integers past 64 bits
        return json.dumps(found).encode()
