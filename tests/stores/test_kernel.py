"""The join's kernel, and its reading in batches, against two loops."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from feast import FeatureStore
from hypothesis import given, settings
from hypothesis import strategies as st

from stores import join, kernel
from stores.kernel import CREATED, TIME, point_in_time, positions
from tests.stores import pit_oracle
from tests.stores.example import open_example

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
US = pl.Datetime("us", "UTC")

instants = st.one_of(
    st.none(),
    st.integers(-4, 4).map(lambda n: NOON + n * HOUR / 2),
    st.sampled_from([NOON + MICROSECOND, NOON - MICROSECOND, NOON - HOUR - MICROSECOND]),
)
texts = st.sampled_from([None, "1", "11", "", "1|1", "é"])
numbers = st.sampled_from([None, 1, 2, 3, -5])
far_numbers = st.sampled_from([None, 0, 1, -(2**63), 2**63 - 1])
bytes_of_one = st.sampled_from([None, -128, 127, 0])
ttls = st.sampled_from([None, timedelta(0), HOUR, timedelta(milliseconds=500)])


@st.composite
def joins(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Entity rows, feature rows and the dtype of each key."""
    keys = draw(
        st.sampled_from(
            [
                {},
                {"a": (texts, pl.String)},
                {"a": (numbers, pl.Int32)},
                {"a": (far_numbers, pl.Int64)},
                {"a": (bytes_of_one, pl.Int8)},
                {"a": (texts, pl.String), "b": (numbers, pl.Int64)},
            ]
        )
    )
    some = {name: values for name, (values, _) in keys.items()}
    entity = st.fixed_dictionaries(some | {"at": instants})
    feature = st.fixed_dictionaries(
        some | {"event": instants, "created": instants, "value": st.integers(0, 99) | st.none()}
    )
    return (
        draw(st.lists(entity, max_size=12)),
        draw(st.lists(feature, max_size=25)),
        {name: dtype for name, (_, dtype) in keys.items()},
    )


@given(joins(), ttls, st.booleans(), st.sampled_from(["us", "ns"]), st.booleans())
@settings(max_examples=400, deadline=None)
def test_the_kernel_equals_two_loops(
    rows: tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]],
    ttl: timedelta | None,
    known: bool,
    unit: Any,
    split: bool,
) -> None:
    """split: the keys fall into several groups, as those of millions of keys over years do."""
    entities, features, keys = rows
    asked = pl.DataFrame(entities, schema=keys | {"at": US}).cast({"at": pl.Datetime(unit, "UTC")})
    table = pl.DataFrame(
        features, schema=keys | {"event": US, "created": US, "value": pl.Int64}
    ).cast({"event": pl.Datetime(unit, "UTC"), "created": pl.Datetime(unit, "UTC")})
    with pytest.MonkeyPatch.context() as patch:
        if split:
            patch.setattr(kernel, "_LIMIT", {"us": 2**34, "ns": 2**44}[unit])
        found = point_in_time(
            asked, table.rename({"event": TIME, "created": CREATED}), list(keys), "at", ttl,
            {"value": "v", TIME: "e", CREATED: "c"}, as_known_at=known,
        )  # fmt: skip
    expected = pit_oracle.join(entities, features, list(keys), ttl, as_known_at=known)
    assert found["v"].to_list() == [row and row["value"] for row in expected]
    assert found["e"].to_list() == [row and row["event"] for row in expected]
    assert found["c"].to_list() == [row and row["created"] for row in expected]


def test_keys_and_times_beyond_one_integer_are_joined_in_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel, "_LIMIT", 2**34)  # one key of four hours a group
    last = NOON + 2 * HOUR
    entities = pl.DataFrame(
        [(key, last) for key in (3, 1, 2)], {"a": pl.Int64, "at": US}, orient="row"
    )
    features = pl.DataFrame(
        [(key, NOON + minutes * HOUR / 60, None, key) for key in (1, 2, 3) for minutes in (-120, 119)],
        {"a": pl.Int64, TIME: US, CREATED: US, "value": pl.Int64}, orient="row",
    )  # fmt: skip
    found = point_in_time(entities, features, ["a"], "at", HOUR, {"value": "v"}, as_known_at=True)
    assert found["v"].to_list() == [3, 1, 2]


def test_times_further_apart_than_the_kernel_counts_are_refused() -> None:
    ns = pl.Datetime("ns", "UTC")
    times = pl.DataFrame({TIME: [-(2**62), 2**62]}).select(pl.col(TIME).cast(ns))
    features = times.with_columns(pl.lit(None, ns).alias(CREATED))
    with pytest.raises(ValueError, match="units apart"):
        positions(times.rename({TIME: "at"}), features, [], "at", None, as_known_at=True)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("batches")
    return open_example(folder, {"type": "sqlite", "path": str(folder / "o.db")})


drivers = st.integers(0, 1)


@given(
    st.lists(st.tuples(drivers, instants, instants, st.integers(0, 99)), min_size=8, max_size=40),
    st.lists(st.tuples(drivers, instants), min_size=4, max_size=12),
    ttls,
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_batches_give_the_same_as_one_piece(
    repo: FeatureStore,
    features: list[tuple[int, datetime, datetime | None, int]],
    asks: list[tuple[int, datetime]],
    ttl: timedelta | None,
    known: bool,
) -> None:
    table = pl.DataFrame(
        features, orient="row",
        schema={"driver_id": pl.Int64, "event": US, "created": US, "count": pl.Int64},
    )  # fmt: skip
    table.with_columns(mean_km=pl.col("count") / 2).write_parquet(repo.repo_path / "trips.parquet")
    view = repo.get_feature_view("trips")
    view.ttl = ttl
    entities = pl.DataFrame(asks, orient="row", schema={"driver_id": pl.Int64, "at": US})

    def joined() -> list[int | None]:
        found = join.join_view(
            repo.config, view, ["trips:count"], entities, "at",
            full_feature_names=False, as_known_at=known, memory_limit=1,
        )  # fmt: skip
        return found["count"].to_list()

    expected = [
        row and row["count"]
        for row in pit_oracle.join(
            [{"k": key, "at": at} for key, at in asks],
            [{"k": k, "event": e, "created": c, "count": v} for k, e, c, v in features],
            ["k"], ttl, as_known_at=known,
        )
    ]  # fmt: skip
    assert joined() == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join, "_LEAST_BATCH", 3)
        patch.setattr(join, "_SAMPLE", 2)
        assert joined() == expected
