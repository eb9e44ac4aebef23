"""The page that says which store passes what: written from the results, and from nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.stores.conformance.cases import Case
from tests.stores.conformance.stores import STOCK, STORES

RESULT = Path("benchmarks/results/conformance.json")
SEEN = Path("benchmarks/results/conformance_seen.json")
DOCUMENT = Path("docs/conformance.md")
NAMES = {
    "asof": "as-of store",
    "sqlite": "bulk SQLite",
    "redis": "bulk Redis",
    "duckdb": "Feast duckdb",
    "dask": "Feast dask",
}
_MARKS = {"pass": "pass", "fail": "**fail**", "n/a": "–"}
_HEAD = """# Conformance

`make conformance` runs these {cases} cases over five stores and writes this page. Each case compares the
store with two obvious loops over the same rows. An online store is materialised from the as-of store as
at each entity row's time and read with `get_online_features`. The stock stores of Feast {version} are here
for the record: they are asked with `filter_by_created_timestamp` where a case has created times.
A dash: the case has no meaning for the store.

"""


def page(
    cases: Sequence[Case],
    results: Mapping[str, Mapping[str, str]],
    seen: Mapping[str, Mapping[str, str]],
) -> str:
    """docs/conformance.md."""
    from importlib.metadata import version

    stores = [store for store in STORES if store in results]
    lines = [_HEAD.format(cases=len(cases), version=version("feast")).rstrip("\n"), ""]
    lines.append(_row(["case", *(NAMES[store] for store in stores)]))
    lines.append(_row(["---"] * (1 + len(stores))))
    for case in cases:
        marks = [_MARKS[results[store][case.name]] for store in stores]
        lines.append(_row([f"{int(case.name[:2])}. {case.line}", *marks]))
    for kind, words in (("pass", "passed"), ("fail", "failed"), ("n/a", "without meaning")):
        counts = [str(list(results[store].values()).count(kind)) for store in stores]
        lines.append(_row([f"**{words}**", *counts]))
    lines += ["", "## What the stock stores do instead", ""]
    stock = [store for store in stores if store in STOCK]
    lines.append(_row(["case", *(NAMES[store] for store in stock)]))
    lines.append(_row(["---"] * (1 + len(stock))))
    for case in cases:
        phrases = [seen[store].get(case.name, "") for store in stock]
        if any(phrases):
            lines.append(_row([str(int(case.name[:2])), *phrases]))
    lines += ["", "## Cases without meaning for an online store", ""]
    lines += [f"- {int(c.name[:2])}: {c.not_online}" for c in cases if c.not_online]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
