"""What the demo's collector makes of a NEF: rows of the stream, each second once."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from demo.feed import Records, poll, rows_of
from lifecycle.pseudonym import pseudonym
from nef.client.collector import NEFQoSCollector
from nef.client.intake import Intake
from nef.client.journal import Journal
from nef.client.settings import NefSettings
from nef.stream.transport import Producer, Reader, connect
from pipelines.capture import Names, protection
from pipelines.sources.nef import JOURNAL
from pipelines.stream.consumer import Consumer, Settings
from pipelines.stream.metrics import Metrics
from stores.source import append_rows
from tests.nef.server_kit import PASSWORD, Server, nef_server

KEY = b"a key of these tests alone"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QOS_PSEUDONYM_KEY", KEY.decode())


Sent = list[dict[str, list[dict[str, Any]]]]


def polls(server: Server, folder: Path, steps: list[Callable[[], None] | int]) -> Sent:
    """What each poll sends; before it its step is taken, or so many seconds of the NEF's clock."""
    settings = NefSettings.model_validate(
        {"api_url": server.url, "username": "admin", "password": PASSWORD}
    )
    names, before, found = Names(), Records(), []
    with (
        Intake(folder / "first" / JOURNAL, protection(KEY, 0.005, names)) as intake,
        NEFQoSCollector(settings, intake) as collector,
    ):
        names.learn(collector.ues())
        for step in steps:
            server.pass_seconds(step) if isinstance(step, int) else step()
            before, rows = poll(collector, names, folder / "now", before)
            found.append(rows)
    return found


def test_each_second_is_sent_once_under_pseudonyms(tmp_path: Path) -> None:
    with nef_server(speed=0, ues=6) as server:
        sent = polls(server, tmp_path, [3, 1, 0, 1])
        world, supis = server.nef.world, list(server.nef.world.index)
    assert sent[2] == {}  # the network's time has not gone on
    wanted = {pseudonym(supi, KEY) for supi in supis}
    for rows in (sent[0], sent[1], sent[3]):
        assert {row["ue_id"] for row in rows["ue_radio"]} == wanted
        assert len(rows["ue_motion"]) == len(supis)
        assert {row["cell_id"] for row in rows["cell_load"]} <= set(world.plan.cell_ids)
    times = [{row["event_timestamp"] for row in rows["ue_radio"]} for rows in sent if rows]
    assert [len(one) for one in times] == [1, 1, 1]
    first, second, last = (one.pop() for one in times)
    assert (second - first, last - second) == (1_000_000, 1_000_000)
    assert not any(supi in repr(sent) for supi in supis)


def test_a_change_of_cell_between_two_polls_is_one_event(tmp_path: Path) -> None:
    with nef_server(speed=0, ues=6, network_handovers=False) as server:
        server.pass_seconds(3)
        world = server.nef.world
        supi = next(one for one in world.index if len(world.cells_of(one)) > 1)
        serving = world.samples[supi].cell_id
        other = next(c["cell_id"] for c in world.cells_of(supi) if c["cell_id"] != serving)

        def move() -> None:
            world.hand_over(supi, other)
            server.pass_seconds(2)

        sent = polls(server, tmp_path, [0, move, 1])
    changes = [row for rows in sent for row in rows.get("network_event", ())]
    assert [(row["kind"], row["from_cell_id"], row["to_cell_id"]) for row in changes] == [
        ("cell_change", serving, other)
    ]
    assert changes[0]["ue_id"] == pseudonym(supi, KEY)


def test_what_is_sent_is_admitted_and_becomes_features(tmp_path: Path, redis_address: str) -> None:
    with nef_server(speed=0, ues=6) as server:
        server.nef.started -= timedelta(seconds=10)  # no row is ahead of this machine's clock
        sent = polls(server, tmp_path, [2, 1, 1])
    client = connect(redis_address)
    client.flushall()
    written: dict[str, list[pl.DataFrame]] = {}

    class Kept:
        def write(self, view: str, rows: pl.DataFrame) -> None:
            written.setdefault(view, []).append(rows)

    settings = Settings(tmp_path / "state", tmp_path / "features", tmp_path / "quarantine")
    settings.state.mkdir()
    consumer = Consumer(Reader(client), Kept(), append_rows, settings, Metrics())
    with Producer(client) as producer:
        for rows in sent:
            producer.send(rows)
    consumer.take(Reader(client).new())
    consumer.commit()
    refused = list((tmp_path / "quarantine").rglob("*.parquet"))
    assert not refused, pl.concat([pl.read_parquet(one) for one in refused], how="diagonal")
    assert {"ue_radio", "ue_neighbour", "ue_motion", "ue_event", "cell_load"} <= set(written)
    newest = max(row["event_timestamp"] for row in sent[-1]["ue_radio"])
    for view in ("ue_radio", "ue_event", "cell_load", "ue_cell_link"):
        made = pl.concat(written[view])
        assert made["event_timestamp"].dt.epoch("us").max() == newest, view


def test_an_empty_capture_sends_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append({"received_at": "2026-01-01T00:00:00+00:00", "kind": "ue_state",
                        "ue_id": pseudonym("1", KEY), "event_timestamp": None, "cells": []})  # fmt: skip
    assert rows_of(tmp_path, after=1) == {}
