"""The swap benchmark in small, with the real service, and how it judges."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.paced_process import Answer, Offered
from benchmarks.swap import judged, main
from tests.conftest import World
from tests.serving.bench_kit import places


def test_models_are_swapped_under_load_and_every_answer_is_of_one(
    tmp_path: Path, small_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, bundle = places(small_world, tmp_path, monkeypatch)
    main(features=features, bundle=bundle, rate=30, swaps=4, every=0.5, out=tmp_path)
    found = json.loads((tmp_path / "swap.json").read_text(encoding="utf-8"))
    assert (found["errors"], found["wrong"], found["swaps"]) == (0, 0, 4)
    assert found["answers_by_version"].keys() == {"qos/1", "qos/2"}
    assert found["checked"] > found["requests"] / 2


EXPECTED: dict[str, list[list[float | None]]] = {"qos/1": [[0.25]], "qos/2": [[0.75]]}


def answer(version: str | None, probability: float | None, status: int = 200) -> Answer:
    model: dict[str, Any] = {} if version is None else {"model": {"version": version}}
    return Answer(0, 0.0, 1.0, status, model | {"candidates": [{"probability": probability}]})


@pytest.mark.parametrize(
    ("one", "wrong"),
    [
        (answer("qos/1", 0.25), 0), (answer("qos/2", 0.75), 0), (answer("qos/1", None), 0),
        (answer("qos/1", 0.75), 1), (answer("qos/3", 0.25), 1), (answer(None, 0.25), 1),
    ],
)  # fmt: skip
def test_a_probability_of_another_version_is_wrong(one: Answer, wrong: int) -> None:
    offered = Offered(1, 0, [one])
    assert judged(offered, offered, [(0.1, 200)], EXPECTED, 10)["wrong"] == wrong


def test_what_was_not_answered_and_swaps_that_failed_are_errors() -> None:
    offered = Offered(3, 1, [answer("qos/1", 0.25), answer("qos/1", 0.25, 503)])
    found = judged(offered, offered, [(0.1, 200), (0.2, 409)], EXPECTED, 10)
    assert (found["errors"], found["swaps"], found["swap_errors"]) == (2, 1, 1)
