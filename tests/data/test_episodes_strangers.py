import pytest
import torch

from handful.data import ClassPool, Episodes
from handful.errors import DataError, ShapeError


def pool_of(counts: list[int], families: list[int] | None = None) -> ClassPool:
    """Examples that are their own row numbers."""
    x = torch.arange(float(sum(counts)))[:, None]
    return ClassPool.grouped(x, counts, [f"class{index}" for index in range(len(counts))], families=families)


def test_strangers_are_of_other_classes_and_come_on_top() -> None:
    pool = pool_of([6, 9, 7, 8, 6])
    options = {"ways": 3, "shots": 2, "queries": 4, "batch": 300, "seed": 5}
    plain, strange = Episodes(pool, **options), Episodes(pool, strangers=0.25, **options)  # type: ignore[arg-type]
    before, draw = plain.draw(1), strange.draw(1)
    for name in ("classes", "support", "support_y", "query", "query_y"):
        assert torch.equal(getattr(before, name), getattr(draw, name)), "the tasks are the same"
    assert draw.strangers.shape == (300, 4), "a quarter of the 16 that are asked"
    class_of = torch.arange(5).repeat_interleave(pool.counts)[draw.strangers]  # [B, T]
    assert not bool((class_of[..., None] == draw.classes[:, None]).any())
    share = torch.bincount(class_of.flatten(), minlength=5) / class_of.numel()
    assert torch.allclose(share, torch.full((5,), 0.2), atol=0.05)
    assert len(draw.strangers[class_of == 1].unique()) == 9, "any example of a class"
    episode = strange[1]
    assert torch.equal(episode.strangers[..., 0].long(), draw.strangers)  # type: ignore[index]
    part = episode.part(3, 5).to("cpu")
    assert torch.equal(part.strangers, episode.strangers[3:5])  # type: ignore[index, arg-type]
    assert plain[1].strangers is None


def test_relatives_are_no_strangers() -> None:
    pool = pool_of([4] * 6, families=[0, 0, 1, 1, 2, 2])
    draw = Episodes(pool, ways=2, shots=1, queries=1, batch=100, families=True, strangers=0.5).draw(0)
    family = draw.strangers // 8
    assert not bool((family[..., None] == (draw.classes // 2)[:, None]).any())


@pytest.mark.parametrize(("ways", "share", "said"), [
    (5, 0.2, "strangers are of classes that a task of 5 ways does not have, and the pool has 5 in all"),
    (2, 0.95, "strangers must be a share from 0 to 0.9, got 0.95"),
])  # fmt: skip
def test_strangers_that_cannot_be(ways: int, share: float, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Episodes(pool_of([6] * 5), ways=ways, queries=2, strangers=share)


def test_strangers_look_like_queries() -> None:
    episode = Episodes(pool_of([6] * 5), ways=2, queries=2, strangers=0.5)[0]
    with pytest.raises(ShapeError, match=r"strangers of 1 tasks, of the shape of queries \(1,\); got 2 tasks, \(3,\)"):
        type(episode)(episode.support, episode.query, None, torch.zeros(2, 4, 3))
