"""Stage `register`: puts a judged bundle into the registry, or says why not."""

import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lifecycle.bundles import load
from lifecycle.evidence import refusal
from lifecycle.registry import Evidence, Registered, open_registry, register_bundle, tracking_uri
from models.bundle import MANIFEST, Bundle
from pipelines.stage import run
from schemas.errors import QosError


@dataclass(frozen=True)
class Params:
    """name: of the registered model; require_gain: the interval of every task's gain over
    persistence must lie above zero; tasks: those whose evidence counts, empty = all of the bundle;
    alias: auto = champion for the first version, challenger for later ones; on_refusal: report =
    write the reason into the receipt and go on (a source may hold no gain), fail = stop."""

    name: str = "qos"
    require_gain: bool = True
    tasks: tuple[str, ...] = ()
    alias: Literal["auto", "champion", "challenger"] = "auto"
    on_refusal: Literal["report", "fail"] = "report"


class Result(NamedTuple):
    """receipt: {registered, reason, name, bundle}, the same for the same bundle and metrics; version:
    {bundle, version, aliases, run_id} in this machine's registry, null where refused."""

    receipt: dict[str, Any]
    version: dict[str, Any]


def register(bundle: Path, metrics: Path, plots: Path, params: Params) -> Result:
    """Registers the judged bundle, or says why not.

    The only stage with an effect outside its outputs: a version in the registry at
    `MLFLOW_TRACKING_URI`, else in `.qos/mlflow.db`. The same bundle is not registered twice. Raises
    `QosError` when the evidence cannot be read, the registry cannot be opened, or the bundle is
    refused and `on_refusal` is "fail".
    """
    loaded = load(bundle)
    judged = _read_metrics(metrics)
    reason = refusal(loaded.manifest, judged, params.tasks, require_gain=params.require_gain)
    if reason is None and not (plots.is_dir() and any(plots.iterdir())):
        reason = f"{plots}: no plots"
    if reason is not None:
        if params.on_refusal == "fail":
            raise QosError(f"{params.name}: not registered: {reason}")
        return _result(params.name, loaded, reason, None)
    found = register_bundle(
        open_registry(tracking_uri()),
        params.name,
        bundle,
        Evidence(judged, plots, _facts(bundle)),
        params.alias,
    )
    return _result(params.name, loaded, None, found)


def _result(name: str, bundle: Bundle, reason: str | None, found: Registered | None) -> Result:
    receipt = {
        "registered": reason is None,
        "reason": reason,
        "name": name,
        "bundle": bundle.digest,
    }
    version = {
        "bundle": bundle.digest,
        "version": found and found.version,
        "aliases": found and list(found.aliases),
        "run_id": found and found.run_id,
    }
    return Result(receipt, version)


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise QosError(f"{path}: not found; `dvc repro evaluate` judges the bundle") from None
    except ValueError as error:
        raise QosError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise QosError(f"{path}: a {type(content).__name__}; metrics by task are needed")
    return content


def _facts(bundle: Path) -> dict[str, Any]:
    """What only the moment of registration knows: git revision and when the bundle was trained."""
    trained = datetime.fromtimestamp((bundle / MANIFEST).stat().st_mtime, UTC)
    return {
        "git_revision": _git("rev-parse", "HEAD") or "no git repository",
        "git_changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "trained_at": trained.isoformat(timespec="seconds"),
    }


def _git(*arguments: str) -> str:
    """What git says, or an empty text where there is no repository or no git."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    run(register)
