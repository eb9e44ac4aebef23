"""All cases, by number."""

from tests.stores.conformance import cases_rows, cases_times
from tests.stores.conformance.cases import CASES

__all__ = ["CASES", "cases_rows", "cases_times"]

CASES.sort(key=lambda case: case.name)
