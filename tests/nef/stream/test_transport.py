"""The producer waits rather than trims; what a dead consumer held is taken over."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from nef.stream.entries import EntryError, decode, encode
from nef.stream.transport import FIELD, Producer, Reader, StreamFullError, connect

ROW = {"event_timestamp": 1_700_000_000_000_000, "arrival_timestamp": 1_700_000_000_000_001}


@pytest.fixture
def client(redis_address: str) -> "redis.Redis":
    return connect(redis_address)


@pytest.fixture
def stream(client: "redis.Redis", tmp_path: Path) -> Iterator[str]:
    yield tmp_path.name
    client.delete(tmp_path.name)


def numbers(entries: list[tuple[str, bytes | None]]) -> list[int]:
    return [decode(identity, field).number for identity, field in entries]


def test_what_is_encoded_is_decoded(client: "redis.Redis", stream: str) -> None:
    with Producer(client, stream, name="probe") as producer:
        producer.send({"ue_radio": [ROW, ROW], "ue_flow": []})
    first, last = (decode(i, f) for i, f in Reader(client, stream).new())
    assert first.tables == {"ue_radio": [ROW, ROW], "ue_flow": []}
    assert (first.number, first.through, first.last) == (0, ROW["arrival_timestamp"], False)
    assert (last.number, last.through, last.last) == (1, ROW["arrival_timestamp"], True)
    assert first.producer == last.producer and first.producer.startswith("probe-")


@pytest.mark.parametrize(
    "field",
    [
        None, b"", b"[]", b"{", b"{}", b'{"from":1,"n":0,"through":0,"rows":{}}',
        b'{"from":"a","n":0,"through":0,"rows":{"ue_radio":{}}}',
        b'{"from":"a","n":0,"through":0,"rows":{"ue_radio":[1]}}',
        b'{"from":"a","n":"0","through":0,"rows":{}}', b"\xff\xfe",
    ],
)  # fmt: skip
def test_what_is_no_entry_is_refused_with_a_reason(field: bytes | None) -> None:
    with pytest.raises(EntryError, match="entry"):
        decode("1-0", field)


def test_values_that_json_has_not_are_refused_at_the_producer() -> None:
    with pytest.raises(EntryError, match="microseconds"):
        encode("a", 0, None, {"ue_radio": [{"event_timestamp": object()}]}, last=False)


def test_a_full_stream_makes_the_producer_wait_and_loses_nothing(
    client: "redis.Redis", stream: str
) -> None:
    reader = Reader(client, stream)
    longest = 0
    read: list[int] = []

    def consume() -> None:
        nonlocal longest
        while len(read) < 200:
            longest = max(longest, int(client.xlen(stream)))  # type: ignore[arg-type]
            entries = reader.new(count=7, wait_ms=20)
            if entries:
                read.extend(numbers(entries))
                time.sleep(0.001)
                reader.acknowledge([identity for identity, _ in entries], entries[-1][0])

    consuming = threading.Thread(target=consume)
    producer = Producer(client, stream, limit=10, pipelined=4)
    for _ in range(9):
        producer.send({"ue_radio": [ROW]})
    consuming.start()
    for _ in range(191):
        producer.send({"ue_radio": [ROW]})
    producer.flush()
    consuming.join()
    assert read == list(range(200))
    assert longest <= 10
    assert producer.waited_s > 0


def test_a_stream_that_nobody_reads_stops_the_producer_with_a_reason(
    client: "redis.Redis", stream: str
) -> None:
    producer = Producer(client, stream, limit=3, patience_s=0.05)
    for _ in range(3):
        producer.send({"ue_radio": [ROW]})
    with pytest.raises(StreamFullError, match=f"{stream}: full with 3 entries"):
        producer.send({"ue_radio": [ROW]})
    assert client.xlen(stream) == 3
    client.xtrim(stream, maxlen=0)
    producer.flush()  # what was held back is not lost
    assert numbers(Reader(client, stream).new()) == [3]


def test_what_a_dead_consumer_held_is_taken_over_in_order(
    client: "redis.Redis", stream: str
) -> None:
    with Producer(client, stream) as producer:
        for _ in range(9):
            producer.send({"ue_radio": [ROW]})
    dead = Reader(client, stream, consumer="dead")
    first = dead.new(count=4)
    dead.acknowledge([first[0][0]], first[0][0])
    heir = Reader(client, stream, consumer="heir")
    taken = [numbers(part) for part in heir.unfinished(a_time=2)]
    assert taken == [[1, 2], [3]]
    assert numbers(heir.new()) == [4, 5, 6, 7, 8, 9]
    assert heir.unread() == 9


def test_only_acknowledged_entries_are_removed(client: "redis.Redis", stream: str) -> None:
    with Producer(client, stream) as producer:
        for _ in range(5):
            producer.send({"ue_radio": [ROW]})
    reader = Reader(client, stream)
    entries = reader.new()
    reader.acknowledge([identity for identity, _ in entries[:3]], entries[2][0])
    left = [(i.decode(), f[FIELD]) for i, f in client.xrange(stream)]  # type: ignore[union-attr]
    assert numbers(left) == [3, 4, 5]


def test_nothing_is_removed_that_another_group_has_not_done(
    client: "redis.Redis", stream: str
) -> None:
    with Producer(client, stream) as producer:
        for _ in range(5):
            producer.send({"ue_radio": [ROW]})
    reader, other = Reader(client, stream), Reader(client, stream, "other")
    ids = [identity for identity, _ in reader.new()]
    reader.acknowledge(ids, ids[-1])
    assert client.xlen(stream) == 6
    theirs = [identity for identity, _ in other.new(count=4)]
    other.acknowledge(theirs[:1], theirs[0])
    reader.acknowledge([], ids[-1])
    assert client.xlen(stream) == 5  # three are pending, two unread
    other.acknowledge(theirs, theirs[-1])
    assert numbers(other.new()) == [4, 5]
    other.acknowledge(ids, ids[-1])
    assert client.xlen(stream) == 0
    reader.acknowledge([], ids[-1])


def test_a_mark_promises_without_a_row_and_promises_never_go_back(
    client: "redis.Redis", stream: str
) -> None:
    producer = Producer(client, stream)
    producer.mark(50)
    producer.mark(20)
    entries = [decode(i, f) for i, f in Reader(client, stream).new()]
    assert [(entry.through, dict(entry.tables)) for entry in entries] == [(50, {}), (50, {})]
