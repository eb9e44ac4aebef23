"""A real MLflow registry: versions, aliases, a project that moves, files that are no registry."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lifecycle.bundles import load, write
from lifecycle.registry import (
    DEFAULT_URI,
    Evidence,
    Registry,
    RegistryError,
    find_version,
    holds,
    load_version,
    open_registry,
    register_bundle,
    tracking_uri,
)
from models.bundle import Bundle
from models.forecaster import Settings
from pipelines.train import Params, train
from tests.models.frames import FEATURES, plausible_frame, write_services

METRICS = {"throughput": {"auc": 0.9, "gain": 0.1, "reasons": {}, "verdict": "Better."}}


def fitted(folder: Path, seed: int) -> Bundle:
    services = write_services(folder / "services.json")
    params = Params(seed=seed, forecaster=Settings(rounds=5, folds=2))
    return train(plausible_frame(), services, params).bundle


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles, a plot and an empty registry, made once and copied."""
    folder = tmp_path_factory.mktemp("template")
    for seed in (1, 2):
        write(fitted(folder, seed), folder / f"bundle-{seed}")
    (folder / "plots").mkdir()
    (folder / "plots" / "roc.png").write_bytes(b"\x89PNG")
    before = Path.cwd()
    os.chdir(folder)
    try:
        open_registry(DEFAULT_URI)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


def put(registry: Registry, bundle: str = "bundle-1", alias: str = "auto"):  # type: ignore[no-untyped-def]
    evidence = Evidence(METRICS, Path("plots"), {"git_revision": "abc", "trained_at": "2026"})
    return register_bundle(registry, "qos", Path(bundle), evidence, alias)


def test_the_first_version_is_champion_and_later_ones_challenge(project: Path) -> None:
    registry = open_registry(DEFAULT_URI)
    first, second = put(registry), put(registry, "bundle-2")
    assert (first.version, first.aliases, first.new) == (1, ("champion",), True)
    assert (second.version, second.aliases) == (2, ("challenger",))
    assert load_version(registry, "qos").digest == load(Path("bundle-1")).digest
    assert load_version(registry, "qos@challenger").digest == load(Path("bundle-2")).digest
    assert load_version(registry, "qos/2").digest == load(Path("bundle-2")).digest


def test_the_same_bundle_is_registered_once(project: Path) -> None:
    registry = open_registry(DEFAULT_URI)
    first, again = put(registry), put(registry)
    assert (again.version, again.run_id, again.new) == (first.version, first.run_id, False)
    assert len(registry.client.search_model_versions("name = 'qos'")) == 1


def test_a_version_holds_manifest_metrics_plots_and_signature_and_no_pickle(project: Path) -> None:
    registry = open_registry(DEFAULT_URI)
    made = put(registry)
    folder = project / ".qos" / "mlartifacts" / made.run_id / "artifacts"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["run_id"] == made.run_id
    assert (manifest["name"], manifest["version"], manifest["git_revision"]) == ("qos", 1, "abc")
    assert manifest["features"] == FEATURES and manifest["metrics"] == METRICS
    assert {"trained_at", "registered_at", "catalog_hash", "data_hash"} <= manifest.keys()
    assert (folder / "plots" / "roc.png").is_file()
    assert "throughput_probability" in (folder / "model" / "MLmodel").read_text()
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib"))]
    run = registry.client.get_run(made.run_id)
    assert run.data.metrics["throughput.auc"] == 0.9
    assert run.info.status == "FINISHED"


def test_a_moved_project_keeps_its_versions_for_us_and_for_plain_mlflow(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(open_registry(DEFAULT_URI))
    before = load(Path("bundle-1"))
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    project.rename(moved)
    away = open_registry(f"sqlite:///{moved}/.qos/mlflow.db")
    assert load_version(away, "qos@champion").digest == before.digest
    asked = (
        "import mlflow, pandas as pd\n"
        f"mlflow.set_tracking_uri({DEFAULT_URI!r})\n"
        "model = mlflow.pyfunc.load_model('models:/qos@champion')\n"
        f"row = pd.DataFrame([[-90.0, None, 3.0, 12.0, 1.0, 0.5]], columns={FEATURES!r})\n"
        "print(model.predict(row.astype(float))['throughput_probability'][0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=moved, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    row = np.array([[-90.0, np.nan, 3.0, 12.0, 1.0, 0.5]])
    assert float(done.stdout.split()[-1]) == before.predict("throughput", row)[0][0]


def test_a_moved_project_takes_further_versions(project: Path, tmp_path: Path) -> None:
    put(open_registry(DEFAULT_URI))
    moved = tmp_path / "moved"
    project.rename(moved)
    os.chdir(moved)
    registry = open_registry(DEFAULT_URI)
    assert put(registry, "bundle-2").version == 2
    assert load_version(registry, "qos/2").digest == load(moved / "bundle-2").digest


def test_an_interrupted_registration_leaves_no_version(project: Path) -> None:
    registry = open_registry(DEFAULT_URI)
    evidence = Evidence(METRICS, Path("no-such-plots"), {})
    with pytest.raises(FileNotFoundError):
        register_bundle(registry, "qos", Path("bundle-1"), evidence, "auto")
    assert registry.client.search_model_versions("name = 'qos'") == []
    assert put(registry).version == 1


@pytest.mark.parametrize("revision", ["451aebb31d03", "ffffffffffff"])
def test_a_registry_of_another_mlflow_version_is_refused_in_one_line(
    project: Path, revision: str
) -> None:
    with sqlite3.connect(".qos/mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    database.close()
    with pytest.raises(RegistryError, match="written by another MLflow version than") as caught:
        open_registry(DEFAULT_URI)
    assert "\n" not in str(caught.value) and revision in str(caught.value)


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database" * 100)
    with pytest.raises(RegistryError, match="cannot be opened as a registry") as caught:
        open_registry(f"sqlite:///{tmp_path}/mlflow.db")
    assert "\n" not in str(caught.value)


def test_an_unknown_model_is_answered_with_what_there_is(project: Path) -> None:
    registry = open_registry(DEFAULT_URI)
    with pytest.raises(RegistryError, match="no model 'qos@champion'; it has no models"):
        find_version(registry, "qos@champion")
    put(registry)
    for model in ("qos@challenger", "qos/9", "quos"):
        with pytest.raises(RegistryError, match=r"qos \(versions 1 to 1, aliases \['champion'\]\)"):
            find_version(registry, model)


def test_a_receipt_is_checked_against_the_registry_itself(project: Path) -> None:
    registry = open_registry(DEFAULT_URI)
    made = put(registry)
    digest = load(Path("bundle-1")).digest
    receipt = {"registered": True, "name": "qos", "version": made.version, "bundle": digest}
    assert holds(registry, receipt)
    assert not holds(registry, receipt | {"bundle": "00"})
    assert not holds(registry, receipt | {"version": 7})
    assert holds(registry, {"registered": False})


def test_a_changed_artifact_is_refused(project: Path) -> None:
    registry = open_registry(DEFAULT_URI)
    made = put(registry)
    model = project / ".qos/mlartifacts" / made.run_id / "artifacts/model/bundle/throughput/p50.txt"
    model.write_text(model.read_text()[:-10])
    with pytest.raises(Exception, match=r"p50.txt: changed or truncated"):
        load_version(registry, "qos")


def test_the_environment_says_where_the_registry_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri() == DEFAULT_URI
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri() == "http://127.0.0.1:5000"
