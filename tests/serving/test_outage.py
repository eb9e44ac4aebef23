"""The outage benchmark in small, with the real service and Redis, and how it judges."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import outage
from benchmarks.outage import AWAY, judged, main, misses, recovery, summary
from benchmarks.paced_process import Answer, Offered
from tests.conftest import World
from tests.serving.bench_kit import places


def test_a_redis_that_hangs_and_one_that_dies_cost_no_answer(
    tmp_path: Path, small_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, bundle = places(small_world, tmp_path, monkeypatch)
    monkeypatch.setattr(outage, "BEFORE_S", 0.5)
    with contextlib.suppress(SystemExit):  # of a latency missed, which a busy machine may
        main(features=features, bundle=bundle, rate=30, down=1.5, out=tmp_path)
    found = json.loads((tmp_path / "outage.json").read_text(encoding="utf-8"))
    for phase in found["phases"].values():
        assert phase["server_errors"] == phase["made_up"] == phase["other_reasons_while_away"] == 0
        assert phase["answers_while_away"] > 30
        assert phase["recovery_s"] is not None
        assert set(phase["reasons"]) > {AWAY}
    assert found["requests"] == sum(one["requests"] for one in found["phases"].values())


def answer(due: float, reason: str = "ok", ms: float = 2.0, **changed: Any) -> Answer:
    said: dict[str, Any] = {
        "reason": reason, "decision": "fallback_a3" if reason == AWAY else "apply",
        "confidence": 0.0, "features": {}, "candidates": [{"probability": None}],
    }  # fmt: skip
    return Answer(0, due, ms, 200, said | changed)


def test_recovery_is_when_the_share_is_back_and_not_the_first_lucky_answer() -> None:
    lucky = [answer(10.0 + n / 100, AWAY if n % 2 and n < 60 else "ok") for n in range(300)]
    assert recovery(lucky, 10.0) == pytest.approx(0.6, abs=0.011)
    assert recovery([answer(10.0 + n / 100, AWAY) for n in range(300)], 10.0) is None
    assert recovery([answer(10.0 + n / 100) for n in range(300)], 10.0) == 0.0


@pytest.mark.parametrize(
    "wrong",
    [{"candidates": [{"probability": 0.5}]}, {"features": {"v": {}}}, {"confidence": 0.5},
     {"decision": "apply"}],
)  # fmt: skip
def test_a_fallback_that_states_what_nobody_knew_is_a_miss(wrong: dict[str, Any]) -> None:
    good = [answer(n / 100, AWAY if 100 <= n < 200 else "ok") for n in range(400)]
    assert misses(summary({"hangs": judged(Offered(400, 0, good), 1.0, 2.0, 2.0)}, 100, 1)) == []
    bad = [answer(1.5, AWAY, **wrong)]
    found = summary({"hangs": judged(Offered(401, 0, good + bad), 1.0, 2.0, 2.0)}, 100, 1)
    assert misses(found) == ["1 fallbacks state what nobody knew"]


def test_lost_late_and_other_answers_are_misses() -> None:
    good = [answer(n / 100, AWAY if 100 <= n < 200 else "ok", ms=60.0) for n in range(400)]
    found = summary({"x": judged(Offered(403, 3, [*good, answer(1.5)]), 1.0, 2.0, 2.0)}, 100, 1)
    assert misses(found) == [
        "3 server errors", "fallback p99 60.0 ms, at most 50", "1 answers gave another reason",
    ]  # fmt: skip
