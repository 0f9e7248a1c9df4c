from typing import Any

import pytest
import torch
from factories import WAYS, Smooth, answers, shaken, slopes, tasks

from handful.data import FunctionEpisodes, Sinusoid
from handful.encoders import MLP
from handful.errors import SpecError, UnknownNameError
from handful.learners import MAML, BayesianMAML

pytestmark = pytest.mark.usefixtures("float64")


def test_one_particle_is_maml() -> None:
    torch.manual_seed(1)
    options: dict[str, Any] = {"inner_rate": 0.4, "inner_steps": 3}
    learner = BayesianMAML(shaken(Smooth()), outputs=WAYS, particles=1, objective="query", **options)
    maml, episode = MAML(learner.model, **options), tasks()
    assert torch.allclose(answers(learner, episode), answers(maml, episode).log_softmax(-1), atol=1e-12)
    loss, expected = learner.loss(episode), maml.loss(episode)
    assert torch.allclose(loss, expected, rtol=1e-12)
    wanted = slopes(expected, maml)
    for mine, want in zip(slopes(loss, learner), wanted, strict=False):
        assert torch.allclose(mine, want, rtol=1e-9, atol=1e-12)


def test_the_leader_knows_the_queries_and_is_a_constant() -> None:
    """One particle, one step each: chaser θ − εg, leader θ − εg − ε∇L_both, so the loss is ‖ε∇L_both‖²."""
    linear = MLP(shape=(1,), hidden=(), outputs=1)
    episode = FunctionEpisodes(Sinusoid(), shots=3, queries=2, batch=1)[0]
    learner = BayesianMAML(linear, inner_rate=0.1, particles=1)
    adapted = learner.adapt(episode.support).parameters
    leaves = {name: leaf[0, 0].detach().requires_grad_() for name, leaf in adapted.items()}
    x = torch.cat([episode.support.x[0], episode.query.x[0]])  # type: ignore[index]
    y = torch.cat([episode.support.y[0], episode.query.y[0]])
    output = x @ leaves["layers.0.weight"].T + leaves["layers.0.bias"]
    moves = torch.autograd.grad((output - y).square().mean(), list(leaves.values()))
    expected = sum((0.1 * move).square().sum() for move in moves)
    assert torch.allclose(learner.loss(episode), expected)


def test_answers_are_the_mean_of_the_particles() -> None:
    learner = BayesianMAML(MLP(shape=(1,), hidden=(8,), outputs=1), particles=4)
    episode = FunctionEpisodes(Sinusoid(), shots=5, queries=4, batch=2)[0]
    state = learner.adapt(episode.support)
    each = learner.answer_each(state, episode.query.x)
    assert each.shape == (2, 4, 4, 1)
    assert bool((each.std(1) > 0).all())
    assert torch.allclose(each.mean(1), learner.predict(state, episode.query.x))


def test_what_cannot_be_is_refused() -> None:
    for option in ("particles", "leader_steps"):
        with pytest.raises(SpecError, match=f"expected {option} of at least 1, got 0"):
            BayesianMAML(Smooth(), outputs=WAYS, **{option: 0})  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="Valid: chaser, query"):
        BayesianMAML(Smooth(), outputs=WAYS, objective="leader")  # type: ignore[arg-type]
