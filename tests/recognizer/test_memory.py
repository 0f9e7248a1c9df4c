"""The vectors of a collection and those of its rule are all the memory that grows with it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handful.ops.heads import refit_head
from handful.recognizer import fitting, open_recognizer, teach


def test_at_most_three_times_the_vectors() -> None:
    random = np.random.default_rng(0)
    y = np.arange(4000) // 10
    x = (random.normal(size=(400, 1024))[y] + random.normal(size=(4000, 1024))).astype(np.float32)
    names = y.astype(str)
    teach((x[:30], names[:30])).recognize(x[0])
    tracemalloc.start()
    try:
        teach((x, names)).recognize(x[0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * x.nbytes


def test_many_questions_of_many_classes_take_no_more_than_some() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(2000, 8)).astype(np.float32)
    recognizer = teach((x, np.arange(2000)))
    recognizer.recognize(x[0])
    tracemalloc.start()
    try:
        answers = recognizer.recognize_many(x[:, ::-1])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(answers) == 2000
    assert peak < 100 << 20


def test_after_a_change_of_many_the_same_answers_as_when_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "MANY", 0)
    random = np.random.default_rng(0)
    y = np.arange(400) % 100
    x = (random.normal(size=(100, 16))[y] + 0.5 * random.normal(size=(400, 16))).astype(np.float32)
    fitted = []
    monkeypatch.setattr(fitting, "refit_head", lambda *given: fitted.append(1) or refit_head(*given))
    with teach((x, y), tmp_path / "many") as recognizer:
        for change in (
            lambda: recognizer.add("new", x[:3] + 1),
            lambda: recognizer.remove([5, 6]),
            lambda: recognizer.rename("17", "a"),
            lambda: recognizer.merge(["18", "a"], "18"),
            recognizer.undo,
        ):
            change()
            answers = recognizer.recognize_many(x[:20] + 0.1)
            with open_recognizer(tmp_path / "many") as anew:
                for one, other in zip(answers, anew.recognize_many(x[:20] + 0.1), strict=True):
                    assert replace(one, probability=0) == replace(other, probability=0)
                    assert one.probability == pytest.approx(other.probability, rel=1e-4)
    assert len(fitted) == 4  # of the first there was nothing before
