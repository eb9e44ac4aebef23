"""Which cell is chosen, when event A3 decides, and when a UE is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.decide import LEAST_GAIN, Choice, choose, fallback
from serving.gate import AdaptiveGate

CELLS = ("a", "b", "c")


def chosen(
    sure: list[float], serving: int | None = 0, required: float = 0.7,
    rsrp: tuple[float | None, ...] = (-90.0, -95.0, -99.0), gate: AdaptiveGate | None = None,
    now: float = 100.0,
) -> Choice:  # fmt: skip
    return choose("u", CELLS, serving, sure, rsrp, required, gate or AdaptiveGate(), now)


@pytest.mark.parametrize(
    ("sure", "serving", "verdict", "reason", "cell"),
    [
        ([0.9, 0.8, 0.1], 0, "stay", "serving_cell_is_best", "a"),
        ([0.9, 0.9, 0.9], 1, "stay", "serving_cell_is_best", "b"),
        ([0.8, 0.8 + LEAST_GAIN / 2, 0.1], 0, "stay", "serving_cell_meets_request", "a"),
        ([0.8, 0.9, 0.1], 0, "apply", "best_cell", "b"),
        ([0.6, 0.71, 0.1], 0, "apply", "best_cell", "b"),
        ([0.6, 0.69, 0.1], 0, "fallback_a3", "low_confidence", "a"),
        ([0.6, 0.9, 0.95], None, "apply", "best_cell", "c"),
    ],
)
def test_the_choice(
    sure: list[float], serving: int | None, verdict: str, reason: str, cell: str
) -> None:
    found = chosen(sure, serving)
    assert (found.verdict, found.reason, found.cell) == (verdict, reason, cell)
    assert found.confidence == sure[CELLS.index(cell)]
    assert found.ok == (verdict != "fallback_a3")


def test_a_ue_is_not_moved_twice_within_a_moment_nor_straight_back() -> None:
    gate = AdaptiveGate()
    assert chosen([0.5, 0.8, 0.1], gate=gate).verdict == "apply"
    soon = chosen([0.8, 0.5, 0.1], 1, gate=gate, now=101.0)
    assert (soon.verdict, soon.reason, soon.cell, soon.ok) == ("stay", "too_soon", "b", False)
    back = chosen([0.8, 0.5, 0.1], 1, gate=gate, now=105.0)
    assert (back.reason, back.cell) == ("returning", "b")
    assert chosen([0.97, 0.5, 0.1], 1, gate=gate, now=105.0).verdict == "apply"
    assert chosen([0.8, 0.5, 0.1], 1, gate=AdaptiveGate(), now=101.0).verdict == "apply"


@pytest.mark.parametrize(
    ("serving", "rsrp", "cell"),
    [
        (0, (-90.0, -86.0, -88.0), "b"),
        (0, (-90.0, -87.0, -88.0), "a"),
        (0, (None, -60.0, None), "a"),
        (None, (None, -99.0, -98.0), "c"),
        (None, (None, None, None), "a"),
    ],
)
def test_event_a3_on_what_is_reported(
    serving: int | None, rsrp: tuple[float | None, ...], cell: str
) -> None:
    found = fallback("store_away", CELLS, serving, rsrp, 0.7)
    assert (found.verdict, found.reason, found.cell) == ("fallback_a3", "store_away", cell)
    assert found.confidence is None and not found.ok


def test_without_any_cell_there_is_none() -> None:
    assert fallback("no_candidates", (), None, (), 0.5).cell is None


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.none() | st.integers(0, 2),
    st.floats(0.5, 0.99),
)
def test_laws(sure: list[float], serving: int | None, required: float) -> None:
    found = chosen(sure, serving, required)
    assert found.cell in CELLS
    assert found.place is not None and CELLS[found.place] == found.cell
    assert (found.verdict == "fallback_a3") == (max(sure) < required)
    if found.verdict == "apply":
        assert found.confidence == max(sure) and found.place != serving
    if found.verdict == "stay":
        assert found.place == serving


def test_breaches_of_a_class_raise_what_it_needs_and_unknown_ones_do_not() -> None:
    gate = AdaptiveGate()
    before = gate.required("embb", 7)
    for _ in range(20):
        gate.outcome("embb", "unknown")
    assert gate.required("embb", 7) == before
    for _ in range(20):
        gate.outcome("embb", "missed")
    assert gate.required("embb", 7) == pytest.approx(before + 0.2, abs=0.01) or (
        gate.required("embb", 7) == 0.99
    )
    assert gate.required("urllc", 10) == pytest.approx(0.95)


def test_what_the_gate_remembers_is_bounded() -> None:
    gate = AdaptiveGate(most_ues=3)
    for number in range(10):
        gate.moved(f"u{number}", "a", float(number))
    assert gate.suppressed("u0", "b", "a", 0.5, 10.0) is None
    assert gate.suppressed("u9", "b", "a", 0.5, 10.0) == "too_soon"
