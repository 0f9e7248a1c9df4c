import torch

from handful.ops.vectors import joined, parted, totals


def test_tensors_are_one_vector_for_each_task_and_come_back() -> None:
    leaves = {"w": torch.randn(2, 3, 4, 5), "b": torch.randn(2, 3), "c": torch.randn(2, 3, 1)}
    vector = joined(leaves, 2)
    assert vector.shape == (2, 3, 22)
    assert torch.equal(vector[1, 2], torch.cat([leaves[name][1, 2].flatten() for name in leaves]))
    assert all(torch.equal(found, leaves[name]) for name, found in parted(vector, leaves).items())
    assert list(parted(joined(leaves), leaves)) == list(leaves)


def test_totals_are_of_each_task() -> None:
    leaves = {"w": torch.ones(2, 3, 4), "b": torch.tensor([1.0, 2.0])}
    assert totals(leaves).tolist() == [13.0, 14.0]
    assert totals(leaves, 0).item() == 27.0
