"""Every conformance case on our three stores."""

import json
from pathlib import Path

import pytest

from tests.stores.conformance import __main__ as runner
from tests.stores.conformance.all_cases import CASES
from tests.stores.conformance.cases import Case
from tests.stores.conformance.report import DOCUMENT, RESULT, SEEN, page
from tests.stores.conformance.stores import STOCK, STORES, harness

ROOT = Path(__file__).parents[2]
OURS = [store for store in STORES if store not in STOCK]


@pytest.mark.parametrize("store", OURS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_stores_hold(case: Case, store: str, tmp_path: Path, redis_address: str) -> None:
    tried = harness(store, tmp_path, redis_address)
    if case.applies_to(tried):
        case.check(tried)
    else:
        assert tried.online and case.not_online


def test_there_are_39_cases() -> None:
    assert [int(case.name[:2]) for case in CASES] == list(range(1, 40))


def test_the_page_says_what_the_results_say() -> None:
    results, seen = (
        json.loads((ROOT / path).read_text(encoding="utf-8")) for path in (RESULT, SEEN)
    )
    names = {case.name for case in CASES}
    assert set(results) == set(STORES) and all(set(found) == names for found in results.values())
    assert (ROOT / DOCUMENT).read_text(encoding="utf-8") == page(CASES, results, seen)


def test_a_store_that_dies_or_hangs_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [[], [f'{{"case": "{case.name}", "result": "pass", "how": ""}}' for case in CASES[1:]]]
    monkeypatch.setattr(runner, "_lines", lambda store, cases: said.pop(0))
    results, seen = runner.run_store("dask")
    assert list(results.values()) == ["fail"] + ["pass"] * 38
    assert "hung or died" in seen[CASES[0].name]
