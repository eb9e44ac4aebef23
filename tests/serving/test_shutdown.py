"""What becomes of requests when `python -m serving` is asked to end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.feature_server import answers, free_port
from serving.decision_log import all_decisions
from tests.conftest import World
from tests.serving.core_kit import bundle_folder, busiest, filled

CONNECTIONS = 24


@dataclass
class Seen:
    """decided: ids of all answers; broken: requests that were sent and not answered."""

    decided: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    told_to_go: int = 0


@contextmanager
def process(folder: Path, world: World) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    repo = filled(world, "embedded", folder / "r" / "feature_repo")
    port = free_port()
    command = [
        *(sys.executable, "-m", "serving", "--model", str(bundle_folder(folder / "b"))),
        *("--repo", str(repo), "--data", str(folder / "data"), "--port", str(port)),
    ]
    place = os.environ | {
        "ML_REGISTRY_URI": f"sqlite:///{folder}/mlflow.db",
        "RATELIMIT_ENABLED": "no",
    }
    with subprocess.Popen(command, env=place, stderr=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + 120
            while not answers(port):
                assert server.poll() is None and time.monotonic() < until
                time.sleep(0.05)
            yield server, port
        finally:
            server.kill()


def message(body: bytes) -> bytes:
    head = "POST /api/predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, dict[str, Any]]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length"))
    return head, json.loads(await reader.readexactly(int(length.split(b":")[1])))


async def keep_asking(port: int, body: bytes, seen: Seen, until: asyncio.Event) -> None:
    """One connection after the other, each used as long as it may be."""
    while not until.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        try:
            while not reader.at_eof():
                writer.write(message(body))
                head, said = await answer(reader)
                assert head.startswith(b"HTTP/1.1 200 "), head
                seen.decided.append(said["decision_id"])
                if b"connection: close" in head.lower():
                    seen.told_to_go += 1
                    break
                await asyncio.sleep(0.02)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            seen.broken.append(repr(error))
        finally:
            writer.close()


async def end_under_load(server: subprocess.Popen[bytes], port: int, body: bytes) -> Seen:
    seen, until = Seen(), asyncio.Event()
    asking = [asyncio.create_task(keep_asking(port, body, seen, until)) for _ in range(CONNECTIONS)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    whole = message(body)
    writer.write(whole[:-20])
    await asyncio.sleep(1.0)
    server.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.4)
    writer.write(whole[-20:])
    head, said = await answer(reader)
    assert head.startswith(b"HTTP/1.1 200 ")
    seen.decided.append(said["decision_id"])
    assert await asyncio.to_thread(server.wait, 60) == 0
    until.set()
    await asyncio.gather(*asking)
    writer.close()
    return seen


def test_asked_to_end_under_load_it_answers_all_it_accepted_and_keeps_every_decision(
    tmp_path: Path, small_world: World
) -> None:
    ue, five_qi, cells = busiest(small_world)
    named = [{"cell_id": cell} for cell in cells]
    body = json.dumps({"ue_id": ue, "five_qi": five_qi, "candidates": named}).encode()
    with process(tmp_path, small_world) as (server, port):
        seen = asyncio.run(end_under_load(server, port, body))
    assert seen.broken == []
    assert len(seen.decided) > CONNECTIONS and seen.told_to_go >= CONNECTIONS / 2
    kept = {one.decision_id for one in all_decisions(tmp_path / "data")}
    assert kept == set(seen.decided)
