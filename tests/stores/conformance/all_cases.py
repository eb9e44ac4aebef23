"""All cases, by number."""

from tests.stores.conformance import cases_keys, cases_rows, cases_times
from tests.stores.conformance.cases import CASES

__all__ = ["CASES", "cases_keys", "cases_rows", "cases_times"]

CASES.sort(key=lambda case: case.name)
