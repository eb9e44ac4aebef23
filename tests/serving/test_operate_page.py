"""The page on operating the service names what there is: files, headings, routes, variables and roles."""

import re
from pathlib import Path

import pytest

from lifecycle.bundles import write
from models.bundle import Bundle
from serving.service import service_app
from serving.settings import variables
from tests.conftest import World
from tests.serving.core_kit import filled, running
from tests.serving.guard_kit import settings_with

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "operate.md").read_text(encoding="utf-8")
PART = PAGE.partition("\n## The decision service\n")[2].partition("\n## ")[0]
TASKS = ("Start", "Keys", "Look", "Swap the model", "When the store is away", "Stop")


def headings(page: Path) -> set[str]:
    """The anchors of a page."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in found}


def test_each_task_has_its_paragraph_with_a_link() -> None:
    parts = re.split(r"^\*\*([^*]+)\.\*\*", PART, flags=re.MULTILINE)
    assert tuple(parts[1::2]) == TASKS
    assert all("](" in text for text in parts[2::2])


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", PART))
def test_a_link_leads_somewhere(link: str) -> None:
    name, _, anchor = link.partition("#")
    page = DOCS / (name or "operate.md")
    assert page.is_file()
    assert not anchor or anchor in headings(page)


def test_routes_and_variables_are_those_of_the_service(
    tmp_path: Path, bundle: Bundle, small_world: World
) -> None:
    write(bundle, tmp_path / "bundle")
    settings = settings_with(
        auth="off", model=str(tmp_path / "bundle"), data=tmp_path / "data", log_level="error",
        repo=filled(small_world, "embedded", tmp_path / "feature_repo"),
    )  # fmt: skip
    with running(service_app(settings)) as http:
        paths = http.get("/openapi.json").json()["paths"]
    named = re.findall(r"`(?:POST |GET )?(/[a-z][\w/-]+)`", PART)
    assert len(named) >= 6 and set(named) <= set(paths)
    told = set(re.findall(r"`(ML_[A-Z_]+)`", PART))
    assert told == {"ML_API_KEYS", "ML_SHUTDOWN_SECONDS"} and told <= set(variables())
