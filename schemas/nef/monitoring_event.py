"""MonitoringEvent (TS 29.122): location, loss of connectivity and reachability of a UE.

Read in the standard's dialect and in the emulators' (`link`, `gNBId`, a report without its envelope).
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from schemas.nef.wire import (
    DurationSec,
    Int,
    Ipv4Addr,
    Ipv6Addr,
    Link,
    Msisdn,
    SupportedFeatures,
    Text,
    Uinteger,
    Wire,
)

MonitoringType = Literal[
    "LOSS_OF_CONNECTIVITY", "UE_REACHABILITY", "LOCATION_REPORTING", "CHANGE_OF_IMSI_IMEI_ASSOCIATION",
    "ROAMING_STATUS", "COMMUNICATION_FAILURE", "AVAILABILITY_AFTER_DDN_FAILURE",
    "NUMBER_OF_UES_IN_AN_AREA", "PDN_CONNECTIVITY_STATUS", "DOWNLINK_DATA_DELIVERY_STATUS",
    "API_SUPPORT_CAPABILITY", "NUM_OF_REGD_UES", "NUM_OF_ESTD_PDU_SESSIONS", "AREA_OF_INTEREST",
    "GROUP_MEMBER_LIST_CHANGE", "APPLICATION_START", "APPLICATION_STOP",
]  # fmt: skip


class LocationInfo(Wire):
    """Where a UE is; ageOfLocationInfo [min]. Out of coverage: no cell."""

    other_names: ClassVar[dict[str, str]] = {"gNBId": "enodeBId"}

    ageOfLocationInfo: Uinteger | None = None
    cellId: Text | None = None
    enodeBId: Text | None = None
    routingAreaId: Text | None = None
    trackingAreaId: Text | None = None
    plmnId: Text | None = None
    twanId: Text | None = None
    userLocation: dict[str, Any] | None = None
    geographicArea: dict[str, Any] | None = None
    civicAddress: dict[str, Any] | None = None
    positionMethod: Text | None = None


class MonitoringEventSubscription(Wire):
    """What of a UE is to be reported, to where, how often."""

    other_names: ClassVar[dict[str, str]] = {"link": "self"}

    self_: Annotated[Link | None, Field(alias="self")] = None
    supportedFeatures: SupportedFeatures | None = None
    externalId: Text | None = None
    msisdn: Msisdn | None = None
    externalGroupId: Text | None = None
    ipv4Addr: Ipv4Addr | None = None
    ipv6Addr: Ipv6Addr | None = None
    notificationDestination: Link
    monitoringType: MonitoringType
    maximumNumberOfReports: Annotated[Int, Field(ge=1)] | None = None
    monitorExpireTime: datetime | None = None
    repPeriod: DurationSec | None = None
    maximumDetectionTime: DurationSec | None = None
    reachabilityType: Literal["SMS", "DATA"] | None = None
    locationType: Text | None = None
    accuracy: Text | None = None
    minimumReportInterval: DurationSec | None = None
    immediateRep: bool | None = None

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if not (
            self.externalId or self.msisdn or self.externalGroupId or self.ipv4Addr or self.ipv6Addr
        ):
            raise ValueError(
                "no UE: one of externalId, msisdn, externalGroupId, ipv4Addr, ipv6Addr"
            )
        if self.maximumNumberOfReports is None and self.monitorExpireTime is None:
            raise ValueError("no end: one of maximumNumberOfReports, monitorExpireTime is needed")
        return self

    def subscriber(self) -> str | None:
        """The identity of the one UE that is meant; None for a group."""
        return self.externalId or self.msisdn or self.ipv4Addr or self.ipv6Addr


class MonitoringEventReport(Wire):
    """One event of a UE."""

    externalId: Text | None = None
    msisdn: Msisdn | None = None
    ipv4Addr: Annotated[Ipv4Addr | None, Field(exclude=True)] = None
    monitoringType: MonitoringType
    eventTime: datetime | None = None
    locationInfo: LocationInfo | None = None
    lossOfConnectReason: Int | None = None
    reachabilityType: Literal["SMS", "DATA"] | None = None
    maxUEAvailabilityTime: datetime | None = None
    roamingStatus: bool | None = None

    def subscriber(self) -> str | None:
        """The UE's identity; None where the report leaves it to the subscription."""
        return self.externalId or self.msisdn or self.ipv4Addr


_REPORT = tuple(MonitoringEventReport.model_fields)


class MonitoringNotification(Wire):
    """Reports of a subscription, or its end (cancelInd)."""

    subscription: Link
    monitoringEventReports: Annotated[list[MonitoringEventReport], Field(min_length=1)] | None = (
        None
    )
    configResults: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    addedExternalIds: Annotated[list[Text], Field(min_length=1)] | None = None
    addedMsisdns: Annotated[list[Msisdn], Field(min_length=1)] | None = None
    cancelExternalIds: Annotated[list[Text], Field(min_length=1)] | None = None
    cancelMsisdns: Annotated[list[Msisdn], Field(min_length=1)] | None = None
    cancelInd: bool | None = None
    appliedParam: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_envelope(cls, content: Any) -> Any:
        """An emulator's report stands in the notification itself."""
        if not isinstance(content, dict) or "monitoringType" not in content:
            return content
        report = {name: content[name] for name in _REPORT if name in content}
        rest = {name: value for name, value in content.items() if name not in report}
        if rest.get("monitoringEventReports") is not None:
            raise ValueError("monitoringType stands beside monitoringEventReports")
        return rest | {"monitoringEventReports": [report]}

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.model_fields_set <= {"subscription"}:
            raise ValueError("no report and no end of the subscription")
        return self
