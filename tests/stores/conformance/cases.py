"""The list of cases: each file of cases registers its own."""

from collections.abc import Callable
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
