import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from handful.episode import Episode, Query, Support, join_data, leading, map_data
from handful.errors import DataError, HandfulError, LabelError, ShapeError

Y = torch.tensor([[0, 1, 1], [1, 0, 0]])  # two tasks of three examples, two ways
X = torch.arange(12.0).view(2, 3, 2)


def episode() -> Episode:
    return Episode(Support(X, Y, 2, torch.ones(2, 3)), Query(X + 100, Y.flip(1)))


def test_data_are_a_tensor_or_tensors_by_name() -> None:
    named = {"ids": X, "mask": X[..., 0]}
    assert leading(X) == leading(named) == (2, 3)
    assert torch.equal(map_data(lambda leaf: leaf + 1, X), X + 1)  # type: ignore[arg-type]
    moved = map_data(lambda leaf: leaf + 1, named)
    assert set(moved) == {"ids", "mask"}
    assert torch.equal(moved["mask"], X[..., 0] + 1)
    joined = join_data([named, moved], 1)
    assert joined["ids"].shape == (2, 6, 2)
    assert torch.equal(joined["mask"][:, 3:], X[..., 0] + 1)
    assert torch.equal(join_data([X, X + 1], 0)[2:], X + 1)  # type: ignore[index]


def test_a_good_episode_keeps_what_it_was_given() -> None:
    made = episode()
    assert made.tasks == 2
    assert made.support.x is X
    assert made.support.ways == 2
    with pytest.raises(AttributeError):
        made.support.ways = 3  # type: ignore[misc]


def test_part_cuts_every_tensor_without_copying() -> None:
    part = episode().part(1, 2)
    assert part.tasks == 1
    assert torch.equal(part.support.x, X[1:])  # type: ignore[arg-type]
    assert part.support.x.data_ptr() == X[1:].data_ptr()  # type: ignore[union-attr]
    assert torch.equal(part.support.y, Y[1:])
    assert part.support.weight is not None
    assert part.support.weight.shape == (1, 3)
    assert torch.equal(part.query.x, X[1:] + 100)  # type: ignore[arg-type]
    assert torch.equal(part.query.y, Y.flip(1)[1:])
    named = Episode(Support({"a": X, "b": Y}, Y, 2), Query({"a": X, "b": Y}, Y)).part(0, 1)
    assert {name: leaf.shape[0] for name, leaf in named.query.x.items()} == {"a": 1, "b": 1}  # type: ignore[union-attr]


def test_to_moves_every_tensor() -> None:
    moved = Episode(Support({"a": X}, Y, 2, torch.ones(2, 3)), Query({"a": X}, Y)).to("meta")
    leaves = (moved.support.x["a"], moved.support.y, moved.support.weight, moved.query.x["a"], moved.query.y)  # type: ignore[call-overload,index]
    assert {leaf.device.type for leaf in leaves if leaf is not None} == {"meta"}
    assert moved.support.ways == 2


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
def test_labels_of_any_integers_become_the_ones_torch_indexes_by(kind: torch.dtype) -> None:
    assert Support(X, Y.to(kind), 2).y.dtype == torch.int64
    assert Query(X, Y.to(kind)).y.dtype == torch.int64


def test_a_regression_task() -> None:
    made = Episode(Support(X, X[..., :1]), Query(X, X[..., :1]))
    assert made.support.ways is None
    assert made.part(0, 1).support.y.shape == (1, 3, 1)
    assert Support(X, X[..., 0]).y.shape == (2, 3)


def test_finite_values_that_overflow_their_sum_are_finite() -> None:
    Support(torch.full((1, 2, 4), 3e38), torch.tensor([[0, 1]]), 2)


NAN = X.clone()
NAN[1, 2, 0] = float("nan")
INFINITE = X.clone()
INFINITE[0, 0, 1] = float("inf")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((X, Y[0], 2), ShapeError, r"support labels: expected \[tasks, examples, ...\].*got \(3,\).*batch of one"),
        ((X[:, :0], Y[:, :0], 2), ShapeError, "at least one of each"),
        ((X, Y[:, :2], 2), ShapeError, r"support x: expected its first two axes .* \(2, 2\).*got \(2, 3, 2\)"),
        (({"ids": X, "mask": X[:1]}, Y, 2), ShapeError, r"support mask: .*got \(1, 3, 2\)"),
        (({}, Y, 2), ShapeError, "empty mapping"),
        ((X, Y.float(), 2), ShapeError, "expected integers.*float32.*ways=None"),
        ((X, Y.bool(), 2), ShapeError, "expected integers.*bool"),
        ((X, Y[..., None], 2), ShapeError, r"expected integers \[tasks, examples\].*\(2, 3, 1\)"),
        ((X, Y), ShapeError, "support targets: expected floats, got torch.int64"),
        ((X, Y + 1, 2), LabelError, "from 0 to 1 .2 ways., got 1 to 2"),
        ((X, Y - 1, 2), LabelError, "got -1 to 0"),
        ((X, Y, 3), LabelError, "class 2 of task 0 has no example"),
        ((X, torch.tensor([[0, 1, 0], [0, 0, 0]]), 2), LabelError, "class 1 of task 1 has no example"),
        ((X, Y, 0), LabelError, "at least one way, got 0"),
        ((NAN, Y, 2), DataError, "support x: expected finite numbers, got 1 NaN or infinite of 12"),
        (({"good": X, "bad": INFINITE}, Y, 2), DataError, "support bad: .*got 1 NaN"),
        ((X, NAN), DataError, "support targets: expected finite"),
        ((X, Y, 2, torch.ones(2, 2)), ShapeError, r"support weights: expected \(2, 3\).*got \(2, 2\)"),
        ((X, Y, 2, NAN[..., 0]), DataError, "support weights: expected finite"),
        ((X, Y, 2, torch.tensor([[1.0, 1, 1], [1, -1, 1]])), DataError, "no negative weight"),
        (({"a": [1, 2]}, Y, 2), ShapeError, "support a: expected a tensor, got list"),
        ((X, Y, 2, [1.0, 1.0]), ShapeError, "support weights: expected a tensor, got list"),
        ((X, Y, 2.0), LabelError, r"expected a whole number of ways, got 2\.0"),
        ((X, X, None, torch.tensor([[1.0, 0, 0], [0, 0, 0]])), DataError, "task 1 has no example with a weight"),
        ((X, Y, 2, torch.tensor([[1.0, 1, 1], [0, 1, 1]])), LabelError, "class 1 of task 1 has no example with a wei"),
    ],
)
def test_a_bad_support_is_refused_by_name(arguments: tuple, kind: type[HandfulError], message: str) -> None:
    with pytest.raises(kind, match=message):
        Support(*arguments)


@pytest.mark.parametrize(
    ("support", "query", "kind", "message"),
    [
        (Support(X, Y, 2), (X[:1], Y[:1]), ShapeError, "support holds 2 tasks, query 1"),
        (Support(X, Y, 2), (X, X), ShapeError, "must both hold integer labels"),
        (Support(X, X), (X, Y), ShapeError, "must both hold integer labels"),
        (Support(X, Y, 2), (X, Y + 1), LabelError, "query labels: .*got 1 to 2"),
        (Support(X, Y, 2), (NAN, Y), DataError, "query x: expected finite"),
        (Support(X, X), (X, X[..., :1]), ShapeError, r"targets of support and query .*got \(2,\) and \(1,\)"),
        (Support(X, X), (X, X[..., 0]), ShapeError, r"targets of support and query .*got \(2,\) and \(\)"),
        (Support(X, Y, 2), (X[..., :1], Y), ShapeError, r"examples of support and query .*got \(2,\) and \(1,\)"),
        (Support(X, Y, 2), ({"a": X}, Y), ShapeError, r"examples of support and query .*got \(2,\) and \{'a': 3\}"),
        (Support({"a": X}, Y, 2), ({"b": X}, Y), ShapeError, "the same names"),
        (Support({"a": X}, Y, 2), ({"a": Y}, Y), ShapeError, "as many axes"),
        (Support(X, Y, 2), (X, [[0, 1, 1]]), ShapeError, "query: expected tensors, got Tensor and list"),
        (Support(X, Y, 2), (X, Y[:, :2]), ShapeError, "query x: expected its first two axes"),
    ],
)
def test_a_bad_episode_is_refused_by_name(
    support: Support, query: tuple[Tensor, Tensor], kind: type[HandfulError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Episode(support, Query(*query))


def test_padding_may_differ_between_support_and_query() -> None:
    made = Episode(Support({"ids": X, "size": Y}, Y, 2), Query({"ids": X[..., :1], "size": Y}, Y))
    assert made.query.x["ids"].shape == (2, 3, 1)  # type: ignore[call-overload,index]


def test_ways_of_any_kind_are_kept_as_an_integer() -> None:
    assert type(Support(X, Y, np.int64(2)).ways) is int  # type: ignore[arg-type]


def test_queries_need_not_show_every_class() -> None:
    Episode(Support(X, Y, 2), Query(X, torch.zeros_like(Y)))


def test_classes_behind_the_labels_stay_with_their_tasks() -> None:
    x, y = torch.rand(3, 4, 2), torch.tensor([[0, 1, 0, 1]] * 3)
    classes = torch.tensor([[7, 3], [0, 1], [5, 2]])
    episode = Episode(Support(x, y, 2), Query(x, y), classes)
    assert torch.equal(episode.part(1, 3).classes, classes[1:])  # type: ignore[arg-type]
    assert torch.equal(episode.to("cpu").classes, classes)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"expected classes \[tasks, ways\] = \(3, 2\), got \(3, 3\)"):
        Episode(Support(x, y, 2), Query(x, y), torch.zeros(3, 3).long())


def test_bytes_stay_bytes_until_somebody_reads_them() -> None:
    x = torch.randint(0, 256, (3, 2, 1, 4, 4), dtype=torch.uint8)
    y = torch.tensor([[0, 1]] * 3)
    episode = Episode(Support(x, y, 2), Query(x, y))
    part = episode.to("cpu").part(1, 2)
    for examples in (episode.support, part.query, copy.deepcopy(part.query)):
        assert set(vars(examples)) & {"stored", "floats"} == {"stored"}
    wanted = x.float() / 255
    assert torch.equal(episode.support.x, wanted)  # type: ignore[arg-type]
    assert torch.equal(part.query.x, wanted[1:2])  # type: ignore[arg-type]
    assert episode.support.x is episode.support.x, "made once"
    with pytest.raises(AttributeError):
        episode.support.x = wanted  # type: ignore[misc]
    tokens = {"ids": x[..., 0, 0]}
    assert Support(tokens, y, 2).x is tokens, "examples by name are numbers of their own"
