"""The smallest form of the benchmark: every side runs, all answers agree, the keys are there."""

import json
from pathlib import Path

from benchmarks.pit import main


def test_the_sides_agree_and_leave_their_keys(tmp_path: Path) -> None:
    main(
        feature_rows=30_000, entity_rows=3_000, sides="ours,polars,duckdb", rounds=1,
        limit_rows=60_000, limit_gb=1.0, out=tmp_path,
    )  # fmt: skip
    found = json.loads((tmp_path / "pit.json").read_text(encoding="utf-8"))
    assert (found["feature_rows"], found["entity_rows"]) == (30_000, 3_000)
    assert found["ours_s"] > 0 and found["ratio_to_bare"] > 0
    assert set(found["shapes"]) == {"ttl_0", "skewed", "composite", "late"}
    assert found["scaling"]["feature_rows"] == [3_000, 30_000]
    assert found["limit_run"]["feature_rows"] == 60_000 and found["limit_run"]["peak_gb"] < 1
    assert found["cores"] and found["versions"]["duckdb"]
