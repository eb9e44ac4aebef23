"""What training hands over: a manifest and the models of every task, as named files of plain text.

The manifest names the feature service, its columns in order and the catalog hash, so that whoever
asks can tell whether it speaks of the same features; and the digest of every other file, so that a
changed or truncated one is refused. No clock and no run id: equal inputs give equal bytes.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models import calibration, conformal
from models.forecaster import Forecast, TaskModel
from models.metrics import QUANTILES
from schemas.errors import QosError, listed

Floats = NDArray[np.float64]

FORMAT = 1
MANIFEST = "manifest.json"
QUANTILE_FILES = tuple(f"p{round(level * 100)}.txt" for level in QUANTILES)


class BundleError(QosError):
    """A bundle that cannot be trusted or read."""

    @classmethod
    def changed(cls, where: str, name: str, expected: str, found: str) -> Self:
        return cls(
            f"{where}/{name}: changed or truncated since training: sha256 {found[:12]}…, the "
            f"manifest says {expected[:12]}…; `dvc checkout` or a new `dvc repro train` restores it"
        )


@dataclass(frozen=True)
class Bundle:
    """The manifest (see `manifest_of`) and the fitted tasks, ready to answer."""

    manifest: dict[str, Any]
    tasks: dict[str, TaskModel]

    @property
    def features(self) -> list[str]:
        """The feature columns in the order in which `predict` takes them."""
        return list(self.manifest["features"])

    @property
    def radio(self) -> list[str]:
        """The columns that the radio-only classifiers take, in order."""
        return list(self.manifest["radio"])

    @property
    def digest(self) -> str:
        """SHA-256 over manifest and files: the bundle's identity."""
        return str(self.manifest["digest"])

    @cached_property
    def forecasts(self) -> dict[str, Forecast]:
        """Per task the parsed models; the first use parses them all."""
        return {task: Forecast(model) for task, model in self.tasks.items()}

    def predict(self, task: str, matrix: Floats) -> tuple[Floats, Floats | None]:
        """Probability of the task's event and p10, p50, p90 (rows x 3) of its continuous target.

        matrix: float64, one column a feature in the order of `features`, NaN = unknown. The band is
        None for a task without a continuous target. Raises `BundleError` for an unknown task or
        another number of columns.
        """
        if task not in self.tasks:
            raise BundleError(f"bundle: no task {task!r}; it has {sorted(self.tasks)}")
        if matrix.ndim != 2 or matrix.shape[1] != len(self.features):
            raise BundleError(
                f"bundle: task {task!r} got a matrix of shape {matrix.shape}; it takes "
                f"{len(self.features)} columns, from {self.features[0]!r} to {self.features[-1]!r}"
            )
        forecast = self.forecasts[task]
        return forecast.probability(matrix), forecast.band(matrix)


def bundle_of(manifest: dict[str, Any], tasks: dict[str, TaskModel]) -> Bundle:
    """The bundle with format, digests of its files and its own digest filled into the manifest."""
    files = _task_files(tasks)
    content = manifest | {
        "format": FORMAT,
        "files": {name: _sha256(data) for name, data in sorted(files.items())},
    }
    return Bundle(content | {"digest": _digest(content)}, tasks)


def to_files(bundle: Bundle) -> dict[str, bytes]:
    """The bundle as relative file name to content; `from_files` reads it back."""
    return {MANIFEST: _json(bundle.manifest)} | _task_files(bundle.tasks)


def from_files(files: dict[str, bytes], where: str = "bundle") -> Bundle:
    """The bundle in `files`; `where` names it in errors.

    Raises `BundleError` if the manifest or a file it names is missing, changed or truncated, or if
    another version of the platform wrote it. Files that the manifest does not name are left alone.
    """
    manifest = _manifest(files, where)
    for name, expected in manifest["files"].items():
        if name not in files:
            raise BundleError(f"{where}/{name}: missing, though the manifest names it")
        if (found := _sha256(files[name])) != expected:
            raise BundleError.changed(where, name, expected, found)
    try:
        tasks = {task: _task(files, manifest, task) for task in manifest["tasks"]}
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{where}: not as this version writes it ({type(error).__name__}: {error}); `make run` "
            "trains a bundle that it reads"
        ) from None
    return Bundle(manifest, tasks)


def check_features(bundle: Bundle, columns: list[str], catalog_hash: str | None) -> None:
    """Raises `BundleError` unless all features are among `columns` and the catalog is the same.

    catalog_hash: of the catalog that the columns come from; None skips that comparison.
    """
    if missing := [name for name in bundle.features if name not in set(columns)]:
        raise BundleError(
            f"bundle: the frame lacks {len(missing)} of {len(bundle.features)} features: "
            f"{listed(missing)}; service {bundle.manifest['service']!r} must be the one of training"
        )
    if catalog_hash is not None and catalog_hash != bundle.manifest["catalog_hash"]:
        raise BundleError(
            f"bundle: trained with catalog {bundle.manifest['catalog_hash'][:12]}…, the features "
            f"come from catalog {catalog_hash[:12]}…; train again or check out the definitions"
        )


def _manifest(files: dict[str, bytes], where: str) -> dict[str, Any]:
    if MANIFEST not in files:
        raise BundleError(f"{where}/{MANIFEST}: not found; `dvc repro train` makes a bundle")
    try:
        manifest = json.loads(files[MANIFEST])
        version, digest = manifest["format"], manifest["digest"]
    except (ValueError, KeyError, TypeError):
        raise BundleError(f"{where}/{MANIFEST}: not a whole bundle manifest") from None
    if version != FORMAT:
        raise BundleError(f"{where}/{MANIFEST}: format {version}; this version reads {FORMAT}")
    found = _digest({key: value for key, value in manifest.items() if key != "digest"})
    if found != digest:
        raise BundleError.changed(where, MANIFEST, digest, found)
    return dict(manifest)


def _task_files(tasks: dict[str, TaskModel]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for task, model in tasks.items():
        files[f"{task}/classifier.txt"] = model.classifier.encode()
        files[f"{task}/calibration.json"] = _json(calibration.to_json(model.calibration))
        if model.radio is not None:
            files[f"{task}/radio.txt"] = model.radio.encode()
        for name, text in zip(QUANTILE_FILES, model.quantiles, strict=False):
            files[f"{task}/{name}"] = text.encode()
        if model.bands is not None:
            files[f"{task}/conformal.json"] = _json(conformal.to_json(model.bands))
    return files


def _task(files: dict[str, bytes], manifest: dict[str, Any], task: str) -> TaskModel:
    def content(name: str) -> bytes | None:
        path = f"{task}/{name}"
        return files[path] if path in manifest["files"] else None

    bands, radio = content("conformal.json"), content("radio.txt")
    return TaskModel(
        classifier=files[f"{task}/classifier.txt"].decode(),
        calibration=calibration.from_json(json.loads(files[f"{task}/calibration.json"])),
        radio=None if radio is None else radio.decode(),
        quantiles=tuple(
            text.decode() for name in QUANTILE_FILES if (text := content(name)) is not None
        ),
        bands=None if bands is None else conformal.from_json(json.loads(bands)),
        fitted=manifest["tasks"][task].get("fitted", {}),
    )


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _digest(content: dict[str, Any]) -> str:
    return _sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
