from pathlib import Path

import pytest

from handful.cli.listing import methods_page
from handful.comparison.tables import with_tables
from handful.learners import LEARNERS

DOCUMENTS = Path(__file__).parents[2] / "docs"
METHODS = DOCUMENTS / "methods"
WRITTEN = {path.stem for path in METHODS.glob("*.md")}


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_has_a_page(name):
    if name not in WRITTEN:
        pytest.skip(f"docs/methods/{name}.md is not written yet")
    text = (METHODS / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert "arXiv" in text or "doi" in text or "openreview" in text
    assert "```" in text, "a command or a spec that trains it"


def test_the_index_is_the_catalog():
    page = (METHODS / "README.md").read_text(encoding="utf-8")
    assert page == methods_page(page, WRITTEN), "make results"
    assert "task_selection.md" in page


def test_the_comparison_has_its_marks():
    page = (DOCUMENTS / "comparison.md").read_text(encoding="utf-8")
    assert "| one |" in with_tables(page, ["| one |"])
