from __future__ import annotations

from pathlib import Path

import numpy as np

from handful.recognizer import teach
from handful.recognizer.about import about, trained_on


def test_a_card_says_what_was_taught_and_what_holds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    centers = random.normal(size=(2, 6))
    data = {name: list(centers[k] + 0.1 * random.normal(size=(9 - 5 * k, 6))) for k, name in enumerate(("mug", "a|b"))}
    data["a|b"][0] = data["mug"][0] * 1.01
    made = teach(data, tmp_path / "shop")
    text = made.card()
    assert text.startswith("# shop\n")
    for words in (
        "2 classes of vectors",
        "13 examples",
        "| mug | 9 | 90% |",
        "| a\\|b | 4 | none: 5 more examples needed |",
        "90% overall",
        "at most 10% of the time",
        "This holds if:",
        "expected calibration error (ECE)",
        "mislabeled: example 10",
        made.collection.encoder.sha256,
        "Version 1",
    ):
        assert words in text, words
    assert "at most 20% of the time" in made.card(epsilon=0.2)
    assert "Not calibrated" in teach({"a": [[1.0, 2.0]], "b": [[2.0, 1.0]]}).card()


def test_what_encoders_were_trained_on() -> None:
    assert "ImageNet's terms" in trained_on("mini-imagenet").licence
    assert "handwritten" in trained_on("omniglot").data
    assert "'other'" in trained_on("other").data
    assert about(object()).data == "not recorded"
