"""The notification destination: an ASGI app that answers 204 once the disk has what was sent."""

import asyncio

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from nef.client.intake import MAX_BODY_BYTES, Intake


class _Commits:
    """One fsync for all callbacks that came while the last one ran."""

    def __init__(self, intake: Intake) -> None:
        self._intake, self._next = intake, asyncio.Lock()

    async def wait(self, sequence: int) -> None:
        async with self._next:
            if self._intake.journal.synced < sequence:
                await asyncio.to_thread(self._intake.journal.sync)


def callback_app(intake: Intake, path: str = "/callback") -> Starlette:
    """The app; a NEF that gets no 204 sends again, so what it sent is never lost."""
    commits = _Commits(intake)

    async def callback(request: Request) -> Response:
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    break
        except ClientDisconnect:
            raise HTTPException(400) from None
        receipt = intake.receive(bytes(body))
        if receipt.sequences:
            await commits.wait(receipt.sequences[-1])
        if receipt.problem is None:
            return Response(status_code=receipt.status)
        return Response(
            receipt.problem.model_dump_json(exclude_none=True),
            receipt.status,
            media_type="application/problem+json",
        )

    return Starlette(routes=[Route(path, callback, methods=["POST"])])
