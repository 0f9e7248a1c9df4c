from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from handful.data import Episodes
from handful.data.fitting import fitted
from handful.data.pool import ClassPool, rotations
from handful.errors import ShapeError


def pool_of(*shape: int) -> ClassPool:
    x = torch.randint(0, 256, (12, *shape), dtype=torch.uint8)
    return ClassPool.grouped(x, [4, 4, 4], list("abc"), splits={"train": "ab", "test": "c"})


def test_what_fits_stays() -> None:
    pool = pool_of(3, 8, 8)
    assert fitted(pool, [3, 8, 8]) is pool


def test_as_pillow_makes_pictures_smaller() -> None:
    pool = pool_of(1, 20, 20)
    made = fitted(pool, (1, 7, 7))
    for before, after in zip(pool.examples, made.examples, strict=True):
        theirs = np.asarray(Image.fromarray(before[0].numpy()).resize((7, 7), Image.Resampling.BILINEAR))
        assert np.abs(theirs.astype(int) - after[0].numpy()).max() <= 1
    assert made.splits == pool.splits


def test_gray_becomes_color_and_back() -> None:
    pool = pool_of(1, 6, 6)
    color = fitted(pool, (3, 6, 6))
    assert all(torch.equal(color.examples[:, channel], pool.examples[:, 0]) for channel in range(3))
    assert torch.equal(fitted(color, (1, 6, 6)).examples, pool.examples)
    red = ClassPool.grouped(torch.tensor([255, 0, 0]).byte().view(1, 3, 1, 1).expand(1, 3, 4, 4), [1], ["red"])
    assert int(fitted(red, (1, 4, 4)).examples[0, 0, 0, 0]) == round(0.299 * 255)


def test_the_middle_is_taken() -> None:
    x = torch.zeros(1, 1, 6, 4)
    x[:, :, 1:5] = 1.0
    made = fitted(ClassPool.grouped(x, [1], ["a"]), (1, 8, 8)).examples
    assert made.dtype == x.dtype
    assert bool((made == 1).all())


def test_tasks_stay_the_same() -> None:
    pool = rotations(pool_of(1, 6, 6)).split("test")
    other = fitted(pool, (3, 6, 6))
    assert len(other.examples) == 16, "only the pictures of its classes"
    first, second = (Episodes(one, ways=3, queries=2)[0] for one in (pool, other))
    assert torch.equal(first.support.y, second.support.y)
    assert isinstance(first.query.x, torch.Tensor)
    assert isinstance(second.query.x, torch.Tensor)
    assert torch.equal(second.query.x[:, :, :1], first.query.x)


@pytest.mark.parametrize(("shape", "wanted"), [((4,), (1, 2, 2)), ((2, 4, 4), (1, 2, 2)), ((1, 4, 4), (64,))])
def test_what_is_no_picture(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="of 1 channel"):
        fitted(pool_of(*shape), wanted)
