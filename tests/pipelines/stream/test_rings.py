"""Rings hold what is needed, whatever comes in, and give the room back."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.stream.rings import NEVER, Rings


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_row_that_is_not_dead_is_held_once_with_its_values(seed: int) -> None:
    random = np.random.default_rng(seed)
    rings, wanted, now = Rings(2), [], 0
    for _ in range(30):
        now += int(random.integers(0, 40))
        count = int(random.integers(1, 40))
        keys = random.integers(0, 90, count).tolist()
        event = now + random.integers(-30, 30, count)
        value = random.normal(size=(2, count))
        dead = now - 60
        slot = rings.places(keys)
        rings.insert(slot, event, event + 1, value, np.full(len(rings.head), dead))
        wanted += zip(keys, event.tolist(), *value.tolist(), strict=True)
        live = [row for row in wanted if row[1] > dead]
        held = [
            (key, int(rings.event[at, place]), *rings.value[:, at, place].tolist())
            for key, at in rings.slots.items()
            for place in np.flatnonzero(rings.event[at] > dead)
        ]
        assert sorted(held) == sorted(live)
        if random.random() < 0.3:
            rings.newest[:] = now
            rings.forget(np.full(len(rings.head), dead), now, np.empty(0, dtype=np.int64))


def test_a_long_run_of_few_keys_takes_no_more_room_than_their_windows() -> None:
    rings = Rings(1)
    for step in range(3000):
        slot = rings.places(["a", "b"])
        event = np.array([step, step - 3])
        dead = np.full(len(rings.head), step - 20)
        rings.insert(slot, event, event, np.ones((1, 2)), dead)
    assert rings.event.shape[1] <= 64


def test_keys_that_are_gone_give_their_slots_to_others() -> None:
    rings = Rings(1)
    for step in range(0, 3000, 10):
        slot = rings.places([f"{step}-{n}" for n in range(10)])
        event = np.full(10, step)
        dead = np.full(len(rings.head), step - 50)
        rings.insert(slot, event, event, np.ones((1, 10)), dead)
        rings.newest[slot] = event
        rings.forget(np.full(len(rings.head), step - 50), step - 50, np.empty(0, dtype=np.int64))
    assert len(rings.head) <= 128
    assert (rings.event > NEVER).sum() <= 64
