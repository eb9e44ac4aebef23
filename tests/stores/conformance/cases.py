"""The list of cases: each file of cases registers its own."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.stores.conformance.harness import Harness

Check = Callable[[Harness], None]


@dataclass(frozen=True)
class Case:
    """not_online: why an online store has nothing to show here, or ""."""

    name: str
    line: str
    check: Check
    not_online: str = ""

    def applies_to(self, harness: Harness) -> bool:
        """Whether the store can show it."""
        return not (harness.online and self.not_online)


CASES: list[Case] = []


def case(line: str, *, not_online: str = "") -> Callable[[Check], Check]:
    """Registers a function `case_NN_<name>` under its number and name."""

    def register(check: Check) -> Check:
        CASES.append(Case(check.__name__.removeprefix("case_"), line, check, not_online))
        return check

    return register


class Variants:
    """Tries all variants of a case, and tells afterwards how many failed, and how the first one did."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._tried = 0
        self._failed: dict[str, Exception] = {}

    @contextlib.contextmanager
    def variant(self, name: str) -> Iterator[None]:
        """Runs one, and keeps its failure."""
        self._tried += 1
        try:
            yield
        except Exception as error:
            self._failed[name] = error

    def settle(self) -> None:
        """Raises where one failed."""
        for name, error in self._failed.items():
            raise AssertionError(
                f"{len(self._failed)} of {self._tried} {self._what} "
                f"({', '.join(self._failed)}); {name}: {error}"
            ) from error
