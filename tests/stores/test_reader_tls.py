"""The reader over TLS: a real Redis behind a proxy that speaks TLS with a certificate of its own."""

import asyncio
import contextlib
import itertools
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from feast import FeatureStore

from stores.reader import Limits, OnlineStoreAway, open_reader
from tests.stores.example import NOON, open_example, write

REFS = ["trips:count"]
ASKED = {"driver_id": [1, 2]}
QUICK = Limits(connect_s=2.0, read_s=2.0, budget_s=4.0, attempts=2)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """key.pem beside it; valid for 127.0.0.1."""
    path = tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", path.with_name("key.pem"), "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


@pytest.fixture
def tls_port(certificate: Path, redis_address: str) -> Iterator[int]:
    """A port that hands what it is told over TLS to the Redis."""
    host, port = redis_address.split(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    threads: list[threading.Thread] = []
    pairs: list[tuple[socket.socket, socket.socket]] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                ours = context.wrap_socket(plain, server_side=True)
            except OSError:
                plain.close()
                continue
            theirs = socket.create_connection((host, int(port)))
            pairs.append((ours, theirs))
            for pair in ((ours, theirs), (theirs, ours)):
                threads.append(threading.Thread(target=pump, args=pair, daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads.append(threading.Thread(target=accept, args=(listener,), daemon=True))
        threads[0].start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for one in itertools.chain(*pairs):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(5)


@pytest.fixture
def store(redis_address: str, tmp_path: Path) -> FeatureStore:
    host, port = redis_address.split(":")
    with redis.Redis(host=host, port=int(port)) as client:
        client.flushall()
    kind = {"type": "stores.redis.BulkRedisOnlineStore", "connection_string": redis_address}
    made = open_example(tmp_path, kind | {"age_from": "newest"})
    write(made, (1, 5, NOON, NOON))
    return made


def test_both_ways_of_reading_speak_tls(
    store: FeatureStore, tls_port: int, certificate: Path
) -> None:
    config: Any = store.config.online_store
    config.connection_string = f"127.0.0.1:{tls_port},ssl=true,ssl_ca_certs={certificate}"
    with open_reader(store, REFS, limits=QUICK) as reader:
        assert reader.read(ASKED).to_dict() == {"count": [5, None]}

        async def live() -> Any:
            answer = await reader.read_async(ASKED)
            await reader.close_async()
            await asyncio.sleep(0.05)  # a TLS transport says farewell
            return answer.to_dict()

        assert asyncio.run(live()) == {"count": [5, None]}


def test_a_certificate_of_nobody_known_is_not_trusted(store: FeatureStore, tls_port: int) -> None:
    config: Any = store.config.online_store
    config.connection_string = f"127.0.0.1:{tls_port},ssl=true"
    with (
        open_reader(store, REFS, limits=QUICK) as reader,
        pytest.raises(OnlineStoreAway, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        reader.read(ASKED)
    config.connection_string += ",ssl_cert_reqs=none"
    with open_reader(store, REFS, limits=QUICK) as reader:
        assert reader.read(ASKED).to_dict() == {"count": [5, None]}
