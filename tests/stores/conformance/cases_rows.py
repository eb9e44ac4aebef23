"""Cases 1 to 6: no row is lost, added or swapped."""

import pyarrow as pa

from tests.stores.conformance.cases import case
from tests.stores.conformance.harness import Harness
from tests.stores.conformance.world import HOUR, NOON, pairs, trips


@case("one output row an entity row, always")
def case_01_row_count(harness: Harness) -> None:
    rows = [(d, NOON + h * HOUR, NOON + h * HOUR, 10 * d + h) for d in range(9) for h in range(5)]
    asks = [
        {"driver_id": d, "at": NOON + h * HOUR / 2} for d in range(12) for h in range(-2, 14, 3)
    ]
    harness.check([trips(*rows)], asks)


@case("a row whose whole history is past the ttl survives with nulls")
def case_02_all_out_of_ttl(harness: Harness) -> None:
    rows = [(d, NOON - 3 * HOUR, NOON - 3 * HOUR, d) for d in range(4)]
    asks = [{"driver_id": d, "at": NOON} for d in range(4)]
    assert harness.check([trips(*rows)], asks) == [(None,)] * 4


@case("a row whose whole history is in the future survives with nulls")
def case_03_future_only(harness: Harness) -> None:
    rows = [(1, NOON + HOUR, NOON + HOUR, 5), (2, NOON - HOUR / 2, NOON - HOUR / 2, 6)]
    asks = [{"driver_id": 1, "at": NOON}, {"driver_id": 2, "at": NOON}]
    for ttl in (HOUR, None):
        assert harness.check([trips(*rows, ttl=ttl)], asks) == [(None,), (6,)]


@case(
    "rows of equal key and time with different labels all stay",
    not_online="an online request has no labels",
)
def case_04_equal_rows(harness: Harness) -> None:
    asks = [{"driver_id": 1, "at": NOON}] * 3 + [{"driver_id": 2, "at": NOON}] * 2
    found = harness.check([trips((1, NOON, NOON, 5))], asks)
    assert found == [(5,)] * 3 + [(None,)] * 2


@case("two views with different keys at one time do not drop each other's rows")
def case_05_two_keys(harness: Harness) -> None:
    drivers = trips((1, NOON, NOON, 5), (2, NOON, NOON, 6))
    riders = trips(
        (7, NOON, NOON, 70), (8, NOON, NOON, 80), name="riders",
        mapping={"driver_id": "rider_id", "count": "rides"},
    )  # fmt: skip
    asks = [{"driver_id": d, "rider_id": r, "at": NOON} for d in (1, 2, 3) for r in (7, 8, 9)]
    harness.check([drivers, riders], asks)


@case("three views of shared and overlapping keys each join on all of their own")
def case_06_overlapping_keys(harness: Harness) -> None:
    drivers = trips(("a", NOON, NOON, 5), ("b", NOON, NOON, 6), key=pa.string())
    riders = trips(
        ("x", NOON, NOON, 70), ("y", NOON, NOON, 80), key=pa.string(), name="riders",
        mapping={"driver_id": "rider_id", "count": "rides"},
    )  # fmt: skip
    both = pairs(("a", "x", NOON, NOON, 0.5), ("b", "y", NOON, NOON, 0.25))
    asks = [{"driver_id": d, "rider_id": r, "at": NOON} for d in "abc" for r in "xyz"]
    harness.check([drivers, both, riders], asks)
