from __future__ import annotations

import pytest
import torch

from handful.data import DATASETS, ClassPool, DataSet
from handful.errors import ShapeError, UnknownNameError
from handful.spec import Spec, build
from handful.transfer import foreign_data


def spec_of(encoder: dict[str, object]) -> Spec:
    train = {"ways": 2, "steps": 1}
    return Spec.of(
        {"learner": {"name": "prototypical"}, "encoder": encoder, "data": {"name": "digits"}, "train": train}
    )


@pytest.fixture
def photos(monkeypatch: pytest.MonkeyPatch) -> ClassPool:
    pixels = torch.randint(0, 256, (6, 3, 40, 30), dtype=torch.uint8)
    pool = ClassPool.grouped(pixels, [2, 2, 2], list("abc"), splits={"train": "a", "test": "bc"})
    monkeypatch.setitem(DATASETS, "photos", DataSet(lambda: pool, "", "", ""))
    return pool


def test_pictures_take_the_form_of_the_encoder(photos: ClassPool) -> None:
    spec = spec_of({"name": "conv4", "shape": [1, 28, 28]})
    pool = foreign_data("photos", spec, split="test")
    assert (pool.names, pool.shape, len(pool.examples)) == (("b", "c"), (1, 28, 28), 4)
    learner = build(spec)
    assert learner.encoder(pool.gather(pool.rows())).shape == (4, 64)  # type: ignore[operator]


def test_what_does_not_fit(photos: ClassPool) -> None:
    spec = spec_of({"name": "conv4", "shape": [1, 28, 28]})
    with pytest.raises(UnknownNameError, match="did you mean 'photos'"):
        foreign_data("photo", spec)
    with pytest.raises(UnknownNameError, match="unknown split 'val'"):
        foreign_data("photos", spec, split="val")
    with pytest.raises(ShapeError, match=r"an encoder for examples \[channels"):
        foreign_data("photos", spec_of({"name": "mlp", "shape": [64]}))
