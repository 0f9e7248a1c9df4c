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


def test_each_default_part_can_be_drawn_from() -> None:
    """Two classes at least where there are six; larger sets are divided as ever."""
    sizes = {count: [len(m) for m in split_pool(pool(*[2] * count)).splits.values()] for count in (5, 6, 7, 8, 9, 12)}
    assert sizes == {5: [3, 1, 1], 6: [2, 2, 2], 7: [3, 2, 2], 8: [4, 2, 2], 9: [5, 2, 2], 12: [7, 3, 2]}


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


def test_parts_of_a_class_are_one_class_where_several_are_asked_for() -> None:
    made = split_pool(pool(10, 2, 1), {"train": 0.5, "val": 0.2, "test": 0.3}, within=True)
    for asked, counts in (("all", [10, 2, 1]), ("train+val+test", [10, 2, 1]), ("train+test", [8, 2, 1])):
        some = made.split(asked)
        assert (some.names, some.counts.tolist()) == (("c0", "c1", "c2"), counts)
        assert sorted(some.take(some.subset([1]).rows()).flatten().tolist()) == [10, 11]
        own = [made.split(part).subset([0]) for part in (("train", "test") if counts[0] == 8 else made.splits)]
        rows = sorted(value for one in own for value in one.take(one.rows()).flatten().tolist())
        assert sorted(some.take(some.subset([0]).rows()).flatten().tolist()) == rows
    assert made.split("all").examples is made.examples, "nothing is copied where nothing moves"
    turned = split_pool(rotations(ClassPool.grouped(torch.zeros(6, 1, 2, 2), [4, 2], list("ab"))), within=True)
    assert turned.split("train+val").names == tuple(f"{name}/rot{90 * turn:03d}" for turn in range(4) for name in "ab")
    by_class = split_pool(pool(1, 1, 1))
    assert sorted(by_class.split("train+val").names) == sorted(set(by_class.names) - set(by_class.split("test").names))


@pytest.mark.parametrize("split", [{"a": 0.0, "b": 0.5}, {"a": 0.8, "b": 0.3}, {"a": 0.5, "b": ["c0"]}])
def test_shares_that_do_not_fit(split: dict[str, object]) -> None:
    with pytest.raises(DataError, match="add up to at most 1"):
        split_pool(pool(1, 1, 1), split)  # type: ignore[arg-type]


def test_names_of_classes_do_not_divide_examples() -> None:
    with pytest.raises(DataError, match=r"expected shares of the examples of each class .*leave `within` out"):
        split_pool(pool(4, 4), {"a": ["c0"], "b": ["c1"]}, within=True)


def test_more_splits_than_classes() -> None:
    with pytest.raises(DataError, match=r"3 splits need as many classes, there are 2.*within = true"):
        split_pool(pool(5, 5), {"a": 0.4, "b": 0.3, "c": 0.3})
