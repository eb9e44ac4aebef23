"""The model registry in MLflow: versions of bundles, their evidence and the aliases that name them.

Local registries (`sqlite:///…`, by default `.qos/mlflow.db`) keep their artifacts in the folder
`mlartifacts` beside the database, and the database names them relative to the project, so that the
project can be moved. A server (`MLFLOW_TRACKING_URI`) keeps them wherever it is told to.
"""

import logging
import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle import artifacts
from lifecycle.bundles import load
from models.bundle import Bundle
from schemas.errors import QosError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

DEFAULT_URI = "sqlite:///.qos/mlflow.db"
EXPERIMENT = "qos"
CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST_TAG = "bundle_digest"
SQLITE = "sqlite:///"
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # also of a name that cannot be


class RegistryError(QosError):
    """A registry that cannot be opened, or has not what was asked for."""


class RegistryUnavailable(RegistryError):
    """A registry that cannot be opened or does not answer."""


@dataclass(frozen=True)
class Registry:
    """An open registry; `folder` holds the artifacts of a local one, None for a server's."""

    client: "MlflowClient"
    uri: str
    folder: Path | None


@dataclass(frozen=True)
class Registered:
    """A version of a registered model; `new`: it was made by this call."""

    name: str
    version: int
    run_id: str
    aliases: tuple[str, ...]
    new: bool


@dataclass(frozen=True)
class Evidence:
    """What is registered beside the bundle. metrics: by task; plots: folder with pictures, or None;
    facts: git revision, training time and the like, for the completed manifest."""

    metrics: dict[str, Any]
    plots: Path | None
    facts: dict[str, Any]


def tracking_uri() -> str:
    """Where the registry is: `MLFLOW_TRACKING_URI`, else the SQLite file of the project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def open_registry(uri: str) -> Registry:
    """The registry at `uri`; a local one is made if it is absent.

    Raises `RegistryUnavailable` in one line if another MLflow version wrote it or nobody answers.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints as it is imported
        import mlflow.pyfunc
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SADeprecationWarning, SQLAlchemyError

    # of MLflow's own models, when it first asks its database
    warnings.filterwarnings("ignore", "The ``noload`` loader", SADeprecationWarning)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    database = _database(uri)
    asked = uri
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
        asked = f"{SQLITE}{database}"  # MLflow keeps one engine per URI, whatever the folder
    try:
        client = mlflow.MlflowClient(tracking_uri=asked, registry_uri=asked)
        client.search_registered_models(max_results=1)
    except (MlflowException, CommandError, SQLAlchemyError) as error:
        raise RegistryUnavailable(_why_not(uri, database, error, mlflow.__version__)) from None
    return Registry(client, uri, None if database is None else database.parent / "mlartifacts")


def register_bundle(
    registry: Registry, name: str, folder: Path, evidence: Evidence, alias: str
) -> Registered:
    """Registers the bundle in `folder` as the next version of `name`; the same bundle only once.

    alias: "champion", "challenger", or "auto": champion if there is none yet, else challenger.
    The run holds parameters, metrics, the completed manifest, plots and the model with signature;
    the version appears last, so an interrupted registration leaves none.
    """
    bundle = load(folder)
    if (known := _known(registry, name, bundle.digest)) is not None:
        return known
    version = _next_version(registry, name)
    run = registry.client.create_run(_experiment(registry), run_name=f"{name}-{version}")
    run_id = run.info.run_id
    try:
        with tempfile.TemporaryDirectory() as beside:
            completed = (
                bundle.manifest
                | evidence.facts
                | {
                    "run_id": run_id,
                    "name": name,
                    "version": version,
                    "metrics": evidence.metrics,
                    "registered_at": datetime.now(UTC).isoformat(timespec="seconds"),
                }
            )
            staged = Path(beside) / "artifacts"
            artifacts.gather(staged, bundle, completed, evidence.metrics, evidence.plots)
            _store(registry, run_id, staged)
        artifacts.log_numbers(registry.client, run_id, bundle, evidence)
        made = _create_version(registry, name, run_id, bundle.digest)
        registry.client.set_terminated(run_id, "FINISHED")
    except BaseException:
        registry.client.set_terminated(run_id, "FAILED")
        raise
    chosen = alias if alias != "auto" else _auto_alias(registry, name)
    registry.client.set_registered_model_alias(name, chosen, str(made))
    return Registered(name, made, run_id, (chosen,), new=True)


def find_version(registry: Registry, model: str) -> "ModelVersion":
    """The version that `name@alias`, `name/version` or `name` (the champion) means.

    Raises `RegistryError` that names what there is, `RegistryUnavailable` where nobody answers.
    """
    from mlflow.exceptions import MlflowException

    name, _, alias = model.partition("@")
    name, _, version = name.partition("/") if not alias else (name, "", "")
    try:
        if version:
            return registry.client.get_model_version(name, version)
        return registry.client.get_model_version_by_alias(name, alias or CHAMPION)
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            told = " ".join(str(error).split())[:200]
            raise RegistryUnavailable(
                f"{registry.uri}: the registry does not answer: {told}"
            ) from None
        raise RegistryError(
            f"{registry.uri}: no model {model!r}; it has {_inventory(registry)}; write "
            f"name@alias or name/version"
        ) from None


def load_version(registry: Registry, model: str) -> Bundle:
    """The bundle of a registered version (see `find_version`), its digests checked."""
    version = find_version(registry, model)
    return load(_fetch(registry, version.run_id or "") / "model" / "bundle")


def holds(registry: Registry, receipt: dict[str, Any]) -> bool:
    """Whether the version that a receipt speaks of is in this registry with that bundle.

    A clone with a pulled cache has the receipt but not the registry: then it is false.
    """
    if not receipt.get("registered"):
        return True
    known = _known(registry, receipt["name"], receipt["bundle"])
    return known is not None and known.version == receipt["version"]


def _database(uri: str) -> Path | None:
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None


def _why_not(uri: str, database: Path | None, error: Exception, version: str) -> str:
    said = " ".join(str(error).split())
    if "schema" in said or "locate revision" in said:
        return (
            f"{uri}: written by another MLflow version than {version} ({said[:160]}); use that "
            f"version, or back it up and run `mlflow db upgrade {uri}`, or move the file away"
        )
    what = "cannot be opened as a registry" if database else "the registry does not answer"
    return f"{uri}: {what}: {said[:200]}"


def _experiment(registry: Registry) -> str:
    """Id of the experiment; a new local one gets an artifact path relative to the project."""
    found = registry.client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    if registry.folder is None:
        return str(registry.client.create_experiment(EXPERIMENT))
    made = registry.client.create_experiment(EXPERIMENT, artifact_location=str(registry.folder))
    artifacts.make_relative(registry.folder.parent / _database_name(registry.uri), registry.folder)
    return str(made)


def _database_name(uri: str) -> str:
    return Path(uri.removeprefix(SQLITE)).name


def _store(registry: Registry, run_id: str, staged: Path) -> None:
    if registry.folder is None:
        registry.client.log_artifacts(run_id, str(staged))
    else:
        shutil.copytree(staged, registry.folder / run_id / "artifacts", dirs_exist_ok=True)


def _fetch(registry: Registry, run_id: str) -> Path:
    """The run's artifacts as a local folder, wherever the project now lies."""
    if registry.folder is not None:
        return registry.folder / run_id / "artifacts"
    return Path(registry.client.download_artifacts(run_id, ""))


def _known(registry: Registry, name: str, digest: str) -> Registered | None:
    """The latest version that holds the bundle of this digest."""
    found = registry.client.search_model_versions(
        f"name = '{name}' AND tags.{DIGEST_TAG} = '{digest}'"
    )
    if not found:
        return None
    latest = max(found, key=lambda version: int(version.version))
    whole = registry.client.get_model_version(name, str(latest.version))
    aliases = tuple(sorted(whole.aliases))
    return Registered(name, int(whole.version), str(whole.run_id), aliases, new=False)


def _next_version(registry: Registry, name: str) -> int:
    found = registry.client.search_model_versions(f"name = '{name}'")
    return max((int(version.version) for version in found), default=0) + 1


def _create_version(registry: Registry, name: str, run_id: str, digest: str) -> int:
    if not registry.client.search_registered_models(f"name = '{name}'"):
        registry.client.create_registered_model(name)
    made = registry.client.create_model_version(
        name, f"runs:/{run_id}/model", run_id, tags={DIGEST_TAG: digest}
    )
    return int(made.version)


def _auto_alias(registry: Registry, name: str) -> str:
    aliases = registry.client.get_registered_model(name).aliases
    return CHALLENGER if CHAMPION in aliases else CHAMPION


def _inventory(registry: Registry) -> str:
    models = registry.client.search_registered_models()
    if not models:
        return "no models; `dvc repro register` makes one"
    return ", ".join(
        f"{model.name} (versions 1 to {_next_version(registry, model.name) - 1}, aliases "
        f"{sorted(model.aliases)})"
        for model in models
    )
