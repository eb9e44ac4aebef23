"""The drift score against a slow oracle, its laws, and how the window of outcomes is counted."""

import math
import threading
import time
from dataclasses import replace
from functools import cache
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from models.bundle import Bundle
from serving.bounded import Spread, Tally
from serving.drift import LEAST, WINDOW, Drift, Reference
from serving.judged import WINDOW as JUDGED
from serving.judged import Judged
from serving.record import SCORES, DecisionRecord
from tests.serving.core_kit import NAMES, rows_of, small_bundle
from tests.serving.record_kit import made


def walked(node: dict[str, Any], row: Any) -> bool:
    """Whether a row goes left, as the booster's own dump says."""
    value = row[node["split_feature"]]
    if math.isnan(value):
        if node["missing_type"] == "NaN":
            return bool(node["default_left"])
        value = 0.0
    return bool(value <= node["threshold"])


def slowly(bundle: Bundle, rows: Any) -> dict[str, float]:
    """The parts by recursion over nodes, a row at a time."""
    booster = lgb.Booster(model_str=bundle.tasks["qos_met"].classifier)
    trees = booster.dump_model()["tree_info"]
    parts = dict.fromkeys(bundle.features, 0.0)

    def count(node: dict[str, Any]) -> int:
        return int(node.get("internal_count", node.get("leaf_count", 0)))

    def visit(node: dict[str, Any], here: list[Any], trained: int) -> None:
        if "split_feature" not in node:
            return
        left = [row for row in here if walked(node, row)]
        right = [row for row in here if not walked(node, row)]
        p = (count(node["left_child"]) + 0.5) / (count(node) + 1)
        q = (len(left) + 0.5) / (len(here) + 1)
        one = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        two = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
        name = bundle.features[node["split_feature"]]
        parts[name] += (one * count(node) / trained + two * len(here) / len(rows)) / len(trees)
        visit(node["left_child"], left, trained)
        visit(node["right_child"], right, trained)

    for tree in trees:
        visit(tree["tree_structure"], list(rows), count(tree["tree_structure"]))
    return parts


@pytest.mark.parametrize("push", [0.0, 0.5])
def test_the_score_is_the_oracles(bundle: Bundle, push: float) -> None:
    rows = rows_of(250, seed=11)[0]
    rows += push * np.nanstd(rows, axis=0)
    shift = Reference(bundle).shift(rows)
    expected = slowly(bundle, rows)
    assert shift.rows == 250
    assert shift.parts == pytest.approx(expected, abs=1e-9)
    assert shift.score == pytest.approx(sum(expected.values()))


def test_it_is_the_plain_index_over_the_leaves(bundle: Bundle) -> None:
    """The chain rule: the nodes' parts add up to what the leaves say, but for the halves added."""
    rows = rows_of(20_000, seed=12)[0]
    rows[:, NAMES.index("request_downlink_mbps")] *= 1.3
    booster = lgb.Booster(model_str=bundle.tasks["qos_met"].classifier)
    leaves = booster.predict(rows, pred_leaf=True)
    text = bundle.tasks["qos_met"].classifier
    counts = [line.split("=")[1].split() for line in text.splitlines() if "leaf_count=" in line]
    scores = []
    for place, told in enumerate(counts):
        p = np.array(told, dtype=float) / sum(map(int, told))
        q = np.bincount(leaves[:, place], minlength=len(p)) / len(rows)
        kept = (p > 0) & (q > 0)
        assert kept.all()
        scores.append(float(((p - q) * np.log(p / q)).sum()))
    assert Reference(bundle).shift(rows).score == pytest.approx(np.mean(scores), rel=0.02)


def test_rows_like_those_of_training_do_not_drift_and_others_do(bundle: Bundle) -> None:
    reference, alike = Reference(bundle), rows_of(WINDOW, seed=13)[0]
    name = "cell_prb_used_ratio_last_1m"
    loaded = alike.copy()
    loaded[:, NAMES.index(name)] = 0.97
    quiet, busy = reference.shift(alike), reference.shift(loaded)
    assert 0 <= quiet.score < 0.03
    assert busy.score > 0.25
    assert max(busy.parts, key=lambda one: busy.parts[one]) == name
    assert reference.shift(np.full_like(alike, np.nan)).score > 1


@cache
def of_small() -> Reference:
    return Reference(small_bundle())


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_it_is_never_below_zero_and_no_order_changes_it(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.normal(0, 100, (count, len(NAMES)))
    rows[random.uniform(size=rows.shape) < 0.3] = np.nan
    reference = of_small()
    shift = reference.shift(rows)
    assert shift.score >= -1e-12 and min(shift.parts.values()) >= -1e-12
    assert reference.shift(rows[::-1].copy()).score == pytest.approx(shift.score)


def served(bundle: Bundle, chance: int, **changed: Any) -> DecisionRecord:
    rows = rows_of(2, seed=chance)[0]
    scores = np.zeros((2, len(SCORES)))
    return made(
        chance=chance, connected_to="cell-1", model_digest=bundle.digest, vectors=rows,
        statuses=np.ones(rows.shape, np.uint8), scores=scores, **changed,
    )  # fmt: skip


def test_only_serving_rows_of_the_live_model_count(bundle: Bundle) -> None:
    drift = Drift(every_s=0.0)
    for number in range(LEAST + 20):
        drift.take(served(bundle, number), bundle)
        drift.take(replace(served(bundle, number), connected_to=None), bundle)
        drift.take(replace(served(bundle, number), connected_to="elsewhere"), bundle)
        drift.take(replace(served(bundle, number), model_digest="f" * 64), bundle)
        drift.take(made(cells=0), bundle)
        found = drift.look(bundle)
        assert (found is None) == (number + 1 < LEAST)
    assert found is not None and found.rows == LEAST + 20
    rows = np.stack([rows_of(2, seed=number)[0][1] for number in range(LEAST + 20)])
    assert found.score == Reference(bundle).shift(rows).score


def test_another_model_begins_anew_and_measures_are_seldom(bundle: Bundle) -> None:
    other = small_bundle(seed=6)
    drift = Drift(every_s=3600.0)
    for number in range(LEAST + 5):
        drift.take(served(bundle, number), bundle)
    found = drift.look(bundle)
    assert found is not None and found.rows == LEAST
    assert drift.look(other) is None
    drift.take(served(other, 1), other)
    assert drift.look(other) is None and drift.look(bundle) is None


def told(said: float, digest: str = "a") -> DecisionRecord:
    scores = np.full((2, len(SCORES)), np.nan)
    scores[1, SCORES.index("met")] = said
    return made(chosen_cell="cell-1", scores=scores, model_digest=digest)


def test_outcomes_are_judged_against_the_probability_of_the_chosen_cell() -> None:
    judged = Judged()
    said = [(0.9, True), (0.8, False), (0.2, False), (0.5, True)]
    for p, met in said:
        judged.take(told(p), met, "a")
    judged.take(told(0.9), None, "a")
    judged.take(told(float("nan")), True, "a")
    judged.take(told(0.9, digest="b"), True, "a")
    judged.take(made(cells=0), True, "a")
    found = judged.look("a")
    assert (found.count, found.error_rate, found.met) == (4, 0.25, 0.5)
    assert found.brier == pytest.approx(np.mean([0.01, 0.64, 0.04, 0.25]))
    assert found.expected == pytest.approx(0.6)
    assert judged.look("b").count == 0 and judged.look("b").error_rate is None
    judged.take(told(0.1, digest="b"), True, "b")
    assert (judged.look("b").count, judged.look("b").error_rate) == (1, 1.0)
    assert judged.look("a").count == 0


def test_only_the_latest_outcomes_are_judged() -> None:
    judged = Judged()
    for number in range(JUDGED + 500):
        judged.take(told(0.9), number >= 500, "a")
    assert (judged.look("a").count, judged.look("a").error_rate) == (JUDGED, 0.0)


BOUNDS = (0.5, 1.0, 2.5)


@given(st.lists(st.sampled_from([0.0, 0.5, 0.50001, 1.0, 2.5, 3.0, -1.0, math.inf]), max_size=50))
def test_a_spread_is_what_prometheus_own_histogram_is(values: list[float]) -> None:
    spread, registry = Spread("x", "told", BOUNDS, ("kind",)), CollectorRegistry()
    registry.register(spread)
    own = Histogram("x", "told", ("kind",), registry=None, buckets=BOUNDS)
    for number, amount in enumerate(values):
        spread.labels("abc"[number % 3]).observe(amount)
        own.labels("abc"[number % 3]).observe(amount)
        if number % 7 == 0:
            list(spread.collect())

    def read(family: Any) -> dict[Any, float]:
        return {
            (one.name, tuple(sorted(one.labels.items()))): one.value
            for one in family.samples
            if not one.name.endswith("_created")
        }

    expected = read(next(iter(own.collect())))
    assert read(next(iter(spread.collect()))) == pytest.approx(expected, rel=1e-12)


def test_a_spread_keeps_what_many_threads_tell_while_it_is_read() -> None:
    spread, tally = Spread("x", "told", BOUNDS), Tally("x", "told")
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            list(spread.collect())
            list(tally.collect())
            time.sleep(0)

    def tell() -> None:
        for _ in range(20_000):
            spread.observe(1.0)
            tally.inc()

    threads = [threading.Thread(target=tell) for _ in range(4)]
    reader = threading.Thread(target=read)
    for one in (*threads, reader):
        one.start()
    for one in threads:
        one.join()
    ended.set()
    reader.join()
    samples = {one.name: one.value for one in next(iter(spread.collect())).samples}
    assert (samples["x_count"], samples["x_sum"]) == (80_000, 80_000)
    assert [one.value for one in next(iter(tally.collect())).samples] == [80_000]


def test_nothing_that_waits_piles_up_without_scrapes() -> None:
    spread = Spread("x", "told", BOUNDS)
    for _ in range(10_000):
        spread.observe(float("nan"))
        spread.observe(0.7)
    assert len(spread._waiting) < 2000
    samples = {one.name: one.value for one in next(iter(spread.collect())).samples}
    assert samples["x_count"] == 10_000
