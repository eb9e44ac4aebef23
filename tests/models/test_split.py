"""No session is in two parts, and nothing that train learned from is as late as a test decision."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.split import SplitError, part_of_rows, split_sessions

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
SHARES = (0.5, 0.2, 0.3)


def decisions(sessions: list[tuple[int, int]], label_s: int = 10) -> pl.DataFrame:
    """Sessions as (start in minutes, number of decisions, one a minute)."""
    rows = [
        (f"s{number}", START + timedelta(minutes=start + minute))
        for number, (start, length) in enumerate(sessions)
        for minute in range(length)
    ]
    frame = pl.DataFrame(
        rows, schema={"session_id": pl.String, "event_timestamp": pl.Datetime("us", "UTC")},
        orient="row",
    )  # fmt: skip
    return frame.with_columns(label_until=pl.col("event_timestamp") + pl.duration(seconds=label_s))


@given(
    st.lists(
        st.tuples(st.sampled_from(range(0, 300, 7)), st.integers(1, 40)), min_size=3, max_size=25
    ),
    st.sampled_from([1, 10, 3600]),
)
def test_parts_share_no_session_and_keep_the_order_of_time(
    sessions: list[tuple[int, int]], label_s: int
) -> None:
    rows = decisions(sessions, label_s)
    try:
        split = split_sessions(rows, SHARES)
    except SplitError:
        return
    rows = rows.with_columns(part_of_rows(rows, split).alias("part"))
    kept = rows.drop_nulls("part")
    assert kept.group_by("session_id").agg(pl.col("part").n_unique())["part"].max() == 1
    assert not set(split.train) & set(split.dev) and not set(split.dev) & set(split.test)
    assert sorted(split.train + split.dev + split.test) == sorted(rows["session_id"].unique())
    assert rows.height - kept.height == split.left_out
    assert kept.filter(
        (pl.col("part") == "train") & (pl.col("label_until") > split.dev_from)
        | (pl.col("part") == "test") & (pl.col("event_timestamp") < split.test_from)
    ).is_empty()
    known = {p: kept.filter(pl.col("part") == p)["label_until"].max() for p in ("train", "dev")}
    first = {p: kept.filter(pl.col("part") == p)["event_timestamp"].min() for p in ("dev", "test")}
    for early, late in (("train", "dev"), ("train", "test"), ("dev", "test")):
        if known.get(early) is not None and first[late] is not None:
            assert known[early] <= first[late]  # type: ignore[operator]
    if known["train"] is not None and first["test"] is not None:
        assert known["train"] < first["test"]  # type: ignore[operator]


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 40)), min_size=3, max_size=25))
def test_every_part_has_rows_when_a_split_is_given(sessions: list[tuple[int, int]]) -> None:
    rows = decisions(sessions, label_s=1)
    try:
        split = split_sessions(rows, SHARES)
    except SplitError:
        return
    assert split.train and split.dev and split.test


def test_recordings_of_many_days_are_cut_at_midnight() -> None:
    rows = decisions([(1440 * day + 30 * k, 20) for day in range(10) for k in range(3)])
    split = split_sessions(rows, SHARES)
    assert split.unit == "day"
    assert split.dev_from == datetime(2026, 3, 7, tzinfo=UTC)
    assert split.test_from == datetime(2026, 3, 9, tzinfo=UTC)
    assert (len(split.train), len(split.dev), len(split.test), split.left_out) == (15, 6, 9, 0)


def test_recordings_of_one_day_are_cut_at_starts_of_sessions() -> None:
    rows = decisions([(30 * number, 20) for number in range(10)])
    split = split_sessions(rows, SHARES)
    assert split.unit == "session"
    assert (split.train, split.dev) == (("s0", "s1", "s2", "s3", "s4"), ("s5", "s6"))
    assert split.left_out == 0


def test_rows_of_a_session_that_straddles_a_cut_are_left_out_and_counted() -> None:
    rows = decisions([(0, 50), (10, 50), (100, 45), (130, 30), (200, 50), (210, 50)])
    split = split_sessions(rows, (0.4, 0.2, 0.4))
    part = part_of_rows(rows, split)
    assert part.null_count() == split.left_out
    assert split.left_out < 45


def test_sessions_that_all_overlap_are_refused_with_the_reason() -> None:
    with pytest.raises(SplitError, match=r"6 sessions of 300 rows .* overlap"):
        split_sessions(decisions([(0, 50)] * 6), SHARES)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.2, 0.2), (0.8, 0.2, 0.0), (1.2, -0.4, 0.2)])
def test_shares_that_are_no_shares_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(SplitError, match="sum to 1"):
        split_sessions(decisions([(0, 5), (10, 5), (20, 5)]), shares)


def test_the_order_of_rows_does_not_matter() -> None:
    rows = decisions([(1440 * day, 20) for day in range(10)])
    assert split_sessions(rows.sample(fraction=1, shuffle=True, seed=3), SHARES) == split_sessions(
        rows, SHARES
    )
