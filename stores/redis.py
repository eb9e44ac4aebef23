"""A Feast online store in Redis: stock keys, fields and bytes, with right times.

online_store:
  type: stores.redis.BulkRedisOnlineStore
  connection_string: ${REDIS_ADDRESS:-127.0.0.1:6379}
  age_from: now         # `newest` for recorded data: ages count to the newest row written
  enforce_ttl: true     # false answers with rows of any age, as stock Feast does

A hash holds one more field a view than stock Feast's, `_created:<view>`: the created time of the row.
"""

import os
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal

import pyarrow as pa
from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.infra.online_stores.helpers import _mmh3, _redis_key, compute_versioned_name
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import field_validator

from stores.times import (
    BEYOND,
    AgedReads,
    AgeFrom,
    Order,
    Row,
    latest_us,
    micros,
    newer,
    newest,
    rows_of,
)  # fmt: skip

_CREATED = struct.Struct("<q")
_ROWS_A_PIPELINE = 2_000
_DEFAULTED = re.compile(r"\$\{(?P<name>\w+):-(?P<default>[^}]*)\}")


class BulkRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """enforce_ttl: a row past its view's ttl is OUTSIDE_MAX_AGE; age_from: what ages count to.

    connection_string may hold `${NAME:-default}`: the environment variable, else the default.
    """

    type: Literal["stores.redis.BulkRedisOnlineStore"] = "stores.redis.BulkRedisOnlineStore"  # type: ignore[assignment]
    enforce_ttl: bool = True
    age_from: AgeFrom = "now"

    @field_validator("connection_string")
    @classmethod
    def _from_environment(cls, text: str) -> str:
        return _DEFAULTED.sub(lambda m: os.environ.get(m["name"]) or m["default"], text)


class BulkRedisOnlineStore(AgedReads, RedisOnlineStore):
    """See the module's docstring."""

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Writes the rows that are newer than what is stored, one HSET an entity.

        Newer: a later event time, or an equal one and a later created time (a correction). A reader
        sees an entity's row of a view either before or after.
        """
        self._write(config, table, data, progress)

    def write_arrow(self, config: RepoConfig, view: FeatureView, rows: pa.Table) -> int:
        """Writes the rows that are newer than what is stored; the number of keys written.

        rows: the join keys, the features by name, `event_timestamp` (UTC, microseconds, not null) and
        `created_timestamp` (null: not known). Of several rows of a key the newest counts.
        """
        return self._write(config, view, rows_of(view, rows), None)

    def _write(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> int:
        client = self._get_client(config.online_store)
        name = _name(config, table)
        written = 0
        for start in range(0, len(data), _ROWS_A_PIPELINE):
            rows = newest(data[start : start + _ROWS_A_PIPELINE], partial(_key, config))
            stored = _orders(client, name, list(rows))
            with client.pipeline(transaction=False) as pipe:
                wins = newer(rows, stored)
                for key, (_, row) in wins.items():
                    pipe.hset(key, mapping=_fields(name, row))
                    if config.online_store.key_ttl_seconds:
                        pipe.expire(key, config.online_store.key_ttl_seconds)
                pipe.execute()
            written += len(wins)
            _advance(client, config, latest_us(rows))
            if progress:
                progress(min(_ROWS_A_PIPELINE, len(data) - start))
        return written

    def newest_us(self, config: RepoConfig) -> int | None:
        """Time of the newest row written by this project, in microseconds."""
        found = self._get_client(config.online_store).get(_newest_key(config))
        return int(found) if found else None

    def delete_entity_values(self, config: RepoConfig, join_keys: list[str]) -> None:
        """Deletes this project's keys of an entity, and no other's."""
        client = self._get_client(config.online_store)
        for key in _keys_of(client, config.project, join_keys):
            client.delete(key)

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Deletes a view's fields from this project's keys."""
        client = self._get_client(config.online_store)
        name = _name(config, table)
        fields = [
            *(_mmh3(f"{name}:{feature.name}") for feature in table.features),
            *_time_fields(name),
        ]
        for key in _keys_of(client, config.project, list(table.join_keys)):
            client.hdel(key, *fields)

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]
    ) -> None:
        """Deletes this project's keys and its clock."""
        super().teardown(config, tables, entities)
        self._get_client(config.online_store).delete(_newest_key(config))


def _name(config: RepoConfig, view: FeatureView) -> str:
    return compute_versioned_name(view, config.registry.enable_online_feature_view_versioning)


def _time_fields(name: str) -> tuple[str, str]:
    return f"_ts:{name}", f"_created:{name}"


def _key(config: RepoConfig, entity_key: EntityKey) -> bytes:
    version = config.entity_key_serialization_version
    return _redis_key(config.project, entity_key, entity_key_serialization_version=version)


def _orders(client: Any, name: str, keys: Sequence[bytes]) -> dict[bytes, Order]:
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hmget(key, _time_fields(name))
        answers = pipe.execute()
    orders = {}
    for key, (event, created) in zip(keys, answers, strict=True):
        if event is not None:
            time = Timestamp.FromString(event)
            known = BEYOND if created is None else _CREATED.unpack(created)[0]
            orders[key] = (time.seconds * 1_000_000 + time.nanos // 1000, known)
    return orders


def _fields(name: str, row: Row) -> dict[Any, Any]:
    _, values, event, created = row
    time = Timestamp()
    time.FromMicroseconds(micros(event))
    event_field, created_field = _time_fields(name)
    return {
        event_field: time.SerializeToString(),
        created_field: _CREATED.pack(BEYOND if created is None else micros(created)),
    } | {_mmh3(f"{name}:{f}"): value.SerializeToString() for f, value in values.items()}


def _newest_key(config: RepoConfig) -> str:
    return f"newest_row:{config.project}"


def _advance(client: Any, config: RepoConfig, us: int) -> None:
    key = _newest_key(config)
    stored = client.get(key)
    if us > (int(stored) if stored else BEYOND):
        client.set(key, us)


def _keys_of(client: Any, project: str, join_keys: list[str]) -> Iterable[bytes]:
    """The keys of exactly this project and these join keys, whatever else the server holds."""
    prefix = serialize_entity_key_prefix(join_keys)
    suffix = project.encode()
    pattern = re.sub(rb"([*?\[\]\\^-])", rb"\\\1", prefix) + b"*"
    for key in client.scan_iter(pattern, count=1000):
        if key.startswith(prefix) and _after_values(key, len(prefix), len(join_keys)) == suffix:
            yield key


def _after_values(key: bytes, place: int, values: int) -> bytes:
    """What follows the values of an entity key: the project."""
    for _ in range(values):
        length = int.from_bytes(key[place + 4 : place + 8], "little")
        place += 8 + length
    return key[place:]
