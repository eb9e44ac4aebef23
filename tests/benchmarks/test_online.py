"""The smallest form of the benchmark: every side runs, ours and Feast agree, the keys are there."""

import json
from pathlib import Path

from benchmarks.online import main

KEYS = {
    *("ours_p50_ms_1", "raw_p50_ms_1", "ratio_1", "ours_p50_ms_100", "raw_p50_ms_100"),
    *("ratio_100", "speedup_over_feast_100", "ours_p99_ms_100", "ratio_merged_100"),
}


def test_the_sides_agree_and_leave_their_keys(tmp_path: Path) -> None:
    main(features=6, keys=30, entities=10, rounds=1, out=tmp_path)
    found = json.loads((tmp_path / "online.json").read_text(encoding="utf-8"))
    assert (found["features"], found["keys"], found["entities"]) == (6, 30, 10)
    assert set(found) >= KEYS
    assert all(found[key] > 0 for key in KEYS)
