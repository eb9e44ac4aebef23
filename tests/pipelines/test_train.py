"""Training is reproducible to the byte, never looks at test, refuses what it cannot learn from."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lifecycle.bundles import load
from models.bundle import BundleError, to_files
from models.forecaster import Settings
from pipelines.train import Params, content_hash, matrix, read_service, train
from schemas.errors import QosError
from tests.models.frames import FEATURES, RADIO, plausible_frame, write_services

SMALL = Params(forecaster=Settings(rounds=15, folds=2))


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_services(tmp_path_factory.mktemp("services") / "services.json")


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return plausible_frame(tasks=("throughput", "qos_met"))


def test_a_rerun_gives_the_same_bytes(frame: pl.DataFrame, services: Path, tmp_path: Path) -> None:
    first = train(frame, services, SMALL)
    again = train(plausible_frame(tasks=("throughput", "qos_met")), services, SMALL)
    assert to_files(first.bundle) == to_files(again.bundle)
    first.write(tmp_path / "bundle")
    assert load(tmp_path / "bundle").digest == again.bundle.digest


def test_the_manifest_says_what_serving_and_the_registry_must_know(
    frame: pl.DataFrame, services: Path
) -> None:
    manifest = train(frame, services, SMALL).bundle.manifest
    assert (manifest["service"], manifest["features"]) == ("qos_v1", FEATURES)
    assert manifest["radio"] == RADIO
    assert manifest["catalog_hash"] == "ca" * 32
    assert manifest["data_hash"] == content_hash(frame)
    assert manifest["tasks"]["throughput"]["band"] and not manifest["tasks"]["qos_met"]["band"]
    about = manifest["tasks"]["throughput"]
    in_parts = sum(part["rows"] for part in about["parts"].values())
    assert in_parts + about["split"]["left_out"] == 1440
    assert "lightgbm" in manifest["libraries"]


def test_labels_and_features_of_test_sessions_change_nothing_that_is_fitted(
    frame: pl.DataFrame, services: Path
) -> None:
    bundle = train(frame, services, SMALL).bundle
    held_out = pl.col("session_id").is_in(bundle.manifest["tasks"]["qos_met"]["split"]["test"])
    changed = frame.with_columns(
        pl.when(held_out).then(1 - pl.col("label")).otherwise("label").cast(pl.Int8).alias("label"),
        pl.when(held_out).then(-1.0).otherwise("label_value").alias("label_value"),
        pl.when(held_out).then(0.0).otherwise(FEATURES[0]).alias(FEATURES[0]),
    )
    assert content_hash(changed) != content_hash(frame)
    assert train(changed, services, SMALL).bundle.tasks == bundle.tasks


def test_the_order_of_the_rows_does_not_matter(frame: pl.DataFrame, services: Path) -> None:
    shuffled = frame.sample(fraction=1, shuffle=True, seed=2)
    assert (
        train(shuffled, services, SMALL).bundle.tasks == train(frame, services, SMALL).bundle.tasks
    )


def test_trials_search_on_dev_and_are_noted(frame: pl.DataFrame, services: Path) -> None:
    bundle = train(frame, services, dataclasses.replace(SMALL, trials=2, tasks=("qos_met",))).bundle
    assert bundle.manifest["parameters"]["trials"] == 2
    assert bundle.manifest["settings"]["rounds"] == 15
    assert list(bundle.tasks) == ["qos_met"]


def test_a_matrix_has_nan_where_the_frame_has_null_and_keeps_the_order() -> None:
    frame = pl.DataFrame({"a": [1.0, None], "b": [3, 4]})
    np.testing.assert_array_equal(matrix(frame, ["b", "a"]), [[3, 1], [4, np.nan]])


def test_what_cannot_be_learned_is_refused_in_one_line(frame: pl.DataFrame, services: Path) -> None:
    cases = {
        r"2 of 6 features are missing: 'ue_rsrp_dbm_mean_10s', 'ue_sinr": frame.drop(FEATURES[:2]),
        "frame: 0 rows": frame.clear(),
        "task 'qos_met' has 0 rows of label 0 in train": frame.with_columns(
            label=pl.lit(1, pl.Int8)
        ),
        "overlap in time or are too few": frame.filter(pl.col("session_id") < "session-002"),
    }
    for said, faulty in cases.items():
        with pytest.raises(QosError, match=said) as caught:
            train(faulty, services, SMALL)
        assert "\n" not in str(caught.value)
    with pytest.raises(QosError, match=r"train.tasks: 'thruput' not in the frame; it has \["):
        train(frame, services, dataclasses.replace(SMALL, tasks=("thruput",)))


def test_a_services_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "services.json"
    with pytest.raises(QosError, match="not found"):
        read_service(path)
    path.write_text("{}")
    with pytest.raises(QosError, match="not a list of services with 'qos_v1'"):
        read_service(path)
    path.write_text(json.dumps({"qos_v1": {"features": ["a"], "radio": ["b"], "catalog_hash": ""}}))
    with pytest.raises(QosError, match="radio names 'b'"):
        read_service(path)


def test_an_absent_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest.json: not found"):
        load(tmp_path)
