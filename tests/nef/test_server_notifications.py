"""Notifications end to end: from the simulated second to a real HTTP server, and no further."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nef.client.callback import callback_app
from nef.client.collector import NEFQoSCollector
from nef.client.intake import Intake, quarantine_of
from nef.client.journal import read_journal
from nef.client.settings import NefSettings
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription
from tests.nef.server_kit import PASSWORD, QOS, Server, Sink, nef_server, qos, running, sink, until
from tests.nef.test_collector import PROTECTION


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with nef_server() as made:
        yield made


@pytest.fixture
def out() -> Iterator[Sink]:
    with sink() as made:
        yield made


def test_the_client_subscribes_and_its_journal_has_measured_reports(
    server: Server, tmp_path: Path
) -> None:
    with Intake(tmp_path / "nef.ndjson", PROTECTION) as intake:
        with running(callback_app(intake)) as here:
            settings = NefSettings.model_validate(
                {"api_url": server.url, "username": "admin", "password": PASSWORD}
            )
            with NEFQoSCollector(settings, intake) as collector:
                asked = AsSessionWithQoSSubscription.read(qos(f"{here}/callback"))
                created = collector.subscribe(asked)
                lines = until(
                    lambda: [
                        line
                        for line in read_journal(intake.journal.path)
                        if line["kind"] == "qos_report" and line.get("measured")
                    ]
                )
                states = collector.poll_states()
                polled = collector.poll(["001010000000001"])
                collector.unsubscribe(created.link)
        assert lines[0]["downlink_delays_ms"][0] > 0
        assert states.refused == 0 and len(states.sequences) == 8
        assert polled.refused == 0 and len(polled.sequences) == 1
        assert list(read_journal(quarantine_of(intake.journal.path))) == []


def test_deletion_drops_what_waits_for_a_slow_destination(server: Server, out: Sink) -> None:
    out.slow_s = 0.3
    reply = server.client.post(QOS, json=qos(out.url))
    key = "qos/qos-platform/" + reply.headers["location"].rsplit("/", 1)[1]
    until(lambda: out.got and len(server.nef.callbacks.lines[key].waiting) > 5)
    assert server.client.delete(reply.headers["location"]).status_code == 204
    after = time.monotonic()
    time.sleep(0.8)
    assert [at for at in out.at if at > after] == []
    assert key not in server.nef.callbacks.lines


def test_a_line_is_bounded_and_loses_its_oldest(out: Sink) -> None:
    out.slow_s = 0.5
    with nef_server(callback_queue=4) as server:
        link = server.client.post(QOS, json=qos(out.url)).headers["location"]
        key = "qos/qos-platform/" + link.rsplit("/", 1)[1]
        second = server.nef.world.second
        until(lambda: server.nef.world.second > second + 12)
        assert len(server.nef.callbacks.lines[key].waiting) <= 4
        assert 'outcome="dropped"' in server.client.get("/metrics").text


def test_a_put_changes_the_running_timer_and_the_destination(server: Server, out: Sink) -> None:
    with sink() as other:
        link = server.client.post(QOS, json=qos(out.url)).headers["location"]
        until(lambda: len(out.got) > 2)
        monitor = {"reqQosMonParams": ["DOWNLINK"], "repFreqs": ["PERIODIC"], "repPeriod": 10}
        changed = server.client.put(link, json=qos(other.url, qosMonInfo=monitor))
        assert changed.status_code == 200
        count, began = len(out.got), time.monotonic()
        until(lambda: other.events().count("QOS_MONITORING") == 2)
        assert time.monotonic() - began > 0.8  # 20 simulated seconds at 20 a second
        assert len(out.got) <= count
        assert server.client.delete(link).status_code == 204


def test_a_failing_destination_is_tried_again_and_a_refusing_one_is_not(
    server: Server, out: Sink
) -> None:
    once = {"events": ["SUCCESSFUL_RESOURCES_ALLOCATION"]}
    for status, tries in ((503, 3), (410, 1)):
        out.status, before = status, len(out.got)
        link = server.client.post(QOS, json=qos(out.url, **once)).headers["location"]
        until(lambda: len(out.got) == before + tries)  # noqa: B023
        time.sleep(0.7)
        assert len(out.got) == before + tries
        assert server.client.delete(link).status_code == 204


def test_deletion_stops_notifications_at_once(server: Server, out: Sink) -> None:
    reply = server.client.post(QOS, json=qos(out.url))
    assert reply.status_code == 201
    until(lambda: len(out.got) > 3)
    assert server.client.delete(reply.headers["location"]).status_code == 204
    after = time.monotonic()
    time.sleep(0.5)
    assert [at for at in out.at if at > after + 0.02] == []
    assert server.client.get(reply.headers["location"]).status_code == 404
