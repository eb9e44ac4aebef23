"""docs/features.md against the declarations."""

import re

import pytest

from feature_repo import docs
from feature_repo.services import SERVICES
from feature_repo.views import VIEWS
from feature_repo.windows import AnyView
from schemas.five_qi import FIVE_QIS

PAGE = docs.PAGE.read_text(encoding="utf-8")


def sections() -> dict[str, list[str]]:
    """Heading to its lines."""
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0]: part.splitlines()[1:] for part in parts}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_is_fresh() -> None:
    assert docs.text() == PAGE, "run `make catalog`"


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_each_feature_stands_in_its_views_table(view: AnyView) -> None:
    rows = [cells(line) for line in sections()[view.name] if line.startswith("| `")]
    assert [row[0] for row in rows] == [f"`{feature.name}`" for feature in view.features()]
    for row, feature in zip(rows, view.features(), strict=True):
        says, unit, spread, source = row[1:]
        assert (says, unit, source) == (feature.description, feature.unit, feature.source)
        bounds = (None, None) if spread == "unbounded" else tuple(spread.split(" … "))
        assert [None if b in (None, "-") else float(b) for b in bounds] == [
            feature.low, feature.high,
        ]  # fmt: skip


def test_services_and_5qis_are_all_there() -> None:
    services = [cells(line) for line in sections()["Services"] if line.startswith("| `")]
    assert [(row[0], row[2]) for row in services] == [
        (f"`{service.name}`", str(len(service.features()))) for service in SERVICES
    ]
    listed = [cells(line)[0] for line in sections()["5QI table"] if re.match(r"\| \d+ \|", line)]
    assert listed == [str(value) for value in FIVE_QIS]


def test_links_within_the_page_lead_somewhere() -> None:
    targets = set(re.findall(r"\]\(#([\w-]+)\)", PAGE))
    assert targets <= set(sections())
    assert targets == {view.name for view in VIEWS}
