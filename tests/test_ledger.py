from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from handful.errors import DataError
from handful.ledger import BEGIN, END, percent, read_ledger, results_table, with_table

ROOT = Path(__file__).parents[1]


def entry(**values: Any) -> dict[str, Any]:
    table = {
        "name": "omniglot-maml-5w1s",
        "metric": "accuracy",
        "value": 0.98765,
        "ci95": 0.00321,
        "interval_over": "tasks",
        "runs": [{}],
        "tasks": 2000,
        "transductive": True,
        "published": {"value": 0.987, "ci95": 0.004, "source": "Finn et al. 2017"},
        "train_seconds": 3725.0,
    }
    return table | values


@pytest.mark.parametrize(
    ("metric", "value", "ci95", "shown"),
    [
        ("accuracy", 0.98765, 0.00321, "98.77 ± 0.32 %"),
        ("accuracy", 0.988, None, "98.80 %"),
        ("accuracy", 1.0, 0.0, "100.00 ± 0.00 %"),
        ("accuracy", 0.5, float("nan"), "50.00 %"),
        ("mse", 0.67, 0.0123, "0.670 ± 0.012"),
        ("mse", 0.67, None, "0.670"),
    ],
)
def test_a_value_with_its_interval(metric: str, value: float, ci95: float | None, shown: str) -> None:
    assert percent(metric, value, ci95) == shown


def test_the_table() -> None:
    sinusoid = entry(
        name="sinusoid", metric="mse", value=0.66, ci95=0.02, published=None, transductive=False, train_seconds=29.0
    )
    _, _, first, second = results_table([entry(), sinusoid]).splitlines()
    assert first == "| `omniglot-maml-5w1s` | 98.77 ± 0.32 % | 98.70 ± 0.40 % | 2,000 | transductive | 62 min |"
    assert second == "| `sinusoid` | MSE 0.660 ± 0.020 | – | 2,000 | by themselves | 0 min |"


def test_an_interval_over_trainings_says_so() -> None:
    several = entry(interval_over="training runs", runs=[{}, {}, {}])
    assert "| 98.77 ± 0.32 % (3 trainings) |" in results_table([several])


def test_every_row_has_every_column() -> None:
    widths = {line.count("|") for line in results_table([entry(), entry(published=None)]).splitlines()}
    assert len(widths) == 1


def test_results_are_read_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.json").write_text(json.dumps(entry(name=name)))
    (tmp_path / "notes.txt").write_text("no result")
    assert [found["name"] for found in read_ledger(tmp_path)] == ["a", "b"]
    assert read_ledger(tmp_path / "absent") == []


@pytest.mark.parametrize("key", [None, "name", "metric", "value", "ci95", "tasks", "published", "train_seconds"])
@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", "half"])
def test_a_broken_result_is_named(tmp_path: Path, content: str, key: str | None) -> None:
    whole = entry()
    if key is not None:
        del whole[key]
        content = json.dumps(whole)
    elif content == "half":
        content = json.dumps(whole)[:100]
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(DataError, match="expected a result of `handful reproduce`") as caught:
        read_ledger(tmp_path)
    assert str(tmp_path / "broken.json") in str(caught.value)


def test_the_table_takes_its_place_in_a_document() -> None:
    document = f"# Title\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n"
    made = with_table(document, [entry()])
    assert made.startswith(f"# Title\n\nBefore.\n\n{BEGIN}\n\n| recipe")
    assert made.endswith(f"62 min |\n\n{END}\n\nAfter.\n")
    assert "old" not in made
    assert with_table(made, [entry()]) == made
    assert with_table(made, [entry(value=0.5)]) != made


@pytest.mark.parametrize("document", ["", "# Title", BEGIN, END, f"{END}\n{BEGIN}"])
def test_a_document_without_a_place_for_it(document: str) -> None:
    with pytest.raises(DataError, match="expected the lines"):
        with_table(document, [entry()])


def test_the_module_writes_the_document(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "one.json").write_text(json.dumps(entry()))
    page = tmp_path / "README.md"
    page.write_text(f"Before.\n{BEGIN}\n{END}\nAfter.\n")
    subprocess.run([sys.executable, "-m", "handful.ledger", "results", "README.md"], cwd=tmp_path, check=True)
    assert page.read_text() == with_table(f"Before.\n{BEGIN}\n{END}\nAfter.\n", [entry()])


def test_the_readme_agrees_with_the_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert with_table(readme, read_ledger(ROOT / "results")) == readme, "run `make results`"
