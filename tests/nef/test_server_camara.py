"""CAMARA: profiles, sessions in simulated time, verdicts on the network's quality."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from nef.server.camara import APPLICATIONS
from schemas.nef.camara import ErrorInfo, NetworkQuality, QosProfile, SessionInfo
from tests.nef.server_kit import Server, nef_server

SESSIONS = "/quality-on-demand/v1/sessions"
CHECK = "/connectivity-insights/v0.4/check-network-quality"
ANYWHERE = {"ipv4Address": "198.51.100.1"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with nef_server(speed=0) as made:
        made.pass_seconds(5)
        yield made


BEST: dict[str, str] = {}


def device(server: Server) -> tuple[str, dict[str, Any]]:
    """The UE that had the best signal at the start, and how CAMARA names it."""
    world = server.nef.world
    best = max(world.samples, key=lambda one: world.samples[one].sinr_db or -99.0)
    supi = BEST.setdefault(server.url, best)
    address = next(ue.ipv4 for ue in world.scenario.ues if ue.supi == supi)
    return supi, {"ipv4Address": {"publicAddress": address, "publicPort": 5060}}


def refused(reply: httpx.Response, status: int, code: str) -> None:
    assert reply.status_code == status, reply.text
    assert ErrorInfo.read(reply.json()).code == code


def asked(server: Server, **changes: Any) -> dict[str, Any]:
    return {"device": device(server)[1], "applicationServer": ANYWHERE, "qosProfile": "urllc",
            "duration": 10} | changes  # fmt: skip


def test_profiles_are_listed_and_read(server: Server) -> None:
    post = server.client.post("/qos-profiles/v1/retrieve-qos-profiles", json={})
    found = [QosProfile.read(one) for one in post.json()]
    assert [one.name for one in found] == ["urllc", "embb", "mmtc", "default"]
    one = server.client.get("/qos-profiles/v1/qos-profiles/urllc").json()
    assert one["packetDelayBudget"] == {"value": 5, "unit": "Milliseconds"}
    refused(server.client.get("/qos-profiles/v1/qos-profiles/gold"), 404, "NOT_FOUND")


def test_the_life_of_a_session(server: Server) -> None:
    supi, _ = device(server)
    made = server.client.post(SESSIONS, json=asked(server))
    assert made.status_code == 201, made.text
    assert SessionInfo.read(made.json()).qosStatus == "REQUESTED"
    assert server.nef.world.overrides[supi] == 82
    refused(server.client.post(SESSIONS, json=asked(server)), 409, "CONFLICT")
    server.pass_seconds(2)
    link = made.headers["location"]
    now = SessionInfo.read(server.client.get(link).json())
    assert now.qosStatus == "AVAILABLE" and now.startedAt and now.expiresAt
    assert (now.expiresAt - now.startedAt).total_seconds() == 10
    more = server.client.post(f"{link}/extend", json={"requestedAdditionalDuration": 5})
    assert more.json()["duration"] == 15
    mine = server.client.post(
        "/quality-on-demand/v1/retrieve-sessions", json={"device": device(server)[1]}
    )
    assert [one["sessionId"] for one in mine.json()] == [made.json()["sessionId"]]
    server.pass_seconds(12)
    assert server.client.get(link).json()["qosStatus"] == "AVAILABLE"
    server.pass_seconds(1)
    over = server.client.get(link).json()
    assert (over["qosStatus"], over["statusInfo"]) == ("UNAVAILABLE", "DURATION_EXPIRED")
    assert supi not in server.nef.world.overrides
    assert server.client.delete(link).status_code == 204
    refused(server.client.get(link), 404, "NOT_FOUND")


def test_deletion_ends_the_treatment(server: Server) -> None:
    supi, _ = device(server)
    link = server.client.post(SESSIONS, json=asked(server)).headers["location"]
    assert supi in server.nef.world.overrides
    assert server.client.delete(link).status_code == 204
    assert supi not in server.nef.world.overrides


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"duration": 0}, 400, "INVALID_ARGUMENT"),
        ({"duration": 10**6}, 400, "QUALITY_ON_DEMAND.DURATION_OUT_OF_RANGE"),
        ({"qosProfile": "gold"}, 422, "QUALITY_ON_DEMAND.QOS_PROFILE_NOT_APPLICABLE"),
        ({"device": None}, 422, "MISSING_IDENTIFIER"),
        ({"device": {"phoneNumber": "+4912345678"}}, 404, "IDENTIFIER_NOT_FOUND"),
        ({"sink": "http://plain/"}, 400, "INVALID_ARGUMENT"),
    ],
)
def test_errors_are_camaras(
    server: Server, changes: dict[str, Any], status: int, code: str
) -> None:
    refused(server.client.post(SESSIONS, json=asked(server, **changes)), status, code)
    assert server.nef.sessions == {}


def test_a_stranger_is_refused_in_camaras_form(server: Server) -> None:
    reply = httpx.post(server.url + SESSIONS, json=asked(server), trust_env=False)
    refused(reply, 401, "UNAUTHENTICATED")


def test_the_network_quality_is_that_of_the_last_second(server: Server) -> None:
    supi, who = device(server)
    sample = server.nef.world.samples[supi]
    for number, wanted in APPLICATIONS.items():
        body = {"applicationProfileId": str(number), "applicationServer": ANYWHERE, "device": who}
        found = NetworkQuality.read(server.client.post(CHECK, json=body).json())
        assert sample.downlink_delay_ms is not None
        met = sample.downlink_delay_ms <= wanted.delay_ms
        assert (found.packetDelayBudget == "meets the application requirements") == met
    late = body | {"monitoringTimeStamp": "2999-01-01T00:00:00Z"}
    refused(server.client.post(CHECK, json=late), 422, "INVALID_ARGUMENT")
