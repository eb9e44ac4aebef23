"""The draws of a second: repeated as they were, and monotone where the circumstances are not."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, poisson

from nef.simulator import chance

ranks, shares, packets = st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.integers(1, 30_000)


def drawn(packets: Any, share: Any, seed: int = 1) -> Any:
    draws = chance.Drawn(np.random.default_rng(seed), len(packets))
    draws.grows(), draws.delays()
    lost = draws.lost(np.array(packets), np.array(share))
    draws.accesses()
    return draws, lost


@given(st.lists(st.tuples(packets, shares), min_size=1, max_size=9), st.integers(0, 99), ranks)
@settings(max_examples=50, deadline=None)
def test_a_second_again_is_the_same_second(rows: Any, seed: int, within: float) -> None:
    sent, share = zip(*rows, strict=True)
    draws, lost = drawn(sent, share, seed)
    again = draws.again(np.full(len(sent), within))
    assert np.array_equal(again.lost(np.array(sent), np.array(share)), lost)
    order = np.arange(len(sent))[::-1]
    assert np.array_equal(again.take(order).lost(np.array(sent)[order], np.array(share)[order]),
                          lost[order])  # fmt: skip


@given(packets, st.floats(0.001, 0.5), st.floats(0.001, 0.5), st.integers(0, 99), ranks)
@settings(max_examples=100, deadline=None)
def test_with_a_greater_share_no_fewer_are_lost(
    sent: int, share: float, other: float, seed: int, within: float
) -> None:
    draws, lost = drawn([sent], [share], seed)
    then = draws.again(np.array([within])).lost(np.array([sent]), np.array([other]))
    assert (then >= lost) if other >= share else (then <= lost)


def test_losses_under_other_circumstances_have_those_circumstances_distribution() -> None:
    count = 20_000
    draws, _ = drawn([200] * count, [0.02] * count)
    within = np.random.default_rng(3).random(count)
    then = draws.again(within).lost(np.full(count, 300), np.full(count, 0.05))
    assert then.mean() == pytest.approx(15.0, abs=0.1)
    assert then.var() == pytest.approx(300 * 0.05 * 0.95, rel=0.05)


@given(ranks, ranks, shares, shares, packets)
@settings(deadline=None)
def test_the_quantile_of_losses_rises_with_rank_and_share(
    one: float, other: float, share: float, bad: float, sent: int
) -> None:
    def lost(rank: float, share: float) -> int:
        return int(chance.lost_at(np.array([rank]), np.array([sent]), np.array([share]))[0])

    assert lost(min(one, other), share) <= lost(max(one, other), share) <= sent
    if sent * max(share, bad) < chance.EXACT_BELOW:
        assert lost(one, min(share, bad)) <= lost(one, max(share, bad))


@given(st.floats(0.001, 0.999), st.floats(1e-6, 0.004))
@settings(deadline=None)
def test_few_losses_are_poissons(rank: float, share: float) -> None:
    found = chance.lost_at(np.array([rank]), np.array([2500]), np.array([share]))[0]
    assert found == poisson.ppf(rank, 2500 * share)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_many_losses_are_nearly_binomial(share: float) -> None:
    rank = np.linspace(0.01, 0.99, 99)
    found = chance.lost_at(rank, np.full(99, 5000), np.full(99, share))
    expected = binom.ppf(rank, 5000, share)
    assert np.abs(found - expected).max() <= 0.2 * np.sqrt(5000 * share)
