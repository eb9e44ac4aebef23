"""The features that the stream left offline, asked for through Feast: `with stream_store() as store`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_repo.store import REPO, quiet, scratch_store
from pipelines.stream.compact import reading
from pipelines.stream.outputs import FEATURES

if TYPE_CHECKING:
    from feast import FeatureStore


@contextmanager
def stream_store(features: Path = FEATURES) -> "Iterator[FeatureStore]":
    """The definitions as they stand, with the stream's folder as the source of every view.

    For offline reads: `get_historical_features` answers point-in-time correct, as known then. While it
    is open, no file is compacted away under a reader.
    """
    with reading(features), scratch_store(REPO) as store, quiet():
        views: list[Any] = list(store.list_feature_views())
        for view in views:
            view.batch_source.file_options.uri = str((features / view.name).resolve())
        store.apply(views)
        yield store
