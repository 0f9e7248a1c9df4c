import pytest
import torch
from torch import Tensor, nn

from handful.encoders import Identity
from handful.episode import Episode, Query, Support
from handful.errors import SpecError
from handful.learners import FEAT

pytestmark = pytest.mark.usefixtures("float64")


def episode(ways: int = 3, shots: int = 2) -> Episode:
    y = torch.arange(ways).repeat(shots)[None]
    return Episode(Support(torch.randn(1, ways * shots, 4), y, ways), Query(torch.randn(1, ways * shots, 4), y))


def test_without_attention_it_is_a_prototypical_network_of_normalized_prototypes() -> None:
    learner = FEAT(Identity(shape=(4,)), temperature=2.0)
    nn.init.zeros_(learner.out.weight)
    nn.init.zeros_(learner.out.bias)
    one = episode()
    means = one.support.x.view(1, 2, 3, 4).mean(1)  # type: ignore[union-attr]
    c = nn.functional.layer_norm(means, (4,))
    expected = -torch.cdist(one.query.x, c).square() / 2  # type: ignore[arg-type]
    assert torch.allclose(learner.predict(learner.adapt(one.support), one.query.x), expected)


def test_a_prototype_depends_on_the_other_classes() -> None:
    learner, one = FEAT(Identity(shape=(4,))), episode()
    x: Tensor = one.support.x.clone()  # type: ignore[union-attr]
    before = learner.adapt(one.support).c
    x[:, 0] += 1  # of class 0
    after = learner.adapt(Support(x, one.support.y, 3)).c
    assert not torch.allclose(before[:, 1], after[:, 1])


def test_the_contrastive_term_is_of_training_alone_and_adds_up() -> None:
    learner, one = FEAT(Identity(shape=(4,)), balance=0.5), episode()
    training, evaluation = learner.loss(one), learner.eval().loss(one)
    learner.train()
    learner.balance = 1.0
    assert torch.allclose(learner.loss(one) - evaluation, 2 * (training - evaluation))
    assert training.item() > evaluation.item()


def test_dropout_is_of_training_alone() -> None:
    learner, one = FEAT(Identity(shape=(4,)), dropout=0.5), episode()
    assert not torch.equal(learner.adapt(one.support).c, learner.adapt(one.support).c)
    learner.eval()
    assert torch.equal(learner.adapt(one.support).c, learner.adapt(one.support).c)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(SpecError, match="temperatures above 0"):
        FEAT(Identity(shape=(4,)), temperature=0.0)
