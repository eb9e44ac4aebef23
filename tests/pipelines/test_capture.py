"""Captures over real HTTP: the simulated network, a NEF with faults, kill -9, and no subscriber left."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nef.client.journal import read_journal
from nef.client.settings import NefSettings
from pipelines.admit import split
from pipelines.capture import capture, run
from pipelines.sources.nef import JOURNAL, NefParams, nef
from schemas.errors import QosError
from schemas.tables import TABLES
from tests.nef.fake_nef import MONITORING, FakeNef
from tests.nef.server_kit import PASSWORD, nef_server
from tests.served import served

PROJECT = Path(__file__).parents[2]
KEY = "a key for the tests, 32 bytes.."
GRID = 0.001
CITY = (4, 1, 1)
BEFORE_POLLING = 4  # requests: two lists of subscriptions, the inventory, the first states
IMSI, EXTERNAL, ADDRESS = "202010000000001", "10001@domain.com", "10.9.8.7"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QOS_PSEUDONYM_KEY", KEY)


@pytest.fixture
def fake() -> Iterator[FakeNef]:
    nef_ = FakeNef()
    nef_.states = {IMSI: {"cell_id_hex": "AAAAA1001", "rsrps": {"AAAAA1001": -90}}}
    nef_.requirements = {IMSI: {"service_type": "embb"}}
    with served(nef_.app()) as url:
        nef_.url = url
        yield nef_


def settings(url: str, **changes: Any) -> NefSettings:
    given = {"api_url": url, "username": "admin", "password": "right", "timeout_s": 0.5,
             "deadline_s": 0.5}  # fmt: skip
    return NefSettings.model_validate(given | changes)


def journal(folder: Path) -> list[dict[str, Any]]:
    return list(read_journal(folder / JOURNAL))


def kinds(folder: Path) -> Counter[str]:
    return Counter(record["kind"] for record in journal(folder))


def test_the_simulated_network_is_captured_second_by_second(tmp_path: Path) -> None:
    done: list[int] = []
    course = capture(40, None, 1, tmp_path, GRID, CITY, told=done.append)
    assert (course.polls, course.unchanged, dict(course.failures)) == (41, 0, {})
    assert done == list(range(1, 41))
    found = nef(NefParams(captured=str(tmp_path)))
    assert len(found.tables["ue_radio"]) == 41 * 4
    seconds = found.tables["ue_radio"]["event_timestamp"].unique().sort().diff().drop_nulls()
    assert seconds.unique().dt.total_milliseconds().to_list() == [1000]
    told = {record["event"] for record in journal(tmp_path) if record["kind"] == "ue_event"}
    assert "LOCATION_REPORTING" in told
    assert kinds(tmp_path)["subscribed"] == kinds(tmp_path)["unsubscribed"] == 8
    assert all(split(name, found.tables[name])[1].is_empty() for name in TABLES)
    assert all(len(found.tables[name]) for name in TABLES if name != "network_event")


def test_an_interval_of_many_seconds_polls_that_rarely(tmp_path: Path) -> None:
    assert capture(40, None, 10, tmp_path, GRID, CITY).polls == 5
    assert kinds(tmp_path)["ue_state"] == 5 * 4


def test_a_second_capture_goes_on_and_simulates_no_second_twice(tmp_path: Path) -> None:
    for _ in range(2):
        capture(5, None, 1, tmp_path, GRID, CITY)
    assert kinds(tmp_path)["capture"] == 2
    found = nef(NefParams(captured=str(tmp_path)))
    assert split("ue_radio", found.tables["ue_radio"])[1].is_empty()
    assert len(found.tables["ue_radio"]) == 2 * 6 * 4


def test_a_journal_of_another_network_or_key_is_refused(
    tmp_path: Path, fake: FakeNef, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture(1, None, 1, tmp_path, GRID, CITY)
    before = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(QosError, match="rows of another network"):
        capture(1, settings(fake.url), 1, tmp_path, GRID)
    monkeypatch.setenv("QOS_PSEUDONYM_KEY", KEY[::-1])
    with pytest.raises(QosError, match="under another key"):
        capture(1, None, 1, tmp_path, GRID, CITY)
    assert (tmp_path / JOURNAL).read_bytes() == before


@pytest.mark.parametrize(("duration", "interval"), [(0, 1), (5, 0), (5, 6)])
def test_times_that_make_no_capture_are_refused(
    tmp_path: Path, duration: int, interval: int
) -> None:
    with pytest.raises(QosError, match="1 <= interval <= duration"):
        capture(duration, None, interval, tmp_path, GRID)
    assert list(tmp_path.iterdir()) == []


def test_a_nef_that_is_not_there_is_told_in_one_line_without_its_address(tmp_path: Path) -> None:
    with pytest.raises(QosError, match="NEF login: no answer") as told:
        capture(1, settings("http://127.0.0.1:1"), 1, tmp_path, GRID)
    assert "127.0.0.1" not in str(told.value)


@pytest.mark.parametrize(
    ("fault", "failures", "refused"),
    [
        ("401", {}, 0),
        ("forget", {}, 0),
        ("500", {}, 0),
        ("hang", {}, 0),
        ("busy", {}, 0),
        ("html", {"NEF states: 200, text/html; charset=utf-8 of 60 bytes: not JSON at character 1"}, 1),
    ],
)  # fmt: skip
def test_a_fault_in_the_middle_of_a_poll_does_not_end_the_capture(
    tmp_path: Path, fake: FakeNef, fault: str, failures: set[str], refused: int
) -> None:
    fake.faults.extend([""] * BEFORE_POLLING + [fault])
    course = capture(2, settings(fake.url), 1, tmp_path, GRID)
    assert len(course.failures) == len(failures) + 1  # the emulator has no inventory
    assert all(any(told.startswith(f[:20]) for told in course.failures) for f in failures)
    assert not fake.faults
    assert kinds(tmp_path)["ue_state"] == 3 - refused and kinds(tmp_path)["requirement"] == 1
    lines = list(read_journal(tmp_path / "nef.quarantine.ndjson"))
    assert [one["source"] for one in lines if one["source"] != "poll"] == []
    _no_name_in(tmp_path, [IMSI, "262011234567890"])


def test_states_that_are_refused_leave_the_others(tmp_path: Path, fake: FakeNef) -> None:
    fake.states |= {
        "202010000000002": {"rsrps": {"AAAAA1001": -412}},
        "202010000000003": {"cell_id_hex": None, "gnb_id_hex": None},
        "202010000000004": {"connected_to": "AAAAA1002", "enodeBId": 17},
    }
    capture(1, settings(fake.url), 1, tmp_path, GRID)
    found = nef(NefParams(captured=str(tmp_path)))
    good, bad = split("ue_radio", found.tables["ue_radio"])
    assert good["ue_id"].n_unique() == 3 and len(good) == 6
    assert set(bad["reason"]) == {"ue_radio: refused_at_capture"}
    assert len(bad) == 2  # a poll each
    gnbs = {record.get("gnb_id") for record in journal(tmp_path)}
    assert "17" in gnbs


def test_subscriptions_that_a_killed_capture_left_are_ended_and_others_stay(
    tmp_path: Path, fake: FakeNef
) -> None:
    for number, path in ((1, "/qos-capture"), (2, "/somebody-elses")):
        link = f"{MONITORING}/{number}"
        fake.subscriptions[link] = {
            "externalId": EXTERNAL, "monitoringType": "LOCATION_REPORTING",
            "maximumNumberOfReports": 5, "notificationDestination": f"http://127.0.0.1:1{path}",
            "link": f"http://nef.internal{link}",
        }  # fmt: skip
    capture(1, settings(fake.url), 1, tmp_path, GRID)
    assert fake.paths("DELETE") == [f"{MONITORING}/1"]


def _no_name_in(folder: Path, names: list[str], *said: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            assert not [name for name in names if name.encode() in content], path
    for text in said:
        assert not [name for name in names if name in text]


COMMAND = [sys.executable, "-m", "pipelines.capture"]


def _environment(folder: Path) -> dict[str, str]:
    (folder / "params.yaml").write_text("collect: {}\n")
    return os.environ | {
        "QOS_PSEUDONYM_KEY": KEY, "PYTHONPATH": str(PROJECT), "NEF_USERNAME": "admin",
        "NEF_PASSWORD": PASSWORD,
    }  # fmt: skip


def test_kill_9_loses_nothing_that_was_received_and_doubles_nothing(tmp_path: Path) -> None:
    """The NEF's time passes all the while; every second that it has answered must be in the journal
    but the one under way, once, and neither file nor output names a subscriber."""
    folder, said = tmp_path / "data" / "capture", ""
    with nef_server(speed=50.0, ues=4, sites=1) as server:
        scenario = server.client.get("/api/v1/scenario").json()
        names = [
            ue[key] for ue in scenario["ues"] for key in ("supi", "external_id", "ipv4") if ue[key]
        ]
        assert len(names) >= 4
        command = [*COMMAND, "--url", server.url, "--duration", "60", "--folder", str(folder)]
        for _ in range(2):
            process = subprocess.Popen(
                command, cwd=tmp_path, env=_environment(tmp_path), stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            before = len(journal(folder)) if folder.exists() else 0
            end = time.monotonic() + 60
            while not folder.exists() or len(journal(folder)) < before + 28:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < end
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            said += process.communicate(timeout=10)[0]
        records = journal(folder)
        assert [record["sequence"] for record in records] == list(range(1, len(records) + 1))
        states = [(r["ue_id"], r["event_timestamp"]) for r in records if r["kind"] == "ue_state"]
        assert len(states) == len(set(states)) and len(states) >= 16
        polled = Counter(when for _, when in states)
        assert sum(count < 4 for count in polled.values()) <= 2  # the answer under way at each kill
        standing = server.client.get(
            "/nef/api/v1/3gpp-monitoring-event/v1/qos-platform/subscriptions"
        )
        assert len(standing.json()) == 8  # the last one's, not those of all three
    _no_name_in(folder, names, said)


def test_ctrl_c_ends_in_order_and_tells_what_was_captured(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "capture"
    with nef_server(speed=20.0, ues=2, sites=1) as server:
        process = subprocess.Popen(
            [*COMMAND, "--url", server.url, "--duration", "600", "--folder", str(folder)],
            cwd=tmp_path, env=_environment(tmp_path), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        end = time.monotonic() + 60
        while not folder.exists() or kinds(folder)["ue_state"] < 4:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[0]
        assert process.returncode == 0, said
        left = server.client.get("/nef/api/v1/3gpp-monitoring-event/v1/qos-platform/subscriptions")
        assert left.json() == []
    assert "make run SOURCE=nef" in said and "ue_radio" in said


@pytest.mark.parametrize("arguments", [["--url", "nonsense"], ["--duration", "0"]])
def test_the_command_says_faults_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    (tmp_path / "params.yaml").write_text("collect: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["capture", *arguments])
    with pytest.raises(SystemExit) as ended:
        run()
    assert isinstance(ended.value.code, str) and "\n" not in ended.value.code
    assert arguments[0].strip("-") in ended.value.code
