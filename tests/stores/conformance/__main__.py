"""Runs all cases over all stores; writes the results and docs/conformance.md.

    python -m tests.stores.conformance [--stores asof,sqlite] [--out benchmarks/results]

Each store runs in a process of its own, bounded in memory, each case in time. Ends with 1 where one of
our stores fails a case.
"""

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from benchmarks.redis_process import redis_server
from tests.stores.conformance.all_cases import CASES
from tests.stores.conformance.report import DOCUMENT, RESULT, SEEN, page
from tests.stores.conformance.stores import STOCK, STORES, harness

ROOT = Path(__file__).parents[3]
CASE_S = 300
GIGABYTES = 6


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", default=",".join(STORES), help="which, with commas")
    parser.add_argument("--out", type=Path, default=ROOT, help="checkout that is written to")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--cases", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        _run_cases(given.one, given.cases.split(","))
        return 0
    results: dict[str, dict[str, str]] = {}
    seen: dict[str, dict[str, str]] = {}
    for path, content in ((RESULT, results), (SEEN, seen)):
        if (given.out / path).exists():
            content.update(json.loads((given.out / path).read_text(encoding="utf-8")))
    for store in given.stores.split(","):
        results[store], seen[store] = run_store(store)
        counts = {kind: list(results[store].values()).count(kind) for kind in ("pass", "fail")}
        print(f"{store}: {counts['pass']} pass, {counts['fail']} fail")
        for name, phrase in seen[store].items():
            if results[store][name] == "fail":
                print(f"  {name}: {phrase}")
    for path, content in ((RESULT, results), (SEEN, seen)):
        (given.out / path).parent.mkdir(parents=True, exist_ok=True)
        (given.out / path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (given.out / DOCUMENT).parent.mkdir(parents=True, exist_ok=True)
    (given.out / DOCUMENT).write_text(page(CASES, results, seen), encoding="utf-8")
    ours = [results[store] for store in results if store not in STOCK]
    return int(any("fail" in found.values() for found in ours))


def run_store(store: str) -> tuple[dict[str, str], dict[str, str]]:
    """({case: pass, fail or n/a}, {failed case: how}), in processes that may die or hang."""
    results: dict[str, str] = {}
    seen: dict[str, str] = {}
    names = [case.name for case in CASES]
    while left := [name for name in names if name not in results]:
        for line in _lines(store, left):
            found = json.loads(line)
            results[found["case"]] = found["result"]
            if found["how"]:
                seen[found["case"]] = found["how"]
        stopped = [name for name in names if name not in results]
        if stopped:
            results[stopped[0]], seen[stopped[0]] = "fail", f"hung or died within {CASE_S} s"
    return {name: results[name] for name in names}, {n: seen[n] for n in names if n in seen}


def _lines(store: str, cases: list[str]) -> list[str]:
    """What a process said of the cases until it ended, hung or died."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.stores.conformance"]
    said: list[str] = []
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [*command, "--one", store, "--cases", ",".join(cases)],
            stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, bufsize=0,
        ) as child,
        selectors.DefaultSelector() as selector,
    ):  # fmt: skip
        assert child.stdout is not None
        selector.register(child.stdout, selectors.EVENT_READ)
        held = b""  # of a line that has not ended yet
        while selector.select(timeout=CASE_S):
            piece = os.read(child.stdout.fileno(), 65536)
            if not piece:
                break
            *lines, held = (held + piece).split(b"\n")
            said += [line.decode() for line in lines if line.startswith(b'{"case"')]
        child.kill()
    return said


def _run_cases(store: str, names: list[str]) -> None:
    import resource

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES * 10**9,) * 2)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with redis_server(folder) as address:
            tried = harness(store, folder, address)
            for case in CASES:
                if case.name not in names:
                    continue
                started = time.monotonic()
                result, how = "pass", ""
                if not case.applies_to(tried):
                    result = "n/a"
                else:
                    try:
                        case.check(tried)
                    except Exception as error:
                        result, how = "fail", _phrase(error, folder)
                line = {"case": case.name, "result": result, "how": how}
                print(json.dumps(line | {"s": round(time.monotonic() - started, 1)}), flush=True)


def _phrase(error: Exception, folder: Path) -> str:
    text = str(error).strip().replace(str(folder), "") or type(error).__name__
    first = text.splitlines()[0]
    return first if len(first) <= 160 else first[:157] + "..."


if __name__ == "__main__":
    sys.exit(main())
