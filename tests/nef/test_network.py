"""Scheduling and queues: nobody gets more than there is, and nothing gets lost uncounted."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import SimulatorParams, chance, handover, network, radio

CELLS = 3
ratios = st.floats(0.0, 1.0)
ue = st.tuples(st.integers(0, CELLS - 1), st.booleans(), st.booleans(), ratios)
cell = st.tuples(ratios, st.integers(0, 30))


def share(ues: Any, cells: Any) -> Any:
    slot, served, guaranteed, want = (np.array(part) for part in zip(*ues, strict=True))
    others, users = (np.array(part, dtype=float) for part in zip(*cells, strict=True))
    return network.share_prbs(slot, served, guaranteed, want.astype(float), others, users)


@given(st.lists(ue, min_size=1, max_size=12), st.lists(cell, min_size=CELLS, max_size=CELLS))
@settings(deadline=None)
def test_shares_are_shares(ues: Any, cells: Any) -> None:
    shares = share(ues, cells)
    assert ((shares.busy >= 0.0) & (shares.busy <= 1.0)).all()
    assert ((shares.could >= 0.0) & (shares.could <= network.ONE_UE_MOST)).all()
    assert (shares.others <= np.array([others for others, _ in cells]) + 1e-9).all()
    unserved = ~np.array([served for _, served, _, _ in ues])
    assert (shares.could[unserved] == 0.0).all()


@given(st.lists(ue, min_size=1, max_size=12), st.lists(cell, min_size=CELLS, max_size=CELLS))
@settings(deadline=None)
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


@given(st.booleans(), amounts, amounts, amounts, st.floats(50.0, 1000.0), st.floats(0.0, 0.08))
@settings(deadline=None)
def test_throughput_is_never_above_capacity_and_data_are_kept(
    full: Any, offered: Any, queued: Any, capacity: Any, buffer_ms: Any, grow: float
) -> None:
    flow = network.serve(
        np.array([full]), np.array([offered]), np.array([queued]), np.array([capacity]),
        np.array([buffer_ms]), np.array([True]), np.array([grow]),
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
@settings(deadline=None)
def test_delay_grows_with_load_and_with_worse_radio(
    one: Any, other: Any, good: Any, bad: Any
) -> None:
    state = handover.Attachment.nobody(1)

    def delay(load: Any, sinr: Any) -> Any:
        one = network.Senders.of(np.zeros(1, int), np.array([2]))
        return network.delay_ms(
            one, np.array([sinr]), np.array([load]), np.zeros(1), state, np.zeros(1), np.zeros(1)
        )[0][0]

    assert delay(max(one, other), 10.0) >= delay(min(one, other), 10.0)
    assert delay(0.5, min(good, bad)) >= delay(0.5, max(good, bad)) - 1e-9


def a_second(serving: int, **changed: Any) -> Any:
    """What a full-buffer UE alone in a network of two cells is given."""
    state = network.State.fresh(1, 1, 2)
    state.attached.serving[:] = serving
    senders = network.Senders.of(np.zeros(1, int), np.array([3]))
    now = network.Now(
        received_mw=np.array([[1e-10, 2e-11]]), measured_dbm=np.array([[-100.0, -107.0]]),
        offered_mbps=np.array([10.0]), demand=np.zeros((1, 2)), users=np.zeros((1, 2)),
        noise_mw=radio.noise_mw(),
    )  # fmt: skip
    return network.second(
        state, senders, replace(now, **changed), np.array([True]), np.array([True]), 105,
        SimulatorParams(), chance.Drawn(np.random.default_rng(9), 1),
    )  # fmt: skip


def test_without_a_cell_everything_is_lost() -> None:
    given = a_second(handover.NOBODY)
    assert given.loss[0] == 1.0 and given.downlink_mbps[0] == 0.0


def test_a_cell_that_is_unable_gives_nothing_and_interference_costs() -> None:
    plain = a_second(0).downlink_mbps[0]
    assert a_second(0, ability=np.array([[0.0, 1.0]])).downlink_mbps[0] == 0.0
    assert a_second(0, ability=np.array([[1.2, 1.0]])).downlink_mbps[0] > plain
    assert a_second(0, noise_mw=np.array([1e-10])).downlink_mbps[0] < plain
