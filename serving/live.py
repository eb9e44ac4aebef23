"""The model in use with all that answering needs; a new one takes its place in one assignment."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feature_repo.catalog import catalog_hash
from feature_repo.services import SERVICES
from feature_repo.store import REPO, open_store, quiet
from lifecycle.bundles import load
from lifecycle.pseudonym import read_key
from lifecycle.registry import find_version, load_version, open_registry, tracking_uri
from models.bundle import Bundle, BundleError, check_features
from schemas.errors import QosError, listed
from serving.domain import Domain, domain_of
from serving.registered import ask_registry
from serving.score import Scorer
from serving.state import Breakers, Service, Settings
from serving.vectors import Layout
from stores.reader import Limits, OnlineReader, open_reader

if TYPE_CHECKING:
    from feast import FeatureStore

LINK = "ue_cell_link:link_rsrp_dbm_last_5s"  # what tells which cells a UE hears
_GRACE_S = 5.0  # a replaced model's connections stay open for those who still read


@dataclass(frozen=True)
class Live:
    """One model and its compiled parts; nothing in it changes.

    version: as `name/number`, of a folder its name; heard: reads the cells that a UE hears, None where
    the store does not know them; cells: those that training saw.
    """

    bundle: Bundle
    version: str
    layout: Layout
    scorer: Scorer
    domain: Domain
    reader: OnlineReader
    heard: OnlineReader | None
    cells: tuple[str, ...]
    key: bytes

    async def close(self) -> None:
        """Closes the readers' connections in the running loop."""
        await self.reader.close_async()
        if self.heard is not None:
            await self.heard.close_async()


def load_live(settings: Settings, breakers: Breakers | None = None) -> Live:
    """The model that the settings name, ready to answer; blocks for seconds.

    breakers: of a running service, whose registry's is heeded: then raises `RegistryAway` as well.

    Raises `QosError` where bundle, definitions and store do not speak of the same features: a changed
    or truncated file, another catalog, a service that the store's registry has not or has otherwise.
    """
    bundle, version = _bundle(settings, breakers)
    layout = Layout(bundle)
    service = next(one for one in SERVICES if one.name == layout.service)
    check_features(bundle, list(layout.names), catalog_hash(service.views))
    scorer, domain = Scorer(bundle), domain_of(bundle)
    store = open_store(settings.profile, settings.repo or REPO)
    check_registered(store, layout)
    limits = Limits(
        connect_s=settings.store_s, read_s=settings.store_s, budget_s=settings.store_s, attempts=2
    )
    with quiet():
        reader = open_reader(store, layout.refs, limits=limits)
        heard = open_reader(store, [LINK], limits=limits) if _has(store, LINK) else None
    return Live(
        bundle=bundle,
        version=version,
        layout=layout,
        scorer=scorer,
        domain=domain,
        reader=reader,
        heard=heard,
        cells=_cells(bundle),
        key=read_key(),
    )


async def swap(service: Service, settings: Settings) -> Live:
    """Loads beside the running model, then replaces it; requests under way end with the old one.

    Raises as `load_live`, and then the old model stays.
    """
    made = await asyncio.to_thread(load_live, settings, service.breakers)
    old, service.live = service.live, made
    service.in_background(_close_later(old))
    return made


async def _close_later(live: Live) -> None:
    try:
        await asyncio.sleep(_GRACE_S)
    finally:  # at the service's end at once
        await live.close()


def _bundle(settings: Settings, breakers: Breakers | None) -> tuple[Bundle, str]:
    folder = Path(settings.model)
    if "@" not in settings.model and (folder / "manifest.json").exists():
        return load(folder), folder.name

    def fetch() -> tuple[Bundle, str]:
        registry = open_registry(settings.registry_uri or tracking_uri())
        found = find_version(registry, settings.model)
        version = f"{found.name}/{found.version}"
        try:
            return load_version(registry, version), version
        except BundleError as error:
            raise BundleError(
                f"{version}: {error}; `--model` takes another version, as {found.name}@challenger"
            ) from None

    return fetch() if breakers is None else ask_registry(breakers, fetch)


def check_registered(store: "FeatureStore", layout: Layout) -> None:
    """Raises `QosError` unless the store's registry has the model's service with its features."""
    from feast.errors import FeastObjectNotFoundException

    try:
        with quiet():
            views = store.get_feature_service(layout.service).feature_view_projections
    except FeastObjectNotFoundException:
        raise QosError(
            f"feature store: service {layout.service!r} is not registered; `feast apply` does it"
        ) from None
    registered = [feature.name for view in views for feature in view.features]
    if registered != list(layout.names):
        differ = sorted(set(registered) ^ set(layout.names)) or "their order"
        raise QosError(
            f"feature store: service {layout.service!r} has {len(registered)} features, the model "
            f"takes {len(layout.names)}; they differ in {listed(differ)}; apply the definitions anew"
        )


def _has(store: "FeatureStore", ref: str) -> bool:
    view = ref.partition(":")[0]
    with quiet():
        return any(one.name == view for one in store.list_feature_views())


def _cells(bundle: Bundle) -> tuple[str, ...]:
    """All cells that any task's training saw."""
    found: set[str] = set()
    for about in bundle.manifest["tasks"].values():
        for names in about.get("cells", {}).values():
            found |= set(names)
    return tuple(sorted(found))
