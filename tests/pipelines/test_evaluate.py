"""Only unseen sessions are judged, and an evaluation that cannot be done leaves nothing."""

import dataclasses
import json
from pathlib import Path

import polars as pl
import pytest

from lifecycle.bundles import write
from models.bundle import Bundle, BundleError
from models.forecaster import Settings
from models.split import part_of_rows, split_sessions
from pipelines import stage
from pipelines.evaluate import Params, evaluate, judge_bundle
from pipelines.train import Params as TrainParams
from pipelines.train import train
from schemas.errors import QosError
from tests.models.frames import CATALOG_HASH, plausible_frame, write_services

FAST = Params(resamples=50)
TASKS = ("throughput", "qos_met")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with frame.parquet, services.json, params.yaml and a bundle."""
    folder = tmp_path_factory.mktemp("world")
    frame = plausible_frame(tasks=TASKS)
    frame.write_parquet(folder / "frame.parquet")
    services = write_services(folder / "services.json")
    small = TrainParams(forecaster=Settings(rounds=30, folds=2))
    write(train(frame, services, small).bundle, folder / "bundle")
    (folder / "params.yaml").write_text("evaluate: {resamples: 20}\n")
    return folder


@pytest.fixture(scope="module")
def frame(world: Path) -> pl.DataFrame:
    return pl.read_parquet(world / "frame.parquet")


@pytest.fixture(scope="module")
def bundle(world: Path) -> Bundle:
    from lifecycle.bundles import load

    return load(world / "bundle")


def test_it_judges_the_test_part_with_the_promised_keys(world: Path, frame: pl.DataFrame) -> None:
    found = evaluate(frame, world / "bundle", world / "services.json", FAST)
    assert set(found.metrics) == set(TASKS)
    for task in TASKS:
        of_task = frame.filter(pl.col("task") == task)
        part = part_of_rows(of_task, split_sessions(of_task, TrainParams().shares))
        rows = of_task.filter(part == "test").height
        metrics = found.metrics[task]
        assert metrics["rows"] == rows
        assert metrics["judged_on"] == "test part"
        assert metrics.keys() >= {
            "auc", "auc_low", "auc_high", "auc_persistence", "gain", "gain_low", "gain_high",
            "auc_radio_only", "band_coverage", "ece", "brier", "verdict", "train_rows",
        }  # fmt: skip
        assert metrics["auc"] > 0.7
        assert sum(group["rows"] for group in metrics["by_five_qi"].values()) == rows
        assert sum(group["rows"] for group in metrics["by_cell_group"].values()) == rows
        assert set(metrics["by_five_qi"]) == {"1", "9"}
    json.dumps(found.metrics, allow_nan=False)


def test_it_draws_pictures_and_data_for_dvc(world: Path, frame: pl.DataFrame) -> None:
    files = evaluate(frame, world / "bundle", world / "services.json", FAST).plots.files
    pictures = {name for name in files if name.endswith(".png")}
    assert pictures == {
        f"{kind}_{task}.png"
        for task in TASKS
        for kind in ("roc", "calibration", "importance", "confusion", "band")
        if (kind, task) != ("band", "qos_met")
    }
    assert all(files[name].startswith(b"\x89PNG") for name in pictures)
    for name in ("roc", "calibration", "importance"):
        assert {row["task"] for row in json.loads(files[f"{name}.json"])} == set(TASKS)


def test_on_another_frame_it_judges_all_sessions_it_has_not_learned_from(
    bundle: Bundle, frame: pl.DataFrame
) -> None:
    later = plausible_frame(sessions=30, tasks=("throughput",))
    found = judge_bundle(bundle, later, CATALOG_HASH, FAST).metrics
    split = bundle.manifest["tasks"]["throughput"]["split"]
    learned = {*split["train"], *split["dev"]}
    assert set(found) == {"throughput"}
    assert found["throughput"]["judged_on"] == "another frame"
    assert found["throughput"]["sessions"] == 30 - len(learned)


def test_what_cannot_be_judged_fails_and_leaves_no_metrics(
    bundle: Bundle, frame: pl.DataFrame
) -> None:
    splits = [about["split"]["train"] for about in bundle.manifest["tasks"].values()]
    learned = frame.filter(pl.col("session_id").is_in(set.intersection(*map(set, splits))))
    with pytest.raises(QosError, match=r"none of \d+ rows is an unseen one"):
        judge_bundle(bundle, learned, CATALOG_HASH, FAST)
    with pytest.raises(BundleError, match=r"trained with catalog"):
        judge_bundle(bundle, frame, "00" * 32, FAST)
    with pytest.raises(BundleError, match="lacks 1 of 6 features: 'ue_rsrp_dbm_mean_10s'"):
        judge_bundle(bundle, frame.drop("ue_rsrp_dbm_mean_10s"), CATALOG_HASH, FAST)


def test_one_class_in_test_is_null_with_a_reason_not_zero(
    bundle: Bundle, frame: pl.DataFrame
) -> None:
    ones = frame.with_columns(label=pl.lit(1, pl.Int8))
    metrics = judge_bundle(bundle, ones, CATALOG_HASH, FAST).metrics["throughput"]
    assert metrics["auc"] is None and metrics["gain"] is None
    assert metrics["reasons"]["auc"] == "only one class among the rows"


def test_the_stage_writes_whole_outputs_or_none(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    flags = ["--frame", "frame.parquet", "--services", "services.json"]
    outs = ["--out-metrics", "out/evaluate.json", "--out-plots", "out/plots"]
    stage.run(evaluate, [*flags, "--bundle", "bundle", *outs])
    assert json.loads(Path("out/evaluate.json").read_text())["throughput"]["auc"] > 0.5
    broken = world / "broken"
    write(dataclasses.replace(_loaded(world)), broken)
    (broken / "throughput" / "p50.txt").write_text("tree")
    outs = ["--out-metrics", "bad/evaluate.json", "--out-plots", "bad/plots"]
    with pytest.raises(SystemExit, match=r"throughput/p50.txt: changed or truncated"):
        stage.run(evaluate, [*flags, "--bundle", "broken", *outs])
    assert not Path("bad").exists()


def _loaded(world: Path) -> Bundle:
    from lifecycle.bundles import load

    return load(world / "bundle")
