"""The examples of the guard's page print what it says."""

from pathlib import Path

import pytest

from serving.settings import variables
from tests.test_docs_examples import blocks, perform, text_fences

PAGE = "serving-guard.md"
ROOT = Path(__file__).parents[2]


def test_the_examples_print_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    perform(ROOT, PAGE)


def test_every_block_is_run() -> None:
    found = blocks(PAGE)
    assert {block.kind for block in found} == {"bash", "python"}
    assert text_fences(PAGE) == 2 * sum(1 + bool(block.printed) for block in found)
