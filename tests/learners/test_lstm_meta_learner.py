import math

import pytest
import torch
from factories import WAYS, Smooth, answers, shaken, slopes, tasks
from torch import Tensor

from handful.data import FunctionEpisodes, Sinusoid
from handful.encoders import MLP
from handful.encoders.normalization import BatchNorm
from handful.errors import SpecError
from handful.learners import MAML, LSTMMetaLearner

pytestmark = pytest.mark.usefixtures("float64")


def learner_of(policy: str = "none", **options: object) -> LSTMMetaLearner:
    torch.manual_seed(1)
    options = {"outputs": WAYS, "inner_steps": 3, "hidden": 4, **options}
    return LSTMMetaLearner(shaken(Smooth(policy)), **options)  # type: ignore[arg-type]


@torch.no_grad()
def gates(learner: LSTMMetaLearner, forget: float, rate: float) -> None:
    """W = 0: the gates are constants."""
    for gate, bias in ((learner.forget_gate, forget), (learner.input_gate, math.log(rate / (1 - rate)))):
        gate.weight.zero_()
        gate.bias.fill_(bias)


@pytest.mark.parametrize("policy", ["none", "batch"])
def test_with_zero_weights_and_saturated_gates_it_is_gradient_descent(policy: str) -> None:
    learner, episode = learner_of(policy), tasks()
    gates(learner, 40.0, 0.3)
    descent = MAML(learner.model, inner_rate=0.3, inner_steps=3, first_order=True)
    mine, its = learner.adapt(episode.support).parameters, descent.adapt(episode.support).parameters
    for name, leaf in its.items():
        assert torch.allclose(mine[name], leaf, rtol=0, atol=1e-14)
    assert torch.allclose(answers(learner, episode), answers(descent, episode), atol=1e-12)


def test_the_gradient_of_the_initial_cell_is_that_of_the_last_one_times_what_was_kept() -> None:
    """∂L/∂c_I = Π f_t · ∂L/∂θ_T when W = 0: gradients and losses are constants."""
    learner, episode = learner_of(), tasks(1)
    gates(learner, 1.0, 0.3)
    state = learner.descend(episode.support)
    last = list(state.parameters.values())
    loss = torch.nn.functional.cross_entropy(learner.answer(state, episode.query.x)[0], episode.query.y[0])
    of_last = torch.autograd.grad(loss, last, retain_graph=True)
    of_first = torch.autograd.grad(loss, list(learner.model.parameters()))
    kept = float(torch.tensor(1.0).sigmoid()) ** 3
    for first, final in zip(of_first, of_last, strict=True):
        assert torch.allclose(first, kept * final[0])


def test_coordinates_are_a_batch() -> None:
    """Their order changes nothing, and none sees another."""
    learner, order = learner_of(), torch.randperm(11)
    theta, g, loss = torch.randn(2, 11), torch.randn(2, 11), torch.rand(2)

    def run(theta: Tensor, g: Tensor) -> Tensor:
        past = None
        for factor in (1.0, 0.1, 1e-6):
            theta, past = learner.advance(theta, factor * g, loss, past)
        return theta

    assert torch.allclose(run(theta[:, order], g[:, order]), run(theta, g)[:, order], atol=1e-14)
    assert torch.allclose(run(theta[:, 3:5], g[:, 3:5]), run(theta, g)[:, 3:5], atol=1e-14)


def test_it_starts_as_the_paper_says() -> None:
    learner = LSTMMetaLearner(Smooth(), outputs=WAYS)
    for name, leaf in learner.named_parameters():
        if name == "forget_gate.bias":
            assert 4 <= float(leaf.detach()) <= 5
        elif name == "input_gate.bias":
            assert -5 <= float(leaf.detach()) <= -4
        elif not name.startswith("model."):
            assert float(leaf.abs().max().detach()) <= 0.01
    assert learner.lstm.hidden_size == 20
    assert learner.inner_steps == 12


def test_mini_batches_take_supports_in_turn() -> None:
    learner, episode = learner_of(support_batch=4), tasks()
    seen: list[Tensor] = []
    learner.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    learner.engine = type(learner.engine)(tasks_at_once=1, workers=1)
    learner.adapt(episode.part(0, 1).support)
    x = episode.support.x[0]  # type: ignore[index]
    for part, rows in zip(seen, ([0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]), strict=True):
        assert torch.equal(part, x[rows])
    whole = learner_of(support_batch=99)
    assert torch.allclose(answers(whole, episode), answers(learner_of(), episode)), "never twice in one batch"


@pytest.mark.parametrize("training", [True, False])
def test_a_query_is_normalized_by_its_own_batch_in_training_and_by_its_support_in_test(training: bool) -> None:
    learner, episode = learner_of("episode").train(training), tasks()
    state = learner.adapt(episode.support)
    layer = learner.model[0].layer  # type: ignore[index,union-attr]
    assert isinstance(layer, BatchNorm)
    assert (layer.momentum, layer.eps) == (0.95, 1e-3)
    every, few = (learner.predict(state, episode.query.x[:, :n]) for n in (6, 2))  # type: ignore[index]
    assert torch.allclose(every[:, :2], few) != training
    assert not learner.transductive
    with torch.no_grad():
        layer.running_mean.add_(5.0)  # type: ignore[union-attr]
        layer.running_var.mul_(3.0)  # type: ignore[union-attr]
    assert torch.allclose(learner.predict(learner.adapt(episode.support), episode.query.x), every), "begun anew"


def test_regression() -> None:
    learner = LSTMMetaLearner(MLP(shape=(1,), hidden=(8,)), outputs=1, inner_steps=2, inner_rate=0.05)
    episode = FunctionEpisodes(Sinusoid(), batch=3)[0]
    assert answers(learner, episode).shape == (3, 10, 1)
    assert all(bool(g.isfinite().all()) for g in slopes(learner.loss(episode), learner))


@pytest.mark.parametrize(
    ("options", "match"), [({"inner_rate": 1.5}, "between 0 and 1"), ({"support_batch": 0}, "at least 1")]
)
def test_settings_without_a_meaning_are_refused(options: dict[str, float], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        learner_of(**options)
