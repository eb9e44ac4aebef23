"""Rates: their notation, and the counts beside a list of all calls."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.metrics import Metrics
from serving.rate_limits import RateLimits
from serving.rates import Counts, Rate, rates_of
from tests.serving.guard_kit import settings_with


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("60/minute", [(60, 60)]),
        ("20/10 seconds", [(20, 10)]),
        ("10/second;100/minute", [(10, 1), (100, 60)]),
        ("6/hour; 1/2 day", [(6, 3600), (1, 172800)]),
    ],
)
def test_what_is_a_rate(text: str, rates: list[tuple[int, int]]) -> None:
    assert [(one.most, one.span_s) for one in rates_of(text)] == rates


@pytest.mark.parametrize(
    "text",
    ["", "many", "0/second", "-1/second", "1/0 second", "1/fortnight", "1.5/second", "1/second;"],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="no rate"):
        rates_of(text)


def weighted(calls: list[float], now: float, span: float) -> float:
    """Calls of this window, and of the last one as much as still lies within a span."""
    window = math.floor(now / span)
    this = sum(1 for one in calls if math.floor(one / span) == window)
    last = sum(1 for one in calls if math.floor(one / span) == window - 1)
    return this + last * (1 - (now / span - window))


steps = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.7, 1.0, 3.0, 11.0, 40.0]), max_size=80)


@given(st.integers(1, 5), st.sampled_from([1, 10]), steps)
def test_a_call_passes_exactly_where_it_fits_and_after_the_told_wait(
    most: int, span: int, waits: list[float]
) -> None:
    counts, calls, now = Counts(Rate(most, span)), [], 1000.3
    for wait in waits:
        now += wait
        told = counts.wait_s("a", now)
        over = weighted(calls, now, span) + 1 - most
        if abs(over) > 1e-6:
            assert (told == 0.0) == (over < 0)
        if told == 0.0:
            counts.count("a", now)
            calls.append(now)
        else:
            assert weighted(calls, now + told + 1e-6, span) + 1 <= most + 1e-6
            if told > 1e-6:
                assert weighted(calls, now + 0.9 * told, span) + 1 > most


@given(st.integers(1, 5), steps)
def test_no_span_holds_twice_the_calls(most: int, waits: list[float]) -> None:
    counts, calls, now = Counts(Rate(most, 10)), [], 0.0
    for wait in waits:
        now += wait
        if counts.wait_s("a", now) == 0.0:
            counts.count("a", now)
            calls.append(now)
    for start in calls:
        assert sum(start <= one < start + 10 for one in calls) < 2 * most + 1


def test_keys_and_groups_are_counted_apart_and_refused_calls_are_not_counted() -> None:
    now = [0.0]
    settings = settings_with(auth="off", rate_train="2/minute", rate_default="1/minute")
    rates = RateLimits(settings, Metrics(), lambda: now[0])
    assert [rates.wait_s("train", "a") for _ in range(2)] == [None, None]
    assert [rates.wait_s("train", "a") for _ in range(100)] == [
        91
    ] * 100  # of the last, half remains
    assert rates.wait_s("train", "b") is None
    assert rates.wait_s("default", "a") is None
    now[0] = 90.0
    assert rates.wait_s("train", "a") is None


def test_keys_are_bounded() -> None:
    counts = Counts(Rate(1, 60), most_keys=10)
    for number in range(1000):
        counts.count(str(number), 0.0)
    assert len(counts._counts) == 10
