"""The stage from bundle and metrics to a receipt; a registered version judged on another frame."""

import json
from pathlib import Path

import pytest

from models.forecaster import Settings
from pipelines import stage
from pipelines.evaluate import Params as EvaluateParams
from pipelines.evaluate import judge_bundle
from pipelines.evaluate_version import evaluate_version
from pipelines.register import Params, register
from pipelines.train import Params as TrainParams
from pipelines.train import train
from schemas.errors import QosError
from tests.models.frames import CATALOG_HASH, plausible_frame, write_services

ANY_GAIN = Params(require_gain=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A judged bundle in a fresh project folder, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    services = write_services(tmp_path / "services.json")
    frame = plausible_frame()
    trained = train(frame, services, TrainParams(forecaster=Settings(rounds=20, folds=2)))
    trained.write(tmp_path / "bundle")
    judged = judge_bundle(trained.bundle, frame, CATALOG_HASH, EvaluateParams(resamples=50))
    Path("evaluate.json").write_text(json.dumps(judged.metrics))
    judged.plots.write(tmp_path / "plots")
    return tmp_path


def call(params: Params = ANY_GAIN, metrics: str = "evaluate.json"):  # type: ignore[no-untyped-def]
    return register(Path("bundle"), Path(metrics), Path("plots"), params)


def test_a_registered_version_can_be_judged_on_another_frame(project: Path) -> None:
    receipt, version = call()
    assert receipt["registered"] and version["version"] == 1
    assert version["aliases"] == ["champion"]
    assert call() == (receipt, version)
    later = plausible_frame(sessions=40, seed=9)
    later.write_parquet("later.parquet")
    Path("params.yaml").write_text("evaluate: {resamples: 20}\n")
    flags = ["--frame", "later.parquet", "--services", "services.json"]
    outs = ["--out-metrics", "later.json", "--out-plots", "later-plots"]
    stage.run(evaluate_version, [*flags, "--model", "qos@champion", *outs])
    found = json.loads(Path("later.json").read_text())["throughput"]
    assert (found["judged_on"], found["bundle"]) == ("another frame", receipt["bundle"])
    with pytest.raises(SystemExit, match="no model 'qos/8'"):
        stage.run(evaluate_version, [*flags, "--model", "qos/8", *outs])


def test_no_proven_gain_is_reported_or_fails_as_asked_and_touches_no_registry(
    project: Path,
) -> None:
    metrics = json.loads(Path("evaluate.json").read_text())
    metrics["throughput"] |= {"gain": 0.01, "gain_low": -0.01, "gain_high": 0.03}
    Path("doubtful.json").write_text(json.dumps(metrics))
    receipt, version = call(Params(), "doubtful.json")
    assert (receipt["registered"], version["version"], version["run_id"]) == (False, None, None)
    assert receipt["reason"] == (
        "throughput: gain over persistence +0.0100, 95 % interval -0.0100 to +0.0300, "
        "is not above zero"
    )
    with pytest.raises(QosError, match="qos: not registered: throughput: gain"):
        call(Params(on_refusal="fail"), "doubtful.json")
    assert not Path(".qos").exists()


def test_missing_or_broken_metrics_stop_the_stage(project: Path) -> None:
    with pytest.raises(QosError, match=r"absent.json: not found"):
        call(metrics="absent.json")
    Path("broken.json").write_text("{")
    with pytest.raises(QosError, match=r"broken.json: not JSON"):
        call(metrics="broken.json")
    Path("empty.json").write_text("{}")
    assert call(metrics="empty.json").receipt["reason"] == "throughput: not judged"
