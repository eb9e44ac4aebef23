"""AsSessionWithQoS (TS 29.122): a subscription to a QoS session and its user plane notifications.

Read in the standard's dialect and in the emulators' (`ipv4Addr`, `link`, integer `qosReference`,
`latThresh*`); written in the standard's.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas.nef.common import AccumulatedUsage, FlowInfo, PlmnId, Snssai, UsageThreshold
from schemas.nef.wire import (
    AverWindow,
    BitRate,
    DurationSec,
    ExtMaxDataBurstVol,
    Gpsi,
    Int,
    Ipv4Addr,
    Ipv6Addr,
    Link,
    MacAddr48,
    PacketDelBudget,
    PacketErrRate,
    Reference,
    SupportedFeatures,
    Text,
    Uinteger,
    Wire,
)

MonitoringParameter = Literal[
    "DOWNLINK", "UPLINK", "ROUND_TRIP", "DOWNLINK_DATA_RATE", "UPLINK_DATA_RATE",
    "DOWNLINK_CONGESTION", "UPLINK_CONGESTION",
]  # fmt: skip
ReportingFrequency = Literal["EVENT_TRIGGERED", "PERIODIC", "SESSION_RELEASE"]
UserPlaneEvent = Literal[
    "SESSION_TERMINATION", "LOSS_OF_BEARER", "RECOVERY_OF_BEARER", "RELEASE_OF_BEARER",
    "USAGE_REPORT", "FAILED_RESOURCES_ALLOCATION", "QOS_GUARANTEED", "QOS_NOT_GUARANTEED",
    "QOS_MONITORING", "SUCCESSFUL_RESOURCES_ALLOCATION", "ACCESS_TYPE_CHANGE", "PLMN_CHG",
    "L4S_NOT_AVAILABLE", "L4S_AVAILABLE", "BAT_OFFSET_INFO", "RT_DELAY_TWO_QOS_FLOWS",
    "PACK_DELAY_VAR",
]  # fmt: skip

_EMPTY_ADDRESSES = {  # what an emulator fills in for addresses that a UE does not have
    "ueIpv6Addr": ("::", "0:0:0:0:0:0:0:0"),
    "macAddr": ("22-00-00-00-00-00",),
    "ueIpv4Addr": ("0.0.0.0",),
}


class QosMonitoringInformation(Wire):
    """What to monitor and when to report: thresholds of delay [ms], waitTime and repPeriod [s]."""

    other_names: ClassVar[dict[str, str]] = {
        "latThreshDl": "repThreshDl",
        "latThreshUl": "repThreshUl",
        "latThreshRp": "repThreshRp",
    }

    reqQosMonParams: Annotated[list[MonitoringParameter], Field(min_length=1)]
    repFreqs: Annotated[list[ReportingFrequency], Field(min_length=1)]
    repThreshDl: Uinteger | None = None
    repThreshUl: Uinteger | None = None
    repThreshRp: Uinteger | None = None
    conThreshDl: Uinteger | None = None
    conThreshUl: Uinteger | None = None
    waitTime: DurationSec | None = None
    repPeriod: DurationSec | None = None
    repThreshDatRateDl: BitRate | None = None
    repThreshDatRateUl: BitRate | None = None
    consDataRateThrDl: BitRate | None = None
    consDataRateThrUl: BitRate | None = None

    @model_validator(mode="after")
    def _periodic_has_a_period(self) -> Self:
        if "PERIODIC" in self.repFreqs and not self.repPeriod:
            raise ValueError("repFreqs has PERIODIC: repPeriod must be 1 s or more")
        return self


class AlternativeServiceRequirements(Wire):
    """A set of QoS parameters to fall back to; pdb [ms]."""

    altQosParamSetRef: Text
    gbrUl: BitRate | None = None
    gbrDl: BitRate | None = None
    pdb: PacketDelBudget | None = None
    per: PacketErrRate | None = None


class TscQosRequirement(Wire):
    """A demand in numbers: rates, req5Gsdelay [ms], priority 1..8 with 1 the most important."""

    reqGbrDl: BitRate | None = None
    reqGbrUl: BitRate | None = None
    reqMbrDl: BitRate | None = None
    reqMbrUl: BitRate | None = None
    maxTscBurstSize: ExtMaxDataBurstVol | None = None
    req5Gsdelay: PacketDelBudget | None = None
    reqPer: PacketErrRate | None = None
    priority: Annotated[Int, Field(ge=1, le=8)] | None = None
    tscaiTimeDom: Uinteger | None = None


class AsSessionWithQoSSubscription(Wire):
    """A QoS session that an application asks for, and what it wants to hear of it."""

    other_names: ClassVar[dict[str, str]] = {
        "link": "self",
        "ipv4Addr": "ueIpv4Addr",
        "ipv6Addr": "ueIpv6Addr",
    }

    self_: Annotated[Link | None, Field(alias="self")] = None
    supportedFeatures: SupportedFeatures | None = None
    dnn: Text | None = None
    snssai: Snssai | None = None
    notificationDestination: Link
    exterAppId: Text | None = None
    extGroupId: Text | None = None
    gpsi: Gpsi | None = None
    flowInfo: Annotated[list[FlowInfo], Field(min_length=1)] | None = None
    ethFlowInfo: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    enEthFlowInfo: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    listUeAddrs: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    multiModalId: Text | None = None
    protoDesc: dict[str, Any] | None = None
    qosReference: Reference | None = None
    altQoSReferences: Annotated[list[Reference], Field(min_length=1)] | None = None
    altQosReqs: Annotated[list[AlternativeServiceRequirements], Field(min_length=1)] | None = None
    disUeNotif: bool | None = None
    ueIpv4Addr: Ipv4Addr | None = None
    ipDomain: Text | None = None
    ueIpv6Addr: Ipv6Addr | None = None
    macAddr: MacAddr48 | None = None
    usageThreshold: UsageThreshold | None = None
    sponsorInfo: dict[str, Any] | None = None
    qosMonInfo: QosMonitoringInformation | None = None
    pdvMon: QosMonitoringInformation | None = None
    qosDuration: DurationSec | None = None
    qosInactInt: DurationSec | None = None
    directNotifInd: bool | None = None
    tscQosReq: TscQosRequirement | None = None
    l4sInfo: Literal["UL", "DL", "UL_DL"] | None = None
    requestTestNotification: bool | None = None
    websockNotifConfig: dict[str, Any] | None = None
    events: Annotated[list[UserPlaneEvent], Field(min_length=1)] | None = None
    multiModDatFlows: dict[str, Any] | None = None
    pduSetQos: dict[str, Any] | None = None
    rTLatencyInd: bool | None = None
    periodInfo: dict[str, Any] | None = None
    rttMon: QosMonitoringInformation | None = None
    qosMonDatRate: QosMonitoringInformation | None = None
    avrgWndw: AverWindow | None = None
    servAuthInfo: Text | None = None
    qosMonConReq: QosMonitoringInformation | None = None
    listUeConsDtRt: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_empty_addresses(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {
            name: value
            for name, value in content.items()
            if not isinstance(value, str)
            or value not in _EMPTY_ADDRESSES.get(cls.other_names.get(str(name), str(name)), ())
        }

    @model_validator(mode="after")
    def _names_one_ue(self) -> Self:
        addresses = [n for n in ("ueIpv4Addr", "ueIpv6Addr", "macAddr") if getattr(self, n)]
        if len(addresses) > 1:
            raise ValueError(f"{' and '.join(addresses)}: only one address may be given")
        if not addresses and not (self.gpsi or self.extGroupId or self.listUeAddrs):
            raise ValueError("no UE: one of ueIpv4Addr, ueIpv6Addr, macAddr is needed")
        return self

    def subscriber(self) -> str | None:
        """The address or identity of the one UE that is meant; None for a group or a list."""
        return self.ueIpv4Addr or self.ueIpv6Addr or self.macAddr or self.gpsi


class QosMonitoringReport(Wire):
    """Measured delays [ms] and rates; pdmf: the delay could not be measured."""

    ulDelays: Annotated[list[Uinteger], Field(min_length=1)] | None = None
    dlDelays: Annotated[list[Uinteger], Field(min_length=1)] | None = None
    rtDelays: Annotated[list[Uinteger], Field(min_length=1)] | None = None
    pdmf: bool | None = None
    ulDataRate: BitRate | None = None
    dlDataRate: BitRate | None = None
    ulAggrDataRate: BitRate | None = None
    dlAggrDataRate: BitRate | None = None
    ulConInfo: Uinteger | None = None
    dlConInfo: Uinteger | None = None
    cimf: bool | None = None


class PdvMonitoringReport(Wire):
    """Packet delay variation [ms]."""

    flows: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    ulPdv: Int | None = None
    dlPdv: Int | None = None
    rtPdv: Int | None = None


Reports = Annotated[list[QosMonitoringReport], Field(min_length=1)]


class UserPlaneEventReport(Wire):
    """One event of a QoS session."""

    event: UserPlaneEvent
    accumulatedUsage: AccumulatedUsage | None = None
    flowIds: Annotated[list[Int], Field(min_length=1)] | None = None
    multiModFlows: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    appliedQosRef: Reference | None = None
    altQosNotSuppInd: bool | None = None
    plmnId: PlmnId | None = None
    qosMonReports: Reports | None = None
    pdvMonReports: Annotated[list[PdvMonitoringReport], Field(min_length=1)] | None = None
    ratType: Text | None = None
    batOffsetInfo: dict[str, Any] | None = None
    rttMonReports: Reports | None = None
    qosMonDatRateReps: Reports | None = None
    aggrDataRateRpts: Reports | None = None
    qosMonConInfoReps: Reports | None = None


class UserPlaneNotificationData(Wire):
    """A notification; `transaction` is the subscription's link. Emulators add the UE's address."""

    other_names: ClassVar[dict[str, str]] = {
        "ipv4Addr": "ueIpv4Addr",
        "ipv6Addr": "ueIpv6Addr",
    }

    transaction: Link
    eventReports: Annotated[list[UserPlaneEventReport], Field(min_length=1)]
    ueIpv4Addr: Annotated[Ipv4Addr | None, Field(exclude=True)] = None
    ueIpv6Addr: Annotated[Ipv6Addr | None, Field(exclude=True)] = None
    macAddr: Annotated[MacAddr48 | None, Field(exclude=True)] = None

    def subscriber(self) -> str | None:
        """The UE's address where the notification bears one, as only the emulators' do."""
        return self.ueIpv4Addr or self.ueIpv6Addr or self.macAddr
