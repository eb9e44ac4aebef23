"""What is kept bears no subscriber id, no position and no secret."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nef.client.protect import MAX_TEXT, Protection
from nef.client.read_json import MAX_DEPTH, NotJson, read_json

HIDDEN = Protection(lambda text: f"<{len(text)}>", lambda text: text.replace("alice", "<5>"))


@pytest.mark.parametrize(
    "name",
    ["ue_id", "supi", "gpsi", "msisdn", "externalId", "ipv4Addr", "ueIpv6Addr", "macAddr",
     "phoneNumber", "networkAccessIdentifier", "publicAddress", "name"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["bob", 12345])
def test_an_identity_of_any_shape_is_a_pseudonym(name: str, value: object) -> None:
    for content in ({name: value}, {"a": [{name: [value]}]}, {name.upper(): value}):
        kept = HIDDEN.text(json.dumps(content))
        assert str(value) not in kept and f"<{len(str(value))}>" in kept


@pytest.mark.parametrize("name", ["latitude", "lon", "geographicArea", "userLocation", "altitude"])
def test_a_position_is_left_out(name: str) -> None:
    assert "37.99" not in HIDDEN.text(json.dumps({"a": {name: 37.99}, name: {"point": [37.99]}}))


@pytest.mark.parametrize("name", ["access_token", "password", "sinkCredential", "refreshToken"])
def test_a_secret_is_left_out(name: str) -> None:
    assert "hush" not in HIDDEN.text(json.dumps({name: "hush", "a": [{name: {"b": "hush"}}]}))


def test_texts_keys_and_long_numbers_are_scrubbed() -> None:
    numbers = Protection(str, lambda text: "#" if text.isdigit() else text.replace("alice", "<5>"))
    kept = json.loads(numbers.text(json.dumps({"alice": "of alice", "n": 262011234567890, "k": 5})))
    assert kept == {"<5>": "of <5>", "n": "#", "k": 5}


def test_what_is_no_json_is_scrubbed_and_cut() -> None:
    assert HIDDEN.text(b"<p>alice</p>\xff") == "<p><5></p>\ufffd"
    assert len(HIDDEN.text("x" * 10**6)) == MAX_TEXT


@given(st.recursive(st.none() | st.integers(-5, 5) | st.text("ab", max_size=3),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text("cd", max_size=2), inner),
                    max_leaves=8))  # fmt: skip
def test_what_names_nobody_is_kept_as_it_is(content: Any) -> None:
    assert json.loads(HIDDEN.text(json.dumps(content))) == content


@example(MAX_DEPTH, "[")
@example(MAX_DEPTH + 1, "[")
@given(st.integers(1, 3 * MAX_DEPTH), st.sampled_from(['{"a":', "["]))
def test_json_is_read_down_to_its_depth_and_no_further(depth: int, opening: str) -> None:
    closing = "}" if opening[0] == "{" else "]"
    text = (opening * depth + "1" + closing * depth).encode()
    if depth <= MAX_DEPTH:
        assert read_json(text) == json.loads(text)
    else:
        with pytest.raises(NotJson, match="nested deeper"):
            read_json(text)


@pytest.mark.parametrize("text", [b"", b"NaN", b"[Infinity]", b"{'a': 1}", b"\xff", b'"\\ud800"'])
def test_what_is_no_json_is_told_by_its_place(text: bytes) -> None:
    with pytest.raises(NotJson, match="not JSON at character"):
        read_json(text)
