"""The command as users start it: a real online store, metrics over HTTP, a clean end on SIGTERM."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import polars as pl

from nef.stream.transport import Producer, connect

STREAM = "rows:command"


def sent(address: str) -> list[int]:
    """Twenty reports of one UE, one bad row, one row of no table, one late row; their arrivals."""
    now = time.time_ns() // 1000
    arrivals = [now - 2_000_000 + 100_000 * n for n in range(20)]
    with Producer(connect(address), STREAM) as producer:
        for at in arrivals:
            times = {"event_timestamp": at, "arrival_timestamp": at}
            motion = times | {"ue_id": "u1", "session_id": "s", "speed_mps": 3.0}
            producer.send({"ue_motion": [motion]})
        behind = {"event_timestamp": now - 9_000_000, "arrival_timestamp": now - 9_000_000}
        producer.send({"ue_motion": [motion | behind, motion | {"speed_mps": -3.0}], "x": [{}]})
    return arrivals


def test_rows_become_features_online_and_offline_and_metrics_say_so(
    redis_address: str, tmp_path: Path
) -> None:
    (tmp_path / "feature_repo").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arrivals = sent(redis_address)
    options = {
        "redis": redis_address, "stream": STREAM, "repo": tmp_path / "feature_repo",
        "features": tmp_path / "features", "state": tmp_path / "state",
        "quarantine": tmp_path / "quarantine", "commit-s": 0.2, "metrics-port": port,
    }  # fmt: skip
    command = [sys.executable, "-m", "pipelines.stream"]
    with subprocess.Popen(
        [*command, *(f"--{name}={value}" for name, value in options.items())],
        env={"QOS_REDIS": redis_address, "PATH": "/usr/bin:/bin"}, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        client, deadline = connect(redis_address), time.monotonic() + 120
        while client.xlen(STREAM):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            metrics = dict(
                line.rsplit(" ", 1)
                for line in answer.read().decode().splitlines()
                if not line.startswith("#")
            )
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    rows = 'qos_stream_rows_total{outcome="%s",table="%s"}'
    counted = {
        name: float(metrics[rows % name])
        for name in (("admitted", "ue_motion"), ("late", "ue_motion"), ("refused", "ue_motion"))
    }
    assert list(counted.values()) == [20, 1, 1]
    assert float(metrics[rows % ("refused", "entry")]) == 1
    assert float(metrics['qos_stream_entries_total{outcome="new"}']) == 22
    assert float(metrics["process_resident_memory_bytes"]) > 1e7
    for name in ("lost_entries", "fill_ratio", "server_failures_total"):
        assert float(metrics[f"qos_stream_{name}"]) == 0
    assert float(metrics["qos_stream_lag_entries"]) == 0
    assert float(metrics["qos_stream_watermark_seconds"]) >= arrivals[-1] / 1e6
    assert float(metrics["qos_stream_event_to_written_seconds_count"]) == 20
    offline = pl.read_parquet(tmp_path / "features" / "ue_motion" / "**" / "*.parquet")
    assert sorted(offline["arrival_timestamp"].to_physical()) == arrivals
    reasons = pl.concat(
        [pl.read_parquet(file) for file in (tmp_path / "quarantine").glob("*.parquet")],
        how="diagonal",
    )["reason"]
    assert sorted(reason.split(":")[0] for reason in reasons) == [
        "stream", "ue_motion.arrival_timestamp", "ue_motion.speed_mps",
    ]  # fmt: skip
    checkpoint = json.loads((tmp_path / "state" / "checkpoint.json").read_text())
    assert checkpoint["counts"]["feature_rows.ue_motion"] == 20
    assert client.keys(b"*ue_id*u1*"), "no online row"


def test_a_profile_that_there_is_none_of_is_one_line_and_a_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.stream", "--profile", "none"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "no such" in done.stderr
