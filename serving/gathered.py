"""Requests that come at the same time are decided together: one read and one scoring for all of them.

Nobody waits for others to come: a lone request is decided at once, and only what arrived while the loop
was busy is decided with it. A decision is the same whoever came along.
"""

import asyncio
from dataclasses import dataclass, field

from fastapi import Request

from serving.predict import Decided, decide_all
from serving.requests import PredictRequest
from serving.state import Service

MOST_TOGETHER = 12  # more are decided in turn, so that none is kept long


@dataclass
class Gathered:
    """The requests of a service that wait for the loop's next turn."""

    service: Service
    _waiting: list[tuple[PredictRequest, "asyncio.Future[Decided]"]] = field(default_factory=list)

    async def decide(self, request: PredictRequest) -> Decided:
        """Its decision. Raises `BadOverride` as `decide_all`."""
        if request.features:
            self.service.live.layout.check(request)
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Decided] = loop.create_future()
        self._waiting.append((request, told))
        if len(self._waiting) == 1:
            loop.call_soon(self._begin)
        return await told

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MOST_TOGETHER):
            self.service.in_background(self._decide(waiting[start : start + MOST_TOGETHER]))

    async def _decide(
        self, waiting: list[tuple[PredictRequest, "asyncio.Future[Decided]"]]
    ) -> None:
        try:
            decided = await decide_all(self.service, [request for request, _ in waiting])
        except Exception as error:
            if len(waiting) > 1:  # one's fault, such as an override that a new model does not know
                for one in waiting:
                    await self._decide([one])
            elif not waiting[0][1].done():
                waiting[0][1].set_exception(error)
            return
        except asyncio.CancelledError:
            for _, told in waiting:
                told.cancel()
            raise
        for (_, told), made in zip(waiting, decided, strict=True):
            if not told.done():
                told.set_result(made)


def gathered_of(request: Request) -> Gathered:
    """Where the requests of this one's service come together."""
    found: Gathered = request.app.state.gathered
    return found
