"""Models, training and inference as one part of the service: made before it, attached when it is there.

part = ModelsPart(PartSettings(...))
app = create_app(settings, parts=part.attach, routers=part.routers)
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from serving.intake import Intake
from serving.job_files import COMMANDS, Job
from serving.jobs import Bounds, Jobs
from serving.models_api import Guard, models_router
from serving.oip_api import oip_router
from serving.ready import Readiness
from serving.registered import Registered
from serving.seen import Seen
from serving.state import Service
from serving.training_api import Limits, training_router

TRAINING_GRACE_S = 20.0  # a registration that has begun is let finish


@dataclass(frozen=True)
class PartSettings:
    """data: folder of jobs and captures; workers, queue, job_s: see `Bounds`; limits: see `Limits`;
    fresh_s: see `Readiness`."""

    data: Path = Path("data/serving")
    workers: int = 1
    queue: int = 16
    job_s: float = 600.0
    niceness: int = 10
    fresh_s: float = 0.0
    registry_uri: str | None = None
    max_samples_bytes: int = 50 << 20
    wait_s: float = 25.0
    duration_s: float = 60.0
    interval_s: float = 1.0
    params: dict[str, Any] = field(default_factory=dict)


class ModelsPart:
    """jobs, readiness and routers; heard: told of each job that ends, in a thread of its own."""

    def __init__(
        self,
        settings: PartSettings,
        guard: Guard | None = None,
        heard: Callable[[Job], None] = lambda job: None,
        seen: Seen | None = None,
    ) -> None:
        """Opens the folder of jobs; `QosError` where another service has it."""
        self._heard = heard
        self._service: Service | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        bounds = Bounds(
            workers=settings.workers,
            queue=settings.queue,
            seconds=settings.job_s,
            niceness=settings.niceness,
            grace_s=TRAINING_GRACE_S,
            apart=frozenset({"collect"}),
        )
        self.jobs = Jobs(settings.data / "jobs", COMMANDS, bounds, self._ended)
        registered = Registered(settings.registry_uri)
        self.readiness = Readiness(registered, settings.fresh_s)
        limits = Limits(
            max_body_bytes=settings.max_samples_bytes,
            wait_s=settings.wait_s,
            duration_s=settings.duration_s,
            interval_s=settings.interval_s,
            captures=settings.data / "captures",
            registry_uri=settings.registry_uri,
            params=settings.params,
        )
        self.routers: list[APIRouter] = [
            models_router(registered, self.readiness, guard, seen),
            training_router(self.jobs, Intake(settings.niceness), limits, guard),
            oip_router(self.readiness, guard=guard),
        ]

    def attach(self, service: Service) -> None:
        """Lets the service start and end it."""
        self._service = service
        service.started.append(self._start)
        service.stopped.append(self._stop)

    async def _start(self, _: Service) -> None:
        self._loop = asyncio.get_running_loop()

    async def _stop(self, _: Service) -> None:
        self._loop = None
        await asyncio.to_thread(self.jobs.close)

    def _ended(self, job: Job) -> None:
        """On the queue's thread: breakers are told in the service's loop."""
        service, loop = self._service, self._loop
        if job.kind == "collect" and service is not None and loop is not None:
            if job.state == "succeeded":
                loop.call_soon_threadsafe(service.breakers.succeeded, "nef")
            elif job.state != "cancelled":
                loop.call_soon_threadsafe(service.breakers.failed, "nef")
        self._heard(job)
