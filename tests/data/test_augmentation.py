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


@pytest.mark.parametrize("side", [0, 10])
def test_parts_are_made_large(side: int) -> None:
    """Of a picture whose two channels say the row and the column, so that a part says where it was."""
    height, width = 20, 24
    rows, columns = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    made = Augmentation(zoom=0.3, side=side)(torch.stack([rows, columns]).expand(400, 2, -1, -1), generator(0))
    tall, wide = (side, side) if side else (height, width)
    assert made.shape == (400, 2, tall, wide)
    down, across = made[:, 0, 1:-1].diff(dim=1), made[:, 1, :, 1:-1].diff(dim=2)  # the outermost may be of a border
    assert down.std((1, 2)).max() < 1e-5
    parts = down.mean((1, 2)) * tall, across.mean((1, 2)) * wide
    area, ratio = parts[0] * parts[1], parts[1] / parts[0]
    assert 0.29 < area.min() < 0.35
    assert 0.95 < area.max() < 1.001
    assert 0.745 < ratio.min() < 0.78
    assert 1.28 < ratio.max() < 1.34
    middle = made[:, :, 1:-1, 1:-1].mean((2, 3))
    assert middle.std(0).min() > 0.05, "they lie anywhere"
    assert made.min() >= 0.5 / width - 1e-6


def test_the_whole_is_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    x = pictures()
    monkeypatch.setattr("handful.data.augmentation.WIDER", 0.0)
    assert torch.allclose(Augmentation(zoom=1.0)(x, generator(0)), x, atol=1e-5)


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


def varied(x: torch.Tensor, y: torch.Tensor, **options: float) -> Episode:
    tasks = Episode(Support(x, y, 2), Query(x, y), torch.zeros(len(x), 2).long())
    return Augmented([tasks], Augmentation(**options))[0]  # type: ignore[arg-type]


def test_bytes_become_floats() -> None:
    x = torch.randint(0, 256, (3, 1, 6, 6), dtype=torch.uint8)
    assert torch.allclose(Augmentation()(x, generator(0)), x / 255)


def test_a_class_is_turned_as_a_whole_in_support_and_query_alike() -> None:
    x, y = torch.rand(200, 4, 1, 5, 5), torch.tensor([0, 1, 0, 1]).expand(200, 4)
    made = varied(x, y, rotation=True)
    assert made.classes is None, "a turned class is none of the pool's"
    counts = torch.zeros(4)
    for task in range(200):
        for label in (0, 1):
            before, after = x[task, y[task] == label], made.support.x[task, y[task] == label]
            turns = [turn for turn in range(4) if torch.equal(before.rot90(turn, (-2, -1)), after)]
            assert len(turns) == 1
            counts[turns] += 1
    assert bool((counts > 60).all())
    assert torch.equal(made.support.x, made.query.x)


def test_blends_stay_within_the_class() -> None:
    weights = torch.eye(6).expand(50, 6, 6).reshape(50, 6, 1, 1, 6)  # each example is told by its own place
    y = torch.tensor([0, 1, 0, 1, 0, 1]).expand(50, 6)
    made = varied(weights, y, mixup=1.0).support.x
    assert isinstance(made, torch.Tensor)
    parts = made.reshape(50, 6, 6)
    own = parts.diagonal(dim1=1, dim2=2)
    assert bool((own >= 0.5).all())
    assert torch.allclose(parts.sum(2), torch.ones(50, 6))
    assert bool(((parts > 0).sum(2) == 2).all()), "with one other"
    assert bool((parts[:, 0::2, 1::2] == 0).all()), "of its class"
    assert bool(((parts > 0).sum(1) == 2).all()), "in a ring: each is taken once"
    alone = varied(weights[:, :2], y[:, :2], mixup=1.0).support.x
    assert isinstance(alone, torch.Tensor)
    assert torch.equal(alone, weights[:, :2])


def test_words_are_dropped() -> None:
    x, y = torch.randint(1, 9, (100, 4, 20)), torch.tensor([0, 1, 0, 1]).expand(100, 4)
    x[:, :, 15:] = 0
    made = varied(x, y, word_dropout=0.3).support.x
    assert isinstance(made, torch.Tensor)
    assert bool(((made == x) | (made == 0)).all())
    assert 0.28 < float((made[:, :, :15] == 0).float().mean()) < 0.32
    nearly_none = varied(x, y, word_dropout=0.99).support.x
    assert isinstance(nearly_none, torch.Tensor)
    assert bool((nearly_none > 0).any(2).all()), "one word stays"


def test_entities_of_a_relation_stay() -> None:
    words = torch.randint(1, 9, (50, 4, 20))
    head, tail = torch.arange(20) - 3, torch.arange(20) - 11
    x = torch.stack([words, head.expand_as(words), tail.expand_as(words)], 2)
    made = varied(x, torch.tensor([0, 1, 0, 1]).expand(50, 4), word_dropout=0.9).support.x
    assert isinstance(made, torch.Tensor)
    assert torch.equal(made[:, :, 1:], x[:, :, 1:])
    assert torch.equal(made[:, :, 0, [3, 11]], words[..., [3, 11]])
    assert int((made[:, :, 0] > 0).sum()) < 0.25 * words.numel()


def test_what_is_for_others() -> None:
    y = torch.tensor([[0, 1]])
    with pytest.raises(ShapeError, match="square pictures to turn"):
        varied(torch.rand(1, 2, 3, 6, 8), y, rotation=True)
    with pytest.raises(ShapeError, match="reading = 'words'"):
        varied(torch.rand(1, 2, 384), y, word_dropout=0.1)
    with pytest.raises(ShapeError, match="word_dropout alone"):
        varied(torch.ones(1, 2, 8).long(), y, word_dropout=0.1, flip=True)
    with pytest.raises(SpecError, match="word_dropout in"):
        Augmentation(word_dropout=1.0)
    for options in ({"zoom": 1.5}, {"side": 56}, {"zoom": 0.5, "side": 8, "cutout": 9}, {"side": 0.5}):
        with pytest.raises(SpecError, match="side"):
            Augmentation(**options)  # type: ignore[arg-type]
    points = Episode(Support(torch.rand(1, 2, 1), torch.rand(1, 2, 1)), Query(torch.rand(1, 2, 1), torch.rand(1, 2, 1)))
    with pytest.raises(ShapeError, match="tasks of classes"):
        Augmented([points], Augmentation(flip=True))[0]
    described = Episode(Support(torch.rand(1, 2, 4), y, 2, described=True), Query(torch.rand(1, 2, 1, 8, 8), y))
    with pytest.raises(ShapeError, match="got descriptions of classes"):
        Augmented([described], Augmentation(flip=True))[0]


@pytest.mark.parametrize(
    "options", [{"rotation": True}, {"zoom": 0.5}, {"crop": 1}, {"flip": True}, {"color": 0.1}, {"cutout": 1}]
)
def test_vectors_are_no_pictures(options: dict[str, object]) -> None:
    x, y = torch.rand(1, 6, 6), torch.tensor([[0, 0, 0, 1, 1, 1]])
    with pytest.raises(ShapeError, match=r"expected pictures \[tasks, .* got \(1, 6, 6\): leave out all but mixup"):
        varied(x, y, **options)  # type: ignore[arg-type]
    assert not torch.equal(varied(x, y, mixup=1.0).support.x, x), "but blends of a class are vectors again"


def test_what_cannot_be_varied() -> None:
    with pytest.raises(ShapeError, match="of at least 7 pixels"):
        Augmentation(cutout=7)(pictures(), generator(0))
    with pytest.raises(ShapeError, match="as floats"):
        Augmentation()(pictures().int(), generator(0))
    for wrong in ({"crop": 1.5}, {"cutout": True}, {"color": "much"}):
        with pytest.raises(SpecError, match="crop and cutout in whole pixels"):
            Augmentation(**wrong)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="crop and cutout from 0 on"):
        Augmentation(crop=-1)
    named = Episode(
        Support({"ids": torch.ones(1, 2, 3)}, torch.tensor([[0, 1]]), 2),
        Query({"ids": torch.ones(1, 1, 3)}, torch.tensor([[0]])),
    )
    with pytest.raises(ShapeError, match="that are one tensor"):
        Augmented([named], Augmentation(flip=True))[0]
