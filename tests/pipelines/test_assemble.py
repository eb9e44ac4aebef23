"""The frame: a row a label row, in its order, with what was known then and nothing else."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_repo import compute
from feature_repo.services import SERVICES
from feature_repo.views import STORED
from feature_repo.windows import View
from pipelines.aggregate import FeatureRows
from pipelines.assemble import Params, Result, assemble, historical
from pipelines.label import Params as LabelParams
from pipelines.label import label
from pipelines.stage import write_all
from pipelines.tasks import COLUMNS
from schemas.errors import QosError
from schemas.tables import TABLES, dtypes
from tests.conftest import World

START = datetime(2024, 3, 1, tzinfo=UTC)
QOS_V1 = next(service for service in SERVICES if service.name == "qos_v1")
NAMES = [feature.name for feature in QOS_V1.features()]


@pytest.fixture(scope="module")
def labels(small_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled decisions in an order that is neither that of time nor that of the keys."""
    path = tmp_path_factory.mktemp("labels") / "labels.parquet"
    found = label(small_world.admitted, LabelParams(min_rows=20)).labels
    found.sample(600, seed=1, shuffle=True).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def assembled(small_world: World, labels: Path) -> Result:
    return assemble(labels, small_world.features, small_world.admitted, Params(truncation_rows=50))


def test_the_frame_is_the_labels_in_their_order_with_the_features_beside_them(
    assembled: Result, labels: Path
) -> None:
    assert assembled.frame.columns == [*COLUMNS, *NAMES]
    assert_frame_equal(assembled.frame.select(*COLUMNS), pl.read_parquet(labels))
    assert {str(assembled.frame.schema[name]) for name in NAMES} == {"Float64"}


def test_each_view_has_something_to_say(assembled: Result) -> None:
    known = {
        feature.view for feature in QOS_V1.features() if assembled.frame[feature.name].count() > 0
    }
    assert known == set(QOS_V1.views)


def test_nothing_in_it_saw_the_future(assembled: Result) -> None:
    stored = [f for v in QOS_V1.members() if v in STORED for f in v.features()]
    assert assembled.truncation == {
        "rows": 50, "columns": len(stored), "values": 50 * len(stored), "differences": 0,
    }  # fmt: skip


def test_an_unknown_service_is_refused_with_the_known_ones(labels: Path) -> None:
    with pytest.raises(QosError, match=r"assemble\.service: 'qos_v9'; known: \['qos_v1'"):
        assemble(labels, labels, labels, Params(service="qos_v9"))


def test_a_feature_that_knows_too_early_stops_the_stage(
    small_world: World, labels: Path, tmp_path: Path
) -> None:
    """Feature rows that claim to have been known 3 s before they were."""
    (tmp_path / "feature_repo").mkdir()
    early = pl.col("event_timestamp", "arrival_timestamp") - timedelta(seconds=3)
    for view in STORED:
        rows = pl.read_parquet(small_world.features / view.name, hive_partitioning=False)
        moved = rows.with_columns(early) if view.name == "ue_radio" else rows
        write_all([(tmp_path / "data" / "features" / view.name, FeatureRows(moved))])
    with pytest.raises(
        QosError, match=r"replay by truncation: \d+ of \d+ values .* first: ue_"
    ) as e:
        assemble(labels, tmp_path / "data" / "features", small_world.admitted, Params())
    assert "\n" not in str(e.value) and "must not see the future" in str(e.value)


# --- a few rows of known meaning ---------------------------------------------------------------


def row(second: float, late: float = 0.0, **columns: Any) -> dict[str, Any]:
    event = START + timedelta(seconds=second)
    times = {
        "event_timestamp": event,
        "arrival_timestamp": event + timedelta(seconds=late),
    }
    return {"ue_id": "a", "session_id": "s", "five_qi": 9, "cell_id": "x"} | times | columns


def world_of(folder: Path, **given: list[dict[str, Any]]) -> Path:
    """`folder` with the features of these rows, and a feature_repo/ to read them from."""
    tables = {
        name: pl.DataFrame(
            [{k: v for k, v in r.items() if k in dtypes(name)} for r in given.get(name, [])],
            schema=dtypes(name),
        )
        for name in TABLES
    }
    for view in STORED:
        rows = (
            compute.features(tables[view.table], tables[view.clock_table], view)
            if isinstance(view, View)
            else view.rows()
        )
        write_all([(folder / "data" / "features" / view.name, FeatureRows(rows))])
    repo = folder / "feature_repo"
    repo.mkdir()
    return repo


def asked(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = {name: dtype for name, dtype in COLUMNS.items() if not name.startswith("label")}
    return pl.DataFrame([{k: v for k, v in r.items() if k in schema} for r in rows], schema=schema)


def test_a_row_that_comes_late_is_used_from_its_arrival_on(tmp_path: Path) -> None:
    rows = [row(0, rsrp_dbm=-80.0), row(1, late=3.0, rsrp_dbm=-100.0), row(2, rsrp_dbm=-90.0)]
    repo = world_of(tmp_path, ue_radio=rows)
    found = historical(asked(row(3.9), row(4), row(2), row(1.5)), "qos_v1", NAMES, repo)
    assert found["ue_rsrp_dbm_mean_10s"].to_list() == [-85.0, -90.0, -85.0, -80.0]
    assert found["ue_rsrp_dbm_last_5s"].to_list() == [-90.0, -90.0, -90.0, -80.0]


def test_a_decision_sees_its_own_ue_and_flow_and_nothing_past_its_age(tmp_path: Path) -> None:
    rows = [row(0, downlink_mbps=5.0), row(0, ue_id="b", downlink_mbps=50.0),
            row(0, five_qi=1, downlink_mbps=500.0)]  # fmt: skip
    repo = world_of(tmp_path, ue_flow=rows, ue_radio=rows)
    keys = [row(1), row(1, ue_id="b"), row(1, five_qi=1), row(1, ue_id="c"), row(10), row(11),
            row(1, ue_id="b", five_qi=1)]  # fmt: skip
    found = historical(asked(*keys), "qos_v1", NAMES, repo)
    assert found["flow_downlink_mbps_last_5s"].to_list() == [5, 50, 500, None, 5, None, None]


def test_the_next_session_starts_without_what_the_last_one_measured(tmp_path: Path) -> None:
    rows = [row(s, downlink_mbps=5.0, rsrp_dbm=-70.0) for s in range(5)]
    rows += [row(3600 + s, downlink_mbps=9.0, rsrp_dbm=-90.0, session_id="t") for s in range(3)]
    repo = world_of(tmp_path, ue_flow=rows, ue_radio=rows)
    keys = [row(3599, session_id="t"), row(3600, session_id="t"), row(3602, session_id="t")]
    found = historical(asked(*keys), "qos_v1", NAMES, repo)
    assert found["flow_downlink_mbps_mean_60s"].to_list() == [None, 9.0, 9.0]
    assert found["ue_rsrp_dbm_mean_10s"].to_list() == [None, -90.0, -90.0]


def test_margins_come_from_the_flow_and_the_request_of_the_same_row(tmp_path: Path) -> None:
    repo = world_of(tmp_path, ue_flow=[row(0, downlink_mbps=12.0, downlink_delay_ms=20.0)])
    request = {"requested_downlink_mbps": 10.0, "requested_delay_ms": 50.0}
    found = historical(asked(row(1, **request), row(1), row(90, **request)), "qos_v1", NAMES, repo)
    assert found["qos_downlink_margin_mbps"].to_list() == [2.0, None, None]
    assert found["qos_delay_margin_ms"].to_list() == [30.0, None, None]
    assert found["request_downlink_mbps"].to_list() == [10.0, None, 10.0]
    assert found["qos_packet_delay_budget_ms"].to_list() == [300.0] * 3  # of 5QI 9
