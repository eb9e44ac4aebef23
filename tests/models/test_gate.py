"""The confidence gate: what is asked for, how breaches move it, and what keeps a UE from swinging."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.gate import (
    REASONS,
    ClassHistory,
    GateParams,
    UeHistory,
    adapted_confidence,
    all_met,
    compliance,
    handed_over,
    observed,
    passes,
    required_confidence,
)
from schemas.errors import QosError

PRIORITIES = st.integers(1, 10)
RATES = st.floats(0, 1)
OBSERVATIONS = st.sampled_from(["met", "missed", "unknown"])


@pytest.mark.parametrize(
    ("priority", "asked"), [(1, 0.5), (3, 0.6), (5, 0.7), (7, 0.8), (9, 0.9), (10, 0.95)]
)
def test_each_priority_has_its_confidence(priority: int, asked: float) -> None:
    assert required_confidence(priority) == asked
    assert required_confidence(priority, floor=0.75) == max(asked, 0.75)


@pytest.mark.parametrize("priority", [0, 11, -3])
def test_a_priority_that_is_none_is_refused(priority: int) -> None:
    with pytest.raises(QosError, match=r"1\.\.10"):
        required_confidence(priority)


@pytest.mark.parametrize(
    ("rate", "asked"),
    [
        (0.3, 0.79), (0.5, 0.85), (0.67, 0.9), (1.0, 0.9), (0.2, 0.7), (0.1, 0.7), (0.05, 0.69),
        (0.0, 0.68),
    ],
)  # fmt: skip
def test_breaches_raise_and_success_relaxes_priority_5(rate: float, asked: float) -> None:
    assert adapted_confidence(5, ClassHistory(rate, 10)) == pytest.approx(asked)


def test_the_floor_and_the_ceiling_hold() -> None:
    assert adapted_confidence(1, ClassHistory(0.0, 9)) == 0.5
    assert adapted_confidence(10, ClassHistory(1.0, 9)) == 0.99
    assert adapted_confidence(5, ClassHistory(0.0, 9), GateParams(floor=0.69)) == 0.69


def test_a_class_never_observed_is_neither_raised_nor_relaxed() -> None:
    assert adapted_confidence(5, ClassHistory()) == required_confidence(5)


@given(PRIORITIES, RATES, RATES, st.floats(0, 0.99))
def test_more_breaches_never_ask_for_less(
    priority: int, one: float, other: float, floor: float
) -> None:
    low, high = sorted([one, other])
    params = GateParams(floor=floor)
    asked = [adapted_confidence(priority, ClassHistory(rate, 5), params) for rate in (low, high)]
    assert floor <= asked[0] <= asked[1] <= 0.99


@given(st.lists(OBSERVATIONS, max_size=40))
def test_the_breach_rate_is_the_moving_mean_of_what_was_observed(seen: list[str]) -> None:
    history = ClassHistory()
    rate = 0.0
    for one in seen:
        history = observed(history, one)  # type: ignore[arg-type]
        if one != "unknown":
            breach = 1.0 if one == "missed" else 0.0
            rate = 0.8 * rate + 0.2 * breach
    assert history.observations == sum(one != "unknown" for one in seen)
    assert history.breach_rate == pytest.approx(rate)


@pytest.mark.parametrize("absent", [{}, {"delay_ms": None}, {"delay_ms": math.nan}])
def test_a_missing_observation_is_never_met(absent: dict[str, float | None]) -> None:
    parts = compliance({"downlink_mbps": 9.0} | absent, {"downlink_mbps": 5.0}, {"delay_ms": 10.0})
    assert parts == {"downlink_mbps": "met", "delay_ms": "unknown"}
    assert all_met(parts.values()) == "unknown"


def test_a_quantity_is_met_at_its_very_limit_and_missed_beyond() -> None:
    asked = {"downlink_mbps": 5.0}, {"delay_ms": 10.0}
    assert compliance({"downlink_mbps": 5.0, "delay_ms": 10.0}, *asked) == {
        "downlink_mbps": "met", "delay_ms": "met",
    }  # fmt: skip
    assert compliance({"downlink_mbps": 4.9, "delay_ms": 10.1}, *asked) == {
        "downlink_mbps": "missed", "delay_ms": "missed",
    }  # fmt: skip


def test_one_missed_part_misses_and_no_part_at_all_is_unknown() -> None:
    assert all_met(["met", "unknown", "missed"]) == "missed"
    assert all_met(["met", "met"]) == "met"
    assert all_met([]) == "unknown"


def history_of(*handovers: tuple[float, str]) -> UeHistory:
    history = UeHistory()
    for time, left in handovers:
        history = handed_over(history, time, left)
    return history


@pytest.mark.parametrize(
    ("history", "now_s", "confidence", "reason"),
    [
        (history_of(), 0.0, 0.7, "accepted"),
        (history_of(), 0.0, 0.69, "low_confidence"),
        (history_of(), 0.0, math.nan, "no_confidence"),
        (history_of((0, "x")), 1.9, 1.0, "too_soon"),
        (history_of((0, "x")), 2.0, 0.7, "accepted"),
        (history_of((0, "b")), 10.0, 0.94, "returning"),
        (history_of((0, "b")), 10.0, 0.95, "accepted"),
        (history_of((0, "b")), 10.1, 0.7, "accepted"),
        (history_of((0, "b"), (4, "c")), 8.0, 0.9, "returning"),
        (history_of((0, "x"), (20, "y"), (40, "z")), 59.9, 0.89, "too_many"),
        (history_of((0, "x"), (20, "y"), (40, "z")), 59.9, 0.9, "accepted"),
        (history_of((0, "x"), (20, "y"), (40, "z")), 60.0, 0.7, "accepted"),
    ],
)
def test_a_handover_from_a_to_b(
    history: UeHistory, now_s: float, confidence: float, reason: str
) -> None:
    found = passes(history, now_s, "a", "b", confidence, required=0.7)
    assert (found.reason, found.accepted) == (reason, reason == "accepted")
    assert found.required == 0.7


def test_the_serving_cell_is_no_handover() -> None:
    assert passes(UeHistory(), 0.0, "a", "a", 0.99, 0.5).reason == "already_there"


@given(
    st.lists(
        st.tuples(st.floats(0.1, 30), st.sampled_from("abc"), st.floats(0, 1)), max_size=40
    ),
    st.floats(0.5, 0.99),
)  # fmt: skip
def test_a_ue_that_obeys_the_gate_never_swings(
    wishes: list[tuple[float, str, float]], required: float
) -> None:
    history, serving, now, made = UeHistory(), "a", 0.0, []
    for wait, target, confidence in wishes:
        now += wait
        found = passes(history, now, serving, target, confidence, required)
        assert found.reason in REASONS
        if found.accepted:
            made.append((now, serving, target, confidence))
            history, serving = handed_over(history, now, serving), target
    for (first, *_), (second, *_) in itertools.pairwise(made):
        assert second - first >= 2.0
    for number, (time, _, target, confidence) in enumerate(made):
        before = made[:number]
        assert confidence >= required
        if any(left == target and time - then <= 10 for then, left, *_ in before):
            assert confidence >= 0.95
        if sum(time - then < 60 for then, *_ in before) >= 3:
            assert confidence >= 0.9


@pytest.mark.parametrize("confidence", [-0.01, 1.01, math.inf])
def test_what_is_no_probability_is_refused(confidence: float) -> None:
    with pytest.raises(QosError, match="confidence"):
        passes(UeHistory(), 0.0, "a", "b", confidence, 0.5)


def test_a_clock_that_runs_backwards_is_refused() -> None:
    with pytest.raises(QosError, match="before the last handover"):
        passes(history_of((5, "x")), 4.0, "a", "b", 0.9, 0.5)
    with pytest.raises(QosError, match="before the last handover"):
        handed_over(history_of((5, "x")), 4.0, "b")
    with pytest.raises(QosError, match="finite"):
        passes(UeHistory(), math.nan, "a", "b", 0.9, 0.5)


@pytest.mark.parametrize(
    "wrong", [{"floor": -0.1}, {"floor": 0.999}, {"smoothing": 0.0}, {"relax_from": 0.3}]
)
def test_params_that_contradict_each_other_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(QosError, match="gate"):
        GateParams(**wrong)  # type: ignore[arg-type]
