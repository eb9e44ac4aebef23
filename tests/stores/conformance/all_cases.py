"""All cases, by number."""

from importlib import import_module

from tests.stores.conformance.cases import CASES

__all__ = ["CASES"]

for name in ("rows", "times", "keys", "clock", "values", "names", "sources", "retrieval", "whole"):
    import_module(f"tests.stores.conformance.cases_{name}")
CASES.sort(key=lambda case: case.name)
