"""The smallest form of the benchmark: the command, a real Redis, a kill; nothing lost, the keys there."""

import json
from pathlib import Path

from benchmarks.stream import main


def test_a_small_stream_through_a_kill_loses_nothing(tmp_path: Path) -> None:
    main(events_s=240, seconds=3.0, kills=1, out=tmp_path)
    found = json.loads((tmp_path / "stream.json").read_text(encoding="utf-8"))
    assert found["events_s"] > 100 and found["seconds"] >= 3
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["kills"] == 1 and found["events"] > 500
    assert found["lost"] == found["duplicated"] == 0
