"""The smallest form of the benchmark: it runs, and its keys are there."""

import json
from pathlib import Path

from benchmarks.simulator import main


def test_a_small_city_leaves_its_keys(tmp_path: Path) -> None:
    main(ues=30, sites=3, seconds=64, out=tmp_path)
    found = json.loads((tmp_path / "simulator.json").read_text(encoding="utf-8"))
    assert (found["ues"], found["cells"], found["simulated_s"]) == (30, 9, 64)
    assert found["times_real_time"] > 0.0 and 0.0 < found["peak_gb"] < 4.0
    assert 0.9 < found["served_share"] <= 1.0
