"""Admission on the stream: the contract's own verdict, then duplicates, then lateness."""

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.views import WINDOWED
from pipelines.admit import split
from pipelines.stream.admission import Admission, Given, Judged
from schemas.tables import TABLES
from tests.feature_repo.test_laws import table
from tests.pipelines.stream.rows import plain

T = 1_700_000_000_000_000
SECOND = 1_000_000
NAMES = sorted({view.table for view in WINDOWED})


def row(event_s: float = 0, late_s: float = 0, **more: Any) -> dict[str, Any]:
    event = T + int(event_s * SECOND)
    times = {"event_timestamp": event, "arrival_timestamp": event + int(late_s * SECOND)}
    return times | {"ue_id": "a", "session_id": "s", "speed_mps": 1.0} | more


def judged(
    admission: Admission, rows: list[dict[str, Any]], closed: int = 0, name: str = "ue_motion"
) -> Judged:
    places = [("1-0", number) for number in range(len(rows))]
    found = admission.judge(name, Given(list(rows), places, [closed] * len(rows)))
    assert len(found.admitted) + len(found.quarantine) == len(rows)
    return found


def a_minute() -> Admission:
    return Admission(timedelta(minutes=1))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"speed_mps": "fast"}, "ue_motion.speed_mps: unparseable"),
        ({"speed_mps": True}, "ue_motion.speed_mps: unparseable"),
        ({"ue_id": 7}, "ue_motion.ue_id: unparseable"),
        ({"event_timestamp": "2024-01-01"}, "ue_motion.event_timestamp: unparseable"),
        ({"event_timestamp": 10**30}, "ue_motion.event_timestamp: unparseable"),
        ({"event_timestamp": None}, "ue_motion.event_timestamp: is null"),
        ({"ue_id": ""}, "ue_motion.ue_id: min_length"),
        ({"speed_mps": -1.0}, "ue_motion.speed_mps: below"),
        ({"arrival_timestamp": T - 1}, "ue_motion.arrival_before_event"),
    ],
)
def test_a_refused_row_bears_its_place_and_reason_and_stops_no_other(
    bad: dict[str, Any], reason: str
) -> None:
    found = judged(a_minute(), [row(1), row() | bad, row(2)])
    assert found.admitted["event_timestamp"].to_physical().to_list() == [T + SECOND, T + 2 * SECOND]
    (refused,) = found.quarantine.to_dicts()
    assert refused["reason"].startswith(reason)
    assert (refused["source_file"], refused["source_line"]) == ("1-0", 1)


def test_of_equal_rows_the_first_wins_in_one_part_and_in_several() -> None:
    admission = a_minute()
    found = judged(admission, [row(), row(), row(late_s=1), row(speed_mps=2.0)])
    assert found.admitted["speed_mps"].to_list() == [1.0]
    again = judged(admission, [row(), row(speed_mps=3.0)])
    reasons = [*found.quarantine["reason"], *again.quarantine["reason"]]
    same, other = "ue_motion: duplicate_identical", "ue_motion: duplicate_conflicting"
    assert reasons == [same, same, other, same, other]


def test_a_refused_row_does_not_take_the_place_of_a_good_one_of_its_identity() -> None:
    found = judged(a_minute(), [row(speed_mps=-5.0), row()])
    assert found.admitted["speed_mps"].to_list() == [1.0]


def test_rows_behind_the_watermark_or_too_late_are_refused() -> None:
    found = judged(a_minute(), [row(0), row(1), row(2, late_s=60), row(3, late_s=60.1)], T)
    assert found.quarantine["reason"].to_list() == [
        "ue_motion.arrival_timestamp: behind the watermark",
        "ue_motion.arrival_timestamp: more than 1 min after the event",
    ]


def test_a_row_from_the_future_is_refused() -> None:
    given_rows = Given([row(0), row(9)], [("1-0", 0), ("1-0", 1)], [0, 0], [T, T])
    found = a_minute().judge("ue_motion", given_rows)
    assert found.quarantine["reason"].to_list() == [
        "ue_motion.arrival_timestamp: after the entry that brought it"
    ]
    assert len(found.admitted) == 1


def test_identities_are_held_as_long_as_such_a_row_may_come_and_no_longer() -> None:
    admission = a_minute()
    judged(admission, [row(step) for step in range(0, 3600, 10)])
    admission.forget(T + 3590 * SECOND)
    assert 6 <= sum(map(len, admission._seen["ue_motion"].values())) <= 13
    late = judged(admission, [row(3540, late_s=55)], T + 3590 * SECOND)
    assert late.quarantine["reason"].to_list() == ["ue_motion: duplicate_identical"]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_quick_test_says_what_the_contract_says(name: str, seed: int) -> None:
    view = next(view for view in WINDOWED if view.table == name)
    random = np.random.default_rng(seed)
    made = table(view, name, random)
    test = Admission(timedelta(minutes=1))._tests[name]
    floats = [n for n, c in TABLES[name].columns().items() if c.dtype == pl.Float64]
    if floats and random.random() < 0.5:  # just beyond a bound
        broken = str(random.choice(floats))
        column = TABLES[name].columns()[broken]
        beyond = [np.nextafter(column.min, -np.inf), np.nextafter(column.max, np.inf), np.nan]  # type: ignore[attr-defined]
        made = made.with_columns(pl.lit(random.choice(beyond)).alias(broken))
    assert test.passes(made) == TABLES[name].is_valid(made.select(TABLES[name].column_names()))


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_the_batch_admits_are_admitted_and_equal(name: str) -> None:
    view = next(view for view in WINDOWED if view.table == name)
    made = table(view, name, np.random.default_rng(3)).with_columns(
        pl.lit("f").alias("source_file"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("source_line"),
        pl.lit(None, pl.String).alias("refusal"),
        pl.lit(None, pl.String).alias("source_text"),
    )
    names = TABLES[name].column_names()
    wanted, _ = split(name, made)
    found = judged(Admission(timedelta(days=400)), plain(made.select(names)), name=name)
    assert found.admitted.equals(wanted.select(names))
