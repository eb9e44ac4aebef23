"""The Open Inference Protocol v2 (KServe, Triton) on the live model, with its binary extension."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ValidationError

from schemas.nef.wire import faults_of
from serving.inline import inlined
from serving.live import Live
from serving.models_api import Guard
from serving.oip import (
    MATRIX,
    BadTensor,
    InferReply,
    InferRequest,
    answers,
    matrix_of,
    output_names,
)
from serving.ready import Readiness, is_ready
from serving.registered import name_and_version
from serving.state import service_of

NAME, VERSION = "qos-decision", "1"
HEADER = "Inference-Header-Content-Length"
EXTENSIONS = ["binary_tensor_data"]
BINARY = "application/octet-stream"


class OipError(BaseModel):
    """What the protocol says of an error."""

    error: str


class OipServer(BaseModel):
    """What serves."""

    name: str
    version: str
    extensions: list[str]


class OipLive(BaseModel):
    """It answers."""

    live: bool


class OipReady(BaseModel):
    """Whether it should get traffic."""

    ready: bool


class OipModelReady(BaseModel):
    """Whether a model is loaded."""

    name: str
    ready: bool


class TensorAbout(BaseModel):
    """Datatype and shape of an input or output; -1 is any number of rows."""

    name: str
    datatype: str
    shape: list[int]


class OipModel(BaseModel):
    """What a model takes and gives; parameters: `features`, its columns in order."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorAbout]
    outputs: list[TensorAbout]
    parameters: dict[str, str]


_BYTES = {"type": "string", "format": "binary"}
_TAKES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": inlined(InferRequest.model_json_schema())},
            BINARY: {"schema": _BYTES},
        },
    }
}
_WRONG: dict[int | str, dict[str, Any]] = {
    status: {"model": OipError, "description": told}
    for status, told in (
        (400, "Not what the model takes"), (413, "Too long"), (415, "Neither JSON nor bytes"),
    )
}  # fmt: skip


class _Refused(Exception):
    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status, self.told = status, told

    def response(self) -> Response:
        return _json({"error": self.told}, self.status)


def oip_router(
    readiness: Readiness, max_body_bytes: int = 50 << 20, guard: Guard | None = None
) -> APIRouter:
    """The routes; guard: see `models_router`, inference asks for the role predict."""
    router = APIRouter(prefix="/v2", tags=["open inference protocol"])
    asks: Sequence[Any] = [] if guard is None else [Depends(guard("predict"))]
    unknown: dict[int | str, dict[str, Any]] = {
        404: {"model": OipError, "description": "No such model or version"}
    }
    told: dict[str, Any] = {
        "summary": "What it takes and gives", "responses": unknown, "dependencies": asks,
        "response_model": OipModel,
    }  # fmt: skip
    is_loaded: dict[str, Any] = {
        "summary": "Whether it is loaded", "responses": unknown, "response_model": OipModelReady,
    }  # fmt: skip
    given: dict[str, Any] = {
        "summary": "Score rows of features",
        "responses": {200: {"content": {BINARY: {"schema": _BYTES}}}} | unknown | _WRONG,
        "response_model": InferReply,
        "openapi_extra": _TAKES,
        "dependencies": asks,
    }

    @router.get("", summary="What serves", response_model=OipServer)
    async def server() -> Response:
        """Name, version and extensions."""
        return _json({"name": NAME, "version": VERSION, "extensions": EXTENSIONS})

    @router.get("/health/live", summary="Whether it answers", response_model=OipLive)
    async def live() -> Response:
        """As /health/live."""
        return _json({"live": True})

    @router.get(
        "/health/ready", summary="Whether it should get traffic", response_model=OipReady,
        responses={503: {"model": OipReady, "description": "Not ready"}},
    )  # fmt: skip
    async def ready(request: Request) -> Response:
        """As /health/ready."""
        found = is_ready(await readiness.checks(service_of(request)))
        return _json({"ready": found}, 200 if found else 503)

    @router.get("/models/{model}", **told)
    async def metadata(request: Request, model: str) -> Response:
        """Datatypes and shapes; -1 is any number of rows."""
        return _told(request, _metadata, model)

    @router.get("/models/{model}/versions/{version}", **told)
    async def metadata_of_version(request: Request, model: str, version: str) -> Response:
        """Datatypes and shapes; -1 is any number of rows."""
        return _told(request, _metadata, model, version)

    @router.get("/models/{model}/ready", **is_loaded)
    async def model_ready(request: Request, model: str) -> Response:
        """A model that is served is loaded."""
        return _told(request, _loaded, model)

    @router.get("/models/{model}/versions/{version}/ready", **is_loaded)
    async def version_ready(request: Request, model: str, version: str) -> Response:
        """A model that is served is loaded."""
        return _told(request, _loaded, model, version)

    @router.post("/models/{model}/infer", **given)
    async def infer(request: Request, model: str) -> Response:
        """Calibrated probabilities and p10, p50, p90 of every task, in the order asked for."""
        return await _inferred(request, max_body_bytes, model)

    @router.post("/models/{model}/versions/{version}/infer", **given)
    async def infer_of_version(request: Request, model: str, version: str) -> Response:
        """Calibrated probabilities and p10, p50, p90 of every task, in the order asked for."""
        return await _inferred(request, max_body_bytes, model, version)

    return router


def _told(
    request: Request, what: Callable[[Live], dict[str, Any]], model: str, version: str | None = None
) -> Response:
    try:
        return _json(what(_live(request, model, version)))
    except _Refused as refused:
        return refused.response()


async def _inferred(
    request: Request, most: int, model: str, version: str | None = None
) -> Response:
    try:
        return await _infer(request, _live(request, model, version), most)
    except _Refused as refused:
        return refused.response()


async def _infer(request: Request, live: Live, most: int) -> Response:
    header, raw = await _parts(request, most)
    return await asyncio.to_thread(_scored, live, header, raw)


def _scored(live: Live, header: bytes, raw: bytes) -> Response:
    """Blocks for seconds where the rows are many."""
    try:
        asked = InferRequest.model_validate_json(header)
        matrix = matrix_of(asked, raw, live.bundle.features, live.layout.ranges)
    except ValidationError as error:
        told = "; ".join(f"{place}: {why}" for place, why in faults_of(error)[:5])
        raise _Refused(400, told) from None
    except BadTensor as error:
        raise _Refused(400, str(error)) from None
    has = output_names(live.bundle)
    wanted = has if asked.outputs is None else [one.name for one in asked.outputs]
    if unknown := [name for name in wanted if name not in has]:
        raise _Refused(400, f"no output {unknown[0][:64]!r}; the model has {', '.join(has)}")
    found = answers(live.bundle, matrix, list(dict.fromkeys(wanted)))
    name, version = _named(live)
    reply: dict[str, Any] = {"model_name": name, "model_version": version}
    if asked.id is not None:
        reply["id"] = asked.id
    return _reply(reply, asked, found)


def _reply(reply: dict[str, Any], asked: InferRequest, found: dict[str, Any]) -> Response:
    """All as JSON, or the wanted outputs' bytes behind the JSON."""
    by_default = (asked.parameters or {}).get("binary_data_output", False)
    own = {one.name: one.parameters or {} for one in asked.outputs or []}
    outputs: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, values in found.items():
        output: dict[str, Any] = {"name": name, "datatype": "FP64", "shape": [len(values)]}
        if own.get(name, {}).get("binary_data", by_default):
            tail.append(values.astype("<f8").tobytes())
            output["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            output["data"] = values.tolist()
        outputs.append(output)
    header = orjson.dumps(reply | {"outputs": outputs})
    if not tail:
        return Response(header, media_type="application/json")
    return Response(
        b"".join([header, *tail]),
        headers={HEADER: str(len(header))},
        media_type=BINARY,
    )


async def _parts(request: Request, most: int) -> tuple[bytes, bytes]:
    """The JSON header and the bytes behind it."""
    length = request.headers.get(HEADER)
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media and length is not None:
        media = BINARY  # Triton's own client names none
    if media not in ("application/json", BINARY):
        raise _Refused(415, "content-type must be application/json or application/octet-stream")
    if media == BINARY and length is None:
        raise _Refused(400, f"{HEADER} must say how long the JSON is")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise _Refused(413, f"at most {most} bytes are taken")
    if length is None:
        return bytes(body), b""
    if not length.isascii() or not length.isdigit() or int(length) > len(body):
        raise _Refused(400, f"{HEADER}: {length[:32]!r}, the body has {len(body)} bytes")
    return bytes(body[: int(length)]), bytes(body[int(length) :])


def _live(request: Request, model: str, version: str | None) -> Live:
    live = service_of(request).live
    name, number = _named(live)
    if model != name:
        raise _Refused(404, f"no model {model[:64]!r}; {name!r} is served")
    if version is not None and version != number:
        raise _Refused(404, f"no version {version[:64]!r} of {name!r}; {number!r} is served")
    return live


def _named(live: Live) -> tuple[str, str]:
    return name_and_version(live.version, live.bundle)


def _loaded(live: Live) -> dict[str, Any]:
    return {"name": _named(live)[0], "ready": True}


def _metadata(live: Live) -> dict[str, Any]:
    name, version = _named(live)
    features = live.bundle.features
    return {
        "name": name,
        "versions": [version],
        "platform": "lightgbm",
        "inputs": [{"name": MATRIX, "datatype": "FP64", "shape": [-1, len(features)]}],
        "outputs": [
            {"name": one, "datatype": "FP64", "shape": [-1]} for one in output_names(live.bundle)
        ],
        "parameters": {"features": ",".join(features)},
    }


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
