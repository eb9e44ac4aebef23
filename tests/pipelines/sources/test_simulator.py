"""The simulator as a source: what it injects is a side table for the evaluation, never a feature."""

from pathlib import Path

import polars as pl
import pytest

from feature_repo.views import STORED
from nef.simulator import SimulatorParams
from nef.simulator.anomalies import KINDS, LABELS
from pipelines.admit import Params as AdmitParams
from pipelines.admit import admit
from pipelines.collect import Params, Raw, collect
from pipelines.sources.nef import PSEUDONYM
from schemas.tables import TABLES

WITH_ANOMALIES = SimulatorParams(
    sites=1, ues=4, minutes=6.0, sessions=2, concurrent=2, spread_hours=12.0, seed=3, anomalies=1
)


@pytest.fixture(scope="module")
def raw() -> Raw:
    return collect(Params(source="simulator", simulator=WITH_ANOMALIES))


def test_each_injected_anomaly_is_a_label_with_its_span(raw: Raw) -> None:
    (name,) = raw.labels
    labels = raw.labels[name]
    assert name == "label_anomaly" and dict(labels.schema) == LABELS
    assert sorted(labels["kind"]) == sorted(KINDS)
    assert (labels["end"] > labels["start"]).all()


def test_labels_name_the_same_pseudonyms_and_sessions_as_the_tables(raw: Raw) -> None:
    told = raw.labels["label_anomaly"].drop_nulls("ue_id")
    assert len(told) and all(PSEUDONYM.fullmatch(ue) for ue in told["ue_id"])
    known = raw.tables["ue_radio"].select("ue_id", "session_id").unique()
    assert len(told.join(known, on=["ue_id", "session_id"])) == len(told)


def test_labels_bear_positions_on_the_grid_only(raw: Raw) -> None:
    placed = raw.labels["label_anomaly"].drop_nulls("latitude_deg")
    cells = (placed["latitude_deg"] - 0.0005) / 0.001
    assert len(placed) and (cells - cells.round()).abs().max() < 1e-6  # type: ignore[operator]


def test_labels_lie_beside_the_raw_tables_where_no_view_and_no_admission_reads_them(
    raw: Raw, tmp_path: Path
) -> None:
    raw.write(tmp_path / "raw")
    written = pl.read_parquet(tmp_path / "raw" / "label_anomaly.parquet")
    assert written.equals(raw.labels["label_anomaly"])
    assert set(admit(tmp_path / "raw", AdmitParams(min_acceptance=0.5)).admitted.tables) == set(
        TABLES
    )
    assert "label_anomaly" not in TABLES
    assert all(getattr(view, "table", "") in {*TABLES, ""} for view in STORED)
