"""Logs: no planted identifier, position, key or token comes through; lines are JSON; none blocks."""

import io
import logging
import string
import threading
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.pseudonym import pseudonym
from serving.keys import new_key
from serving.logs import REQUEST_ID, JsonLines, Logs, clean
from serving.request_log import request_id_of
from serving.tokens import Tokens
from tests.serving.guard_kit import SECRET, app_of, client_of, settings_with

KEY = b"a key of the tests, 32 bytes long"
PLANTED = {
    "imsi": "imsi-001010123456789",
    "imsi digits": "001010123456789",
    "msisdn": "+491701234567",
    "msisdn spaced": "+49 170 1234567",
    "gpsi": "msisdn-491701234567",
    "nai": "nai-user@operator.example",
    "ipv4": "10.45.0.17",
    "ipv6": "2001:db8:85a3::8a2e:370:7334",
    "mac": "02:42:ac:11:00:02",
    "latitude": "48.1371543",
    "key": new_key(),
    "token": Tokens(SECRET).give("ana", "access"),
    "redis password": "redis://user:hunter2secret@localhost:6379",
}
SHOWN = {"latitude": "48.137", "redis password": "localhost"}


def lines(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    text = JsonLines().format(record)
    assert "\n" not in text
    return text, orjson.loads(text)


def record_of(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {
            "name": "serving",
            "levelno": logging.INFO,
            "levelname": "INFO",
            "msg": message,
            "args": args,
        }
    )
    vars(made).update(extra)
    return made


def secret_of(name: str) -> str:
    return "hunter2secret" if name == "redis password" else PLANTED[name]


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize(
    "form",
    ["{}", "no such UE {}", "ue={};", '{{"ue_id": "{}"}}', "/api/x/{}/y", "[{}]", "a\n{}\nb"],
)
def test_what_is_planted_in_a_message_does_not_come_through(name: str, form: str) -> None:
    text, _ = lines(record_of(form.format(PLANTED[name])))
    assert secret_of(name) not in text


@pytest.mark.parametrize("name", PLANTED)
def test_nor_by_any_other_way_into_a_line(name: str) -> None:
    planted = PLANTED[name]
    try:
        raise ValueError(f"bad input {planted!r}")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    text, told = lines(
        record_of(
            "%s and %s", planted, {"a": [planted]}, exc_info=info, note=planted,
            nested={"deep": {"deeper": [planted, (planted,)]}}, by={planted: 1}, many={planted},
        )
    )  # fmt: skip
    assert secret_of(name) not in text
    assert "ValueError" in told["error"]


@pytest.mark.parametrize(
    ("extra", "shown"),
    [
        ({"ue_id": "ue-7"}, "<subscriber id>"),
        ({"supi": "x"}, "<subscriber id>"),
        ({"imsi": 1010123456789}, "<subscriber id>"),
        ({"number": 1010123456789}, "<subscriber id>"),
        ({"number": 1010123456789.0}, "<subscriber id>"),
        ({"latitude": 48.137}, "<position>"),
        ({"longitude_deg": 11.575}, "<position>"),
        ({"password": "a"}, "<secret>"),
        ({"Authorization": "Basic YTpi"}, "<secret>"),
        ({"x-api-key": "a"}, "<secret>"),
        ({"jwt_secret": "a"}, "<secret>"),
        ({"count": 12}, 12),
        ({"share": 0.25}, 0.25),
        ({"cell_id": "00101-000001001"}, "00101-000001001"),
        ({"ok": True, "none": None}, True),
    ],
)
def test_fields_are_judged_by_name_and_value(extra: dict[str, object], shown: object) -> None:
    _, told = lines(record_of("x", **extra))
    assert told[next(iter(extra))] == shown


def test_pseudonyms_and_our_ids_stay_readable() -> None:
    ours = pseudonym("imsi-001010123456789", KEY)
    decision = "0190a3b2-7c1d-7e8f-9a0b-123456789012"
    _, told = lines(record_of("%s for %s", decision, ours, ue_id=ours, decision_id=decision))
    assert told["message"] == f"{decision} for {ours}"
    assert told["ue_id"] == ours
    assert told["decision_id"] == decision


@given(st.text(string.digits, min_size=14, max_size=16), st.text(max_size=40), st.text(max_size=40))
def test_a_long_number_never_comes_through(digits: str, before: str, after: str) -> None:
    assert digits not in clean(f"{before} {digits} {after}")


def test_of_a_long_text_the_start_is_left_and_no_half_of_an_id() -> None:
    for before in range(1950, 2000):
        cleaned = clean("a" * before + " imsi-001010123456789 " + "b" * 5000)
        assert len(cleaned) <= 2000
        assert "00101" not in cleaned
    began = time.perf_counter()
    clean("a" * 1_000_000)
    assert time.perf_counter() - began < 2


def test_a_stuck_stream_does_not_hold_up_the_end() -> None:
    gate = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(30)
            return len(text)

    logs = Logs("info", Stuck(), most=3)
    logs.begin()
    for number in range(10):
        logging.getLogger("serving").info("line %d", number)
    began = time.monotonic()
    logs.end()
    assert time.monotonic() - began < 10
    gate.set()


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs = Logs("info", stream)
    logs.begin()
    try:
        yield stream
    finally:
        logs.end()


def test_what_requests_log_is_json_with_their_id_and_their_route(written: io.StringIO) -> None:
    made = app_of(settings_with(auth="off", access_log=True))
    logs = Logs("info", written)
    logs.begin()
    try:
        with client_of(made) as client:
            name = "imsi-001010123456789"
            answer = client.get(f"/api/items/{name}", headers={"x-request-id": "a-1"})
            assert answer.headers["x-request-id"] == "a-1"
            client.get(f"/nowhere/{name}")
            broken = client.get("/api/broken")
            assert broken.status_code == 500
            assert broken.headers["content-type"] == "application/problem+json"
            assert broken.headers["x-request-id"] in broken.json()["detail"]
            client.get("/health/live")
            client.get("/metrics")
    finally:
        logs.end()
    text = written.getvalue()
    assert "001010123456789" not in text
    assert "48.137154" not in text
    told = [orjson.loads(line) for line in text.splitlines()]
    asked = [one for one in told if one["message"] == "request"]
    assert [one["route"] for one in asked] == ["/api/items/{name}", "other", "/api/broken"]
    assert [one["status"] for one in asked] == [200, 404, 500]
    assert asked[0]["request_id"] == "a-1"
    fault = next(one for one in told if "fault" in one["message"])
    assert "RuntimeError" in fault["error"]
    assert fault["request_id"] == asked[2]["request_id"]


@pytest.mark.parametrize(
    "given_id", ["imsi-001010123456789", "10.45.0.17", "a b", "ä", "a" * 65, "", "a\x01", new_key()],
    ids=range(8),
)  # fmt: skip
def test_a_request_id_that_may_not_be_logged_is_replaced(given_id: str) -> None:
    made = request_id_of(given_id)
    assert made != given_id
    assert len(made) == 16


def test_a_full_queue_loses_lines_and_counts_them_but_blocks_nobody() -> None:
    gate, lost = threading.Event(), []

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(10)
            return super().write(text)

    stream = Stuck()
    logs = Logs("info", stream, lambda: lost.append(1), most=10)
    logs.begin()
    try:
        for number in range(100):
            logging.getLogger("serving").info("line %d", number)
        assert 88 <= len(lost) <= 90  # ten wait, the writer may hold one or two
    finally:
        gate.set()
        logs.end()
    assert len(stream.getvalue().splitlines()) + len(lost) == 100


def test_what_was_there_before_comes_back() -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    logs = Logs("debug", io.StringIO())
    logs.begin()
    logs.end()
    assert (root.handlers[:], root.level) == before


def test_the_request_id_is_that_of_the_one_who_logs_not_of_the_writer(written: io.StringIO) -> None:
    token = REQUEST_ID.set("r-7")
    logging.getLogger("serving").warning("x")
    REQUEST_ID.reset(token)
    logging.getLogger("serving").warning("y")
    logging.getLogger("serving").debug("z")
    until = threading.Event()
    while written.getvalue().count("\n") < 2:
        until.wait(0.01)
    told = [orjson.loads(line) for line in written.getvalue().splitlines()]
    assert [(one["message"], one.get("request_id")) for one in told] == [("x", "r-7"), ("y", None)]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:5051", "http://127.0.0.1:5051/x", "0.0.0.0"]
)
def test_the_address_of_this_machine_is_no_subscriber(host: str) -> None:
    told = f"Uvicorn running on {host} (Press CTRL+C to quit)"
    assert clean(told) == told


@pytest.mark.parametrize("host", ["10.0.0.127", "227.0.0.1", "12.127.0.0", "0.0.0.7"])
def test_an_address_like_it_is_one(host: str) -> None:
    assert host not in clean(f"UE at {host} left")
