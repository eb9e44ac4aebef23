"""The smallest form of the benchmark: every side runs, all read back equal, the keys are there."""

import json
from pathlib import Path

from benchmarks.materialize import main


def test_the_sides_agree_and_leave_their_keys(tmp_path: Path) -> None:
    main(keys=300, views=2, features=3, feast_rows=200, sqlite_keys=200, apart=False, out=tmp_path)
    found = json.loads((tmp_path / "materialize.json").read_text(encoding="utf-8"))
    assert (found["rows"], found["sqlite"]["rows"], found["sqlite"]["feast_rows"]) == (
        600,
        400,
        200,
    )
    for measured in (found, found["sqlite"]):
        for key in ("ours_rows_s", "feast_rows_s", "raw_rows_s", "speedup_over_feast", "peak_gb"):
            assert measured[key] > 0, key
        assert "share_of_raw" in measured
    assert found["cores"] and found["versions"]["redis"]
