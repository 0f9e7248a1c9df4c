import math

import pytest
import torch
from factories import slopes, tasks
from torch import Tensor
from variants_metric import METRIC

from handful.encoders import Identity
from handful.episode import Episode, Query, Support
from handful.errors import UnknownNameError
from handful.learners import SiameseNetwork

pytestmark = pytest.mark.usefixtures("float64")


def by_hand(**options: str) -> tuple[SiameseNetwork, Episode]:
    """One feature. Class 0 at 0 and 2, class 1 at 3; the query is 1, of class 0. p = σ(1 − 2|h₁ − h₂|)."""
    learner = SiameseNetwork(Identity(shape=(1,)), **options)  # type: ignore[arg-type]
    if learner.compare is not None:
        with torch.no_grad():
            learner.compare.weight.fill_(-2.0)
            learner.compare.bias.fill_(1.0)
    support = Support(torch.tensor([[[0.0], [2.0], [3.0]]]), torch.tensor([[0, 0, 1]]), 2)
    return learner, Episode(support, Query(torch.tensor([[[1.0]]]), torch.tensor([[0]])))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def answer(learner: SiameseNetwork, episode: Episode) -> list[float]:
    return learner.predict(learner.adapt(episode.support), episode.query.x)[0, 0].tolist()  # type: ignore[no-any-return]


def test_classes_are_as_probable_as_their_examples_on_average_or_at_most() -> None:
    support = Support(torch.tensor([[[1.0], [3.0], [3.0]]]), torch.tensor([[0, 0, 1]]), 2)
    for shots, first in (("mean", (sigmoid(1) + sigmoid(-3)) / 2), ("max", sigmoid(1))):
        learner, episode = by_hand(shots=shots)
        found = answer(learner, Episode(support, episode.query))
        assert found == pytest.approx([math.log(first), math.log(sigmoid(-3))])
        learner, episode = by_hand(objective="contrastive", shots=shots)
        assert answer(learner, Episode(support, episode.query)) == [-1.0 if shots == "mean" else 0.0, -2.0]


def test_same_and_different_pairs_weigh_the_same() -> None:
    learner, episode = by_hand()  # examples 0, 2, 3, 1 of classes 0, 0, 1, 0: three pairs of either kind
    same, different = [2, 1, 1], [3, 1, 2]
    loss = (
        -sum(math.log(sigmoid(1 - 2 * d)) for d in same) / 6 - sum(math.log(sigmoid(2 * d - 1)) for d in different) / 6
    )
    assert learner.loss(episode).item() == pytest.approx(loss)
    learner, episode = by_hand(objective="contrastive")
    assert learner.loss(episode).item() == pytest.approx(sum(d * d / 2 for d in same) / 6)  # others: the margin apart


@pytest.mark.parametrize("objective", ["verification", "contrastive"])
def test_equal_examples_have_finite_gradients(objective: str) -> None:
    learner, _ = by_hand(objective=objective)
    x = torch.ones(1, 2, 1, requires_grad=True)
    y = torch.tensor([[0, 1]])
    learner.loss(Episode(Support(x, y, 2), Query(x, y))).backward()  # type: ignore[no-untyped-call]
    assert bool(x.grad.isfinite().all())  # type: ignore[union-attr]


def test_a_task_of_one_class_has_same_pairs_only() -> None:
    learner, _ = by_hand()
    y = torch.zeros(1, 2).long()
    episode = Episode(Support(torch.zeros(1, 2, 1), y, 1), Query(torch.zeros(1, 2, 1), y))
    assert learner.loss(episode).item() == pytest.approx(-math.log(sigmoid(1)) / 2)


def test_gradients_match_finite_differences_beside_the_kinks() -> None:
    learner, episode = METRIC["siamese"][0].make(), tasks(2)
    parameters = list(learner.parameters())
    direction = [torch.randn_like(parameter) for parameter in parameters]
    slope = sum((g * d).sum() for g, d in zip(slopes(learner.loss(episode), learner), direction, strict=True))

    def moved(by: float) -> Tensor:
        with torch.no_grad():
            for parameter, step in zip(parameters, direction, strict=True):
                parameter += by * step
            loss = learner.loss(episode)
            for parameter, step in zip(parameters, direction, strict=True):
                parameter -= by * step
        return loss

    assert torch.allclose(torch.as_tensor(slope), (moved(1e-6) - moved(-1e-6)) / 2e-6, rtol=1e-6)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Valid: contrastive, verification"):
        by_hand(objective="triplet")
    with pytest.raises(UnknownNameError, match="Valid: max, mean"):
        by_hand(shots="median")
