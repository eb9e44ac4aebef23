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
from tests.nef.server_kit import PASSWORD, QOS, Server, Sink, nef_server, qos, sink, until
from tests.nef.test_collector import PROTECTION
from tests.served import served


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
        with served(callback_app(intake)) as here:
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


@pytest.fixture
def still() -> Iterator[Server]:
    """Its seconds pass when the test says so."""
    with nef_server(speed=0, callback_queue=4, callback_timeout_s=30.0) as made:
        yield made


def key_of(link: str) -> str:
    return "qos/qos-platform/" + link.rsplit("/", 1)[1]


def test_deletion_stops_notifications_at_once_and_drops_what_waits(
    still: Server, out: Sink
) -> None:
    out.answers.clear()
    link = still.client.post(QOS, json=qos(out.url)).headers["location"]
    still.pass_seconds(4)
    until(lambda: len(out.got) == 1)  # it is in the destination's hands, the others wait
    assert len(still.nef.callbacks.lines[key_of(link)].waiting) == 3
    assert still.client.delete(link).status_code == 204
    assert key_of(link) not in still.nef.callbacks.lines
    out.answers.set()
    still.pass_seconds(5)
    with sink() as other:  # what is told later arrives
        still.client.post(QOS, json=qos(other.url))
        still.pass_seconds(2)
        until(lambda: other.got)
    assert len(out.got) == 1
    assert still.client.get(link).status_code == 404


def test_a_line_is_bounded_and_loses_its_oldest(still: Server, out: Sink) -> None:
    out.answers.clear()
    link = still.client.post(QOS, json=qos(out.url)).headers["location"]
    still.pass_seconds(1)
    until(lambda: len(out.got) == 1)
    still.pass_seconds(11)
    assert len(still.nef.callbacks.lines[key_of(link)].waiting) == 4
    assert 'outcome="dropped"} 7.0' in still.client.get("/metrics").text


def test_a_put_changes_the_running_timer_and_the_destination(still: Server, out: Sink) -> None:
    with sink() as other:
        link = still.client.post(QOS, json=qos(out.url)).headers["location"]
        still.pass_seconds(3)
        until(lambda: out.events().count("QOS_MONITORING") == 3)
        monitor = {"reqQosMonParams": ["DOWNLINK"], "repFreqs": ["PERIODIC"], "repPeriod": 10}
        changed = still.client.put(link, json=qos(other.url, qosMonInfo=monitor))
        assert changed.status_code == 200
        still.pass_seconds(9)
        still.pass_seconds(11)
        until(lambda: other.events().count("QOS_MONITORING") == 2)
        assert out.events().count("QOS_MONITORING") == 3


def test_a_failing_destination_is_tried_again_and_a_refusing_one_is_not(
    still: Server, out: Sink
) -> None:
    once = {"events": ["SUCCESSFUL_RESOURCES_ALLOCATION"]}
    for status, tries in ((503, 3), (410, 1)):
        out.status, before = status, len(out.got)
        link = still.client.post(QOS, json=qos(out.url, **once)).headers["location"]
        still.pass_seconds(2)
        until(lambda: len(out.got) == before + tries)  # noqa: B023
        time.sleep(0.7)
        assert len(out.got) == before + tries
        assert still.client.delete(link).status_code == 204
