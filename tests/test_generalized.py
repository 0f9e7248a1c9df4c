import pytest
import torch

from handful.data import ClassPool, DescribedPool
from handful.encoders import Identity
from handful.errors import UnknownNameError
from handful.generalized import generalized
from handful.learners import DeViSE, PrototypicalNetwork
from handful.ops.generalized import calibrated_stacking, harmonic_mean


def test_harmonic_mean() -> None:
    assert harmonic_mean(0.6, 0.3) == pytest.approx(0.4)
    assert harmonic_mean(0.0, 0.0) == 0.0 == harmonic_mean(0.9, 0.0)


def test_calibrated_stacking_holds_seen_classes_back() -> None:
    logits = torch.tensor([[1.0, 0.8], [3.0, 0.8]])
    assert calibrated_stacking(logits, torch.tensor([True, False]), 0.5).argmax(-1).tolist() == [1, 0]


@pytest.fixture
def plane() -> DescribedPool:
    """Two classes seen, two not, described by directions; one example of an unseen class leans to a seen one."""
    names = ["north", "east", "northeast", "south"]
    directions = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, -1.0]])
    x = torch.tensor([[0.0, 2.0], [3.0, 0.0], [2.0, 2.1], [0.0, 5.0], [0.0, -1.0]])
    return DescribedPool(ClassPool.grouped(x, [1, 1, 2, 1], names), ClassPool.grouped(directions, [1] * 4, names))


def test_means_over_classes_of_both_kinds(plane: DescribedPool) -> None:
    learner = DeViSE(Identity(shape=(2,)))
    torch.nn.init.eye_(learner.projection.weight)
    result = generalized(learner, plane, ["north", "east"], at_once=2)
    assert (result.seen, result.unseen) == (1.0, 0.75)
    assert result.harmonic == pytest.approx(harmonic_mean(1.0, 0.75))
    held_back = generalized(learner, plane, ["north", "east"], penalty=10.0)
    assert (held_back.seen, held_back.unseen) == (0.0, 1.0)
    assert learner.training


def test_a_learner_without_parameters_answers_too(plane: DescribedPool) -> None:
    learner = PrototypicalNetwork(Identity(shape=(2,)), distance="cosine")
    assert generalized(learner, plane, []) == (0.0, 0.875)


def test_an_answer_that_is_not_finite_is_wrong(plane: DescribedPool) -> None:
    learner = DeViSE(Identity(shape=(2,)))
    torch.nn.init.constant_(learner.projection.weight, torch.nan)
    assert generalized(learner, plane, ["north", "east"]) == (0.0, 0.0)


def test_seen_classes_must_be_there(plane: DescribedPool) -> None:
    with pytest.raises(UnknownNameError, match="seen class 'west'"):
        generalized(DeViSE(Identity(shape=(2,))), plane, ["west"])
