"""The collector against a real HTTP server, with the faults that real NEFs show."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle.pseudonym import pseudonym, scrub
from nef.client.collector import AsyncNEFQoSCollector, NEFQoSCollector, Polled
from nef.client.exchange import NefError
from nef.client.intake import Intake, quarantine_of
from nef.client.journal import read_journal
from nef.client.protect import Protection
from nef.client.retry import Backoff, CircuitOpen
from nef.client.settings import NefSettings, read_settings
from schemas.errors import QosError
from schemas.nef.as_session_with_qos import AsSessionWithQoSSubscription
from schemas.nef.monitoring_event import MonitoringEventSubscription
from tests.nef.fake_nef import MONITORING, QOS, FakeNef
from tests.served import served

KEY = b"a key that is long enough"
PROTECTION = Protection(lambda text: pseudonym(text, KEY), lambda text: scrub(text, KEY, 3))
FAST = Backoff(attempts=4, base_s=0.001, cap_s=0.002)
IMSI = "262011234567890"
ASKED = AsSessionWithQoSSubscription.read(
    {
        "ueIpv4Addr": "10.0.0.1",
        "notificationDestination": "http://127.0.0.1:1/callback",
        "qosReference": "82",
        "qosMonInfo": {"reqQosMonParams": ["DOWNLINK"], "repFreqs": ["EVENT_TRIGGERED"]},
    }
)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeNef]:
    fake = FakeNef()
    with served(fake.app()) as url:
        fake.url = url
        yield fake


@pytest.fixture
def nef(server: FakeNef) -> FakeNef:
    vars(server).update(vars(FakeNef(url=server.url)))
    return server


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    with Intake(tmp_path / "nef.ndjson", PROTECTION) as opened:
        yield opened


def settings(nef: FakeNef, **changes: Any) -> NefSettings:
    values: dict[str, Any] = {"api_url": nef.url, "username": "admin", "password": "right"}
    return NefSettings(**values | {"timeout_s": 0.5, "deadline_s": 2.0} | changes)


@pytest.fixture(params=["sync", "async"])
def act(request: pytest.FixtureRequest, nef: FakeNef, intake: Intake) -> Any:
    """Calls one collector's methods in order and returns the last one's result."""

    def steps(*calls: tuple[Any, ...], **changes: Any) -> Any:
        chosen = settings(nef, **changes)
        if request.param == "sync":
            with NEFQoSCollector(chosen, intake, FAST) as collector:
                return [getattr(collector, name)(*given) for name, *given in calls][-1]

        async def all_of_them() -> Any:
            async with AsyncNEFQoSCollector(chosen, intake, FAST) as collector:
                return [await getattr(collector, name)(*given) for name, *given in calls][-1]

        return asyncio.run(all_of_them())

    return steps


def kept(intake: Intake) -> list[dict[str, Any]]:
    return list(read_journal(intake.journal.path))


def quarantined(intake: Intake) -> list[dict[str, Any]]:
    return list(read_journal(quarantine_of(intake.journal.path)))


def test_the_first_request_logs_in_and_later_ones_use_its_token(nef: FakeNef, act: Any) -> None:
    act(("subscriptions",), ("subscriptions",))
    assert len(nef.logins) == 1 and nef.logins[0]["grant_type"] == "password"
    assert nef.paths("GET") == [QOS, QOS]


def test_a_wrong_password_is_told_without_the_password(act: Any) -> None:
    with pytest.raises(NefError, match="NEF login: 400") as error:
        act(("login",), password="wrong")
    assert "wrong" not in str(error.value)


def test_a_401_in_the_middle_of_a_poll_renews_the_token_once(
    nef: FakeNef, act: Any, intake: Intake
) -> None:
    nef.requirements = {"a": {"latency_ms": 5}, "b": {"latency_ms": 6}, "c": {"latency_ms": 7}}
    nef.faults.extend(["", "forget"])
    polled = act(("poll", ["a", "b", "c"]), concurrency=1)
    assert len(polled.sequences) == 3 and not polled.failed
    assert len(nef.logins) == 2
    assert [r["delay_ms"] for r in kept(intake)] == [5.0, 6.0, 7.0]


def test_a_server_that_always_says_401_is_asked_twice_not_for_ever(nef: FakeNef, act: Any) -> None:
    nef.faults.extend(["401"] * 9)
    with pytest.raises(NefError, match="401"):
        act(("subscriptions",))
    assert nef.paths("GET") == [QOS, QOS]


def test_a_token_is_renewed_before_it_ends_by_its_refresh_token(nef: FakeNef, act: Any) -> None:
    nef.expires_in, nef.gives_refresh = 1.0, True
    act(("subscriptions",), ("subscriptions",))
    assert [form["grant_type"] for form in nef.logins] == ["password", "refresh_token"]


def test_a_refresh_token_that_is_refused_gives_way_to_the_password(nef: FakeNef, act: Any) -> None:
    nef.expires_in, nef.gives_refresh, nef.honours_refresh = 1.0, True, False
    act(("subscriptions",), ("subscriptions",))
    kinds = [form["grant_type"] for form in nef.logins]
    assert kinds == ["password", "refresh_token", "password"]


@pytest.mark.parametrize("fault", ["500", "502", "busy", "429"])
def test_a_passing_fault_is_retried(nef: FakeNef, act: Any, fault: str) -> None:
    nef.faults.extend([fault, fault])
    assert act(("subscriptions",)) == []
    assert len(nef.paths("GET")) == 3


def test_a_lasting_500_is_told_after_the_last_attempt_without_the_subscriber(
    nef: FakeNef, act: Any
) -> None:
    nef.faults.extend(["500"] * 9)
    with pytest.raises(NefError, match="500: Broken") as error:
        act(("subscriptions",))
    assert IMSI not in str(error.value)
    assert len(nef.paths("GET")) == FAST.attempts


def test_the_circuit_opens_after_failures_in_a_row_and_sends_no_more(
    nef: FakeNef, act: Any
) -> None:
    nef.faults.extend(["500"] * 99)
    polled: Polled = act(("poll", ["a", "b", "c"]), concurrency=1)
    assert len(nef.paths("GET")) == 5
    assert "failures in a row" in polled.failed["c"]
    with pytest.raises(CircuitOpen):
        act(("poll", ["a", "b"]), ("subscriptions",), concurrency=1)


def test_a_subscription_that_may_have_arrived_is_not_sent_again(nef: FakeNef, act: Any) -> None:
    nef.faults.append("hang")
    with pytest.raises(NefError, match="no answer"):
        act(("subscribe", ASKED))
    assert nef.paths("POST")[1:] == [QOS]


def test_a_subscription_that_was_refused_as_too_busy_is_sent_again(nef: FakeNef, act: Any) -> None:
    nef.faults.append("busy")
    assert act(("subscribe", ASKED)).link.endswith("/1")
    assert len(nef.subscriptions) == 1


def test_a_hung_socket_ends_with_the_deadline(nef: FakeNef, act: Any) -> None:
    nef.faults.extend(["hang", ""])
    assert act(("subscriptions",)) == []  # the second attempt


def test_an_answer_that_never_ends_ends_with_the_deadline(nef: FakeNef, act: Any) -> None:
    nef.faults.extend(["drip", ""])
    started = time.monotonic()
    assert act(("subscriptions",), deadline_s=0.3) == []
    assert time.monotonic() - started < 5


def test_an_answer_beyond_the_limit_is_not_read(nef: FakeNef, act: Any) -> None:
    nef.faults.extend(["flood"] * 9)
    with pytest.raises(NefError, match="more than 1024 bytes"):
        act(("subscriptions",), max_bytes=1024)


def test_a_cancelled_request_leaves_the_circuit_as_it_was(nef: FakeNef, intake: Intake) -> None:
    async def broken_off() -> None:
        async with AsyncNEFQoSCollector(settings(nef), intake, FAST) as collector:
            await collector.login()
            breaker = collector._session.breaker
            breaker.open_s = 0.0
            for _ in range(breaker.failures):
                breaker.fail()
            nef.faults.append("hang")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await collector.subscriptions()
            assert await collector.subscriptions() == []  # the one try is free again

    asyncio.run(broken_off())


def test_html_instead_of_json_goes_to_quarantine_without_the_subscriber(
    nef: FakeNef, act: Any, intake: Intake
) -> None:
    nef.faults.append("html")
    polled = act(("poll", ["a"]))
    assert "200, text/html; charset=utf-8 of 55 bytes: not JSON" in polled.failed["a"]
    [line] = quarantined(intake)
    assert "not JSON" in line["reasons"][0] and "<html>" in line["text"]
    assert IMSI not in json.dumps(line)


def test_subscribe_list_get_and_delete(nef: FakeNef, act: Any, intake: Intake) -> None:
    created = act(("subscribe", ASKED))
    assert created.link == f"http://nef.internal{QOS}/1"
    assert (
        nef.subscriptions[f"{QOS}/1"]["ueIpv4Addr"] == "10.0.0.1"
    )  # the standard's dialect is written
    [listed] = act(("subscriptions",))
    assert listed == created == act(("subscription", created))
    act(("unsubscribe", created.link))
    assert not nef.subscriptions
    act(("unsubscribe", created.link))  # gone already: as good as deleted
    assert [line["kind"] for line in kept(intake)] == ["subscribed", "unsubscribed", "unsubscribed"]
    assert kept(intake)[0]["ue_id"] == pseudonym("10.0.0.1", KEY)


def test_monitoring_events_are_subscribed_at_their_own_place(nef: FakeNef, act: Any) -> None:
    asked = MonitoringEventSubscription.read(
        {"externalId": "10001@domain.com", "notificationDestination": "http://x",
         "monitoringType": "LOCATION_REPORTING", "maximumNumberOfReports": 5}
    )  # fmt: skip
    created = act(("subscribe", ASKED), ("subscribe", asked))
    assert created.link == f"http://nef.internal{MONITORING}/2"
    assert act(("subscriptions", MonitoringEventSubscription)) == [created]
    assert len(act(("subscriptions",))) == 1
    act(("unsubscribe", created.link))
    assert list(nef.subscriptions) == [f"{QOS}/1"]


def test_a_subscription_whose_answer_was_lost_is_known_from_the_list(
    nef: FakeNef, act: Any, intake: Intake
) -> None:
    nef.faults.append("late")
    with pytest.raises(NefError, match="no answer"):
        act(("subscribe", ASKED))
    assert len(nef.subscriptions) == 1 and kept(intake) == []
    [found] = act(("subscriptions",))
    report = {"transaction": found.link, "eventReports": [{"event": "QOS_GUARANTEED"}]}
    assert intake.receive(json.dumps(report).encode()).status == 204
    assert [line["kind"] for line in kept(intake)] == ["subscribed", "qos_report"]
    assert kept(intake)[1]["ue_id"] == pseudonym("10.0.0.1", KEY)


def test_many_polls_at_once_share_one_renewal(nef: FakeNef, intake: Intake) -> None:
    ues = [f"ue{number}" for number in range(40)]
    nef.requirements = {ue: {"latency_ms": 5} for ue in ues}

    async def poll() -> Polled:
        async with AsyncNEFQoSCollector(settings(nef, concurrency=8), intake, FAST) as collector:
            nef.faults.extend([""] * 20 + ["forget"])
            return await collector.poll(ues)

    polled = asyncio.run(poll())
    assert len(polled.sequences) == 40 and not polled.failed
    assert len(nef.logins) == 2


def test_a_link_that_is_not_ours_is_not_followed(nef: FakeNef, act: Any) -> None:
    with pytest.raises(NefError, match="no subscription of this NEF"):
        act(("unsubscribe", "http://elsewhere/admin/delete-all"))
    for link in ("http://[", f"http://nef{QOS}", f"http://nef{QOS}/", f"http://nef{QOS}/..",
                 f"http://nef{QOS}/1/2", f"http://nef{QOS}/../x"):  # fmt: skip
        with pytest.raises(NefError, match="no subscription of this NEF"):
            act(("unsubscribe", link))
    assert not nef.paths("DELETE")


def test_a_link_through_a_gateway_is_followed_at_our_own_base(nef: FakeNef, act: Any) -> None:
    act(("subscribe", ASKED), ("unsubscribe", f"https://gateway/nef-7{QOS}/1?x=y"))
    assert nef.paths("DELETE") == [f"{QOS}/1"]


def test_a_list_with_doubled_and_faulty_subscriptions_keeps_the_good_ones(
    nef: FakeNef, act: Any, intake: Intake
) -> None:
    good = {"link": f"{QOS}/1", "ipv4Addr": "10.0.0.1", "notificationDestination": "http://x"}
    nef.listed = [good, good, {"link": f"{QOS}/2"}, "nonsense", good | {"link": None}]
    [found] = act(("subscriptions",))
    assert found.subscription.ueIpv4Addr == "10.0.0.1"
    reasons = [line["reasons"] for line in quarantined(intake)]
    assert len(reasons) == 4
    assert "came before" in reasons[0][0] and "Field required" in reasons[1][0]
    assert "10.0.0.1" not in intake.quarantine.path.read_text()


def test_polled_requirements_are_kept_and_faulty_ones_refused(
    nef: FakeNef, act: Any, intake: Intake
) -> None:
    nef.requirements = {
        IMSI: {"service_type": "URLLC"},
        "b": {"latency_ms": "nan"},
        "c": {"latency_ms": 20, "service_type": "embb"},
    }
    polled = act(("poll", [IMSI, "b", "c", "gone"]))
    assert len(polled.sequences) == 2 and polled.refused == 1
    assert list(polled.failed) == ["gone"] and "404" in polled.failed["gone"]
    first = next(line for line in kept(intake) if line["service_class"] == "urllc")
    assert first["priority"] == 10 and first["five_qi"] == 82
    assert first["ue_id"] == pseudonym(IMSI, KEY)
    [line] = quarantined(intake)
    assert line["reasons"] == ["latency_requirement_ms: is 'nan', must be finite"]
    assert IMSI not in intake.journal.path.read_text()


def test_polled_states_are_kept_in_both_dialects_and_bad_radio_is_refused(
    nef: FakeNef, act: Any, intake: Intake
) -> None:
    nef.states = {
        IMSI: {"cell_id": 3, "cell_id_hex": "AAAAA1001", "gnb_id_hex": "AAAAA1", "latitude": 37.99},
        "202010000000001": {"cell_id_hex": None},
        "202010000000002": {
            "connected_to": "a1",
            "rf_metrics": {"a1": {"rsrp": -80, "sinr": 12.5}},
        },
        "202010000000003": {"rsrps": {"a1": -412.0}},
    }
    polled = act(("poll_states",))
    assert len(polled.sequences) == 3 and polled.refused == 1
    found = kept(intake)
    assert [line["cell_id"] for line in found] == ["AAAAA1001", None, "a1"]
    assert found[2]["cells"][0]["rsrp_dbm"] == -80.0
    assert "greater than or equal to -156" in quarantined(intake)[0]["reasons"][0]
    text = intake.journal.path.read_text() + intake.quarantine.path.read_text()
    assert IMSI not in text and "37.99" not in text and "20201" not in text


def test_an_outage_loses_nothing_that_was_received(nef: FakeNef, act: Any, intake: Intake) -> None:
    nef.requirements = {"a": {"latency_ms": 5}}
    act(("poll", ["a"]))
    nef.faults.extend(["500"] * 99)
    assert act(("poll", ["a"])).failed
    nef.faults.clear()
    act(("poll", ["a"]))
    assert [line["sequence"] for line in kept(intake)] == [1, 2]


def test_a_server_that_is_not_there_is_told_by_its_kind_of_failure(intake: Intake) -> None:
    nowhere = NefSettings(api_url="http://127.0.0.1:9", timeout_s=0.2)
    with (
        NEFQoSCollector(nowhere, intake, FAST) as collector,
        pytest.raises(NefError, match=r"no answer \(ConnectError\) after 4 attempts"),
    ):
        collector.subscriptions()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEF_API_URL", "http://nef:8080/prefix")
    monkeypatch.setenv("NEF_USERNAME", "admin")
    monkeypatch.setenv("NEF_PASSWORD", "hush")
    found = read_settings()
    assert str(found.api_url) == "http://nef:8080/prefix"
    assert found.password is not None and found.password.get_secret_value() == "hush"
    assert "hush" not in repr(found) + str(found)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("NEF_PASSWORD", "hush", "one is set and the other is not"),
        ("NEF_API_URL", "hush", "NEF_API_URL: Input should be a valid URL"),
        ("NEF_TIMEOUT_S", "-1", "NEF_TIMEOUT_S: Input should be greater than 0"),
        ("NEF_SCS_AS_ID", "a/b", "NEF_SCS_AS_ID: String should match"),
        ("NEF_REQUIREMENT_PATH", "/qos/{other}", "NEF_REQUIREMENT_PATH"),
    ],
)
def test_faulty_settings_are_told_without_their_values(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(QosError, match=words) as error:
        read_settings()
    assert "hush" not in str(error.value)
