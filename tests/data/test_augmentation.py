from __future__ import annotations

import pytest
import torch

from handful.data import ClassPool, Episodes
from handful.data.augmentation import Augmentation, Augmented
from handful.episode import Episode, Query, Support
from handful.errors import ShapeError, SpecError
from handful.ops.seeds import generator


def pictures(count: int = 60, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, 6, 8)


def test_nothing_is_varied_by_default() -> None:
    x = pictures()
    assert torch.equal(Augmentation()(x, generator(0)), x)


def test_crops_lie_anywhere_in_the_padded_picture() -> None:
    x = pictures()
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    places = set()
    for before, after in zip(padded, Augmentation(crop=1)(x, generator(0)), strict=True):
        found = [(i, j) for i in range(3) for j in range(3) if torch.equal(before[:, i : i + 6, j : j + 8], after)]
        places.update(found)
        assert len(found) == 1
    assert len(places) == 9


def test_half_are_mirrored() -> None:
    x = pictures(200)
    made = Augmentation(flip=True)(x, generator(0))
    turned = (made == x.flip(-1)).flatten(1).all(1)
    assert bool((turned | (made == x).flatten(1).all(1)).all())
    assert 70 < int(turned.sum()) < 130


def test_colors() -> None:
    x = pictures()
    made = Augmentation(color=0.4)(x, generator(0))
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1
    assert not torch.equal(made, x)
    gray = torch.full((5, 3, 4, 4), 0.5)
    shades = Augmentation(color=0.4)(gray, generator(0))
    assert bool((shades == shades[:, :1, :1, :1]).all()), "contrast and saturation leave a gray picture as it is"
    assert bool(((shades >= 0.3 - 1e-6) & (shades <= 0.7 + 1e-6)).all())


def test_a_square_is_cut_out() -> None:
    made = Augmentation(cutout=3)(pictures() + 1, generator(0))
    holes = made == 0
    assert bool((holes.sum((2, 3)) == 9).all())
    assert bool((holes.any(2).sum(2) == 3).all())
    assert bool((holes == holes[:, :1]).all())


def test_augmented_episodes_are_a_function_of_t() -> None:
    pool = ClassPool.grouped(torch.rand(40, 1, 6, 6), [10] * 4, list("abcd"))
    episodes = Episodes(pool, ways=3, shots=2, queries=2, batch=2)
    augmentation = Augmentation(crop=2, flip=True, color=0.2, cutout=2)
    first, again, other = (Augmented(episodes, augmentation, seed=seed)[3] for seed in (0, 0, 1))
    assert torch.equal(first.support.x, again.support.x)
    assert torch.equal(first.query.x, again.query.x)
    assert not torch.equal(first.support.x, other.support.x)
    assert torch.equal(first.support.y, episodes[3].support.y)
    assert first.support.x.shape == episodes[3].support.x.shape


def test_what_cannot_be_varied() -> None:
    with pytest.raises(ShapeError, match="of at least 7 pixels"):
        Augmentation(cutout=7)(pictures(), generator(0))
    with pytest.raises(ShapeError, match="as floats"):
        Augmentation()(pictures().int(), generator(0))
    with pytest.raises(SpecError, match="crop and cutout from 0 on"):
        Augmentation(crop=-1)
    named = Episode(
        Support({"ids": torch.ones(1, 2, 3)}, torch.tensor([[0, 1]]), 2),
        Query({"ids": torch.ones(1, 1, 3)}, torch.tensor([[0]])),
    )
    with pytest.raises(ShapeError, match="one tensor of pictures"):
        Augmented([named], Augmentation(flip=True))[0]
