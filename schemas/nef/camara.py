"""CAMARA: QoS profiles, QualityOnDemand sessions and the network-quality check.

packetDelayBudget is one way, device to gateway; jitter is the 99th percentile of the round trip's
variation; priority 1..100 has 1 the most important; packetErrorLossRate 3 is a share of 1e-3.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from schemas.nef.wire import Int, Ipv6Addr, Text, Wire
from schemas.units import (
    MAX_DURATION_VALUE,
    MAX_RATE_VALUE,
    duration_of_ms,
    mbps_of_rate,
    ms_of_duration,
    rate_of_mbps,
)

ProfileName = Annotated[
    str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]+$", min_length=3, max_length=256)
]
Port = Annotated[Int, Field(ge=0, le=65535)]
Seconds = Annotated[Int, Field(ge=1, le=MAX_DURATION_VALUE)]
Verdict = Literal[
    "meets the application requirements", "unable to meet the application requirements"
]


class Rate(Wire):
    """A bit rate; its unit spells kilo with a small k."""

    value: Annotated[Int, Field(ge=0, le=MAX_RATE_VALUE)]
    unit: Literal["bps", "kbps", "Mbps", "Gbps", "Tbps"]

    def mbps(self) -> float:
        """In Mbps."""
        return mbps_of_rate(self.value, self.unit)

    @classmethod
    def of_mbps(cls, mbps: float) -> Self:
        """The same rate exactly; `ValueError` where the format has none."""
        value, unit = rate_of_mbps(mbps)
        return cls.read({"value": value, "unit": unit})


class Duration(Wire):
    """A span of time."""

    value: Annotated[Int, Field(ge=1, le=MAX_DURATION_VALUE)]
    unit: Literal[
        "Days", "Hours", "Minutes", "Seconds", "Milliseconds", "Microseconds", "Nanoseconds"
    ]

    def ms(self) -> float:
        """In milliseconds."""
        return ms_of_duration(self.value, self.unit)

    @classmethod
    def of_ms(cls, ms: float) -> Self:
        """The same span exactly; `ValueError` where the format has none."""
        value, unit = duration_of_ms(ms)
        return cls.read({"value": value, "unit": unit})


class CountryAvailability(Wire):
    """Where a profile can be had."""

    countryName: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
    networks: list[Annotated[str, StringConstraints(pattern=r"^[0-9]{5,6}$")]] | None = None


class QosProfile(Wire):
    """A named QoS that can be asked for."""

    name: ProfileName
    status: Literal["ACTIVE", "INACTIVE", "DEPRECATED"]
    description: Annotated[str, StringConstraints(max_length=1024)] | None = None
    countryAvailability: list[CountryAvailability] | None = None
    targetMinUpstreamRate: Rate | None = None
    maxUpstreamRate: Rate | None = None
    maxUpstreamBurstRate: Rate | None = None
    targetMinDownstreamRate: Rate | None = None
    maxDownstreamRate: Rate | None = None
    maxDownstreamBurstRate: Rate | None = None
    minDuration: Duration | None = None
    maxDuration: Duration | None = None
    packetDelayBudget: Duration | None = None
    jitter: Duration | None = None
    priority: Annotated[Int, Field(ge=1, le=100)] | None = None
    packetErrorLossRate: Annotated[Int, Field(ge=1, le=10)] | None = None
    l4sQueueType: Literal["non-l4s-queue", "l4s-queue", "mixed-queue"] | None = None
    serviceClass: (
        Literal[
            "microsoft_voice", "microsoft_audio_video", "real_time_interactive",
            "multimedia_streaming", "broadcast_video", "low_latency_data", "high_throughput_data",
            "low_priority_data", "standard",
        ]
        | None
    ) = None  # fmt: skip


class DeviceIpv4Address(Wire):
    """A device's address as seen from the internet, with the port or the private address behind it."""

    publicAddress: Text
    privateAddress: Text | None = None
    publicPort: Port | None = None

    @model_validator(mode="after")
    def _tells_one_device(self) -> Self:
        if self.privateAddress is None and self.publicPort is None:
            raise ValueError("privateAddress or publicPort is needed beside publicAddress")
        return self


class Device(Wire):
    """A subscriber's device by at least one identifier."""

    phoneNumber: Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{4,14}$")] | None = None
    networkAccessIdentifier: Text | None = None
    ipv4Address: DeviceIpv4Address | None = None
    ipv6Address: Ipv6Addr | None = None

    @model_validator(mode="after")
    def _has_an_identifier(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError(f"one of {list(type(self).model_fields)} is needed")
        return self

    def subscriber(self) -> str:
        """The identifier that names the device, the most lasting one first."""
        address = self.ipv4Address.publicAddress if self.ipv4Address else None
        found = self.phoneNumber or self.networkAccessIdentifier or address or self.ipv6Address
        assert found is not None
        return found


class ApplicationServer(Wire):
    """The application's side, as addresses or subnets."""

    ipAddresses: Annotated[list[Text], Field(min_length=1, max_length=16)] | None = None
    ipv4Address: Text | None = None
    ipv6Address: Text | None = None

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError(f"one of {list(type(self).model_fields)} is needed")
        return self


class PortRange(Wire):
    """Ports from `from` to `to`, both in it."""

    from_: Annotated[Port, Field(alias="from")]
    to: Port

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.to < self.from_:
            raise ValueError("from is above to")
        return self


class PortsSpec(Wire):
    """Ports, as ranges and one by one."""

    ranges: Annotated[list[PortRange], Field(min_length=1)] | None = None
    ports: Annotated[list[Port], Field(min_length=1)] | None = None


class CreateSession(Wire):
    """A request for a QoS session; duration [s]."""

    device: Device | None = None
    applicationServer: ApplicationServer
    devicePorts: PortsSpec | None = None
    applicationServerPorts: PortsSpec | None = None
    qosProfile: ProfileName
    duration: Seconds
    sink: Annotated[str, StringConstraints(pattern=r"^https://.+")] | None = None
    sinkCredential: dict[str, Any] | None = None


class ExtendSession(Wire):
    """A request for more time [s]."""

    requestedAdditionalDuration: Seconds


QosStatus = Literal["REQUESTED", "AVAILABLE", "UNAVAILABLE"]
StatusInfo = Literal["DURATION_EXPIRED", "NETWORK_TERMINATED", "DELETE_REQUESTED"]


class SessionInfo(CreateSession):
    """A session as the network knows it; its credential is never told."""

    sinkCredential: Annotated[dict[str, Any] | None, Field(exclude=True, repr=False)] = None
    sessionId: UUID
    qosStatus: QosStatus
    startedAt: AwareDatetime | None = None
    expiresAt: AwareDatetime | None = None
    statusInfo: StatusInfo | None = None


class QosStatusData(Wire):
    """What changed."""

    sessionId: UUID
    qosStatus: Literal["AVAILABLE", "UNAVAILABLE"]
    statusInfo: StatusInfo | None = None


class QosStatusChanged(Wire):
    """The callback, a CloudEvent 1.0."""

    id: Text
    source: Text
    specversion: Literal["1.0"]
    type: Literal["org.camaraproject.quality-on-demand.v1.qos-status-changed"]
    time: AwareDatetime
    datacontenttype: Literal["application/json"] | None = None
    data: QosStatusData


class CheckNetworkQuality(Wire):
    """Asks whether the network meets an application profile; a future time asks for a forecast."""

    applicationProfileId: UUID
    applicationServer: ApplicationServer
    device: Device | None = None
    applicationServerPorts: PortsSpec | None = None
    monitoringTimeStamp: AwareDatetime | None = None

    def is_forecast(self, now: datetime) -> bool:
        """Whether a time after `now` is asked for."""
        return self.monitoringTimeStamp is not None and self.monitoringTimeStamp > now


class AdditionalKpis(Wire):
    """The radio beside the verdicts."""

    signalStrength: Literal["excellent", "good", "fair", "poor", "no signal"] | None = None
    connectivityType: Literal["5G-SA", "5G-NSA", "4G", "3G"] | None = None


class NetworkQuality(Wire):
    """A verdict for each demand. `packetlossErrorRate` is spelt so in this API only."""

    packetDelayBudget: Verdict | None = None
    targetMinDownstreamRate: Verdict | None = None
    targetMinUpstreamRate: Verdict | None = None
    packetlossErrorRate: Verdict | None = None
    jitter: Verdict | None = None
    additionalKPIs: AdditionalKpis | None = None


class ErrorInfo(Wire):
    """An error's body."""

    status: Annotated[Int, Field(ge=100, le=599)]
    code: Text
    message: str
