import pytest
import torch
from factories import WAYS, Smooth, answers, shaken, slopes, tasks
from torch import nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as analytic

from handful.data import FunctionEpisodes, Sinusoid
from handful.encoders import MLP
from handful.errors import SpecError
from handful.learners import MAML, PLATIPUS
from handful.ops.gaussians import kl_divergence

pytestmark = pytest.mark.usefixtures("float64")


def learner_of(**options: object) -> PLATIPUS:
    torch.manual_seed(1)
    return PLATIPUS(shaken(Smooth()), outputs=WAYS, inner_rate=0.4, inner_steps=2, **options).double()  # type: ignore[arg-type]


def test_divergence_is_the_analytic_one() -> None:
    mean, log_v, other, log_sigma2 = torch.randn(4, 5, 3)
    expected = analytic(Normal(mean, (log_v / 2).exp()), Normal(other, (log_sigma2 / 2).exp()))
    assert torch.allclose(kl_divergence(mean, log_v, other, log_sigma2), expected, rtol=1e-12)
    assert bool((kl_divergence(mean, log_v, mean, log_v) == 0).all())


def test_without_variance_it_is_maml() -> None:
    learner, episode = learner_of(gamma=0.0, log_variance=-200.0, kl_weight=0.0, samples=3), tasks()
    torch.manual_seed(1)
    maml = MAML(shaken(Smooth()), outputs=WAYS, inner_rate=0.4, inner_steps=2).double()
    maml.load_state_dict({n: leaf for n, leaf in learner.state_dict().items() if n.startswith("model.")})
    assert torch.allclose(answers(learner, episode), answers(maml, episode).log_softmax(-1), atol=1e-12)
    ours, theirs = learner.loss(episode), maml.loss(episode)
    assert torch.allclose(ours, theirs, rtol=1e-12)
    weights = len(list(maml.parameters()))
    for mine, want in zip(slopes(ours, learner)[:weights], slopes(theirs, maml), strict=True):
        assert torch.allclose(mine, want, rtol=1e-9, atol=1e-12)


def test_training_moves_the_noise_and_answers_do_not() -> None:
    learner, episode = learner_of(log_variance=-2.0), tasks()
    before, losses = answers(learner, episode), [float(learner.loss(episode).detach()) for _ in range(3)]
    assert len(set(losses)) == 3
    assert torch.equal(answers(learner, episode), before)
    learner.eval()
    assert torch.equal(learner.loss(episode), learner.loss(episode))
    again = learner_of(log_variance=-2.0)
    assert [float(again.loss(episode).detach()) for _ in range(3)] == losses, "a function of (seed, turn)"
    assert float(learner_of(log_variance=-2.0, seed=1).loss(episode).detach()) not in losses


def test_the_answer_is_the_mean_probability_of_samples_that_variance_drives_apart() -> None:
    episode = tasks()

    def spread(log_variance: float) -> float:
        learner = learner_of(log_variance=log_variance)
        state = learner.adapt(episode.support)
        each = learner.answer_each(state, episode.query.x).softmax(-1).detach()  # [B, L, Q, N]
        assert torch.allclose(learner.predict(state, episode.query.x).exp(), each.mean(1))
        return float(each.std(1).mean())

    assert spread(-30.0) < 1e-5 < 10 * spread(-6.0) < 10 * spread(-1.0)


def test_samples_of_a_regression_spread_around_the_answer() -> None:
    learner = PLATIPUS(MLP(shape=(1,), hidden=(8,), outputs=1), samples=7, log_variance=-2.0).double()
    episode = FunctionEpisodes(Sinusoid(), shots=5, queries=4, batch=2)[0]
    state = learner.adapt(episode.support)
    each = learner.answer_each(state, episode.query.x)
    assert each.shape == (2, 7, 4, 1)
    assert bool((each.std(1) > 0).all())
    assert torch.allclose(each.mean(1), learner.predict(state, episode.query.x))


def test_frozen_parameters_have_no_distribution() -> None:
    encoder = MLP(shape=(1,), hidden=(8,), outputs=1)
    first = encoder.layers[0]
    assert isinstance(first, nn.Linear)
    first.requires_grad_(False)
    learner = PLATIPUS(encoder, log_variance=0.0).double()
    episode = FunctionEpisodes(Sinusoid(), shots=5, queries=4, batch=2)[0]
    state = learner.adapt(episode.support)
    assert len(learner.log_v) == 2
    assert torch.equal(state.parameters["layers.0.weight"], first.weight.expand(2, learner.samples, 8, 1))
    learner.loss(episode).backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("option", ["samples", "training_samples"])
def test_a_sample_at_least(option: str) -> None:
    with pytest.raises(SpecError, match=f"expected {option} of at least 1, got 0"):
        PLATIPUS(Smooth(), outputs=WAYS, **{option: 0})
