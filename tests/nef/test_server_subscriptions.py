"""The northbound APIs over HTTP: login, methods, statuses, problems."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from nef.server import database
from nef.server.settings import read_settings
from schemas.errors import QosError
from schemas.nef.common import ProblemDetails
from tests.nef.server_kit import (
    MONITORING,
    PASSWORD,
    QOS,
    Server,
    fresh_database,
    nef_server,
    qos,
    sink,
    until,
)

NOWHERE = "http://127.0.0.1:9/callback"
LOGIN = "/api/v1/login/access-token"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with nef_server() as made:
        yield made


@pytest.fixture(autouse=True)
def none_left(server: Server) -> Iterator[None]:
    yield
    for link in [one.link for one in server.nef.subscriptions.values()]:
        assert server.client.delete(link).status_code == 204


def refused(reply: httpx.Response, status: int) -> ProblemDetails:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    found = ProblemDetails.read(reply.json())
    assert found.status == status
    return found


def test_a_token_is_needed_everywhere_but_for_metrics(server: Server) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as stranger:
        for path in (QOS, MONITORING, "/api/v1/UEs", "/api/v1/scenario", "/api/v1/ml/mode"):
            reply = stranger.get(path)
            refused(reply, 401)
            assert reply.headers["www-authenticate"] == "Bearer"
            refused(stranger.get(path, headers={"authorization": "Bearer x"}), 401)
        assert "nef_simulated_seconds_total" in stranger.get("/metrics").text


@pytest.mark.parametrize(
    "form",
    [
        {"username": "admin", "password": "wrong password"},
        {"username": "nobody", "password": PASSWORD},
        {"username": "admin"},
        {"grant_type": "refresh_token", "refresh_token": "x"},
        {"grant_type": "client_credentials"},
        {"username": "a\x00b\ud800".encode("utf-8", "replace").decode(), "password": "\x00"},
    ],
)
def test_a_wrong_login_is_400(server: Server, form: dict[str, str]) -> None:
    reply = httpx.post(server.url + LOGIN, data=form, trust_env=False)
    assert reply.status_code == 400 and "error" in reply.json()


def test_failed_logins_are_limited_by_user_and_by_address() -> None:
    with nef_server(speed=0) as server:
        wrong = {"username": "somebody", "password": "wrong password"}
        given = [server.client.post(LOGIN, data=wrong).status_code for _ in range(21)]
        assert given == [400] * 20 + [429]
        right = {"username": "admin", "password": PASSWORD}
        assert server.client.post(LOGIN, data=right).status_code == 200  # others still come in
        for number in range(40):
            wrong["username"] = f"other{number}"
            assert server.client.post(LOGIN, data=wrong).status_code == 400
        assert server.client.post(LOGIN, data=right).status_code == 429  # the address does not


def test_a_refresh_token_is_good_once_and_no_secret_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "nef.sqlite"
    with nef_server(database_url=f"sqlite:///{file}", speed=0) as server:
        form = {"grant_type": "password", "username": "admin", "password": PASSWORD}
        given = server.client.post(LOGIN, data=form).json()
        again = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
        assert server.client.post(LOGIN, data=again).status_code == 200
        assert server.client.post(LOGIN, data=again).status_code == 400
        refresh = {"authorization": f"Bearer {given['refresh_token']}"}
        assert server.client.get(QOS, headers=refresh).status_code == 401
    kept = file.read_bytes()
    for secret in (PASSWORD, given["access_token"], given["refresh_token"]):
        assert secret.encode() not in kept


def test_a_token_that_is_over_is_refused() -> None:
    engine = database.connect("sqlite://")
    token = database.give_token(engine, "admin", "access", -1.0)
    assert database.owner_of(engine, token, "access") is None
    with engine.connect() as connection:
        assert connection.execute(sa.select(database.TOKENS)).all()[0].hash != token.encode()
    engine.dispose()


def test_production_asks_for_a_password() -> None:
    with pytest.raises(QosError, match="NEF_SERVER_PASSWORD must be set"):
        read_settings(profile="production")


def test_the_life_of_a_subscription(server: Server) -> None:
    posted = server.client.post(QOS, json=qos(NOWHERE, supportedFeatures="0"))
    link = posted.headers["location"]
    assert posted.status_code == 201 and posted.json()["self"] == link
    assert server.client.get(link).json() == posted.json()
    assert server.client.get(QOS).json() == [posted.json()]
    assert server.client.get(QOS.replace("qos-platform", "another")).json() == []
    put = server.client.put(link, json=qos(NOWHERE, qosReference="80"))
    assert put.status_code == 200 and put.json()["qosReference"] == "80"
    assert "supportedFeatures" not in put.json()  # what PUT does not bear is gone
    merge = {"content-type": "application/merge-patch+json"}
    change = json.dumps({"qosMonInfo": {"repPeriod": 7}, "qosReference": "82"})
    patched = server.client.patch(link, content=change, headers=merge)
    assert patched.status_code == 200, patched.text
    assert patched.json()["qosMonInfo"]["repPeriod"] == 7
    assert patched.json()["qosMonInfo"]["repFreqs"] == ["PERIODIC"]
    assert server.client.get(link).json() == patched.json()
    deleted = server.client.delete(link)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method in ("GET", "DELETE"):
        refused(server.client.request(method, link), 404)
    refused(server.client.put(link, json=qos(NOWHERE)), 404)


def test_the_emulators_dialect_is_taken_and_the_standards_answered(server: Server) -> None:
    body = {"ipv4Addr": "10.0.0.2", "notificationDestination": NOWHERE, "qosReference": 9,
            "qosMonInfo": {"reqQosMonParams": ["DOWNLINK"], "repFreqs": ["EVENT_TRIGGERED"],
                           "latThreshDl": 5, "waitTime": 2}}  # fmt: skip
    found = server.client.post(QOS, json=body).json()
    assert (found["ueIpv4Addr"], found["qosReference"]) == ("10.0.0.2", "9")
    assert found["qosMonInfo"]["repThreshDl"] == 5


def test_the_same_twice_is_409_and_so_by_put(server: Server) -> None:
    first = server.client.post(QOS, json=qos(NOWHERE)).headers["location"]
    refused(server.client.post(QOS, json=qos(NOWHERE, qosReference="80")), 409)
    flows = [{"flowId": 1}]
    second = server.client.post(QOS, json=qos(NOWHERE, flowInfo=flows))
    assert second.status_code == 201
    refused(server.client.put(first, json=qos(NOWHERE, flowInfo=flows)), 409)


def test_an_unknown_ue_is_404_with_its_cause(server: Server) -> None:
    found = refused(server.client.post(QOS, json=qos(NOWHERE, ueIpv4Addr="10.9.9.9")), 404)
    assert found.cause == "UE_NOT_FOUND"


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"qosReference": "91"}, "qosReference"),
        ({"altQoSReferences": ["9", "x"]}, "altQoSReferences.1"),
        ({"notificationDestination": "file:///etc/passwd"}, "notificationDestination"),
        ({"notificationDestination": "http://"}, "notificationDestination"),
        ({"notificationDestination": "http://a:b@h/"}, "notificationDestination"),
        ({"notificationDestination": "http://h:99999/"}, "notificationDestination"),
        ({"ueIpv4Addr": "10.0.0.256"}, "ueIpv4Addr"),
        ({"qosMonInfo": {"reqQosMonParams": [], "repFreqs": ["PERIODIC"]}}, "qosMonInfo"),
        ({"qosReference": None}, "qosReference"),
        ({"ueIpv6Addr": "2001:db8::1"}, "body"),
    ],
)
def test_a_faulty_subscription_is_422_and_names_its_place(
    server: Server, changes: dict[str, Any], place: str
) -> None:
    found = refused(server.client.post(QOS, json=qos(NOWHERE, **changes)), 422)
    assert found.invalidParams is not None
    assert any(one.param.startswith(place) for one in found.invalidParams), found


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b"\xff", b"[" * 100 + b"]" * 100])
def test_what_is_no_json_is_400(server: Server, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    refused(server.client.post(QOS, content=body, headers=headers), 400)


def test_other_media_long_bodies_and_methods_are_refused(server: Server) -> None:
    refused(server.client.post(QOS, content=b"{}", headers={"content-type": "text/plain"}), 415)
    json_type = {"content-type": "application/json"}
    refused(server.client.post(QOS, content=b" " * (1 << 21), headers=json_type), 413)
    parts = (b" " * 65536 for _ in range(40))  # chunked: says no length
    refused(server.client.post(QOS, content=parts, headers=json_type), 413)
    refused(server.client.delete(QOS), 405)
    assert server.client.delete(QOS).headers["allow"] == "GET, POST"
    refused(server.client.get("/nowhere"), 404)


def test_the_ue_of_a_subscription_cannot_be_changed(server: Server) -> None:
    link = server.client.post(QOS, json=qos(NOWHERE)).headers["location"]
    refused(server.client.put(link, json=qos(NOWHERE, ueIpv4Addr="10.0.0.3")), 422)


def location(url: str, **changes: Any) -> dict[str, Any]:
    return {"externalId": "ue1@example.com", "notificationDestination": url,
            "monitoringType": "LOCATION_REPORTING", "maximumNumberOfReports": 5} | changes  # fmt: skip


def test_one_location_is_answered_at_once_and_more_are_notified(server: Server) -> None:
    until(lambda: server.nef.world.second > 2)
    once = server.client.post(MONITORING, json=location(NOWHERE, maximumNumberOfReports=1))
    assert once.status_code == 200 and once.json()["monitoringType"] == "LOCATION_REPORTING"
    assert server.client.get(MONITORING).json() == []
    with sink() as out:
        made = location(out.url, repPeriod=1, maximumNumberOfReports=3, immediateRep=True)
        posted = server.client.post(MONITORING, json=made)
        assert posted.status_code == 201 and "monitoringEventReport" in posted.json()
        until(lambda: len(out.got) == 3)
        place = out.got[0]["monitoringEventReports"][0]["locationInfo"]
        assert place["cellId"].startswith(place["enodeBId"])
        assert out.got[2]["cancelInd"] is True
        assert out.got[0]["subscription"] == posted.headers["location"]
    refused(server.client.get(posted.headers["location"]), 404)


def test_a_monitoring_type_that_is_not_served_is_422(server: Server) -> None:
    refused(
        server.client.post(MONITORING, json=location(NOWHERE, monitoringType="ROAMING_STATUS")), 422
    )


def test_a_hung_destination_holds_nobody_up_and_ends(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung, sink() as out:
        far = f"http://127.0.0.1:{hung.getsockname()[1]}/"
        first = server.client.post(QOS, json=qos(far)).headers["location"]
        server.client.post(QOS, json=qos(out.url, ueIpv4Addr="10.0.0.2"))
        until(lambda: len(out.got) > 10)
        assert server.client.delete(first).status_code == 204
    assert "qos/qos-platform/" + first.rsplit("/", 1)[1] not in server.nef.callbacks.lines


def test_subscriptions_and_inventory_outlive_a_restart(tmp_path: Path) -> None:
    url = fresh_database()
    if url == "sqlite://":
        url += f"/{tmp_path / 'nef.sqlite'}"
    with nef_server(database_url=url, speed=0) as one:
        made = one.client.post(QOS, json=qos(NOWHERE)).json()
        supis = [ue["supi"] for ue in one.client.get("/api/v1/UEs").json()]
        assert one.client.delete(f"/api/v1/UEs/{supis[-1]}").status_code == 204
    with nef_server(database_url=url, speed=0) as two:
        assert two.client.get(QOS).json() == [made]
        assert [ue["supi"] for ue in two.client.get("/api/v1/UEs").json()] == supis[:-1]


def test_the_openapi_resolves(server: Server) -> None:
    made = server.client.get("/openapi.json").json()
    refs = json.dumps(made).split('"$ref": "')[1:]
    names = {ref.split('"')[0] for ref in refs}
    assert names and all(n.startswith("#/components/schemas/") for n in names)
    known = made["components"]["schemas"]
    assert {n.rsplit("/", 1)[1] for n in names} <= set(known)


def test_the_documentation_needs_no_other_host(server: Server) -> None:
    page = server.client.get("/docs")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {place.rsplit(".", 1)[1] for place in loaded} == {"js", "css", "png"}
    for place in loaded:
        assert place.startswith("/docs/assets/")
        assert server.client.get(place).status_code == 200
