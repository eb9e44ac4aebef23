"""Event A3 second by second, radio-link failure, and an obvious oracle of both timers."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nef.simulator import chance, handover

YES, NO = np.array([True]), np.array([False])


def walk(
    levels: Any, sinr: float = 10.0, hysteresis: float = 2.5, trigger: int = 1, seed: int = 0
) -> Any:
    """Serving cell before each second's decision, and the events, of one UE; levels: (s, cells)."""
    levels = np.asarray(levels, dtype=float)
    state = handover.Attachment.nobody(1)
    rule = handover.A3.fresh(1, levels.shape[1], hysteresis, trigger)
    random, serving = np.random.default_rng(seed), []
    for tick, row in enumerate(levels[:, None, :]):
        handover.attach(state, tick, row, YES if tick == 0 else NO, NO)
        serving.append(int(state.serving[0]))
        quality = np.where(state.serving == handover.NOBODY, np.nan, np.array([sinr]))
        target = rule.targets(state.serving, row)
        handover.move(state, tick, target, quality, chance.accesses(random, 1))
    return serving, [(tick, kind, int(a[0]), int(b[0])) for tick, kind, _, a, b in state.events]


def test_a_session_begins_on_the_strongest_cell() -> None:
    assert walk([[-90, -80, -85]])[0] == [1]


def test_a_neighbour_better_for_the_time_to_trigger_takes_over() -> None:
    serving, events = walk([[-80, -90]] + [[-90, -80]] * 3)
    assert serving == [0, 0, 0, 1]
    assert events == [(2, "nr_handover", 0, 1)]


def test_within_the_hysteresis_nothing_happens() -> None:
    assert walk([[-80, -90]] + [[-80, -77.6]] * 9)[1] == []


def test_a_neighbour_that_falls_back_starts_its_timer_again() -> None:
    up, down = [-90, -80], [-80, -90]
    assert walk([down, up, down, up, down, up, down])[1] == []


def test_each_neighbour_has_a_timer_of_its_own() -> None:
    levels = [[-80, -99, -99], [-90, -80, -99], [-90, -99, -80], [-90, -80, -99], [-90, -99, -80]]
    assert walk(levels)[1] == []


def test_after_a_handover_all_timers_start_again() -> None:
    levels = [[-80, -99, -99], [-90, -80, -99]] + [[-90, -80, -70]] * 3
    assert [tick for tick, *_ in walk(levels)[1]] == [2, 4]


def test_trigger_time_0_hands_over_at_once() -> None:
    assert walk([[-80, -90], [-90, -80]], trigger=0)[1] == [(1, "nr_handover", 0, 1)]


def test_ping_pong_is_possible() -> None:
    levels = [[-80, -90]] + [[-90, -80]] * 2 + [[-80, -90]] * 2
    assert [kind for _, kind, _, _ in walk(levels)[1]] == ["nr_handover"] * 2


def test_three_seconds_out_of_sync_drop_the_ue_and_it_comes_back_where_it_is_loudest() -> None:
    levels = [[-80, -90]] * 3 + [[-90, -80]] * 6
    serving, events = walk(levels, sinr=-9.0)
    assert events[0] == (2, "radio_link_failure", 0, handover.NOBODY)
    assert serving[3] == handover.NOBODY
    away = next(s for s in range(9) if serving[3 + s] != handover.NOBODY)
    assert 1 <= away <= 3
    assert serving[3 + away] == 1
    assert events[1] == (2 + away, "cell_change", 0, 1)


def obvious_a3(levels: Any, hysteresis: float, trigger: int) -> Any:
    held: dict[int, int] = {}
    serving, events = int(np.argmax(levels[0])), []
    for tick, row in enumerate(levels):
        for cell, level in enumerate(row):
            better = level > row[serving] + hysteresis
            held[cell] = held.get(cell, 0) + 1 if better else 0
        ripe = [cell for cell in range(len(row)) if held[cell] > trigger]
        if ripe:
            target = max(ripe, key=lambda cell: (row[cell], -cell))
            events.append((tick, "nr_handover", serving, target))
            serving, held = target, {}
    return events


levels = st.integers(2, 5).flatmap(
    lambda cells: st.lists(
        st.lists(st.integers(-100, -90), min_size=cells, max_size=cells), min_size=1, max_size=30
    )
)


@given(levels, st.sampled_from([0.5, 2.5, 4.0]), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_the_vectors_agree_with_two_loops(rows: Any, hysteresis: float, trigger: int) -> None:
    events = walk(rows, hysteresis=hysteresis, trigger=trigger)[1]
    assert events == obvious_a3(rows, hysteresis, trigger)
    for tick, _, source, target in events:
        assert rows[tick][target] > rows[tick][source] + hysteresis
