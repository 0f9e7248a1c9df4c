import pytest
import torch

from handful.data.pool import ClassPool, rotations
from handful.data.splitting import split_pool
from handful.errors import DataError, LabelError, UnknownNameError


def pool(*counts: int) -> ClassPool:
    x = torch.arange(float(sum(counts))).reshape(-1, 1)
    return ClassPool.grouped(x, counts, [f"c{index}" for index in range(len(counts))])


def test_by_default_60_20_20_percent_of_the_classes() -> None:
    made = split_pool(pool(*[2] * 10))
    assert {name: len(members) for name, members in made.splits.items()} == {"train": 6, "val": 2, "test": 2}
    assert sorted(sum(made.splits.values(), ())) == list(range(10))
    assert split_pool(pool(*[2] * 10)).splits == made.splits
    assert split_pool(pool(*[2] * 10), seed=1).splits != made.splits
    assert split_pool(pool(3, 3)).splits == {}


def test_shares() -> None:
    sizes = [len(split_pool(pool(*[1] * 7), {"a": 0.5, "b": 0.25}).splits[name]) for name in "ab"]
    assert sum(sizes) == 5
    assert [len(m) for m in split_pool(pool(1, 1, 1), {"a": 0.98, "b": 0.01, "c": 0.01}).splits.values()] == [1, 1, 1]


def test_a_family_stays_together() -> None:
    x = torch.arange(5 * 4.0).reshape(5, 1, 2, 2)
    made = split_pool(rotations(ClassPool.grouped(x, [1] * 5, list("abcde"))), {"train": 0.6, "test": 0.4})
    families = [{int(made.families[i]) for i in members} for members in made.splits.values()]
    assert not families[0] & families[1]
    assert [len(members) for members in made.splits.values()] == [12, 8]


def test_a_picture_and_its_turns_are_in_one_part() -> None:
    x = torch.arange(24).reshape(24, 1, 1, 1).expand(24, 1, 2, 2).contiguous()
    made = split_pool(rotations(ClassPool.grouped(x, [8, 8, 8], list("abc"))), {"train": 0.5, "test": 0.5}, within=True)
    of = {name: made.split(name) for name in made.splits}
    seen = {name: set(part.examples[part.rows(), 0, 0, 0].tolist()) for name, part in of.items()}
    assert (len(seen["train"]), len(seen["test"])) == (12, 12)
    assert not seen["train"] & seen["test"]


def test_given_names() -> None:
    made = split_pool(pool(1, 1, 1), {"train": ["c2"], "test": ["c0"]})
    assert made.split("train").names == ("c2",)
    with pytest.raises(LabelError, match="in split 'train' and in 'test'"):
        split_pool(pool(1, 1), {"train": ["c0"], "test": ["c0"]})
    with pytest.raises(UnknownNameError, match="'d'"):
        split_pool(pool(1, 1), {"train": ["d"]})


def test_within_classes() -> None:
    whole = pool(10, 2, 1)
    made = split_pool(whole, {"train": 0.8, "test": 0.2}, within=True)
    assert made.split("train").names == ("c0/train", "c1/train", "c2/train")
    assert made.split("test").names == ("c0/test", "c1/test")
    assert made.split("train").counts.tolist() == [8, 1, 1]
    assert made.split("test").counts.tolist() == [2, 1]
    assert torch.equal(made.split("test").families, torch.tensor([0, 1]))
    own = {name: set(made.split(name).gather(made.split(name).rows()).flatten().tolist()) for name in made.splits}
    assert own["train"] | own["test"] == set(range(13))
    assert not own["train"] & own["test"]


@pytest.mark.parametrize("split", [{"a": 0.0, "b": 0.5}, {"a": 0.8, "b": 0.3}, {"a": 0.5, "b": ["c0"]}])
def test_shares_that_do_not_fit(split: dict[str, object]) -> None:
    with pytest.raises(DataError, match="add up to at most 1"):
        split_pool(pool(1, 1, 1), split)  # type: ignore[arg-type]


def test_more_splits_than_classes() -> None:
    with pytest.raises(DataError, match=r"3 splits need as many classes, there are 2.*within = true"):
        split_pool(pool(5, 5), {"a": 0.4, "b": 0.3, "c": 0.3})
