"""A Feast online store in Redis: stock keys, fields and bytes, with right times.

online_store:
  type: stores.redis.BulkRedisOnlineStore
  connection_string: ${REDIS_ADDRESS:-127.0.0.1:6379}
  age_from: now         # `newest` for recorded data: ages count to the newest row written
  enforce_ttl: true     # false answers with rows of any age, as stock Feast does

Feast's `skip_dedup` is not heeded: each row is compared and written by the server in one step.
A hash holds one more field a view than stock Feast's, `_created:<view>`: the created time of the row.
"""

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa
from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from pydantic import field_validator
from redis import RedisCluster
from redis.exceptions import RedisError

from stores.encode import encode_times, field_hash
from stores.errors import StoreError
from stores.resp import LATER, Commands, Done, by_pipeline, by_stream, newer_script
from stores.rows import Encoded, checked, newest_rows, of_protos, slices
from stores.times import AgedReads, AgeFrom, Row

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
        """Writes the rows that are newer than what is stored, each entity's at once.

        Newer: a later event time, or an equal one and a later created time (a correction). A reader
        sees an entity's row of a view either before or after.
        """
        version = config.entity_key_serialization_version
        self._write(config, table, of_protos(data, version, config.project), len(data))
        if progress:
            progress(len(data))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """The same, beside the event loop."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    def write_arrow(self, config: RepoConfig, view: FeatureView, rows: pa.Table) -> int:
        """Writes the rows that are newer than what is stored; the number of keys written.

        rows: the join keys, the features by name, `event_timestamp` (UTC, microseconds, not null) and
        `created_timestamp` (null: not known). Of several rows of a key the newest counts. Raises
        StoreError: of the rows' form before anything is written, of the server with the rows done.
        """
        rows, keys = newest_rows(view, checked(view, rows), config.project)
        return self._write(config, view, slices(view, rows, keys), rows.num_rows)

    def _write(
        self, config: RepoConfig, view: FeatureView, encoded: Iterable[Encoded], count: int
    ) -> int:
        settings = config.online_store
        server = ",".join(
            f"{node['host']}:{node.get('port', '')}"
            for node in self._parse_connection_string(settings.connection_string)[0]
        )
        done = Done()
        try:
            client = self._get_client(settings)
            send = by_pipeline if isinstance(client, RedisCluster) else by_stream
            send(client, _commands(config, view, encoded), done)
        except (RedisError, OSError) as error:
            raise StoreError.halted(
                f"Redis {server}", view.name, done.rows, count, error
            ) from error
        except StoreError as error:
            if not done.rows:
                raise
            raise StoreError.halted(
                f"Redis {server}", view.name, done.rows, count, error
            ) from error
        return done.written

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
            *(field_hash(name, feature.name) for feature in table.features),
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


def _commands(
    config: RepoConfig, view: FeatureView, encoded: Iterable[Encoded]
) -> Iterator[Commands]:
    name, ttl = _name(config, view), config.online_store.key_ttl_seconds
    clock = pa.array([_newest_key(config).encode()], pa.binary())
    for rows in encoded:
        hashes = [field_hash(name, feature) for feature in rows.values]
        fields = [field.encode() for field in _time_fields(name)] + hashes
        created = pa.array(rows.created_us).view(pa.binary(8)).cast(pa.binary())
        cells = [encode_times(rows.event_us), created, *rows.values.values()]
        yield Commands(newer_script(fields, ttl), rows.keys, cells)
        latest = pa.array([str(rows.latest_us).encode()], pa.binary())
        yield Commands(LATER, clock, [latest], counted=False)


def _newest_key(config: RepoConfig) -> str:
    return f"newest_row:{config.project}"


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
