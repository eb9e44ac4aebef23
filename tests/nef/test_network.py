"""Scheduling and queues: nobody gets more than there is, and nothing gets lost uncounted."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nef.simulator import handover, network

CELLS = 3
ratios = st.floats(0.0, 1.0)
ue = st.tuples(st.integers(0, CELLS - 1), st.booleans(), st.booleans(), ratios)
cell = st.tuples(ratios, st.integers(0, 30))


def share(ues: Any, cells: Any) -> Any:
    slot, served, guaranteed, want = (np.array(part) for part in zip(*ues, strict=True))
    others, users = (np.array(part, dtype=float) for part in zip(*cells, strict=True))
    return network.share_prbs(slot, served, guaranteed, want.astype(float), others, users)


@given(st.lists(ue, min_size=1, max_size=12), st.lists(cell, min_size=CELLS, max_size=CELLS))
def test_shares_are_shares(ues: Any, cells: Any) -> None:
    shares = share(ues, cells)
    assert ((shares.busy >= 0.0) & (shares.busy <= 1.0)).all()
    assert ((shares.could >= 0.0) & (shares.could <= network.ONE_UE_MOST)).all()
    assert (shares.others <= np.array([others for others, _ in cells]) + 1e-9).all()
    unserved = ~np.array([served for _, served, _, _ in ues])
    assert (shares.could[unserved] == 0.0).all()


@given(st.lists(ue, min_size=1, max_size=12), st.lists(cell, min_size=CELLS, max_size=CELLS))
def test_what_ues_may_have_together_fits_into_the_cell(ues: Any, cells: Any) -> None:
    shares = share(ues, cells)
    slot = np.array([slot for slot, *_ in ues])
    given_out = np.bincount(slot, weights=shares.could, minlength=CELLS) + shares.others
    assert (given_out <= 1.0 - network.SHARED_CHANNEL + 1e-9).all()
    assert (shares.busy >= network.SHARED_CHANNEL + shares.others - 1e-9).all()


def test_a_guaranteed_flow_comes_before_a_full_cell() -> None:
    shares = share([(0, True, True, 0.2), (0, True, False, 1.0)], [(1.0, 20)] * CELLS)
    assert shares.could[0] >= 0.2
    assert shares.could[1] == pytest.approx((0.98 - 0.2) / 21)


def test_equals_share_equally() -> None:
    shares = share([(0, True, False, 1.0)] * 4, [(0.0, 0)] * CELLS)
    assert shares.could == pytest.approx(np.full(4, 0.98 / 4))


amounts = st.floats(0.0, 500.0)


@given(st.booleans(), amounts, amounts, amounts, st.floats(50.0, 1000.0), st.integers(0, 99))
def test_throughput_is_never_above_capacity_and_data_are_kept(
    full: Any, offered: Any, queued: Any, capacity: Any, buffer_ms: Any, seed: int
) -> None:
    flow = network.serve(
        np.array([full]), np.array([offered]), np.array([queued]), np.array([capacity]),
        np.array([buffer_ms]), np.array([True]), np.random.default_rng(seed),
    )  # fmt: skip
    assert flow.sent_mbps[0] <= capacity
    assert flow.queue_mb[0] >= 0.0 and flow.wait_ms[0] >= 0.0
    assert 0.0 <= flow.dropped[0] <= 1.0
    if full:
        assert flow.sent_mbps[0] == capacity  # there is always something to send
    else:
        came = queued + offered
        left = flow.sent_mbps[0] + flow.queue_mb[0] + flow.dropped[0] * came
        assert left == pytest.approx(came, abs=1e-6)


@given(st.floats(0.01, 0.9), st.floats(0.01, 0.9), st.floats(-15.0, 30.0), st.floats(-15.0, 30.0))
def test_delay_grows_with_load_and_with_worse_radio(
    one: Any, other: Any, good: Any, bad: Any
) -> None:
    state = handover.Attachment.nobody(1, 1)

    def delay(load: Any, sinr: Any) -> Any:
        random = np.random.default_rng(8)
        return network.delay_ms(
            np.array([2]), np.array([sinr]), np.array([load]), np.zeros(1), state, random
        )[0][0]

    assert delay(max(one, other), 10.0) >= delay(min(one, other), 10.0)
    assert delay(0.5, min(good, bad)) >= delay(0.5, max(good, bad)) - 1e-9


def test_without_a_cell_everything_is_lost() -> None:
    nothing = network.Flow(*(np.zeros(1) for _ in range(4)))
    loss = network.loss_ratio(
        np.array([0]), np.array([np.nan]), nothing, np.zeros(1), np.array([False]),
        np.random.default_rng(9),
    )  # fmt: skip
    assert loss[0] == 1.0
