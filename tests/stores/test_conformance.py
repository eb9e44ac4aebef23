"""Every conformance case on our three stores."""

from pathlib import Path

import pytest

from tests.stores.conformance.all_cases import CASES
from tests.stores.conformance.cases import Case
from tests.stores.conformance.stores import STOCK, STORES, harness

OURS = [store for store in STORES if store not in STOCK]


@pytest.mark.parametrize("store", OURS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_stores_hold(case: Case, store: str, tmp_path: Path, redis_address: str) -> None:
    tried = harness(store, tmp_path, redis_address)
    if case.applies_to(tried):
        case.check(tried)
    else:
        assert tried.online and case.not_online
