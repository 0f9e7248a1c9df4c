"""The recognizer's figures: every question runs to its end, and the page holds what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.guarantee import page
from benchmarks.guarantee.coverage import coverage
from benchmarks.guarantee.tasks import draw, enough
from benchmarks.guarantee.unknown import auroc, false_positives
from benchmarks.guarantee.vectors import VectorSet

ROOT = Path(__file__).parents[2]
NONE = np.empty((0, 2), np.float32)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run on the digits wrote."""
    folder = tmp_path_factory.mktemp("figures")
    chosen = ["coverage", "unknown", "mislabeled", "labeling", "--sets", "digits", "--tasks", "4"]
    command = [sys.executable, "-m", "benchmarks.guarantee", *chosen, "--results", str(folder), "--docs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_question_is_measured(measured: Path) -> None:
    rows = page.read(measured)
    assert set(rows) == {"coverage", "unknown", "mislabeled", "labeling"}
    for found in (row for question in rows.values() for row in question):
        assert {"set", "encoder", "command", "commit", "date", "machine"} <= found.keys()
    text = (measured / "guarantee-figures.md").read_text()
    assert text == page.page(rows)
    assert "Not measured yet" in text  # speed
    assert "| digits | pixels | squared | 20 |" in text
    assert "<svg" in (measured / "label-next.svg").read_text()


def test_a_row_measured_again_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "coverage.json"
    page.keep(path, [{"set": "a", "shots": 1, "value": 1}, {"set": "a", "shots": 2, "value": 2}])
    page.keep(path, [{"set": "a", "shots": 1, "value": 3}])
    assert [row["value"] for row in json.loads(path.read_text())] == [3, 2]


def test_the_page_agrees_with_the_rows() -> None:
    assert (page.DOCS / "guarantee-figures.md").read_text() == page.page(page.read(page.RESULTS))


def test_a_task_asks_for_what_is_not_taught() -> None:
    y = np.repeat(np.arange(4), 8)
    data = VectorSet("set", "encoder", np.stack([np.arange(32), y], 1).astype(np.float32), y, NONE)
    task = draw(data, np.random.default_rng(0), ways=3, shots=2, known=10, strangers=6)
    label = {int(new): int(old) for new, old in zip(task.y, task.x[:, 1], strict=True)}
    assert [label[int(one)] for one in task.truth] == task.known[:, 1].tolist()
    assert len({*task.x[:, 0], *task.known[:, 0], *task.strangers[:, 0]}) == 6 + 10 + 6
    assert not {*task.strangers[:, 1]} & {*task.x[:, 1]}
    assert enough(data, 3)
    assert not enough(data, 4)
    every = draw(replace(data, strangers=-data.x[:5]), np.random.default_rng(0), ways=4, shots=2, known=3, strangers=9)
    assert (every.strangers[:, 0] <= 0).all()
    assert len(every.strangers) == 5


def test_a_task_of_an_assay_is_its_two_outcomes() -> None:
    y = np.repeat(np.arange(4), [40, 10, 30, 8])  # two assays: inactive, active
    x = np.stack([np.arange(88), y], 1).astype(np.float32)
    data = VectorSet("set", "encoder", x, y, NONE, paired=True)
    seen = set()
    for seed in range(30):
        task = draw(data, np.random.default_rng(seed), ways=2, shots=3, known=10, strangers=5)
        label = {int(new): int(old) for new, old in zip(task.y, task.x[:, 1], strict=True)}
        assert label[0] // 2 == label[1] // 2
        assert len(task.strangers) == 0
        assert [label[int(one)] for one in task.truth] == task.known[:, 1].tolist()
        assert task.truth.sum() <= 7
        assert (1 - task.truth).sum() <= 7
        seen.add(label[0])
    assert seen == {0, 1, 2, 3}
    row = coverage(data, "auto", 3, 5)[0]
    assert "strangers caught" not in row
    assert "| – |" in page._coverage([row])


def test_scores_of_strangers() -> None:
    assert auroc(np.array([1.0, 2]), np.array([0.0, 0])) == 1
    assert auroc(np.array([1.0, 2]), np.array([2.0, 0])) == (0.5 + 0 + 1 + 1) / 4
    assert auroc(np.ones(3), np.ones(5)) == 0.5
    assert false_positives(np.arange(20.0), np.array([-1.0, 0.5, 5, 30])) == 0.5
