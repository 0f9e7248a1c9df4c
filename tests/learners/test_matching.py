import math

import pytest
import torch
from factories import answers, tasks
from torch import nn
from variants_metric import METRIC

from handful.encoders import Identity
from handful.episode import Support
from handful.errors import ShapeError, SpecError, UnknownNameError
from handful.learners import MatchingNetwork

pytestmark = pytest.mark.usefixtures("float64")


def axes() -> Support:
    """Five classes, each an axis."""
    return Support(torch.eye(5)[None], torch.arange(5)[None], 5)


def test_without_a_scale_no_class_can_be_sure() -> None:
    learner = MatchingNetwork(Identity(shape=(5,)))
    p = learner.predict(learner.adapt(axes()), 3 * torch.eye(5)[None, :1]).softmax(-1)
    assert float(p[0, 0, 0]) == pytest.approx(math.e / (math.e + 4))
    learner = MatchingNetwork(Identity(shape=(5,)), scale=20.0)
    assert float(learner.predict(learner.adapt(axes()), torch.eye(5)[None, :1]).softmax(-1)[0, 0, 0]) > 0.999


def test_a_class_is_the_sum_of_attention_on_its_examples() -> None:
    learner = MatchingNetwork(Identity(shape=(2,)))
    support = Support(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]]), torch.tensor([[0, 1, 1]]), 2)
    logits = learner.predict(learner.adapt(support), torch.tensor([[[0.0, 2.0]]]))
    attention = [math.exp(0), math.exp(1) + math.exp(-1)]
    assert logits.softmax(-1)[0, 0].tolist() == pytest.approx([a / sum(attention) for a in attention])


def test_full_context_depends_on_the_whole_support_and_its_order() -> None:
    learner, episode = METRIC["matching"][1].make(), tasks()
    support, order = episode.support, torch.tensor([5, 4, 3, 2, 1, 0])
    x, y = support.x[:, order], support.y[:, order]  # type: ignore[index]
    turned = learner.predict(learner.adapt(Support(x, y, 3)), episode.query.x)
    assert not torch.allclose(turned, answers(learner, episode))
    z = torch.randn(1, 6, 32)
    g = learner.adapt_features(z, y[:1], 3).g  # type: ignore[operator]
    other = learner.adapt_features(torch.cat([z[:, :5], -z[:, 5:]], 1), y[:1], 3).g  # type: ignore[operator]
    assert not torch.allclose(g[:, 0], other[:, 0]), "the first example knows of the last"


def test_a_silent_context_is_no_context() -> None:
    """LSTMs whose weights are 0 add nothing to g' and f'."""
    learner, episode = METRIC["matching"][1].make(), tasks()
    plain = MatchingNetwork(learner.encoder, scale=10.0)  # type: ignore[arg-type]
    for name, parameter in learner.named_parameters():
        if "lstm" in name:
            nn.init.zeros_(parameter)
    assert torch.allclose(answers(learner, episode), answers(plain, episode))


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Valid: full, none"):
        MatchingNetwork(Identity(shape=(2,)), context="half")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="at least one read"):
        MatchingNetwork(Identity(shape=(2,)), reads=0)
    with pytest.raises(ShapeError, match="full context needs"):
        MatchingNetwork(nn.Flatten(), context="full")
