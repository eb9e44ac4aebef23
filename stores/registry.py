"""A Feast file registry that is never seen half written, and loses no change of another process.

registry:
  path: ../.qos/registry.db
  registry_store_type: stores.registry.WholeFileRegistryStore
  serve_features_while_materializing: true

Feast's own truncates the file and writes it anew: a reader, or a kill, in between finds half of it; of
two processes that change it the later one undoes what the earlier did. Here it is written beside and
renamed, under a lock, and what another process changed since this one read it is kept.
"""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feast.infra.registry.file import FileRegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.repo_config import RegistryConfig
from feast.utils import _utc_now
from google.protobuf.message import Message

_WRITTEN_ANEW = {"version_id", "last_updated"}


class WholeFileRegistryStore(FileRegistryStore):
    """See the module's docstring."""

    def __init__(self, registry_config: RegistryConfig, repo_path: Path) -> None:
        super().__init__(registry_config, repo_path)
        self._read = Registry()

    def get_registry_proto(self) -> Registry:
        """The registry as it stands; raises `FileNotFoundError` where there is none."""
        found: Registry = super().get_registry_proto()  # type: ignore[no-untyped-call]
        self._read.CopyFrom(found)
        return found

    def _write_registry(self, registry_proto: Registry) -> None:
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self._filepath.with_name(f".{self._filepath.name}.lock")):
            if self._filepath.exists():
                stored = Registry.FromString(self._filepath.read_bytes())
                if stored.version_id != self._read.version_id:
                    registry_proto.CopyFrom(merged(self._read, registry_proto, stored))
            registry_proto.version_id = str(uuid.uuid4())
            registry_proto.last_updated.FromDatetime(_utc_now())
            _replace(self._filepath, registry_proto.SerializeToString())
        self._read.CopyFrom(registry_proto)


def merged(base: Registry, ours: Registry, theirs: Registry) -> Registry:
    """Theirs with what changed from base to ours; where both changed an object, ours.

    Of a view that both materialised the intervals of both are kept.
    """
    result = Registry()
    result.CopyFrom(theirs)
    for field in Registry.DESCRIPTOR.fields:
        name = field.name
        if name in _WRITTEN_ANEW or getattr(ours, name) == getattr(base, name):
            continue
        if not field.is_repeated:
            if field.message_type is None:
                setattr(result, name, getattr(ours, name))
            else:
                getattr(result, name).CopyFrom(getattr(ours, name))
            continue
        result.ClearField(name)  # type: ignore[arg-type]
        getattr(result, name).extend(
            _merged_objects(*(_by_name(getattr(one, name)) for one in (base, ours, theirs)))
        )
    return result


def _by_name(objects: Any) -> dict[tuple[str, str], Any]:
    named = {}
    for one in objects:
        spec = getattr(one, "spec", one)
        named[(getattr(spec, "project", ""), getattr(spec, "name", ""))] = one
    return named


def _merged_objects(
    base: dict[tuple[str, str], Any],
    ours: dict[tuple[str, str], Any],
    theirs: dict[tuple[str, str], Any],
) -> Iterator[Message]:
    for name in theirs | ours:
        before, our, their = base.get(name), ours.get(name), theirs.get(name)
        if our == before:
            chosen = their
        elif their == before or our is None or their is None:
            chosen = our
        else:
            chosen = _with_intervals(our, their)
        if chosen is not None:
            yield chosen


def _with_intervals(our: Any, their: Any) -> Any:
    if not hasattr(getattr(our, "meta", None), "materialization_intervals"):
        return our
    have = list(our.meta.materialization_intervals)
    our.meta.materialization_intervals.extend(
        one for one in their.meta.materialization_intervals if one not in have
    )
    return our


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; freed by the system when it dies."""
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
