"""Finds, and on request removes, what an online store holds of a project and nobody can ask for.

expired: rows of a registered view that are older than its ttl and a grace. orphaned view: rows of a
view that is not registered. orphaned feature: values of features that are not registered. empty entity:
hashes that hold nothing else, and vanish. Only this project's keys and tables are looked at; in SQLite,
where a table does not say whose it is, only views of which a watermark does.

Definitions must not be applied by another process in the meantime.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any, Literal

from feast import FeatureStore, FeatureView, RepoConfig
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from google.protobuf.timestamp_pb2 import Timestamp

from stores import sqlite as in_sqlite
from stores.arrival import forget_watermarks, watermarked_views
from stores.encode import field_hash
from stores.times import AgedReads, micros

Kind = Literal["expired", "orphaned view", "orphaned feature", "empty entity"]
UNKNOWN = "(unknown)"  # of a hashed field that no registered view explains
GRACE = timedelta(days=1)
_KEYS_A_PIPELINE = 1_000
_EVENT_TIME, _CREATED_TIME = b"_ts:", b"_created:"
_PRECOMPUTED = "__precomputed__"
_STRING = 2  # Feast's ValueType of a join key's name
_MOST_JOIN_KEYS = 64
_HASH_BYTES = 4
_REMOVE = """
local first = 2 + 2 * ARGV[1]
for i = 2, first - 1, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then return 0 end
end
return redis.call('HDEL', KEYS[1], unpack(ARGV, first))
"""


@dataclass(frozen=True)
class Finding:
    """keys: entities concerned; fields: values that go, times included."""

    kind: Kind
    view: str
    keys: int
    fields: int


@dataclass
class _Count:
    """Keys and fields by kind and view."""

    keys: Counter[tuple[Kind, str]] = field(default_factory=Counter)
    fields: Counter[tuple[Kind, str]] = field(default_factory=Counter)

    def add(self, kind: Kind, view: str, fields: int, keys: int = 1) -> None:
        """Counts fields of so many keys."""
        self.keys[(kind, view)] += keys
        self.fields[(kind, view)] += fields

    def findings(self) -> list[Finding]:
        """By kind and view."""
        return [Finding(*of, self.keys[of], self.fields[of]) for of in sorted(self.keys)]


def cleanup(store: FeatureStore, apply: bool, grace: timedelta = GRACE) -> list[Finding]:
    """What there is to remove, by kind and view; with `apply` it has been removed.

    grace: how long after its ttl a row is kept. Raises `TypeError` for an online store that is not
    ours, `ValueError` for a negative grace, or where older versions of views are kept online.
    """
    if grace < timedelta(0):
        raise ValueError(f"cleanup: grace is {grace}; at least 0 is needed")
    if store.config.registry.enable_online_feature_view_versioning:
        raise ValueError(
            "cleanup: enable_online_feature_view_versioning is on, and what older versions of a view "
            "hold cannot be told from what is orphaned"
        )
    online: Any = store._get_provider().online_store
    if not isinstance(online, AgedReads):
        raise TypeError(f"cleanup: online store {type(online).__name__} is not one of stores/")
    store.refresh_registry()  # type: ignore[no-untyped-call]
    if isinstance(online, RedisOnlineStore):
        return _in_redis(store, online, apply, grace)
    assert isinstance(online, SqliteOnlineStore)
    return _in_sqlite(store, online, apply, grace)


def _oldest_us(online: Any, config: RepoConfig, view: Any, grace: timedelta) -> int | None:
    ttl = getattr(view, "ttl", None)
    return micros(online.clock(config) - ttl - grace) if ttl else None


@dataclass(frozen=True)
class _Held:
    """A registered view in a hash: its fields, and the time before which its row is expired."""

    fields: list[bytes]
    oldest_us: int | None


@dataclass
class _Removal:
    """What goes from one hash: fields, by kind and view, as long as the times are still these."""

    times: dict[bytes, bytes] = field(default_factory=dict)
    fields: dict[tuple[Kind, str], list[bytes]] = field(default_factory=dict)

    def every(self) -> list[bytes]:
        """All fields that go."""
        return [name for names in self.fields.values() for name in names]


def _in_redis(store: FeatureStore, online: Any, apply: bool, grace: timedelta) -> list[Finding]:
    config, client = store.config, online._get_client(store.config.online_store)
    views, anywhere = _registered(store, online, grace)
    count, script = _Count(), client.register_script(_REMOVE)
    for some in _chunks(_keys_of_project(client, config.project)):
        hashes = _read(client, [key for key, _ in some])
        for (key, names), held in zip(some, hashes, strict=True):
            removal = _removal(held, views.get(names, {}), anywhere)
            if not removal.fields or (apply and not _remove(script, key, removal)):
                continue
            for (kind, view), fields in removal.fields.items():
                count.add(kind, view, len(fields))
            if len(removal.every()) == len(held):
                count.add("empty entity", "", 0)
    _forget(store, online, apply)
    return count.findings()


def _registered(
    store: FeatureStore, online: Any, grace: timedelta
) -> tuple[dict[tuple[str, ...], dict[str, _Held]], set[bytes]]:
    """Views by join keys and name; and the fields that may stand in any hash."""
    views: dict[tuple[str, ...], dict[str, _Held]] = {}
    anywhere: set[bytes] = set()
    for view in store.registry.list_all_feature_views(store.project):
        fields = [*_time_fields(view.name), *(field_hash(view.name, f.name) for f in view.features)]
        if isinstance(view, FeatureView):
            oldest = _oldest_us(online, store.config, view, grace)
            views.setdefault(tuple(sorted(view.join_keys)), {})[view.name] = _Held(fields, oldest)
        else:
            anywhere.update(fields)
    for service in store.registry.list_feature_services(store.project):
        name = f"{_PRECOMPUTED}{service.name}"
        anywhere.update([*_time_fields(name), field_hash(name, "vector")])
    return views, anywhere


def _time_fields(view: str) -> tuple[bytes, bytes]:
    return _EVENT_TIME + view.encode(), _CREATED_TIME + view.encode()


def _keys_of_project(client: Any, project: str) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    """Every entity key of exactly this project, with its join keys."""
    suffix = project.encode()
    pattern = b"*" + re.sub(rb"([*?\[\]\\^-])", rb"\\\1", suffix)
    for key in client.scan_iter(pattern, count=_KEYS_A_PIPELINE):
        names = join_keys_of(key, suffix)
        if names is not None:
            yield key, names


def join_keys_of(key: bytes, suffix: bytes) -> tuple[str, ...] | None:
    """The sorted join keys of an entity key of version 3; None of any other, or another project's."""

    def number(place: int) -> int:
        return int.from_bytes(key[place : place + 4], "little")

    count, place, names = number(0), 4, []
    if not 1 <= count <= _MOST_JOIN_KEYS:
        return None
    for part in range(2 * count):
        start = place + 8
        if start > len(key) or (part < count and number(place) != _STRING):
            return None
        place = start + number(place + 4)
        if part < count:
            names.append(key[start:place])
    if place > len(key) or key[place:] != suffix:
        return None
    try:
        return tuple(sorted(name.decode() for name in names))
    except UnicodeDecodeError:
        return None


def _chunks(
    keys: Iterable[tuple[bytes, tuple[str, ...]]],
) -> Iterator[list[tuple[bytes, tuple[str, ...]]]]:
    rest = iter(keys)
    while some := list(islice(rest, _KEYS_A_PIPELINE)):
        yield some


def _read(client: Any, keys: Sequence[bytes]) -> list[dict[bytes, bytes]]:
    """The fields of each hash, the event times with their value; none of what is no hash."""
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hkeys(key)
        names = [n if isinstance(n, list) else [] for n in pipe.execute(raise_on_error=False)]
    times = [[n for n in some if n.startswith(_EVENT_TIME)] for some in names]
    with client.pipeline(transaction=False) as pipe:
        for key, some in zip(keys, times, strict=True):
            if some:
                pipe.hmget(key, some)
        answers = iter(pipe.execute())
    return [
        dict.fromkeys(every, b"")
        | (dict(zip(some, (v or b"" for v in next(answers)), strict=True)) if some else {})
        for every, some in zip(names, times, strict=True)
    ]


def _removal(held: dict[bytes, bytes], views: dict[str, _Held], anywhere: set[bytes]) -> _Removal:
    """What goes from a hash of these fields, where these views are registered."""
    removal, known = _Removal(), set(anywhere)
    for name, view in views.items():
        known.update(view.fields)
        event_field = view.fields[0]
        event = held.get(event_field)
        if event and view.oldest_us is not None and _us(event) < view.oldest_us:
            removal.times[event_field] = event
            removal.fields[("expired", name)] = [f for f in view.fields if f in held]
    unknown: list[bytes] = []
    for one in sorted(set(held) - known):
        prefix = next((p for p in (_EVENT_TIME, _CREATED_TIME) if one.startswith(p)), None)
        if prefix is not None and len(one) > len(prefix):
            name = one.removeprefix(prefix).decode(errors="replace")
            removal.fields.setdefault(("orphaned view", name), []).append(one)
        elif len(one) == _HASH_BYTES:
            unknown.append(one)
    if unknown:
        gone = [view for kind, view in removal.fields if kind == "orphaned view"]
        of: tuple[Kind, str] = (
            ("orphaned view", gone[0]) if len(gone) == 1 else ("orphaned feature", UNKNOWN)
        )
        removal.fields.setdefault(of, []).extend(unknown)
    return removal


def _us(stored: bytes) -> int:
    time = Timestamp.FromString(stored)
    return int(time.seconds * 1_000_000 + time.nanos // 1_000)


def _remove(script: Any, key: bytes, removal: _Removal) -> bool:
    """Whether the fields went; they stay where a row was written since it was read."""
    guards = [part for pair in removal.times.items() for part in pair]
    fields = removal.every()
    return bool(script(keys=[key], args=[len(removal.times), *guards, *fields]))


def _forget(store: FeatureStore, online: Any, apply: bool) -> list[str]:
    """Views of which a watermark is left over; with `apply` it has been removed."""
    registered = {view.name for view in store.registry.list_all_feature_views(store.project)}
    left = sorted(set(watermarked_views(online, store.config)) - registered)
    if apply:
        forget_watermarks(online, store.config, left)
    return left


def _in_sqlite(store: FeatureStore, online: Any, apply: bool, grace: timedelta) -> list[Finding]:
    config, count = store.config, _Count()
    connection = online._get_conn(config)
    connection.execute("BEGIN IMMEDIATE" if apply else "BEGIN")
    with connection:
        tables = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        for view in store.registry.list_all_feature_views(store.project):
            table = in_sqlite._table(config, view)  # type: ignore[arg-type]
            if table in tables:
                oldest = _oldest_us(online, config, view, grace)
                features = [feature.name for feature in view.features]
                _clean(connection, table, view.name, features, oldest, apply, count)
    for name in _forget(store, online, apply):
        table = f"{config.project}_{name}"
        if table in tables and not _of_another(connection, config.project, table):
            with connection:
                _drop(connection, table, name, apply, count)
    return count.findings()


def _clean(
    connection: sqlite3.Connection,
    table: str,
    view: str,
    features: Sequence[str],
    oldest_us: int | None,
    apply: bool,
    count: _Count,
) -> None:
    """Counts, and with `apply` deletes, rows past their time and features that are not registered."""
    quoted = in_sqlite._quoted(table)
    event = f"coalesce({in_sqlite._EVENT}, CAST(event_ts AS INTEGER) * 1000000)"
    expired = f"SELECT entity_key FROM {quoted} GROUP BY entity_key HAVING max({event}) < ?"
    places = ", ".join("?" * len(features))
    wheres: list[tuple[Kind, str, list[Any]]] = [
        ("orphaned feature", f"feature_name NOT IN ({places})", list(features))
    ]
    if oldest_us is not None:
        wheres.insert(0, ("expired", f"entity_key IN ({expired})", [oldest_us]))
        wheres[1] = (
            "orphaned feature",
            f"{wheres[1][1]} AND entity_key NOT IN ({expired})",
            [*features, oldest_us],
        )
    found: list[tuple[Kind, str, list[Any]]] = []
    for kind, where, values in wheres:
        keys, fields = connection.execute(
            f"SELECT count(DISTINCT entity_key), count(*) FROM {quoted} WHERE {where}", values
        ).fetchone()
        if fields:
            count.add(kind, view, fields, keys)
            found.insert(0, (kind, where, values))
    for _, where, values in found if apply else []:
        connection.execute(f"DELETE FROM {quoted} WHERE {where}", values)


def _drop(
    connection: sqlite3.Connection, table: str, view: str, apply: bool, count: _Count
) -> None:
    quoted = in_sqlite._quoted(table)
    keys, fields = connection.execute(
        f"SELECT count(DISTINCT entity_key), count(*) FROM {quoted}"
    ).fetchone()
    count.add("orphaned view", view, fields, keys)
    if apply:
        connection.execute(f"DROP TABLE {quoted}")


def _of_another(connection: sqlite3.Connection, project: str, table: str) -> bool:
    """Whether another project of the file may own the table, for names of tables are joined."""
    others = connection.execute(
        "SELECT project FROM newest_row UNION SELECT project FROM watermark"
    ).fetchall()
    return any(table.startswith(f"{other}_") for (other,) in others if other != project)
