"""QoS requirement payloads: every alias, every violation, all at once."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nef.client.payload import THRESHOLDS, QosRequirement, RefusedPayload, read_requirement
from schemas.errors import QosError
from schemas.five_qi import FIVE_QIS
from schemas.measurement import requested_delay_ms, requested_downlink_mbps
from schemas.service_class import SERVICE_CLASSES, service_class

FIELDS = {
    "latency_requirement_ms": "delay_ms",
    "throughput_requirement_mbps": "downlink_mbps",
    "reliability_pct": "reliability_percent",
    "jitter_ms": "jitter_ms",
}
ALIASES = [(name, alias) for name, spec in THRESHOLDS.items() for alias in spec.names]


def violations(payload: object, required: tuple[str, ...] = ()) -> dict[str, str]:
    with pytest.raises(RefusedPayload) as error:
        read_requirement(payload, required)
    assert str(error.value).startswith(f"QoS payload: {len(error.value.violations)} violations: ")
    return dict(error.value.violations)


@pytest.mark.parametrize(("name", "alias"), ALIASES)
@pytest.mark.parametrize("value", [12.5, "12.5", " 12.5 ", "1.25e1"])
@pytest.mark.parametrize("place", [None, "requirements", "qos_requirements", "qosRequirements"])
def test_every_alias_is_read_at_every_place_as_number_or_text(
    name: str, alias: str, value: object, place: str | None
) -> None:
    payload = {alias: value} if place is None else {place: {alias: value}}
    found = read_requirement(payload)
    assert getattr(found, FIELDS[name]) == 12.5
    assert found.stated == (name,)
    others = [field for key, field in FIELDS.items() if key != name]
    assert all(getattr(found, field) is None for field in others)  # not asked, not invented


def test_there_are_the_four_thresholds_with_all_their_aliases() -> None:
    assert {n: len(spec.names) for n, spec in THRESHOLDS.items()} == {
        "latency_requirement_ms": 4,
        "throughput_requirement_mbps": 4,
        "reliability_pct": 4,
        "jitter_ms": 2,
    }


@pytest.mark.parametrize("key", ["service_type", "serviceType"])
@pytest.mark.parametrize("text", ["URLLC", "urllc", "  Urllc "])
def test_a_bare_urllc_request_keeps_urllcs_own_priority_and_thresholds(key: str, text: str) -> None:
    assert read_requirement({key: text}) == QosRequirement(
        "urllc", 82, 10, 5.0, 1.0, 99.99, 1.0, stated=()
    )


@pytest.mark.parametrize("name", list(SERVICE_CLASSES))
def test_every_class_keeps_its_own_priority_unless_one_is_asked_for(name: str) -> None:
    own = service_class(name)
    assert read_requirement({"service_type": name, "latency_ms": 3}).priority == own.priority
    asked = read_requirement({"service_type": name, "service_priority": "2"})
    assert asked.priority == 2 and asked.five_qi == own.five_qi


def test_no_class_is_the_default_class() -> None:
    found = read_requirement({"latency_ms": 3, "service_type": "  "})
    assert (found.service_class, found.five_qi, found.priority) == ("default", 9, 5)


@pytest.mark.parametrize("payload", [{}, [], None, "x", 3, True])
def test_what_is_no_payload_is_refused(payload: object) -> None:
    assert list(violations(payload)) == ["payload"]


@pytest.mark.parametrize("payload", [{"service_priority": 3}, {"other": 1}, {"requirements": {}}])
def test_a_payload_that_asks_for_nothing_is_refused(payload: object) -> None:
    assert "neither a service class nor any of" in violations(payload)["payload"]


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", math.nan, math.inf, -math.inf, "1e999",
                                   10**400])  # fmt: skip
@pytest.mark.parametrize("name", list(THRESHOLDS))
def test_nan_and_infinity_are_refused(name: str, value: object) -> None:
    assert "must be finite" in violations({name: value})[name]


@pytest.mark.parametrize("value", ["", "fast", "1_000", "0x10", "5 ms", True, [], {}, "٣"])
def test_what_is_no_number_is_refused(value: object) -> None:
    assert "must be a number" in violations({"latency_ms": value})["latency_requirement_ms"]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, -0.1) for name in THRESHOLDS]
    + [("latency_requirement_ms", 0), ("latency_requirement_ms", 60_001),
       ("throughput_requirement_mbps", 10_001), ("reliability_pct", 100.1), ("jitter_ms", 60_001)],
)  # fmt: skip
def test_values_out_of_range_are_refused_with_the_range(name: str, value: float) -> None:
    assert "must be in" in violations({name: value})[name]


@pytest.mark.parametrize("value", [0, 11, -1, 2.5, "high", True, "nan", [], 10**400])
def test_a_bad_priority_is_refused_not_replaced(value: object) -> None:
    found = violations({"latency_ms": 5, "service_priority": value})
    assert "whole number in [1, 10]" in found["service_priority"]


@pytest.mark.parametrize("value", ["gaming", 3, True, ["urllc"]])
def test_an_unknown_service_class_is_refused(value: object) -> None:
    assert list(violations({"latency_ms": 5, "service_type": value})) == ["service_type"]


def test_all_violations_are_told_at_once() -> None:
    payload = {"serviceType": "gaming", "servicePriority": 99,
               "qosRequirements": {"latency": -1, "throughput": "nan", "reliability": 110}}  # fmt: skip
    assert set(violations(payload, ("jitter_ms",))) == {
        "service_type", "service_priority", "latency_requirement_ms",
        "throughput_requirement_mbps", "reliability_pct", "jitter_ms",
    }  # fmt: skip


def test_a_required_threshold_must_be_stated_by_the_payload_itself() -> None:
    required = ("latency_requirement_ms", "jitter_ms")
    found = violations({"service_type": "urllc", "latency": 5}, required)
    assert found == {"jitter_ms": "is required and missing"}
    assert read_requirement({"latency": 5, "jitterMs": 1}, required).jitter_ms == 1.0
    with pytest.raises(QosError, match="unknown 'latency'; known: 'latency_requirement_ms'"):
        read_requirement({"latency": 5}, ("latency",))


def test_two_names_of_one_threshold_must_agree() -> None:
    assert read_requirement({"latency_ms": 5, "latency": "5.0"}).delay_ms == 5.0
    assert "differs" in violations({"latency_ms": 5, "latency": 6})["latency_requirement_ms"]
    nested = {"latency_ms": 5, "requirements": {"latency": 6}}
    assert "at once" in violations(nested)["latency_requirement_ms"]


def test_the_first_of_the_three_places_that_is_an_object_counts() -> None:
    payload = {
        "requirements": "none",
        "qos_requirements": {"latency": 7},
        "qosRequirements": {"latency": 8},
    }
    assert read_requirement(payload).delay_ms == 7.0


def test_unknown_fields_are_skipped_and_long_values_cut_in_messages() -> None:
    assert read_requirement({"latency": 7, "ue_id": "x", "hello": {}}).delay_ms == 7.0
    assert len(violations({"latency": "x" * 10_000})["latency_requirement_ms"]) < 120


def test_the_loss_share_is_what_reliability_leaves() -> None:
    assert read_requirement({"service_type": "urllc"}).loss_ratio == 0.0001
    assert read_requirement({"latency": 7}).loss_ratio is None


def test_the_ranges_are_those_of_the_table_of_requests() -> None:
    delay, rate = requested_delay_ms(), requested_downlink_mbps()
    assert THRESHOLDS["latency_requirement_ms"].high == delay.max  # type: ignore[attr-defined]
    assert THRESHOLDS["throughput_requirement_mbps"].high == rate.max  # type: ignore[attr-defined]


def test_every_classs_own_request_lies_in_its_envelope_and_its_5qi_is_in_the_table() -> None:
    for own in SERVICE_CLASSES.values():
        assert own.five_qi in FIVE_QIS
        for value, span in (
            (own.delay_ms, own.delay_range_ms),
            (own.downlink_mbps, own.downlink_range_mbps),
            (own.reliability_percent, own.reliability_range_percent),
        ):
            assert span.low <= span.mode <= span.high
            assert span.low <= value <= span.high
        assert own.priority_range[0] <= own.priority <= own.priority_range[1]
    assert len({own.five_qi for own in SERVICE_CLASSES.values()}) == len(SERVICE_CLASSES)
    with pytest.raises(QosError, match="unknown service class 'gaming'"):
        service_class("gaming")


TEXT = st.text("aé٣1 .-\0\ud800", max_size=8)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [alias for _, alias in ALIASES]
    + ["service_type", "serviceType", "service_priority", "requirements", "qosRequirements"]
)


@given(st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON, max_size=3), max_size=6))
def test_any_payload_is_a_requirement_within_the_ranges_or_refused(payload: dict[str, Any]) -> None:
    try:
        found = read_requirement(payload)
    except RefusedPayload as error:
        assert error.violations
        return
    for name, field in FIELDS.items():
        value = getattr(found, field)
        assert value is None or THRESHOLDS[name].low <= value <= THRESHOLDS[name].high
    assert 1 <= found.priority <= 10
    json.dumps(vars(found), allow_nan=False)
