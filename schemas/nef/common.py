"""Types that several 3GPP messages share (TS 29.122 and TS 29.571)."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.nef.wire import (
    AverWindow,
    DurationSec,
    ExtMaxDataBurstVol,
    ExtPacketDelBudget,
    Int,
    MaxDataBurstVol,
    NrCellId,
    PacketDelBudget,
    PacketErrRate,
    PriorityLevel,
    SupportedFeatures,
    Text,
    Volume,
    Wire,
)


class Snssai(Wire):
    """A network slice: sst 0..255 (1 eMBB, 2 URLLC, 3 MIoT), sd six hex digits."""

    sst: Annotated[Int, Field(ge=0, le=255)]
    sd: Annotated[str, StringConstraints(pattern=r"^[A-Fa-f0-9]{6}$")] | None = None


class UsageThreshold(Wire):
    """When to report usage: duration [s], volumes [bytes]."""

    duration: DurationSec | None = None
    totalVolume: Volume | None = None
    downlinkVolume: Volume | None = None
    uplinkVolume: Volume | None = None


class AccumulatedUsage(UsageThreshold):
    """What was used: duration [s], volumes [bytes]; absent: not measured."""


class FlowInfo(Wire):
    """One IP flow."""

    flowId: Int
    flowDescriptions: Annotated[list[Text], Field(min_length=1, max_length=2)] | None = None
    tosTC: Text | None = None


class PlmnId(Wire):
    """A mobile network."""

    mcc: Annotated[str, StringConstraints(pattern=r"^\d{3}$")]
    mnc: Annotated[str, StringConstraints(pattern=r"^\d{2,3}$")]
    nid: Annotated[str, StringConstraints(pattern=r"^[A-Fa-f0-9]{11}$")] | None = None


class Tai(Wire):
    """A tracking area."""

    plmnId: PlmnId
    tac: Annotated[str, StringConstraints(pattern=r"^([A-Fa-f0-9]{4}|[A-Fa-f0-9]{6})$")]


class Ncgi(Wire):
    """An NR cell."""

    plmnId: PlmnId
    nrCellId: NrCellId


class Arp(Wire):
    """Allocation and retention priority; priorityLevel 1 is the most important of 15."""

    priorityLevel: Annotated[Int, Field(ge=1, le=15)] | None
    preemptCap: Literal["NOT_PREEMPT", "MAY_PREEMPT"]
    preemptVuln: Literal["NOT_PREEMPTABLE", "PREEMPTABLE"]


class NonDynamic5Qi(Wire):
    """What departs from a standardised 5QI's row: window [ms], burst [bytes], core budget [0.01 ms]."""

    priorityLevel: PriorityLevel | None = None
    averWindow: AverWindow | None = None
    maxDataBurstVol: MaxDataBurstVol | None = None
    extMaxDataBurstVol: ExtMaxDataBurstVol | None = None
    cnPacketDelayBudgetDl: ExtPacketDelBudget | None = None
    cnPacketDelayBudgetUl: ExtPacketDelBudget | None = None


class Dynamic5Qi(NonDynamic5Qi):
    """A 5QI's characteristics in full: packetDelayBudget [ms], extPacketDelBudget [0.01 ms]."""

    resourceType: Literal["NON_GBR", "NON_CRITICAL_GBR", "CRITICAL_GBR"]
    priorityLevel: PriorityLevel
    packetDelayBudget: PacketDelBudget
    packetErrRate: PacketErrRate
    extPacketDelBudget: ExtPacketDelBudget | None = None


class InvalidParam(Wire):
    """One faulty parameter of a request."""

    param: str
    reason: str | None = None


class ProblemDetails(Wire):
    """An error's body, application/problem+json (RFC 9457, TS 29.122)."""

    type: str | None = None
    title: str | None = None
    status: Annotated[Int, Field(ge=100, le=599)] | None = None
    detail: str | None = None
    instance: str | None = None
    cause: str | None = None
    invalidParams: Annotated[list[InvalidParam], Field(min_length=1)] | None = None
    supportedFeatures: SupportedFeatures | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("no field of a ProblemDetails")
        return self


def problem(
    status: int, title: str, faults: Sequence[tuple[str, str]] = (), cause: str | None = None
) -> ProblemDetails:
    """A ProblemDetails that names every fault as (parameter, reason)."""
    return ProblemDetails(
        status=status,
        title=title,
        cause=cause,
        detail="; ".join(f"{place}: {reason}" for place, reason in faults) or None,
        invalidParams=[InvalidParam(param=p, reason=r) for p, r in faults] or None,
    )
