"""Opens the Feast store of a profile, from any directory."""

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from schemas.errors import QosError

if TYPE_CHECKING:
    from feast import FeatureStore

REPO = Path(__file__).parent
_SQLITE = "sqlite:///"
_RELATIVE_SQLITE = f"{_SQLITE}.."
PROFILES = {"embedded": "feature_store.yaml", "redis": "redis.yaml"}


def open_store(profile: str = "embedded", repo: Path = REPO) -> "FeatureStore":
    """The FeatureStore of a profile; raises `QosError` for a profile that there is none of.

    repo: the folder that relative places of data, registry and online store start from.
    """
    if profile not in PROFILES:
        raise QosError(f"profile {profile!r}: there is no such; known: {sorted(PROFILES)}")
    with quiet():
        from feast import FeatureStore
        from feast.repo_config import load_repo_config

        config = load_repo_config(repo, REPO / PROFILES[profile])
        if config.registry.path.startswith(
            _RELATIVE_SQLITE
        ):  # Feast reads it from where one stands
            place = repo / config.registry.path.removeprefix(_SQLITE)
            place.parent.mkdir(exist_ok=True)
            config.registry.path = f"{_SQLITE}{place}"
        return FeatureStore(repo_path=str(repo), config=config)


@contextlib.contextmanager
def scratch_store(repo: Path = REPO) -> Iterator["FeatureStore"]:
    """The definitions as they stand, applied to a registry of its own: for offline reads only.

    repo: the folder that relative places of data start from.
    """
    with quiet(), tempfile.TemporaryDirectory() as folder:
        from feast import FeatureStore
        from feast.repo_config import RepoConfig

        profile = yaml.safe_load((REPO / PROFILES["embedded"]).read_text(encoding="utf-8"))
        profile["registry"] = f"{folder}/registry.db"
        profile["online_store"]["path"] = f"{folder}/online.db"
        store = FeatureStore(config=RepoConfig(**profile, repo_path=repo))
        apply(store)
        yield store


def apply(store: "FeatureStore") -> None:
    """Registers every object of definitions.py; raises `QosError` for an unreadable registry."""
    from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView

    from feature_repo import definitions

    kinds = (Entity, FeatureView, OnDemandFeatureView, FeatureService)
    objects: list[Any] = [value for value in vars(definitions).values() if isinstance(value, kinds)]
    with quiet():
        _check_readable(store)
        store.apply(objects)


def _check_readable(store: "FeatureStore") -> None:
    try:
        store.list_all_feature_views()
        store.list_on_demand_feature_views()
    except Exception as error:  # whatever unpickling, protobuf or SQL says of foreign content
        said = " ".join(str(error).split())
        place = os.path.relpath(store.repo_path / store.config.registry.path.removeprefix(_SQLITE))
        raise QosError(
            f"{place}: the registry was written by another version and cannot "
            f"be read ({type(error).__name__}: {said}); remove it and publish again: "
            "`make online` writes it anew from feature_repo/definitions.py"
        ) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Feast's warnings about features of its own that are stable or that we chose."""
    level = logging.getLogger("feast").level
    logging.getLogger("feast").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.getLogger("feast").setLevel(level)
