"""What the registry holds of a model: its versions, their aliases and the evidence of each."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lifecycle.registry import DIGEST_TAG, Registry, _fetch, find_version


@dataclass(frozen=True)
class Version:
    """A registered version. digest: of its bundle; registered_at: UTC."""

    name: str
    version: int
    aliases: tuple[str, ...]
    digest: str
    run_id: str
    registered_at: datetime


def list_versions(registry: Registry, name: str) -> list[Version]:
    """Every version of the model, the newest first; none for an unknown model."""
    aliases: dict[int, list[str]] = {}
    for model in registry.client.search_registered_models(f"name = '{name}'"):
        for alias, version in model.aliases.items():
            aliases.setdefault(int(version), []).append(alias)
    found = [
        _version(one, aliases.get(int(one.version), []))
        for one in registry.client.search_model_versions(f"name = '{name}'")
    ]
    return sorted(found, key=lambda one: one.version, reverse=True)


def get_version(registry: Registry, model: str) -> Version:
    """The version that `name@alias` or `name/version` means; raises `RegistryError`."""
    found = find_version(registry, model)
    return _version(found, list(found.aliases or []))


def read_evidence(registry: Registry, version: Version) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest as it was registered, and the metrics by task."""
    folder = _fetch(registry, version.run_id)
    manifest, metrics = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("manifest.json", "metrics.json")
    )
    return manifest, metrics


def _version(found: Any, aliases: list[str]) -> Version:
    return Version(
        name=str(found.name),
        version=int(found.version),
        aliases=tuple(sorted(aliases)),
        digest=str((found.tags or {}).get(DIGEST_TAG, "")),
        run_id=str(found.run_id or ""),
        registered_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
    )
