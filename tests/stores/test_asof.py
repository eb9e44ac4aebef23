"""The as-of store: its kernel against two loops, and Feast's surface case by case."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Float64, Int64, String

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
US = pl.Datetime("us", "UTC")

DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
RIDER = Entity(name="rider", join_keys=["rider_id"], value_type=ValueType.STRING)


def _source(folder: Path, name: str, rows: pl.DataFrame, **more: Any) -> FileSource:
    rows.write_parquet(folder / f"{name}.parquet")
    return FileSource(
        name=f"{name}_file", path=f"{name}.parquet", timestamp_field="event",
        created_timestamp_column="created", **more,
    )  # fmt: skip


def _trips(*rows: tuple[int | None, int | None, datetime | None, datetime | None]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        schema={"driver_id": pl.Int64, "count": pl.Int64, "event": US, "created": US},
        orient="row",
    )


@pytest.fixture
def open_repo(tmp_path: Path) -> Any:
    def opened(trips: pl.DataFrame, ttl: timedelta | None = HOUR, **store: Any) -> FeatureStore:
        config = RepoConfig(
            project="rides", provider="local", registry=str(tmp_path / "r.db"),
            offline_store={"type": "stores.asof.AsofOfflineStore"} | store,
            online_store={"type": "sqlite", "path": str(tmp_path / "o.db")},
            entity_key_serialization_version=3, repo_path=tmp_path,
        )  # fmt: skip
        feast = FeatureStore(repo_path=str(tmp_path), config=config)
        view = FeatureView(
            name="trips", entities=[DRIVER], ttl=ttl, source=_source(tmp_path, "trips", trips),
            schema=[Field(name="driver_id", dtype=Int64), Field(name="count", dtype=Int64)],
        )  # fmt: skip
        ratings = pl.DataFrame(
            {
                "rider_id": ["a", "b"],
                "rating": [4.5, 3.5],
                "event": [NOON] * 2,
                "created": [NOON] * 2,
            },
            schema_overrides={"event": US, "created": US},
        )
        rated = FeatureView(
            name="ratings", entities=[RIDER], ttl=HOUR, source=_source(tmp_path, "ratings", ratings),
            schema=[Field(name="rider_id", dtype=String), Field(name="rating", dtype=Float64)],
        )  # fmt: skip
        feast.apply(
            [DRIVER, RIDER, view, rated, FeatureService(name="all", features=[view, rated])]
        )
        return feast

    return opened


def _ask(store: FeatureStore, entities: Any, *features: str) -> pl.DataFrame:
    job = store.get_historical_features(entities, features=list(features) or ["trips:count"])
    found = pl.from_arrow(job.to_arrow())
    assert isinstance(found, pl.DataFrame)
    return found


def _entities(*rows: tuple[int | None, datetime | None]) -> pd.DataFrame:
    return pl.DataFrame(
        rows, schema={"driver_id": pl.Int64, "event_timestamp": US}, orient="row"
    ).to_pandas(use_pyarrow_extension_array=True)


def test_every_row_comes_back_once_and_in_order(open_repo: Any) -> None:
    store = open_repo(
        _trips((1, 5, NOON, NOON), (2, 6, NOON - 2 * HOUR, NOON), (3, 7, NOON + HOUR, NOON))
    )
    asked = pd.DataFrame(
        {
            "driver_id": [3, 1, 2, 1, 9, 1],
            "event_timestamp": [NOON, NOON, NOON, NOON, NOON, NOON + HOUR + MICROSECOND],
            "label": list("abcdef"),
        }
    )
    before = asked.copy(deep=True)
    found = _ask(store, asked)
    assert found["label"].to_list() == list("abcdef")
    assert found["count"].to_list() == [None, 5, None, 5, None, None]
    pd.testing.assert_frame_equal(asked, before)


@pytest.mark.parametrize(
    ("age", "ttl", "count"),
    [
        (HOUR, HOUR, 5), (HOUR + MICROSECOND, HOUR, None), (timedelta(0), HOUR, 5),
        (-MICROSECOND, HOUR, None), (1000 * HOUR, timedelta(0), 5), (1000 * HOUR, None, 5),
        (timedelta(milliseconds=500), timedelta(milliseconds=500), 5),
        (timedelta(milliseconds=501), timedelta(milliseconds=500), None),
    ],
)  # fmt: skip
def test_both_ends_of_the_ttl_belong_to_it(
    open_repo: Any, age: timedelta, ttl: timedelta | None, count: int | None
) -> None:
    store = open_repo(_trips((1, 5, NOON, NOON)), ttl)
    assert _ask(store, _entities((1, NOON + age)))["count"].to_list() == [count]


def test_what_was_created_later_is_not_known_unless_one_wants_it(open_repo: Any) -> None:
    rows = _trips((1, 5, NOON, NOON), (1, 6, NOON, NOON + HOUR / 4), (1, 7, NOON, None))
    asked = _entities((1, NOON), (1, NOON + HOUR / 2))
    assert _ask(open_repo(rows), asked)["count"].to_list() == [5, 6]
    assert _ask(open_repo(rows, as_known_at=False), asked)["count"].to_list() == [6, 6]


def test_of_a_thousand_equal_times_the_last_created_wins(open_repo: Any) -> None:
    rows = _trips(*((1, n, NOON, NOON - n * MICROSECOND) for n in range(1500))).sample(
        fraction=1.0, shuffle=True, seed=1
    )
    assert _ask(open_repo(rows), _entities((1, NOON)))["count"].to_list() == [0]


def test_nulls_match_nothing_and_drop_nothing(open_repo: Any) -> None:
    rows = _trips(
        (1, 5, None, NOON),
        (None, 6, NOON, NOON),
        (2, None, NOON, NOON),
        (2, 8, NOON - HOUR / 2, NOON),
    )
    found = _ask(open_repo(rows), _entities((1, NOON), (None, NOON), (2, None), (2, NOON)))
    assert found["count"].to_list() == [None, None, None, None]


def test_large_integers_stay_exact_beside_nulls(open_repo: Any) -> None:
    great = 2**53 + 1
    found = _ask(open_repo(_trips((1, great, NOON, NOON))), _entities((1, NOON), (2, NOON)))
    assert found["count"].to_list() == [great, None] and found["count"].dtype == pl.Int64


def test_views_of_different_keys_do_not_drop_each_others_rows(open_repo: Any) -> None:
    store = open_repo(_trips((1, 5, NOON, NOON)))
    asked = pd.DataFrame(
        {"driver_id": [1, 1, 2], "rider_id": ["a", "b", "a"], "event_timestamp": [NOON] * 3}
    )
    found = _ask(store, asked, "trips:count", "ratings:rating")
    assert found.select("count", "rating").rows() == [(5, 4.5), (5, 3.5), (None, 4.5)]


def test_full_names_bear_the_view(open_repo: Any) -> None:
    store = open_repo(_trips((1, 5, NOON, NOON)))
    job = store.get_historical_features(
        _entities((1, NOON)), features=["trips:count"], full_feature_names=True
    )
    assert "trips__count" in job.to_df()


def test_other_zones_and_naive_times_are_utc(open_repo: Any) -> None:
    store = open_repo(_trips((1, 5, NOON, NOON)))
    naive = pd.DataFrame({"driver_id": [1], "event_timestamp": [NOON.replace(tzinfo=None)]})
    tokyo = pd.DataFrame(
        {"driver_id": [1], "event_timestamp": pd.to_datetime([NOON]).tz_convert("Asia/Tokyo")}
    )
    early = pd.DataFrame(
        {"driver_id": [1], "event_timestamp": [(NOON - MICROSECOND).replace(tzinfo=None)]}
    )
    assert [_ask(store, asked)["count"][0] for asked in (naive, tokyo, early)] == [5, 5, None]


def test_an_empty_frame_asks_for_nothing(open_repo: Any) -> None:
    found = _ask(open_repo(_trips((1, 5, NOON, NOON))), _entities((1, NOON)).head(0))
    assert found.height == 0 and "count" in found.columns


def test_an_empty_source_knows_nothing(open_repo: Any) -> None:
    assert _ask(open_repo(_trips()), _entities((1, NOON)))["count"].to_list() == [None]


def test_a_key_of_another_type_is_one_clear_error(open_repo: Any) -> None:
    store = open_repo(_trips((1, 5, NOON, NOON)))
    asked = pd.DataFrame({"driver_id": ["1"], "event_timestamp": [NOON]})
    with pytest.raises(
        ValueError, match=r"trips: key 'driver_id' is String in the entity rows and Int64"
    ):
        _ask(store, asked)


def test_a_source_without_its_column_is_one_clear_error(open_repo: Any, tmp_path: Path) -> None:
    store = open_repo(_trips((1, 5, NOON, NOON)))
    _trips((1, 5, NOON, NOON)).drop("count").write_parquet(tmp_path / "trips.parquet")
    with pytest.raises(ValueError, match=r"trips: its source has no column \['count'\]"):
        _ask(store, _entities((1, NOON)))


def test_pushed_rows_are_appended_and_nothing_is_lost(open_repo: Any, tmp_path: Path) -> None:
    store = open_repo(_trips((1, 5, NOON, NOON)))
    pushed = _trips((2, 6, NOON, NOON)).to_pandas()
    store.write_to_offline_store("trips", pushed)
    assert pl.read_parquet(tmp_path / "trips.parquet").height == 2
    found = _ask(store, _entities((1, NOON), (2, NOON)))
    assert found["count"].to_list() == [5, 6]
    with pytest.raises(ValueError, match="event"):
        store.write_to_offline_store("trips", pushed.drop(columns="event"))
    assert pl.read_parquet(tmp_path / "trips.parquet").height == 2


def test_a_folder_of_files_takes_pushed_rows_as_a_file_more(tmp_path: Path) -> None:
    from stores.source import append_rows

    folder = tmp_path / "rows"
    folder.mkdir()
    first = _trips((1, 5, NOON, NOON)).to_arrow()
    append_rows(folder, first)
    append_rows(folder, pa.concat_tables([first, first]))
    assert pl.read_parquet(folder / "*.parquet").height == 3
    assert not list(folder.glob(".*"))


RANGE_ROWS = (
    (1, 5, NOON, NOON), (1, 6, NOON + HOUR, NOON + 2 * HOUR), (1, 6, NOON + HOUR, NOON + 2 * HOUR),
    (2, 7, NOON + HOUR, NOON), (3, 8, NOON - HOUR, NOON), (None, 9, NOON, NOON),
)  # fmt: skip


@pytest.mark.parametrize(
    ("meaning", "expected"),
    [
        ("events", [(1, 0, 5), (1, 2, 6), (2, 1, 7), (3, 0, 8)]),
        ("rows", [(1, 0, 5), (1, 2, 6), (1, 2, 6), (2, 1, 7), (3, 0, 8)]),
        ("snapshot", [(1, 2, 6), (2, 2, 7), (3, 2, None)]),
    ],
)
def test_a_range_without_entities_has_three_meanings(
    open_repo: Any, meaning: str, expected: list[tuple[int, int, int | None]]
) -> None:
    store = open_repo(_trips(*RANGE_ROWS), without_entity_df=meaning)
    job = store.get_historical_features(
        None, features=["trips:count"], start_date=NOON, end_date=NOON + 2 * HOUR
    )
    found = job.to_df()
    hours = ((found["event_timestamp"] - NOON) / HOUR).astype(int)
    count = found["count"].astype("Int64")
    got = [
        (int(d), int(h), None if pd.isna(c) else int(c))
        for d, h, c in zip(found["driver_id"], hours, count, strict=True)
    ]
    assert got == expected


def test_a_range_reads_a_source_whose_columns_have_other_names(
    open_repo: Any, tmp_path: Path
) -> None:
    store = open_repo(_trips(*RANGE_ROWS))
    named = {"driver_id": "d", "count": "n", "event": "at", "created": "known"}
    _trips(*RANGE_ROWS).rename(named).write_parquet(tmp_path / "other.parquet")
    source = FileSource(
        name="other_file", path="other.parquet", timestamp_field="event",
        created_timestamp_column="created", field_mapping={new: old for old, new in named.items()},
    )  # fmt: skip
    fields = [Field(name="driver_id", dtype=Int64), Field(name="count", dtype=Int64)]
    store.apply(
        FeatureView(name="other", entities=[DRIVER], ttl=HOUR, source=source, schema=fields)
    )
    found = [
        store.get_historical_features(
            None, features=[f"{view}:count"], start_date=NOON, end_date=NOON + 2 * HOUR
        ).to_df()
        for view in ("trips", "other")
    ]
    assert len(found[0]) == 4
    pd.testing.assert_frame_equal(*found)


def test_a_range_over_views_of_different_keys_wants_an_entity_frame(open_repo: Any) -> None:
    store = open_repo(_trips(*RANGE_ROWS))
    with pytest.raises(ValueError, match=r"no view of .* has all keys \['driver_id', 'rider_id'\]"):
        store.get_historical_features(
            None, features=["trips:count", "ratings:rating"], start_date=NOON, end_date=NOON + HOUR
        )
