"""The routes of work that takes longer: training, collecting, and the jobs of both."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as InPath

from serving.captures import (
    COLLECTION_MARGIN_S,
    UnknownCapture,
    capture_of,
)
from serving.inline import inlined
from serving.intake import Intake
from serving.job_files import Job
from serving.jobs import Jobs, QueueFull, UnknownJob
from serving.messages.jobs import CollectRequest, JobReply, JobsReply
from serving.models_api import Guard
from serving.problems import MEDIA, Problem, checked, problem_responses, read_body
from serving.registered import name_and_version
from serving.samples import TrainRequest
from serving.state import service_of

SMALL = 1 << 16  # bytes; such a body is checked at once, a longer one by a process
_LOOK_S = 0.1
_JOB_ID = r"^[0-9a-f]{26}$"


@dataclass(frozen=True)
class Limits:
    """max_body_bytes: of samples; wait_s: that a training run is waited for before the answer is its
    job; duration_s, interval_s: of a collection, unless asked; captures: the folder for them."""

    max_body_bytes: int = 50 << 20
    wait_s: float = 25.0
    duration_s: float = 60.0
    interval_s: float = 1.0
    captures: Path = Path("data/serving/captures")
    registry_uri: str | None = None
    params: dict[str, Any] | None = None  # sections of params.yaml that every run changes


def training_router(
    jobs: Jobs, intake: Intake, limits: Limits, guard: Guard | None = None
) -> APIRouter:
    """The routes; guard: see `models_router`; training asks for the role train, collecting for data."""
    router = APIRouter(tags=["training"])
    asks: dict[str, Sequence[Any]] = dict.fromkeys(("train", "later", "collect", "look"), ())
    if guard is not None:
        asks = {
            "train": [Depends(guard("train"))],
            "later": [Depends(guard("train", "train_async"))],
            "collect": [Depends(guard("data", "collect"))],
            "look": [Depends(guard("train", "default"))],
        }
    wrong = problem_responses(400, 404, 413, 415, 422, 429, 503)
    takes = {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": inlined(TrainRequest.model_json_schema())}},
        }
    }

    @router.post(
        "/api/train", summary="Train and wait", response_model=JobReply, dependencies=asks["train"],
        responses=wrong | {202: {"model": JobReply, "description": "It takes longer; ask the job"}},
        openapi_extra=takes,
    )  # fmt: skip
    async def train(request: Request) -> Response:
        """200 with a challenger that gains over persistence; 422 with the evidence where data or gain
        do not suffice; 202 with the job where it takes longer than is waited for."""
        job = await _train(request, jobs, intake, limits)
        until = asyncio.get_running_loop().time() + limits.wait_s
        while not job.done and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(_LOOK_S)
            job = jobs.get(job.id)
        if not job.done:
            return _job(job, 202)
        return _job(job) if job.state == "succeeded" else _not_trained(job)

    @router.post(
        "/api/train-async", summary="Train as a job", status_code=202, response_model=JobReply,
        dependencies=asks["later"], responses=wrong, openapi_extra=takes,
    )  # fmt: skip
    async def train_async(request: Request) -> Response:
        """202 with the job; `GET /api/jobs/{id}` tells how it stands."""
        return _job(await _train(request, jobs, intake, limits), 202)

    @router.post(
        "/api/collect-data", summary="Collect from the NEF", status_code=202,
        response_model=JobReply, dependencies=asks["collect"], responses=wrong,
        openapi_extra={"requestBody": {"required": True, "content": {
            "application/json": {"schema": inlined(CollectRequest.model_json_schema())}}}},
    )  # fmt: skip
    async def collect_data(request: Request) -> Response:
        """202 with the job, whose result counts samples and names the capture."""
        asked = checked(CollectRequest, await read_body(request, SMALL))
        if service_of(request).breakers.is_open("nef"):
            raise Problem(503, [("nef", "it is left alone after failures")], {"Retry-After": "60"})
        duration_s = asked.duration_s or limits.duration_s
        content = {
            "duration_s": duration_s,
            "interval_s": asked.interval_s or limits.interval_s,
            "ue_ids": asked.ue_ids,
            "captures": str(limits.captures.absolute()),
        }
        files = {"request.json": orjson.dumps(content)}
        most_s = duration_s + COLLECTION_MARGIN_S
        return _job(await _submit(jobs, "collect", files, most_s=most_s), 202)

    @router.get(
        "/api/jobs", summary="All jobs", response_model=JobsReply, dependencies=asks["look"]
    )
    async def all_jobs() -> Response:
        """Those that are remembered."""
        return _json({"jobs": [_content(job) for job in jobs.list()]})

    @router.get(
        "/api/jobs/{job_id}", summary="How a job stands", response_model=JobReply,
        dependencies=asks["look"], responses=problem_responses(404, 422),
    )  # fmt: skip
    async def job_state(job_id: str = InPath(pattern=_JOB_ID)) -> Response:
        """404 for an unknown or forgotten one."""
        return _job(_known(jobs, job_id))

    @router.delete(
        "/api/jobs/{job_id}", summary="Cancel a job", status_code=202, response_model=JobReply,
        dependencies=asks["look"], responses=problem_responses(404, 409, 422),
    )  # fmt: skip
    async def cancel(job_id: str = InPath(pattern=_JOB_ID)) -> Response:
        """Ends all its processes; nothing that it made by half stays. 409 for one that has ended."""
        if _known(jobs, job_id).done:
            raise Problem(409, [("job_id", f"the job has ended: {jobs.get(job_id).state}")])
        return _job(await asyncio.to_thread(jobs.cancel, job_id), 202)

    return router


async def _train(request: Request, jobs: Jobs, intake: Intake, limits: Limits) -> Job:
    service = service_of(request)
    body = await read_body(request, limits.max_body_bytes)
    source: str | None = None
    capture = after = None
    if len(body) <= SMALL:
        asked = checked(TrainRequest, body)
        source = asked.source
        if source == "nef":
            try:
                capture, after = capture_of(asked.capture, jobs, limits.captures)
            except UnknownCapture as error:
                raise Problem(404, [("capture", str(error))]) from None
        found: dict[str, Any] = {"account": None, "tasks": asked.tasks, "seed": asked.seed}
    files: dict[str, bytes] = {}
    if source is None:
        found, frame = await intake.read(body)
        files["frame.parquet"] = frame
    live = service.live
    content = {
        "source": source,
        "capture": capture,
        "captures": str(limits.captures.absolute()),
        "tasks": found["tasks"],
        "seed": found["seed"],
        "account": found["account"],
        "name": name_and_version(live.version, live.bundle)[0] if "/" in live.version else "qos",
        "registry_uri": limits.registry_uri,
        "params": limits.params or {},
    }
    files["request.json"] = orjson.dumps(content)
    return await _submit(jobs, "train", files, after=after)


async def _submit(
    jobs: Jobs,
    kind: str,
    files: dict[str, bytes],
    after: str | None = None,
    most_s: float | None = None,
) -> Job:
    try:
        return await asyncio.to_thread(jobs.submit, kind, files, after, most_s)
    except QueueFull as error:
        raise Problem(429, [("jobs", str(error))], {"Retry-After": "30"}) from None


def _known(jobs: Jobs, job_id: str) -> Job:
    try:
        return jobs.get(job_id)
    except UnknownJob:
        raise Problem(404, [("job_id", "no such job, or forgotten")]) from None


def _not_trained(job: Job) -> Response:
    """422 for a refusal, 503 for a failure; `job` bears the evidence."""
    status = 422 if job.state == "refused" else 503
    told = job.error or job.state
    body = {
        "type": "about:blank",
        "title": "Not trained",
        "status": status,
        "detail": told,
        "errors": [{"place": "train", "reason": told}],
        "job": _content(job),
    }
    return Response(orjson.dumps(body), status, media_type=MEDIA)


def _content(job: Job) -> dict[str, Any]:
    return JobReply.model_validate(job, from_attributes=True).model_dump(mode="json")


def _job(job: Job, status: int = 200) -> Response:
    return _json(_content(job), status)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
