"""Feature rows as the offline store reads them: a file a day, and none of a window still open."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_repo import compute
from feature_repo.views import CELL_RADIO, QOS_CLASS, UE_RADIO, WINDOWED
from pipelines.aggregate import FeatureRows, aggregate, known_by_the_end
from schemas.errors import QosError
from schemas.tables import dtypes
from tests.conftest import World

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def radio(*seconds: float) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "ue_id": "a", "session_id": "s", "cell_id": "x", "rsrp_dbm": -90.0,
                "event_timestamp": NOON + timedelta(seconds=second),
                "arrival_timestamp": NOON + timedelta(seconds=second),
            }
            for second in seconds
        ],
        schema=dtypes("ue_radio"),
    )  # fmt: skip


def saved(path: Path, rows: pl.DataFrame) -> Path:
    rows.write_parquet(path)
    return path


def test_a_view_gives_what_its_windows_give(tmp_path: Path) -> None:
    rows = radio(0, 1, 2)
    found = aggregate("ue_radio", saved(tmp_path / "rows.parquet", rows)).rows
    assert_frame_equal(found, compute.features(rows, rows, UE_RADIO))
    assert len(found) == 3


def test_a_window_that_the_data_end_in_is_left_out(tmp_path: Path) -> None:
    found = aggregate("cell_radio", saved(tmp_path / "rows.parquet", radio(10, 70, 120, 150))).rows
    ends = [NOON + timedelta(minutes=minute) for minute in (1, 2)]
    assert found["event_timestamp"].to_list() == ends


def test_no_rows_leave_no_windows() -> None:
    empty = radio()
    features = compute.features(empty, empty, CELL_RADIO)
    assert known_by_the_end(features, empty, empty).equals(features)


@pytest.mark.parametrize("view", WINDOWED, ids=lambda view: view.name)
def test_each_view_writes_a_file_a_day_that_reads_back_whole(
    small_world: World, view: object, tmp_path: Path
) -> None:
    name = view.name  # type: ignore[attr-defined]
    rows = pl.read_parquet(small_world.features / name, hive_partitioning=False)
    FeatureRows(rows).write(tmp_path / name)
    days = sorted(path.name for path in (tmp_path / name).iterdir())
    assert days == [f"day={day}" for day in rows["event_timestamp"].dt.date().unique().sort()]
    for day in days:
        part = pl.read_parquet(tmp_path / name / day / "rows.parquet", hive_partitioning=False)
        assert set(part["event_timestamp"].dt.strftime("day=%Y-%m-%d")) == {day}
        assert part.columns == rows.columns
    back = pl.read_parquet(tmp_path / name, hive_partitioning=False)
    order = [*view.keys, "arrival_timestamp"]  # type: ignore[attr-defined]
    assert_frame_equal(back.sort(order), rows.sort(order))


def test_a_view_without_rows_leaves_a_readable_empty_table(tmp_path: Path) -> None:
    found = aggregate("ue_radio", saved(tmp_path / "rows.parquet", radio()))
    found.write(tmp_path / "out")
    back = pl.read_parquet(tmp_path / "out" / "*.parquet")
    assert back.is_empty()
    assert back.columns[3:] == [feature.name for feature in UE_RADIO.features()]


def test_a_static_view_needs_no_table() -> None:
    assert aggregate("qos_class").rows.equals(QOS_CLASS.rows())


def test_what_cannot_be_computed_is_said(tmp_path: Path) -> None:
    with pytest.raises(QosError, match=r"--view 'ue_radar': no such view; there are \['ue_radio'"):
        aggregate("ue_radar")
    with pytest.raises(QosError, match=r"--view ue_event: needs --rows, its table network_event"):
        aggregate("ue_event")
    broken = radio(0).with_columns(rsrp_dbm=pl.lit(5.0))
    with pytest.raises(QosError, match=r"rows\.parquet: .*rsrp_dbm"):
        aggregate("ue_radio", saved(tmp_path / "rows.parquet", broken))
