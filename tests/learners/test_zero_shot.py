import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from handful.data import ClassPool, DescribedPool, ZeroShotEpisodes, attributes
from handful.encoders import MLP, Identity
from handful.episode import Episode, Query, Support
from handful.errors import ShapeError, SpecError
from handful.evaluation import evaluate
from handful.learner import Learner
from handful.learners import CLIP, DeViSE, PrototypicalNetwork, ZeroShotPrototypical
from handful.ops.ranking import ranking_losses, symmetric_losses
from handful.training import train

pytestmark = pytest.mark.usefixtures("float64")


def described(descriptions: int = 1) -> Episode:
    """Classes of seven attributes, examples of four numbers."""
    y = torch.arange(3).repeat(descriptions).expand(2, -1)
    support = Support(torch.randn(2, 3 * descriptions, 7), y, 3, described=True)
    return Episode(support, Query(torch.randn(2, 5, 4), torch.randint(3, (2, 5))))


@pytest.mark.parametrize("cls", [ZeroShotPrototypical, DeViSE, CLIP])
@pytest.mark.parametrize("descriptions", [1, 2])
def test_descriptions_and_examples_of_different_shapes(cls: type[Learner], descriptions: int) -> None:
    learner, episode = cls(Identity(shape=(4,)), description=(7,)), described(descriptions)  # type: ignore[call-arg]
    state = learner.adapt(episode.support)
    assert torch.allclose(state.c.square().sum(-1), torch.ones(2, 3)), "classes are unit vectors"
    assert learner.predict(state, episode.query.x).shape == (2, 5, 3)
    learner.loss(episode.part(0, 1)).backward()  # type: ignore[no-untyped-call]
    with pytest.raises(ShapeError, match=r"expected descriptions of shape \(7,\), got \(4,\); set description="):
        learner.adapt(Support(torch.randn(2, 3, 4), torch.arange(3).expand(2, 3), 3, described=True))


def test_only_descriptions_may_differ_from_examples() -> None:
    episode = described()
    with pytest.raises(ShapeError, match="examples of support and query must have one shape"):
        Episode(Support(episode.support.x, episode.support.y, 3), episode.query)
    assert episode.part(0, 1).support.described
    assert episode.to("cpu").support.described


def test_ranking_by_hand() -> None:
    """Right class 0 at 1.0; 0.95 costs 0.05 of the margin 0.1, 0.5 nothing, 2.0 costs 1.1."""
    scores = torch.tensor([[[1.0, 0.95, 0.5, 2.0]]])
    assert torch.allclose(ranking_losses(scores, torch.tensor([[0]]), 0.1), torch.tensor([[0.05 + 1.1]]))


def test_with_one_query_a_class_the_loss_is_the_papers() -> None:
    logits, y = torch.randn(2, 4, 4), torch.arange(4).expand(2, 4)
    expected = [(cross_entropy(one, y[0]) + cross_entropy(one.T, y[0])) / 2 for one in logits]
    assert torch.allclose(symmetric_losses(logits, y), torch.stack(expected))


def test_the_temperature_of_clip() -> None:
    learner = CLIP(Identity(shape=(4,)), description=(7,))
    assert float(learner.log_scale.detach()) == pytest.approx(math.log(1 / 0.07))
    episode = described()
    with torch.no_grad():
        learner.log_scale.fill_(50.0)
        logits = learner.predict(learner.adapt(episode.support), episode.query.x)
    assert float(logits.abs().max()) <= 100 + 1e-9
    learner.loss(episode).backward()  # type: ignore[no-untyped-call]
    grad = learner.log_scale.grad
    assert grad is not None
    assert float(grad) != 0, "beyond the bound it can come back"


@pytest.mark.parametrize("inside", [0.0, 3.0])
def test_the_bound_of_clips_temperature_changes_no_gradient_within(inside: float) -> None:
    learner = CLIP(Identity(shape=(4,)), description=(7,))
    with torch.no_grad():
        learner.log_scale.fill_(inside)
    z, c = torch.randn(1, 5, 4), torch.randn(1, 3, 64)
    logits = learner.similarity(z, c)
    (slope,) = torch.autograd.grad(logits.sum(), learner.log_scale)
    assert torch.allclose(slope, logits.sum()), "the derivative of exp(t) · cos in t is itself"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(SpecError, match="expected a margin above 0, got 0"):
        DeViSE(Identity(shape=(4,)), margin=0)
    with pytest.raises(ShapeError, match="normalization 'support' is for learners that adapt"):
        CLIP(MLP(normalization="support"))
    with pytest.raises(SpecError, match="expected a temperature above 0, got 0"):
        CLIP(Identity(shape=(4,)), temperature=0)
    with pytest.raises(ShapeError, match="does not say its out_features"):
        DeViSE(nn.Flatten(), description=(7,))


@pytest.mark.parametrize("cls", [ZeroShotPrototypical, DeViSE, CLIP])
def test_attributes_may_be_whole_numbers(cls: type[Learner]) -> None:
    learner = cls(Identity(shape=(4,)), description=(3,))  # type: ignore[call-arg]
    a, y = torch.tensor([[[0, 1, 1], [1, 0, 1]]]), torch.tensor([[0, 1]])
    whole, real = (learner.adapt(Support(given, y, 2, described=True)) for given in (a, a.double()))
    assert torch.equal(whole.c, real.c)


@pytest.mark.parametrize("cls", [ZeroShotPrototypical, DeViSE, CLIP])
def test_classes_never_seen_are_recognized_by_their_attributes(cls: type[Learner]) -> None:
    torch.set_default_dtype(torch.float32)
    data = attributes()
    exams = ZeroShotEpisodes(data.split("test"), ways=5, queries=5, batch=20, seed=2)
    learner = cls(MLP(shape=(32,), hidden=(64,)), description=(10,))  # type: ignore[call-arg]
    lessons = ZeroShotEpisodes(data.split("train"), ways=20, queries=3)
    for _ in train(learner, lessons, torch.optim.Adam(learner.parameters(), lr=3e-3), steps=200):
        pass
    assert evaluate(learner, exams, tasks=100).mean.value > 0.7


def test_a_description_shaped_as_an_example_is_an_example_for_every_learner(plane: DescribedPool) -> None:
    torch.set_default_dtype(torch.float32)
    exams = ZeroShotEpisodes(plane, ways=3, queries=1, batch=20)
    assert evaluate(PrototypicalNetwork(Identity(shape=(2,))), exams, tasks=20).mean.value == 1.0


@pytest.fixture
def plane() -> DescribedPool:
    """Three directions, and an example near each."""
    directions, names = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, -1.0]]), ["north", "east", "southwest"]
    return DescribedPool(
        ClassPool.grouped(directions + 0.2, [1] * 3, names), ClassPool.grouped(directions, [1] * 3, names)
    )
