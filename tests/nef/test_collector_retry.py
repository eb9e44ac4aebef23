"""Waits and the circuit breaker, on a clock of the test's own."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nef.client.retry import Backoff, CircuitBreaker, CircuitOpen


@given(st.integers(0, 10_000), st.integers(0, 2**32), st.none() | st.floats(0, 1e6))
def test_a_wait_is_between_zero_and_its_cap_and_keeps_retry_after(
    attempt: int, seed: int, asked: float | None
) -> None:
    backoff = Backoff(base_s=0.5, cap_s=8.0)
    wait = backoff.wait_s(attempt, random.Random(seed), asked)
    assert 0 <= wait <= 8.0
    assert wait >= min(asked or 0.0, 8.0)
    if not asked:
        assert wait <= 0.5 * 2 ** min(attempt, 10)


def test_waits_differ_between_clients() -> None:
    draws = {Backoff().wait_s(3, random.Random(seed)) for seed in range(20)}
    assert len(draws) == 20


class Breaker(RuleBasedStateMachine):
    """Against the plain rule: closed, or closed until a time, or one probe under way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = CircuitBreaker("NEF", failures=3, open_s=10.0, clock=lambda: self.now)
        self.row, self.until, self.probing = 0, 0.0, False

    def allowed(self) -> bool:
        return self.row < 3 or (self.now >= self.until and not self.probing)

    @rule(seconds=st.floats(0, 12))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(outcome=st.sampled_from(["succeed", "fail", "abandon", "stay"]))
    def attempt(self, outcome: str) -> None:
        if not self.allowed():
            with pytest.raises(CircuitOpen, match="in a row"):
                self.breaker.enter()
            return
        self.breaker.enter()
        self.probing = self.row >= 3
        if outcome == "stay":
            return
        getattr(self.breaker, outcome)()
        self.probing = False
        if outcome == "succeed":
            self.row = 0
        elif outcome == "fail":
            self.row += 1
            if self.row >= 3:
                self.until = self.now + 10.0

    @rule(outcome=st.sampled_from(["succeed", "abandon"]))
    def finish_probe(self, outcome: str) -> None:
        if self.probing:
            getattr(self.breaker, outcome)()
            self.probing = False
            self.row = 0 if outcome == "succeed" else self.row

    @invariant()
    def agrees(self) -> None:
        assert self.breaker.is_open == (not self.allowed())


TestBreaker = Breaker.TestCase
