"""What a request asks for, whichever way it says it."""

from typing import Any

import pytest

from schemas.five_qi import FIVE_QIS
from schemas.service_class import SERVICE_CLASSES
from serving.asked import Asked, asked_of
from serving.requests import PredictRequest

PROFILE = {
    "name": "stream",
    "status": "ACTIVE",
    "targetMinDownstreamRate": {"value": 25, "unit": "Mbps"},
    "packetDelayBudget": {"value": 20, "unit": "Milliseconds"},
    "packetErrorLossRate": 3,
    "priority": 1,
}


def asked(**fields: Any) -> Asked:
    return asked_of(PredictRequest.model_validate({"ue_id": "a"} | fields))


@pytest.mark.parametrize("name", SERVICE_CLASSES)
def test_a_class_asks_for_its_preset_and_its_own_priority(name: str) -> None:
    one, found = SERVICE_CLASSES[name], asked(service_class=name)  # type: ignore[index]
    assert (found.downlink_mbps, found.delay_ms, found.jitter_ms) == (
        one.downlink_mbps, one.delay_ms, one.jitter_ms,
    )  # fmt: skip
    assert found.loss_ratio == pytest.approx((100 - one.reliability_percent) / 100)
    assert (found.priority, found.five_qi, found.service) == (one.priority, one.five_qi, name)


def test_a_class_with_the_flows_own_5qi_keeps_that_flow() -> None:
    assert (asked(service_class="urllc", five_qi=9).five_qi, asked(five_qi=82).service) == (
        9,
        "urllc",
    )


def test_nothing_said_is_the_default_bearer() -> None:
    assert asked() == asked(five_qi=9, service_class="default").__class__(
        **{**asked(five_qi=9).__dict__, "source": "default"}
    )


@pytest.mark.parametrize("five_qi", sorted(FIVE_QIS))
def test_every_standard_5qi_is_understood(five_qi: int) -> None:
    found = asked(five_qi=five_qi)
    assert 1 <= found.priority <= 10
    if five_qi not in {one.five_qi for one in SERVICE_CLASSES.values()}:
        assert found.delay_ms == FIVE_QIS[five_qi].packet_delay_budget_ms
        assert found.downlink_mbps is None


def test_thresholds_come_before_a_profile_before_a_class() -> None:
    both = asked(thresholds={"delay_ms": 7.0}, qos_profile=PROFILE, service_class="mmtc")
    assert (both.source, both.delay_ms, both.downlink_mbps) == ("thresholds", 7.0, None)
    assert both.priority == 3
    profile = asked(qos_profile=PROFILE, service_class="mmtc")
    assert (profile.downlink_mbps, profile.delay_ms, profile.loss_ratio) == (25.0, 20.0, 0.001)
    assert (profile.jitter_ms, profile.priority, profile.source) == (None, 10, "qos_profile")


def test_a_priority_of_ones_own_counts() -> None:
    assert asked(service_class="urllc", priority=1).priority == 1
    assert asked(qos_profile=PROFILE, priority=2).priority == 2
