"""One side of the materialisation benchmark: `python -m benchmarks.materialize_side`."""

import contextlib
import io
import json
import socket
import sqlite3
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hiredis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redis

from benchmarks.results_file import peak_gb

BATCH = 50_000
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
START_US = int(FIRST.timestamp()) * 1_000_000
_TIME = pa.timestamp("us", tz="UTC")


def measure(
    store: str, side: str, folder: Path, address: str, keys: int, views: int, features: int
) -> dict[str, Any]:
    """{rows, keys, written, seconds, peak_gb, client_cpu_s, server_cpu_s, checks}.

    checks: event time and bytes of every feature of the first keys, as they are stored.
    """
    if whole := side in ("ours", "feast"):
        _write_sources(folder, keys, features, views)
    feast_store = _open(store, side, folder, address, views, features)
    found = [feast_store.get_feature_view(f"view_{number}") for number in range(views)]
    online, config = feast_store._get_provider().online_store, feast_store.config
    cpu_before = _server_cpu_s(address)
    seconds, client_cpu_s, written = 0.0, 0.0, 0
    if whole:
        started = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            feast_store.materialize(FIRST, FIRST + timedelta(days=2))
        seconds, client_cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
        written = keys * views
    for number, view in enumerate(found):
        for rows in () if whole else _batches(keys, features, number):
            if side == "ours_writes":
                started = time.perf_counter(), time.process_time()
                written += online.write_arrow(config, view, rows)
            elif store == "redis":
                streams = _streams(config, view, rows)
                started = time.perf_counter(), time.process_time()
                written += _send(address, streams)
            else:
                cells = _cells(config, view, rows)
                started = time.perf_counter(), time.process_time()
                written += _insert(online, config, view, cells)
            seconds += time.perf_counter() - started[0]
            client_cpu_s += time.process_time() - started[1]
    cpu = _server_cpu_s(address) - cpu_before
    checks = _read(online, config, found, min(keys, 50))
    measured = {"rows": keys * views, "keys": keys, "written": written, "seconds": seconds}
    measured |= {"peak_gb": peak_gb(), "server_cpu_s": cpu, "client_cpu_s": client_cpu_s}
    return measured | {"checks": checks}


def _batches(keys: int, features: int, number: int) -> Iterator[pa.Table]:
    """Rows of a view: seeded doubles, one in fifty null, each key at its own second."""
    for start in range(0, keys, BATCH):
        random = np.random.default_rng([7, number, start])
        count = min(BATCH, keys - start)
        place = np.arange(start, start + count)
        times = pa.array(START_US + place % 86_400 * 1_000_000 + place % 1_000, pa.int64())
        # a key's values do not depend on how many keys there are
        values = random.random((BATCH, features + 1))[:count]
        missing = random.random((BATCH, features))[:count] < 0.02
        columns = {
            f"feature_{i}": pa.array(values[:, i].copy(), mask=missing[:, i])
            for i in range(features)
        }
        yield pa.table(
            {"key": place}
            | columns
            | {"event_timestamp": times.cast(_TIME), "created_timestamp": times.cast(_TIME)}
        )


def _write_sources(folder: Path, keys: int, features: int, views: int) -> None:
    for number in range(views):
        writer = None
        for rows in _batches(keys, features, number):
            writer = writer or pq.ParquetWriter(folder / f"view_{number}.parquet", rows.schema)
            writer.write_table(rows)
        if writer:
            writer.close()


def _open(store: str, side: str, folder: Path, address: str, views: int, features: int) -> Any:
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.repo_config import RepoConfig
    from feast.types import Float64, Int64

    ours = side.startswith("ours")
    kind = {
        ("redis", True): "stores.redis.BulkRedisOnlineStore",
        ("sqlite", True): "stores.sqlite.BulkSqliteOnlineStore",
    }.get((store, ours), store)
    place = (
        {"connection_string": address} if store == "redis" else {"path": str(folder / "online.db")}
    )
    config = RepoConfig(
        project="bench", provider="local", registry=str(folder / "registry.db"), repo_path=folder,
        offline_store={"type": "stores.asof.AsofOfflineStore" if ours else "file"},
        batch_engine={"type": "stores.engine.BulkComputeEngine" if ours else "local"},
        online_store={"type": kind} | place, entity_key_serialization_version=3,
    )  # fmt: skip
    opened = FeatureStore(repo_path=str(folder), config=config)
    entity = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
    fields = [Field(name=f"feature_{i}", dtype=Float64) for i in range(features)]
    opened.apply(
        [
            entity,
            *(
                FeatureView(
                    name=f"view_{number}", entities=[entity], ttl=timedelta(days=1),
                    schema=[Field(name="key", dtype=Int64), *fields],
                    source=FileSource(
                        name=f"source_{number}", path=str(folder / f"view_{number}.parquet"),
                        timestamp_field="event_timestamp",
                        created_timestamp_column="created_timestamp",
                    ),
                )
                for number in range(views)
            ),
        ]
    )  # fmt: skip
    return opened


def _proto_rows(
    config: Any, view: Any, rows: pa.Table
) -> Iterator[tuple[bytes, int, tuple[bytes, ...]]]:
    """(entity key, event time, value bytes of the features) by Feast's serialisers' twins."""
    from stores.encode import encode_values, entity_keys

    kinds = [field.dtype for field in view.entity_columns]
    names = [field.name for field in view.entity_columns]
    keys = entity_keys(rows, names, kinds, None).to_pylist()
    values = [encode_values(rows[f.name], f.dtype).to_pylist() for f in view.features]
    times = rows["event_timestamp"].cast(pa.int64()).to_pylist()
    return zip(keys, times, zip(*values, strict=True), strict=True)


def _streams(config: Any, view: Any, rows: pa.Table) -> list[tuple[bytes, int]]:
    """HSETs of ten thousand rows each, and how many they are."""
    from stores.encode import encode_times, field_hash

    hashes = [field_hash(view.name, feature.name) for feature in view.features]
    times = encode_times(rows["event_timestamp"].cast(pa.int64()).to_numpy()).to_pylist()
    commands = []
    for (key, us, values), stamp in zip(_proto_rows(config, view, rows), times, strict=True):
        parts = [b"HSET", key + config.project.encode(), b"_ts:" + view.name.encode(), stamp]
        parts += [b"_created:" + view.name.encode(), us.to_bytes(8, "little", signed=True)]
        for name, value in zip(hashes, values, strict=True):
            parts += [name, value]
        commands.append(
            b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
        )
    return [
        (b"".join(commands[start : start + 10_000]), len(commands[start : start + 10_000]))
        for start in range(0, len(commands), 10_000)
    ]


def _send(address: str, streams: list[tuple[bytes, int]]) -> int:
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        for data, count in streams:
            connection.sendall(data)
            reader, answered = hiredis.Reader(), 0
            while answered < count:
                reader.feed(connection.recv(1 << 16))
                while (reply := reader.gets()) is not False:
                    assert isinstance(reply, int), reply
                    answered += 1
    return sum(count for _, count in streams)


def _cells(config: Any, view: Any, rows: pa.Table) -> list[tuple[Any, ...]]:
    from stores.encode import value_texts

    texts = zip(*(value_texts(rows[f.name], f.dtype) for f in view.features), strict=True)
    names = [feature.name for feature in view.features]
    return [
        (key, name, value, text, us // 1_000_000, us // 1_000_000)
        for (key, us, values), words in zip(_proto_rows(config, view, rows), texts, strict=True)
        for name, value, text in zip(names, values, words, strict=True)
    ]


def _insert(online: Any, config: Any, view: Any, cells: list[tuple[Any, ...]]) -> int:
    with sqlite3.connect(online._get_db_path(config)) as connection:
        connection.executemany(
            f'INSERT OR REPLACE INTO "{config.project}_{view.name}" (entity_key, feature_name, value, '
            "value_text, event_ts, created_ts) VALUES (?, ?, ?, ?, ?, ?)",
            cells,
        )
    connection.close()
    return len(cells) // len(view.features)


def _read(online: Any, config: Any, views: list[Any], keys: int) -> list[Any]:
    """For each of the first keys: of each view the event time in seconds and the values' bytes."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    asked = [
        EntityKey(join_keys=["key"], entity_values=[Value(int64_val=key)]) for key in range(keys)
    ]
    answers: list[list[Any]] = [[] for _ in asked]
    for view in views:
        names = [feature.name for feature in view.features]
        for place, (event, values) in enumerate(
            online.online_read(config, view, asked, list(names))
        ):
            assert event is not None and values is not None
            stored = [values[name].SerializeToString().hex() for name in names]
            answers[place].append([int(event.timestamp()), stored])
    return answers


def _server_cpu_s(address: str) -> float:
    if address == "-":
        return 0.0
    host, port = address.split(":")
    with redis.Redis(host=host, port=int(port)) as client:
        cpu: Any = client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


if __name__ == "__main__":
    _, store_, side_, folder_, address_, *sizes_ = sys.argv
    warnings.simplefilter("ignore")
    print(json.dumps(measure(store_, side_, Path(folder_), address_, *map(int, sizes_))))
