"""Callbacks over real HTTP and what is kept of them: both dialects, the emulators' quirks, a kill -9."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.pseudonym import pseudonym
from nef.client import journal as module
from nef.client.callback import callback_app
from nef.client.intake import MAX_BODY_BYTES, Intake, quarantine_of
from nef.client.journal import read_journal
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription
from schemas.nef.monitoring_event import MonitoringEventSubscription
from tests.nef.test_collector import KEY, PROTECTION
from tests.served import served

LINK = "http://nef/nef/api/v1/3gpp-as-session-with-qos/v1/qos-platform/subscriptions/1"
EXTERNAL = "10001@domain.com"
REPORT = {"event": "QOS_MONITORING", "qosMonReports": [{"dlDelays": [4, 6], "ulDelays": [9]}]}
EMULATORS = {
    "transaction": LINK,
    "ipv4Addr": "10.0.0.1",
    "eventReports": [
        {
            "event": "QOS_GUARANTEED",
            "accumulatedUsage": {"duration": None, "totalVolume": None, "downlinkVolume": None,
                                 "uplinkVolume": None},
            "appliedQosRef": None,
            "qosMonReports": [{"ulDelays": [0], "dlDelays": [0], "rtDelays": [0]}],
        }
    ],
}  # fmt: skip
LOCATION = {
    "externalId": EXTERNAL,
    "ipv4Addr": "10.0.0.1",
    "subscription": LINK.replace("as-session-with-qos", "monitoring-event"),
    "monitoringType": "LOCATION_REPORTING",
    "locationInfo": {"cellId": "AAAAA1001", "gNBId": "AAAAA1"},
}
CAMARA = {
    "id": "83a0d986-0866-4f38-b8c0-fc65bfcda452",
    "source": "https://api.example.com/qod/v1/sessions/123",
    "specversion": "1.0",
    "type": "org.camaraproject.quality-on-demand.v1.qos-status-changed",
    "time": "2026-01-01T00:00:00Z",
    "data": {"sessionId": "123e4567-e89b-12d3-a456-426614174000", "qosStatus": "UNAVAILABLE",
             "statusInfo": "DURATION_EXPIRED"},
}  # fmt: skip


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    with Intake(tmp_path / "nef.ndjson", PROTECTION) as opened:
        yield opened


def body(content: object) -> bytes:
    return json.dumps(content).encode()


def kept(intake: Intake) -> list[dict[str, Any]]:
    return list(read_journal(intake.journal.path))


def quarantined(intake: Intake) -> list[dict[str, Any]]:
    return list(read_journal(intake.quarantine.path))


def subscribe(intake: Intake) -> None:
    asked = AsSessionWithQoSSubscription.read(
        {"ueIpv4Addr": "10.0.0.7", "notificationDestination": "http://x"}
    )
    intake.subscribed(LINK, asked)


def test_a_standard_notification_bears_the_ue_of_its_subscription(intake: Intake) -> None:
    subscribe(intake)
    receipt = intake.receive(body({"transaction": LINK, "eventReports": [REPORT, REPORT]}))
    assert (receipt.status, receipt.sequences) == (204, (2, 3))
    line = kept(intake)[1]
    assert line["ue_id"] == pseudonym("10.0.0.7", KEY)
    assert line["downlink_delays_ms"] == [4.0, 6.0] and line["uplink_delays_ms"] == [9.0]
    assert line["measured"] is True and line["round_trip_delays_ms"] is None


def test_the_emulators_zeros_and_nulls_are_kept_as_not_measured(intake: Intake) -> None:
    assert intake.receive(body(EMULATORS)).status == 204
    [line] = kept(intake)
    assert line["event"] == "QOS_GUARANTEED" and line["measured"] is False
    assert line["downlink_delays_ms"] is None and line["used_bytes"] is None
    assert line["ue_id"] == pseudonym("10.0.0.1", KEY)
    assert "10.0.0.1" not in intake.journal.path.read_text()


def test_a_location_report_is_kept_in_both_dialects(intake: Intake) -> None:
    standard = {
        "subscription": LOCATION["subscription"],
        "monitoringEventReports": [
            {
                "externalId": EXTERNAL,
                "monitoringType": "LOCATION_REPORTING",
                "locationInfo": {"cellId": "AAAAA1001", "enodeBId": "AAAAA1"},
            }
        ],
    }
    for content in (LOCATION, standard):
        assert intake.receive(body(content)).status == 204
    emulated, plain = (line | {"sequence": 0, "received_at": ""} for line in kept(intake))
    assert emulated == plain
    assert plain["cell_id"] == "AAAAA1001" and plain["gnb_id"] == "AAAAA1"
    assert plain["ue_id"] == pseudonym(EXTERNAL, KEY)
    assert EXTERNAL not in intake.journal.path.read_text()


def test_a_ue_without_coverage_is_kept_without_a_cell(intake: Intake) -> None:
    lost = {"subscription": LINK, "monitoringType": "LOSS_OF_CONNECTIVITY", "externalId": EXTERNAL,
            "lossOfConnectReason": 7}  # fmt: skip
    nowhere = LOCATION | {"locationInfo": {"cellId": None, "enodeBId": None}}
    assert intake.receive(body(lost)).status == intake.receive(body(nowhere)).status == 204
    assert [(line["cell_id"], line["loss_reason"]) for line in kept(intake)] == [
        (None, 7),
        (None, None),
    ]


def test_notifications_after_the_deletion_are_refused_even_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "nef.ndjson"
    with Intake(path, PROTECTION) as intake:
        subscribe(intake)
        assert intake.receive(body(EMULATORS)).status == 204
        intake.unsubscribed(LINK)
        assert intake.receive(body(EMULATORS)).status == 404
    with Intake(path, PROTECTION) as intake:
        receipt = intake.receive(body(EMULATORS))
        assert receipt.status == 404 and receipt.problem is not None
        assert receipt.problem.invalidParams[0].reason == "the subscription was deleted"  # type: ignore[index]
        assert len(quarantined(intake)) == 2
        assert "10.0.0.1" not in intake.quarantine.path.read_text()
        subscribe(intake)  # the same number again
        assert intake.receive(body(EMULATORS)).status == 204


def test_a_restart_knows_the_subscriptions_ue_again(tmp_path: Path) -> None:
    path = tmp_path / "nef.ndjson"
    with Intake(path, PROTECTION) as intake:
        subscribe(intake)
    with Intake(path, PROTECTION) as intake:
        intake.receive(body({"transaction": LINK, "eventReports": [REPORT]}))
        assert kept(intake)[1]["ue_id"] == pseudonym("10.0.0.7", KEY)


def test_the_networks_own_end_of_a_subscription_ends_it(intake: Intake) -> None:
    asked = MonitoringEventSubscription.read(
        {"externalId": EXTERNAL, "notificationDestination": "http://x", "maximumNumberOfReports": 1,
         "monitoringType": "LOCATION_REPORTING"}
    )  # fmt: skip
    intake.subscribed(LINK, asked)
    assert intake.receive(body({"subscription": LINK, "cancelInd": True})).status == 204
    assert intake.receive(body(LOCATION | {"subscription": LINK})).status == 404


def test_a_camara_event_is_kept_once_however_often_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "nef.ndjson"
    with Intake(path, PROTECTION) as intake:
        assert [intake.receive(body(CAMARA)).status for _ in range(2)] == [204, 204]
    with Intake(path, PROTECTION) as intake:
        assert intake.receive(body(CAMARA)).status == 204
        [line] = kept(intake)
        assert line["status"] == "UNAVAILABLE" and line["reason"] == "DURATION_EXPIRED"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"<html>imsi-262011234567890</html>", "not JSON"),
        (b'{"transaction": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[" * 40 + b"]" * 40, "nested deeper than 32"),
        (b'{"transaction":' * 200 + b"1" + b"}" * 200, "nested deeper than 32"),
        (b"[]", "no object"),
        (b"{}", "none of transaction"),
        (body({"transaction": LINK}), "eventReports: Field required"),
        (body({"transaction": LINK, "eventReports": []}), "eventReports: List should have at least 1"),
        (body({"transaction": LINK, "eventReports": [{"event": "EXPLODED"}]}), "eventReports.0.event"),
        (body(LOCATION | {"monitoringType": "?"}), "monitoringEventReports.0.monitoringType"),
        (body({"subscription": LINK}), "no report and no end"),
        (body(CAMARA | {"specversion": "2.0"}), "specversion"),
        (body(EMULATORS | {"ipv4Addr": "262011234567890"}), "ueIpv4Addr"),
    ],
)  # fmt: skip
def test_what_is_no_notification_is_refused_with_its_reason(
    intake: Intake, content: bytes, reason: str
) -> None:
    receipt = intake.receive(content)
    assert receipt.status == 400 and receipt.problem is not None
    [line] = quarantined(intake)
    assert any(reason in told for told in line["reasons"])
    assert "262011234567890" not in json.dumps(line) + str(receipt.problem.wire())
    assert not kept(intake)


def test_a_transaction_that_is_no_url_is_kept_as_it_is(intake: Intake) -> None:
    assert intake.receive(body(EMULATORS | {"transaction": "http://["})).status == 204
    assert kept(intake)[0]["subscription"] == "http://["


def test_what_json_cannot_say_is_refused_all_the_same(intake: Intake) -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for value in (nested, {1: 2}, "\ud800", float("nan"), 10**5000, object(), b"\xff"):
        assert intake.requirement("a", {"latency": value}) is None
        assert intake.state("a", value) is None
    assert intake.quarantine.sequence == 14


def test_every_fault_of_a_notification_is_told_at_once(intake: Intake) -> None:
    reports = [
        {"event": "QOS_MONITORING", "qosMonReports": [{"dlDelays": [-1], "ulDelays": ["x"]}]},
        {"event": "USAGE_REPORT", "accumulatedUsage": {"totalVolume": 1.5, "duration": True}},
    ]
    receipt = intake.receive(body({"transaction": LINK, "eventReports": reports}))
    assert receipt.problem is not None and len(receipt.problem.invalidParams or []) == 4


def test_a_torn_line_goes_to_quarantine_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "nef.ndjson"
    with Intake(path, PROTECTION) as intake:
        intake.receive(body(EMULATORS))
    path.write_bytes(path.read_bytes() + b'{"sequence":2,"kind":"qos_re')
    with Intake(path, PROTECTION) as intake:
        assert quarantined(intake)[0]["reasons"] == ["line: torn by a crash"]
        assert intake.receive(body(EMULATORS)).sequences == (2,)


def test_a_refused_second_intake_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "nef.ndjson"
    path.write_bytes(b'{"sequence":1}\nbroken\n{"sequence":3}\n')
    for _ in range(2):
        with pytest.raises(Exception, match="line 2"):
            Intake(path, PROTECTION)


ANY: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text("a1.é", max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=4,
)


@st.composite
def spoiled(draw: st.DrawFn) -> Any:
    """A good notification with one value anywhere replaced or left out."""
    content = json.loads(json.dumps(draw(st.sampled_from([EMULATORS, LOCATION, CAMARA]))))
    place: Any = content
    while True:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        if draw(st.booleans()):
            place[key] = draw(ANY)
        else:
            del place[key]
        return content


@given(spoiled() | ANY)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_body_is_kept_or_quarantined_and_never_breaks_the_intake(
    intake: Intake, content: Any
) -> None:
    before = intake.journal.sequence, intake.quarantine.sequence
    receipt = intake.receive(body(content))
    written = intake.journal.sequence - before[0]
    refused = intake.quarantine.sequence - before[1]
    assert written == len(receipt.sequences)
    assert refused == (receipt.status != 204)
    assert (receipt.problem is None) == (receipt.status == 204)
    assert not (written and refused)


# -- over HTTP ------------------------------------------------------------------------------------


def test_the_callback_answers_over_http_after_the_disk_has_it(intake: Intake) -> None:
    with served(callback_app(intake)) as url, httpx.Client(base_url=url) as client:
        assert client.post("/callback", content=body(EMULATORS)).status_code == 204
        assert intake.journal.synced == intake.journal.sequence == 1
        bad = client.post("/callback", content=b"<html>")
        assert bad.status_code == 400
        assert bad.headers["content-type"] == "application/problem+json"
        assert bad.json()["invalidParams"] == [
            {"param": "body", "reason": "not JSON at character 0"}
        ]
        assert client.get("/callback").status_code == 405
        assert client.post("/callback", content=b"x" * (MAX_BODY_BYTES + 2)).status_code == 413


def test_callbacks_at_once_share_their_fsyncs_and_lose_nothing(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = module.os.fdatasync
    monkeypatch.setattr(module.os, "fdatasync", lambda file: (calls.append(1), real(file))[1])
    with served(callback_app(intake)) as url:

        def send() -> None:
            with httpx.Client(base_url=url) as client:
                for _ in range(25):
                    assert client.post("/callback", content=body(EMULATORS)).status_code == 204

        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(kept(intake)) == 100 and intake.journal.synced == 100
    assert len(calls) <= 100


SERVER = """
import sys
from pathlib import Path
import uvicorn
from nef.client.callback import callback_app
from nef.client.intake import Intake
from nef.client.protect import Protection
app = callback_app(Intake(Path(sys.argv[1]), Protection(str, str)))
uvicorn.run(app, fd=int(sys.argv[2]), log_level="critical", lifespan="off")
"""


def test_every_acknowledged_callback_outlives_kill_9_of_the_server(tmp_path: Path) -> None:
    path = tmp_path / "nef.ndjson"
    acknowledged: list[int] = []
    sent = 0
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            server = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(path), str(listener.fileno())],
                pass_fds=[listener.fileno()],
            )
        killer: threading.Timer | None = None
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            try:
                while True:
                    sent += 1
                    content = body(LOCATION | {"lossOfConnectReason": sent})
                    assert client.post("/callback", content=content).status_code == 204
                    acknowledged.append(sent)
                    if killer is None:
                        killer = threading.Timer(0.3, server.send_signal, [signal.SIGKILL])
                        killer.start()
            except httpx.TransportError:
                server.wait(10)
        found = [line["loss_reason"] for line in read_journal(path)]
        assert set(acknowledged) <= set(found) <= set(range(1, sent + 1))
        assert len(found) == len(set(found))
    assert len(acknowledged) > 30
    assert list(read_journal(quarantine_of(path))) == []
