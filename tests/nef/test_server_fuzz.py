"""Whatever is sent: no crash, no 5xx, and a refusal that is a problem with its reason."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription
from schemas.nef.common import ProblemDetails
from schemas.nef.monitoring_event import MonitoringEventSubscription
from tests.nef.server_kit import MONITORING, QOS, Server, nef_server, qos, until

NASTY: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 2**70, 1e308, "", "null", "\x00", "9" * 5000, "∞", [], {}, [[]], "10.0.0.1",
     "http://[::1", "http://a b/", "http://xn--/", "PERIODIC", 9, "9", {"a": {"b": [1, None]}}]
)  # fmt: skip
JSON = st.recursive(NASTY, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.text(max_size=5), inner, max_size=3), max_leaves=8)  # fmt: skip
NAMES = sorted(
    {*AsSessionWithQoSSubscription.model_fields, *MonitoringEventSubscription.model_fields,
     "self", "link", "ipv4Addr", "repPeriod", "reqQosMonParams", "repFreqs"}
)  # fmt: skip
CHANGES = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), JSON, max_size=4)
PLACES = st.sampled_from(
    [QOS, MONITORING, "/api/v1/UEs", "/api/v1/gNBs", "/api/v1/Cells", "/api/v1/paths",
     "/api/v1/ue_movement/start-loop", "/api/v1/ue_movement/stop-loop"]
)  # fmt: skip
LIMITS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with nef_server(max_subscriptions=50, callback_timeout_s=0.2) as made:
        yield made


def judged(reply: Any) -> None:
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        assert reply.headers["content-type"] == "application/problem+json"
        found = ProblemDetails.read(reply.json())
        assert found.status == reply.status_code and found.detail


@LIMITS
@given(place=PLACES, changes=CHANGES)
def test_mutated_subscriptions(server: Server, place: str, changes: dict[str, Any]) -> None:
    reply = server.client.post(place, json=qos("http://127.0.0.1:9/", **changes))
    judged(reply)
    if reply.status_code == 201:
        judged(server.client.get(reply.headers["location"]))
        judged(server.client.get(place))
        assert server.client.delete(reply.headers["location"]).status_code == 204


@LIMITS
@given(changes=CHANGES)
def test_patches(server: Server, changes: dict[str, Any]) -> None:
    made = server.client.post(QOS, json=qos("http://127.0.0.1:9/"))
    link = made.headers["location"]
    media = {"content-type": "application/merge-patch+json"}
    judged(server.client.patch(link, content=json.dumps(changes), headers=media))
    assert server.client.delete(link).status_code == 204


@LIMITS
@given(place=PLACES, body=st.binary(max_size=200) | JSON.map(lambda one: json.dumps(one).encode()))
def test_any_bytes(server: Server, place: str, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    judged(server.client.post(place, content=body, headers=headers))


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 400])
def test_a_number_that_no_float_holds(server: Server, number: str) -> None:
    body = json.dumps(qos("http://127.0.0.1:9/", sponsorInfo={"x": 0})).replace(
        '{"x": 0}', f'{{"x": {number}}}'
    )
    headers = {"content-type": "application/json"}
    reply = server.client.post(QOS, content=body, headers=headers)
    judged(reply)
    assert reply.status_code in (201, 400, 422)
    if reply.status_code == 201:
        assert server.client.delete(reply.headers["location"]).status_code == 204


@pytest.mark.parametrize("host", ["", "a b", "[", "evil/..", "x" * 300, "h:99999999"])
def test_a_strange_host_header(server: Server, host: str) -> None:
    reply = server.client.post(QOS, json=qos("http://127.0.0.1:9/"), headers={"host": host})
    assert reply.status_code < 500
    for link in [one.key.split("/")[2] for one in server.nef.subscriptions.values()]:
        assert server.client.delete(f"{QOS}/{link}").status_code == 204


def test_the_clock_still_runs(server: Server) -> None:
    before = server.nef.world.second
    until(lambda: server.nef.world.second > before + 3)
