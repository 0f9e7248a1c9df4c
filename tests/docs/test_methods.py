import re
from pathlib import Path

import pytest

from handful.cli.listing import methods_page, pages_of
from handful.comparison.tables import with_tables
from handful.learners import LEARNERS

DOCUMENTS = Path(__file__).parents[2] / "docs"
METHODS = DOCUMENTS / "methods"
PAGES = pages_of(METHODS)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_has_a_page(name):
    text = (METHODS / f"{PAGES[name]}.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert re.search(r"handful (reproduce|train|evaluate|compare)|\[learner\]", text), "a command or a spec"


def test_the_index_is_the_catalog():
    page = (METHODS / "README.md").read_text(encoding="utf-8")
    assert page == methods_page(page, PAGES), "make results"
    assert "task_selection.md" in page


def test_the_comparison_has_its_marks():
    page = (DOCUMENTS / "comparison.md").read_text(encoding="utf-8")
    assert "| one |" in with_tables(page, ["| one |"])
