"""CAMARA messages and their ranges."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.nef.camara import (
    CheckNetworkQuality,
    CreateSession,
    Device,
    Duration,
    ErrorInfo,
    ExtendSession,
    NetworkQuality,
    PortsSpec,
    QosProfile,
    QosStatusChanged,
    Rate,
    SessionInfo,
)
from schemas.nef.wire import Wire, faults_of
from schemas.units import DURATION_UNITS, RATE_UNITS

PROFILE = {
    "name": "QOS_S",
    "status": "ACTIVE",
    "description": "stable",
    "countryAvailability": [{"countryName": "DE", "networks": ["26201"]}],
    "targetMinDownstreamRate": {"value": 4, "unit": "Mbps"},
    "packetDelayBudget": {"value": 20, "unit": "Milliseconds"},
    "jitter": {"value": 500, "unit": "Microseconds"},
    "priority": 20,
    "packetErrorLossRate": 3,
    "l4sQueueType": "l4s-queue",
    "serviceClass": "real_time_interactive",
}
SESSION = {
    "device": {"phoneNumber": "+491234567890"},
    "applicationServer": {"ipv4Address": "198.51.100.0/24"},
    "applicationServerPorts": {"ranges": [{"from": 5010, "to": 5020}], "ports": [5060]},
    "qosProfile": "QOS_S",
    "duration": 3600,
    "sink": "https://application/notifications",
}
REPLY = SESSION | {
    "sessionId": "123e4567-e89b-12d3-a456-426614174000",
    "qosStatus": "AVAILABLE",
    "startedAt": "2026-01-01T00:00:00Z",
    "expiresAt": "2026-01-01T01:00:00Z",
}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (QosProfile, PROFILE),
        (CreateSession, SESSION),
        (SessionInfo, REPLY),
        (ExtendSession, {"requestedAdditionalDuration": 60}),
        (NetworkQuality, {"packetlossErrorRate": "meets the application requirements",
                          "additionalKPIs": {"signalStrength": "no signal"}}),
        (ErrorInfo, {"status": 404, "code": "NOT_FOUND", "message": "gone"}),
    ],
)  # fmt: skip
def test_what_is_read_is_written_as_it_was(kind: type[Wire], content: dict[str, Any]) -> None:
    assert kind.read(content).wire() == content


@pytest.mark.parametrize(
    ("kind", "good", "changes", "place"),
    [
        (QosProfile, PROFILE, {"name": "ab"}, "name"),
        (QosProfile, PROFILE, {"name": "a b c"}, "name"),
        (QosProfile, PROFILE, {"status": "GONE"}, "status"),
        (QosProfile, PROFILE, {"priority": 0}, "priority"),
        (QosProfile, PROFILE, {"priority": 101}, "priority"),
        (QosProfile, PROFILE, {"packetErrorLossRate": 0}, "packetErrorLossRate"),
        (QosProfile, PROFILE, {"packetErrorLossRate": 11}, "packetErrorLossRate"),
        (QosProfile, PROFILE, {"packetErrorLossRate": 0.001}, "packetErrorLossRate"),
        (QosProfile, PROFILE, {"jitter": {"value": 1, "unit": "ms"}}, "jitter.unit"),
        (QosProfile, PROFILE, {"maxUpstreamRate": {"value": 1025, "unit": "bps"}},
         "maxUpstreamRate.value"),
        (QosProfile, PROFILE, {"maxUpstreamRate": {"value": 1, "unit": "Kbps"}}, "maxUpstreamRate.unit"),
        (CreateSession, SESSION, {"duration": 0}, "duration"),
        (CreateSession, SESSION, {"sink": "http://plain"}, "sink"),
        (CreateSession, SESSION, {"device": {}}, "device"),
        (CreateSession, SESSION, {"device": {"phoneNumber": "123"}}, "device.phoneNumber"),
        (CreateSession, SESSION, {"applicationServer": {}}, "applicationServer"),
        (CreateSession, SESSION, {"devicePorts": {"ports": [65536]}}, "devicePorts.ports.0"),
        (SessionInfo, REPLY, {"sessionId": "7"}, "sessionId"),
        (SessionInfo, REPLY, {"startedAt": "2026-01-01T00:00:00"}, "startedAt"),
    ],
)  # fmt: skip
def test_values_off_their_range_are_refused_at_their_place(
    kind: type[Wire], good: dict[str, Any], changes: dict[str, Any], place: str
) -> None:
    with pytest.raises(ValidationError) as error:
        kind.read(good | changes)
    assert place in dict(faults_of(error.value))


def test_ports_run_upward() -> None:
    with pytest.raises(ValidationError, match="from is above to"):
        PortsSpec.read({"ranges": [{"from": 2, "to": 1}]})


def test_a_device_is_known_by_its_most_lasting_identifier() -> None:
    both = {"ipv6Address": "2001:db8::1", "phoneNumber": "+491234567"}
    assert Device.read(both).subscriber() == "+491234567"
    address = {"ipv4Address": {"publicAddress": "203.0.113.1", "publicPort": 59765}}
    assert Device.read(address).subscriber() == "203.0.113.1"
    with pytest.raises(ValidationError, match="privateAddress or publicPort"):
        Device.read({"ipv4Address": {"publicAddress": "203.0.113.1"}})


def test_a_sinks_credential_is_never_told_back() -> None:
    found = SessionInfo.read(REPLY | {"sinkCredential": {"accessToken": "secret"}})
    assert "secret" not in str(found.wire()) + repr(found)


def test_a_check_of_a_later_time_is_a_forecast() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    base = {"applicationProfileId": REPLY["sessionId"],
            "applicationServer": {"ipv4Address": "198.51.100.1"}}  # fmt: skip
    assert not CheckNetworkQuality.read(base).is_forecast(now)
    for minutes, forecast in ((-1, False), (0, False), (1, True)):
        time = (now + timedelta(minutes=minutes)).isoformat()
        assert (
            CheckNetworkQuality.read(base | {"monitoringTimeStamp": time}).is_forecast(now)
            is forecast
        )


def test_a_callback_is_a_cloud_event_of_its_type() -> None:
    event = {"id": "1", "source": "https://x", "specversion": "1.0",
             "type": "org.camaraproject.quality-on-demand.v1.qos-status-changed",
             "time": "2026-01-01T00:00:00Z",
             "data": {"sessionId": REPLY["sessionId"], "qosStatus": "UNAVAILABLE"}}  # fmt: skip
    assert QosStatusChanged.read(event).data.qosStatus == "UNAVAILABLE"
    with pytest.raises(ValidationError):
        QosStatusChanged.read(event | {"type": "another"})


@given(st.integers(0, 1024), st.sampled_from(RATE_UNITS))
def test_a_rate_survives_as_mbps(value: int, unit: str) -> None:
    mbps = Rate.read({"value": value, "unit": unit}).mbps()
    assert Rate.of_mbps(mbps).mbps() == mbps


@given(st.integers(1, 10**6), st.sampled_from(DURATION_UNITS))
def test_a_duration_survives_as_ms(value: int, unit: str) -> None:
    ms = Duration.read({"value": value, "unit": unit}).ms()
    assert Duration.of_ms(ms).ms() == ms
