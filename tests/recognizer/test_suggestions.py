from __future__ import annotations

import numpy as np
import pytest

from handful.errors import DataError
from handful.recognizer import suggestions, teach


def blobs(random: np.random.Generator, centers: np.ndarray, each: int) -> np.ndarray:
    return np.repeat(centers, each, 0) + 0.1 * random.normal(size=(len(centers) * each, centers.shape[1]))


def test_what_is_not_taught_comes_first() -> None:
    random = np.random.default_rng(0)
    centers = 3 * np.eye(4)
    made = teach({"a": blobs(random, centers[:1], 3), "b": blobs(random, centers[1:2], 3)})
    things = blobs(random, centers, 10)
    found = made.suggest(list(things), count=4)
    numbers = [int(one.source.split(":")[1]) // 10 for one in found]
    assert set(numbers[:2]) == {2, 3}  # one of each cluster that nobody has taught
    assert len(found) == 4
    assert all(one.label in ("a", "b") and 0.5 <= one.probability <= 1 for one in found)
    assert set(found[0].table()) == {"source", "label", "probability", "candidates"}
    (only,) = made.suggest(list(things), count=1)
    assert only == found[0]


def test_what_is_unsure_comes_first() -> None:
    """As many things lie near each; those between two classes are worth more than those that are plain."""
    random = np.random.default_rng(0)
    centers = np.array([[0.0, 0], [4, 0], [2, 0], [0, 2]])
    made = teach({"a": blobs(random, centers[:1], 5), "b": blobs(random, centers[1:2], 5)})
    (found,) = made.suggest(list(blobs(random, centers[2:], 8)), count=1)
    assert int(found.source.split(":")[1]) < 8


def test_copies_and_what_is_taught_are_left_out() -> None:
    made = teach({"light": ["lights on", "lights off"], "music": ["play a song"]})
    found = made.suggest(["lights on", "louder please", "louder please", "dim the light"])
    assert sorted(one.source for one in found) == ["dim the light", "louder please"]
    assert made.suggest(["lights on"]) == []
    assert made.suggest([]) == []
    with pytest.raises(DataError, match="at least 1, got 0"):
        made.suggest(["new"], count=0)


def test_classes_known_by_their_names_alone() -> None:
    made = teach(encoder="ngrams", descriptions={"light": "turn the light on or off", "music": "play a song"})
    found = made.suggest(["play music", "light on", "stop the song", "what time is it"], count=2)
    assert len({one.source for one in found}) == 2
    assert {one.label for one in found} <= {"light", "music"}


def test_a_head_of_another_kind() -> None:
    random = np.random.default_rng(0)
    made = teach({name: list(random.normal(size=(4, 3)) + shift) for name, shift in (("a", 0), ("b", 3))}, head="auto")
    assert len(made.suggest(list(random.normal(size=(9, 3))), count=3)) == 3


def test_one_class_and_more_than_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggestions, "LOOKED_AT", 20)
    random = np.random.default_rng(0)
    made = teach({"a": random.normal(size=(1, 3))})
    found = made.suggest(list(random.normal(size=(70, 3))), count=30)
    assert len({one.source for one in found}) == 20
    assert {one.probability for one in found} == {1.0}
