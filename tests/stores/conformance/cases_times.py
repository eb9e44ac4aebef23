"""Cases 7 to 15: which row of a history is seen."""

import random
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from tests.stores.conformance.cases import case
from tests.stores.conformance.harness import Harness, forall, same
from tests.stores.conformance.world import HOUR, MICROSECOND, NOON, expected, trips

edges = st.builds(
    lambda steps, micros: NOON + steps * HOUR / 2 + micros * MICROSECOND,
    st.integers(-5, 4),
    st.sampled_from([-1, 0, 0, 0, 1]),
)
asked_at = st.sampled_from([NOON, NOON + HOUR / 2, NOON + HOUR, NOON + HOUR + MICROSECOND])
drivers = st.integers(1, 6)


@st.composite
def histories(draw: st.DrawFn, created: Any = None) -> tuple[list[Any], list[dict[str, Any]]]:
    """(rows of `trips`, asks); no two rows of equal key, event and created."""
    row = st.tuples(
        drivers, edges, st.none() if created is None else created, st.integers(0, 99) | st.none()
    )
    rows = draw(st.lists(row, max_size=40, unique_by=lambda r: r[:3]))
    rows = [(d, event, event if created is None else made, v) for d, event, made, v in rows]
    asks = st.fixed_dictionaries({"driver_id": st.integers(0, 6), "at": asked_at})
    return rows, draw(st.lists(asks, min_size=1, max_size=20))


def _holds(
    harness: Harness, created: Any = None, ttl: timedelta | None = HOUR, *, known: bool = True
) -> None:
    forall(
        harness,
        histories(created),
        lambda drawn: harness.check([trips(*drawn[0], ttl=ttl)], drawn[1], known=known),
    )


@case("a row exactly ttl old is seen, one microsecond older is not")
def case_07_ttl_lower_bound(harness: Harness) -> None:
    rows = [(1, NOON - HOUR, NOON - HOUR, 5), (2, NOON - HOUR - MICROSECOND, NOON - HOUR, 6)]
    asks = [{"driver_id": d, "at": NOON} for d in (1, 2)]
    assert harness.check([trips(*rows)], asks) == [(5,), (None,)]
    _holds(harness)


@case("a row exactly as late as the entity's time is seen, one microsecond later is not")
def case_08_upper_bound(harness: Harness) -> None:
    rows = [
        (1, NOON, NOON, 5),
        (1, NOON + MICROSECOND, NOON + MICROSECOND, 6),
        (2, NOON + MICROSECOND, NOON + MICROSECOND, 7),
    ]
    asks = [{"driver_id": d, "at": at} for d in (1, 2) for at in (NOON, NOON + MICROSECOND)]
    assert harness.check([trips(*rows)], asks) == [(5,), (6,), (None,), (7,)]
    _holds(harness, ttl=3 * HOUR)


@case("ttl 0 and none have no lower bound")
def case_09_no_ttl(harness: Harness) -> None:
    rows = [(1, NOON - 24 * 4000 * HOUR, NOON - 24 * 4000 * HOUR, 5)]
    for ttl in (None, timedelta(0)):
        asks = [{"driver_id": d, "at": NOON} for d in (1, 2)]
        assert harness.check([trips(*rows, ttl=ttl)], asks) == [(5,), (None,)]
        _holds(harness, ttl=ttl)


@case("a ttl below a second holds, and no time is floored")
def case_10_below_a_second(harness: Harness) -> None:
    half = timedelta(milliseconds=500)
    rows = [(n, NOON - half - n * MICROSECOND, NOON - 2 * half, n) for n in range(-2, 3)]
    asks = [{"driver_id": n, "at": NOON} for n in range(-2, 3)]
    found = harness.check([trips(*rows, ttl=half)], asks)
    assert found == [(-2,), (-1,), (0,), (None,), (None,)]
    later = [(1, NOON + 9 * half / 10, NOON, 5)]
    asks = [{"driver_id": 1, "at": NOON + half / 2}, {"driver_id": 1, "at": NOON + half}]
    assert harness.check([trips(*later)], asks) == [(None,), (5,)]


@case("of 1,500 shuffled rows of equal time the last created wins")
def case_11_created_breaks_ties(harness: Harness) -> None:
    rows = [(d, NOON, NOON - n * MICROSECOND, 10 * n + d) for n in range(1500) for d in (1, 2)]
    random.Random(1).shuffle(rows)
    asks = [{"driver_id": d, "at": NOON + HOUR / 2} for d in (1, 2)]
    assert harness.check([trips(*rows)], asks) == [(1,), (2,)]
    _holds(harness, created=edges)


@case("a row without a created time is known at once and loses a tie")
def case_12_null_created(harness: Harness) -> None:
    rows = [(1, NOON, None, 5), (1, NOON, NOON - HOUR, 6), (2, NOON, None, 7)]
    known = not harness.stock  # a stock store's filter leaves out what has no created time
    for some in (rows, rows[::-1]):
        asks = [{"driver_id": d, "at": NOON} for d in (1, 2)]
        assert harness.check([trips(*some)], asks, known=known) == [(6,), (7,)]
    _holds(harness, created=edges | st.none(), known=known)


@case("of wholly equal times exactly one row is seen, the same each time")
def case_13_full_ties(harness: Harness) -> None:
    rows = [(d, NOON, NOON, 100 * d + n) for n in range(50) for d in range(5)]
    random.Random(2).shuffle(rows)
    asks = [{"driver_id": d, "at": NOON} for d in range(5)]
    views = [trips(*rows)]
    found = harness.ask(views, asks)
    assert all(value // 100 == d for d, (value,) in enumerate(found)), f"{found}"
    for _ in range(3):
        same(harness.ask(views, asks), found)
    if not harness.stock:
        same(found, expected(views, asks))


@case("a feature row without a time is never seen")
def case_14_null_event(harness: Harness) -> None:
    rows = [(1, None, NOON, 5), (2, None, None, 6), (2, NOON - HOUR / 2, NOON - HOUR / 2, 7)]
    asks = [{"driver_id": d, "at": NOON} for d in (1, 2)]
    for ttl in (HOUR, None):
        assert harness.check([trips(*rows, ttl=ttl)], asks) == [(None,), (7,)]


@case("an entity row without a time stays, with nulls", not_online="a request has no event time")
def case_15_null_entity_time(harness: Harness) -> None:
    rows = [(1, NOON, NOON, 5), (2, NOON, NOON, 6)]
    asks = [{"driver_id": d, "at": at} for d in (1, 2) for at in (None, NOON)]
    assert harness.check([trips(*rows)], asks) == [(None,), (5,), (None,), (6,)]
