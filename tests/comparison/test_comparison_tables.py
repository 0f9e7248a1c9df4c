from __future__ import annotations

from typing import Any

import pytest

from handful.comparison.plan import Plan
from handful.comparison.tables import BEGIN, END, comparison_tables, with_tables
from handful.errors import DataError


def result(
    name: str, *, transductive: bool = False, tests: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    made = {test: {"value": value, "ci95": 0.01, "tasks": 20, "not_finite": 0} for test, value in (tests or {}).items()}
    return {
        "name": name, "title": name.title(), "transductive": transductive, "tests": made, "published": {},
        "source": None, "note": None, "weights_of": None, "steps": 1234, "train_seconds": 300.0,
        "learn_ms": 1.234, "answer_ms": 0.5, "peak_memory_mib": 1500,
        "machine": {"processor": "A processor", "threads": 1},
        "spec": {"train": {"seconds": 300.0}}, **more,
    }  # fmt: skip


@pytest.fixture
def results() -> list[dict[str, Any]]:
    control = result(
        "control",
        tests={"3-way": 0.9, "5-way": 0.8, "3-way, noisy": 0.5, "3-way, unbalanced": 0.85},
        published={"3-way": 0.95},
        source="Nobody 2020",
    )
    other = result("other", tests={"3-way": 0.91, "3-way, noisy": 0.7}, weights_of="prototypical")
    other["tests"]["3-way"]["difference"] = {"value": 0.01, "ci95": 0.002, "to": "prototypical", "record": "r"}
    shared = result("shared", transductive=True, tests={"3-way": 0.99, "3-way, unbalanced": 0.6}, note="A word.")
    shared["tests"]["3-way"]["not_finite"] = 2
    return [control, other, shared]


def test_the_tables(plan: Plan, results: list[dict[str, Any]]) -> None:
    text = comparison_tables(plan, results)
    for line in (
        "Each trained once for 5 minutes (A processor, 1 thread), and tested on the same 20 tasks of each kind.",
        "| Control | 90.00 ± 1.00 % / 95.00 % | 80.00 ± 1.00 % |",
        "| Other † | 91.00 ± 1.00 % | – |",
        "| Other † | +1.00 ± 0.20 | – |",
        "| Shared | 99.00 ± 1.00 %, 2 answers not finite | – |",
        "| Other † | 91.00 ± 1.00 % | 70.00 ± 1.00 % |",
        "| Shared | 99.00 ± 1.00 %, 2 answers not finite | 60.00 ± 1.00 % |",
        "| Control | 1,234 | 5.0 min | 1.23 ms | 0.5 ms | 1,500 MiB |",
        "| Other | – | † Prototypical network | 1.23 ms | 0.5 ms | 1,500 MiB |",
        "- Control: Published: Nobody 2020.",
        "- Shared: A word.",
    ):
        assert line in text, line
    inductive, _, transductive = text.partition("### Transductive")
    assert "| Shared" not in inductive
    assert "| Control | 90.00 ± 1.00 % / 95.00 % | 85.00 ± 1.00 % |" in transductive


def test_nothing_measured_nothing_said(plan: Plan) -> None:
    assert comparison_tables(plan, []) == ""


def test_errors_with_medians(plan: Plan) -> None:
    lines = plan.model_copy(update={"metric": "mse"})
    one = result("one", tests={"3-way": 0.7211})
    one["tests"]["3-way"]["median"] = (0.5, 0.45, 0.55)
    text = comparison_tables(lines, [one])
    assert "| One | 0.721 ± 0.010 (0.500, 0.450 to 0.550) | – |" in text
    assert "the median stands in brackets" in text


def test_what_is_not_finite_is_said(plan: Plan, results: list[dict[str, Any]]) -> None:
    results[0]["tests"]["5-way"] |= {"value": None, "ci95": None}
    results[1]["tests"]["3-way"]["difference"] |= {"value": None, "ci95": None}
    text = comparison_tables(plan, results)
    assert "| Control | 90.00 ± 1.00 % / 95.00 % | not finite |" in text
    assert "| Other † | not finite | – |" in text
    one = result("one", tests={"3-way": 0.5})
    one["tests"]["3-way"] |= {"value": None, "ci95": None, "median": [0.5, None, None]}
    assert "not finite (0.500, nan to nan)" in comparison_tables(plan.model_copy(update={"metric": "mse"}), [one])


def test_words_around_stay(plan: Plan) -> None:
    page = f"Before.\n\n{BEGIN}\n\nold\n\n{END}\n\nAfter.\n"
    made = with_tables(page, ["one", "two"])
    assert made == f"Before.\n\n{BEGIN}\n\none\n\ntwo\n\n{END}\n\nAfter.\n"
    assert with_tables(made, ["one", "two"]) == made
    with pytest.raises(DataError, match="expected the lines"):
        with_tables("nothing", ["one"])
