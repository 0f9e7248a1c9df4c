import torch

from handful.data.digits import digits


def test_ten_digits() -> None:
    pool = digits(symmetries=False)
    assert pool.names == tuple("0123456789")
    assert pool.shape == (1, 8, 8)
    assert pool.examples.dtype == torch.uint8
    assert len(pool.examples) == 1797
    assert (int(pool.examples.min()), int(pool.examples.max())) == (0, 255)
    assert pool.examples.float().mean() < 128  # ink on nothing


def test_symmetries_make_eight_classes_of_each() -> None:
    pool, plain = digits(), digits(symmetries=False)
    assert {split: len(classes) for split, classes in pool.splits.items()} == {
        "train": 48,
        "val": 16,
        "test": 16,
    }
    assert "4/rot090" in pool.names
    assert len(set(pool.names)) == 80
    four, turned = (pool.names.index(name) for name in ("4/rot000", "4/rot090"))
    first = pool.examples[pool.starts[four]]
    assert torch.equal(first, plain.examples[plain.starts[4]])
    assert torch.equal(pool.examples[pool.starts[turned]], torch.rot90(first, 1, (-2, -1)))


def test_digits_that_turn_into_one_another_share_a_split() -> None:
    pool = digits()
    home = {pool.names[index][0]: split for split, members in pool.splits.items() for index in members}
    assert home["6"] == home["9"]
    assert home["2"] == home["5"]
    assert "test" not in {home["0"], home["1"], home["8"]}
    for members in pool.splits.values():  # every variant of a digit is in its split
        assert len({pool.names[index][0] for index in members}) * 8 == len(members)
