"""The benchmark of decisions beside a training, in small, with the real service and a real job."""

import contextlib
import json
from pathlib import Path

import pytest

from benchmarks.training_load import main
from tests.conftest import World
from tests.serving.bench_kit import places


def test_decisions_are_measured_alone_and_beside_a_training(
    tmp_path: Path, small_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, bundle = places(small_world, tmp_path, monkeypatch)
    with contextlib.suppress(SystemExit):  # of a ratio missed, which a busy machine may
        main(features=features, bundle=bundle, rate=30, seconds=2, turns=1, out=tmp_path)
    found = json.loads((tmp_path / "training_load.json").read_text(encoding="utf-8"))
    assert (found["requests"], found["errors"]) == (120, 0)
    assert found["ratio"] == pytest.approx(found["p99_training_ms"] / found["p99_ms"], abs=0.02)
    assert 0 <= found["training_cpu_share"] < 2
