"""Who decides on a handover: the decision service, or event A3 and why."""

import asyncio
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nef.client.read_json import NotJson, read_json
from nef.server.settings import CELLS_FOR_AUTOMATIC
from nef.server.state import Nef

MAX_REPLY = 64 * 1024
Reason = Literal[
    "disabled", "too_few_cells", "not_configured", "unavailable", "slow", "not_allowed", "invalid",
    "low_confidence", "qos_compliance",
]  # fmt: skip


class Compliance(BaseModel):
    """Whether the service holds that the request is met there."""

    model_config = ConfigDict(extra="ignore", strict=True)

    service_priority_ok: bool


class Verdict(BaseModel):
    """What the service answers; confidence: 0..1 that the request is met in that cell."""

    model_config = ConfigDict(
        extra="ignore", strict=True, allow_inf_nan=False, populate_by_name=True
    )

    cell_id: Annotated[str, Field(alias="predicted_antenna", min_length=1, max_length=64)]
    confidence: Annotated[float, Field(ge=0, le=1)]
    qos_compliance: Compliance | None = None


class Refused(Exception):
    """Why event A3 decides."""

    def __init__(self, reason: Reason) -> None:
        """reason: as the fallback is counted by."""
        super().__init__(reason)
        self.reason: Reason = reason


def not_asked(nef: Nef) -> Reason | None:
    """Why the service is not asked at all; None if it is."""
    settings = nef.settings
    if settings.ml_handover == "off":
        return "disabled"
    if settings.ml_handover == "automatic" and nef.world.plan.cells < CELLS_FOR_AUTOMATIC:
        return "too_few_cells"
    return "not_configured" if settings.decision_url is None else None


def question(nef: Nef, supi: str) -> dict[str, Any]:
    """What the service is told: the UE's serving cell, traffic, last second, and its candidates."""
    ue, sample = nef.world.scenario.ues[nef.world.index[supi]], nef.world.samples[supi]
    return {
        "ue_id": supi, "event_timestamp": nef.now().isoformat(), "five_qi": ue.five_qi,
        "connected_to": sample.cell_id, "speed_mps": nef.world.place(supi)[2],
        "observed_qos": {
            "downlink_mbps": sample.downlink_mbps, "downlink_delay_ms": sample.downlink_delay_ms,
            "jitter_ms": sample.jitter_ms, "packet_loss_ratio": sample.loss_ratio,
        },
        "candidates": nef.world.cells_of(supi),
    }  # fmt: skip


async def ask(nef: Nef, supi: str, client: httpx.AsyncClient) -> Verdict:
    """The service's verdict on one of the candidates; raises `Refused` with the reason."""
    asked, key = question(nef, supi), nef.settings.decision_key
    headers = {} if key is None else {"x-api-key": key.get_secret_value()}
    body = bytearray()
    try:
        async with asyncio.timeout(nef.settings.decision_timeout_s):
            url = str(nef.settings.decision_url)
            async with client.stream("POST", url, json=asked, headers=headers) as reply:
                if reply.status_code >= 500 or reply.status_code == 429:
                    raise Refused("unavailable")
                if reply.status_code in (401, 403):
                    raise Refused("not_allowed")
                if reply.status_code >= 300:
                    raise Refused("invalid")
                async for part in reply.aiter_bytes():
                    body += part
                    if len(body) > MAX_REPLY:
                        raise Refused("invalid")
    except (TimeoutError, httpx.TimeoutException):
        raise Refused("slow") from None
    except httpx.DecodingError:
        raise Refused("invalid") from None
    except (httpx.HTTPError, OSError):
        raise Refused("unavailable") from None
    try:
        content = read_json(bytes(body))
        found = Verdict.model_validate(content)
    except (NotJson, ValidationError):
        raise Refused("invalid") from None
    if found.cell_id not in {one["cell_id"] for one in asked["candidates"]}:
        raise Refused("invalid")
    return found


async def decide(nef: Nef, supi: str, client: httpx.AsyncClient) -> dict[str, Any]:
    """Decides, applies, counts; the answer of the endpoint."""
    world, metrics = nef.world, nef.metrics
    verdict: Verdict | None = None
    reason = not_asked(nef)
    if reason is None:
        try:
            verdict = await ask(nef, supi, client)
            if verdict.qos_compliance is not None:
                good = verdict.qos_compliance.service_priority_ok
                metrics.compliance.labels("ok" if good else "failed").inc()
                reason = None if good else "qos_compliance"
            elif verdict.confidence < nef.settings.min_confidence:
                reason = "low_confidence"
        except Refused as error:
            reason = error.reason
    sample = world.samples.get(supi)  # a second or more may have passed
    serving = sample.cell_id if sample is not None else None
    if serving is None:
        target, reason = None, reason or "unavailable"
    elif reason is None and verdict is not None:
        target = verdict.cell_id if verdict.cell_id in world.plan.cell_ids else None
    else:
        target = world.a3_target(supi)
    applied = target is not None and target != serving
    if applied and target is not None:
        world.hand_over(supi, target)
    elif reason is None and serving is not None:
        world.stay(supi)
    if reason is not None:
        metrics.fallbacks.labels(reason).inc()
    metrics.decisions.labels("applied" if applied else "none").inc()
    return {
        "ue_id": supi, "from": serving, "to": target if applied else serving, "applied": applied,
        "by": "a3" if reason is not None else "decision_service", "reason": reason,
        "confidence": None if verdict is None else verdict.confidence,
    }  # fmt: skip
