"""What a task adapts: the head (ANIL), the body (BOIL), a context (CAVIA), at learned rates (Meta-SGD, MAML++)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import WAYS, Smooth, answers, shaken, slopes, tasks
from reference_gradient import moved
from torch import Tensor, nn

from handful.checkpoint import load_checkpoint
from handful.encoders import MLP, Conv4, TextCNN
from handful.encoders.context import CONTEXT, conditioned
from handful.episode import Episode, Query, Support
from handful.errors import ShapeError, SpecError
from handful.learners import (
    ANIL,
    BOIL,
    CAVIA,
    IMAML,
    MAML,
    PLATIPUS,
    BayesianMAML,
    LSTMMetaLearner,
    MAMLPlusPlus,
    MetaCurvature,
    MetaSGD,
    ProtoMAML,
    Reptile,
)
from handful.learners.gradient.maml_plus_plus import step_weights
from handful.run import fit
from handful.spec import Spec

pytestmark = pytest.mark.usefixtures("float64")


def test_anil_leaves_the_body_and_boil_the_head() -> None:
    for cls, stays in ((ANIL, "0."), (BOIL, "1.")):
        learner = cls(shaken(Smooth("group")), outputs=WAYS, inner_rate=0.3, inner_steps=3).double()
        state = learner.adapt(tasks().support)
        for name, leaf in learner.model.named_parameters():
            same = torch.equal(state.parameters[name], leaf.expand(3, *leaf.shape))
            assert same == name.startswith(stays), (cls, name)


def test_anil_computes_the_body_once() -> None:
    calls: list[int] = []
    encoder = shaken(Smooth())
    encoder.register_forward_hook(lambda *_: calls.append(1))
    learner = ANIL(encoder, outputs=WAYS, inner_steps=5, engine={"tasks_at_once": 3}).double()  # type: ignore[arg-type]
    learner.adapt(tasks().support)
    assert len(calls) == 1


@pytest.mark.parametrize("film", [None, 3])
def test_cavias_gradient_in_theta_passes_through_the_context(film: int | None) -> None:
    """Against finite differences, in the paper's encoders; and it is not that of a context taken as given."""
    if film is None:
        encoder: nn.Module = MLP(shape=(2,), hidden=(5, 5))
        x = torch.randn(2, 8, 2)
    else:
        encoder = Conv4(shape=(1, 16, 16), filters=8, normalization="group")
        x = torch.randn(2, 8, 1, 16, 16)
    learner = CAVIA(encoder, outputs=2, context=3, film=film, inner_rate=2.0, inner_steps=2).double()
    y = torch.arange(4).remainder(2).expand(2, 4)
    episode = Episode(Support(x[:, :4], y, 2), Query(x[:, 4:], y))
    wanted = [leaf for leaf in learner.parameters() if leaf.requires_grad]
    found = slopes(learner.loss(episode), learner)
    direction = [torch.randn_like(leaf) for leaf in wanted]

    def at(by: float) -> Tensor:
        with torch.no_grad():
            for leaf, step in zip(wanted, direction, strict=True):
                leaf += by * step
        loss = learner.loss(episode).detach()
        with torch.no_grad():
            for leaf, step in zip(wanted, direction, strict=True):
                leaf -= by * step
        return loss

    slope = torch.stack([(g * d).sum() for g, d in zip(found, direction, strict=True)]).sum()
    assert torch.allclose(slope, (at(1e-6) - at(-1e-6)) / 2e-6, rtol=1e-5)
    learner.first_order = True
    first = slopes(learner.loss(episode), learner)
    assert not all(torch.allclose(a, b, rtol=1e-3) for a, b in zip(found, first, strict=True))


def test_cavia_learns_a_task_into_its_context_alone() -> None:
    learner = CAVIA(MLP(shape=(2,), hidden=(5,)), outputs=2, context=3).double()
    assert learner.adapted == (f"0.layers.0.{CONTEXT}",)
    state = learner.adapt(Support(torch.randn(3, 4, 2), torch.arange(4).remainder(2).expand(3, 4), 2))
    for name, leaf in learner.model.named_parameters():
        assert torch.equal(state.parameters[name], leaf.expand(3, *leaf.shape)) == (name not in learner.adapted)
    assert not any(leaf.any() for name, leaf in learner.named_parameters() if name.endswith(CONTEXT))


def test_a_context_of_zero_changes_no_linear_layer() -> None:
    model, x = MLP(shape=(2,), hidden=(5,)).double(), torch.randn(4, 2)
    before = model(x)
    conditioned(model, 3)
    assert torch.allclose(model.double()(x), before)


def test_a_context_needs_a_place() -> None:
    with pytest.raises(ShapeError, match="expected normalization layer 5"):
        CAVIA(Conv4(), outputs=5, film=5)
    with pytest.raises(ShapeError, match="expected a linear layer"):
        CAVIA(Conv4())
    with pytest.raises(ShapeError, match="at least one number"):
        CAVIA(Conv4(), outputs=5, context=0)
    with pytest.raises(ShapeError, match=r"nn.Sequential\(Linear\(...\)\)"):
        CAVIA(nn.Linear(5, 3))


def test_a_frozen_layer_that_gets_a_context_stays_frozen() -> None:
    model = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, WAYS))
    model[0].weight.requires_grad_(False)
    learner = CAVIA(model, context=3)
    asked = {name for name, leaf in learner.model.named_parameters() if leaf.requires_grad}
    assert asked == {"0.linear.bias", "2.weight", "2.bias"}


def test_a_context_leaves_the_layer_that_attention_reads() -> None:
    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, WAYS)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.attention(x, x, x)[0].mean(1))  # type: ignore[no-any-return]

    learner = CAVIA(Attentive())
    assert learner.adapted == (f"head.{CONTEXT}",)
    y = torch.arange(WAYS).expand(2, WAYS)
    x, qx = torch.randn(2, 2, WAYS, 5, 4)
    assert bool(learner.loss(Episode(Support(x, y, WAYS), Query(qx, y))).isfinite())


def test_meta_sgds_rates_are_one_for_each_number_and_may_be_negative() -> None:
    learner = MetaSGD(shaken(Smooth()), outputs=WAYS).double()
    for rate, leaf in zip(learner.rates, learner.model.parameters(), strict=True):
        assert rate.shape == leaf.shape
        assert bool(((rate >= 0.005) & (rate <= 0.1)).all())
    with torch.no_grad():
        for rate in learner.rates:
            rate.fill_(-0.3)
    downhill = MAML(learner.model, inner_rate=0.3).double()
    state, other = learner.adapt(tasks().support), downhill.adapt(tasks().support)
    for name, leaf in learner.model.named_parameters():
        assert torch.allclose(state.parameters[name] - leaf, leaf - other.parameters[name])
    for wrong in ([0.1], [0.2, 0.1]):
        with pytest.raises(SpecError, match="range"):
            MetaSGD(Smooth(), outputs=WAYS, inner_rate=wrong)


def test_meta_curvature_with_any_matrices() -> None:
    """M_o G M_iᵀ for a matrix, by hand; the identity is plain gradient descent."""
    learner = MetaCurvature(nn.Linear(4, WAYS), inner_rate=0.5).double()
    support = Support(torch.randn(2, 6, 4), torch.arange(6).remainder(WAYS).expand(2, 6), WAYS)
    plain = MAML(learner.model, inner_rate=0.5).double().adapt(support).parameters
    same = learner.adapt(support).parameters
    assert all(torch.allclose(same[name], leaf) for name, leaf in plain.items())
    with torch.no_grad():
        for leaf in learner.curvatures.parameters():
            leaf.copy_(torch.randn_like(leaf))
    moved_by = learner.adapt(support).parameters
    weight, bias = learner.model.weight, learner.model.bias
    a, b = learner.curvatures[0].outputs, learner.curvatures[0].inputs
    assert torch.allclose(moved_by["weight"] - weight, a @ (plain["weight"] - weight) @ b.mT)  # type: ignore[operator]
    assert torch.allclose(moved_by["bias"] - bias, (plain["bias"] - bias) @ learner.curvatures[1].outputs.mT)  # type: ignore[operator,union-attr]


def test_proto_maml_begins_as_a_prototypical_network() -> None:
    learner, episode = ProtoMAML(shaken(Smooth()), inner_rate=0.0).double(), tasks()
    z, qz = (learner.model(x.flatten(0, 1)).unflatten(0, (3, -1)) for x in (episode.support.x, episode.query.x))  # type: ignore[union-attr]
    c = torch.stack([torch.stack([z[t][episode.support.y[t] == k].mean(0) for k in range(WAYS)]) for t in range(3)])
    distances = (qz.unsqueeze(2) - c.unsqueeze(1)).square().sum(3)
    assert torch.allclose(answers(learner, episode).log_softmax(2), (-distances).log_softmax(2))


def test_maml_plus_plus_weights_sum_to_one_and_end_at_the_last_step() -> None:
    assert step_weights(5, 0, 100) == pytest.approx([0.2] * 5)
    for trained in (0, 1, 50, 97, 99):
        weights = step_weights(5, trained, 100)
        assert sum(weights) == pytest.approx(1)
        assert weights[0] == pytest.approx(max(0.2 * (1 - trained / 100), 0.03 / 5))
        assert weights[:3] == weights[1:4]
    assert step_weights(5, 100, 100) == [0, 0, 0, 0, 1]
    assert step_weights(1, 0, 100) == [1]


def plus_plus(**options: Any) -> MAMLPlusPlus:
    options = {"outputs": WAYS, "inner_rate": 0.3, "inner_steps": 2, **options}
    return MAMLPlusPlus(shaken(Smooth("per_step", steps=3)), **options).double()


def test_maml_plus_plus_counts_its_training_steps() -> None:
    learner, episode = plus_plus(annealing=2), tasks()
    for count in range(3):
        assert int(learner.trained) == count
        learner.loss(episode)
    learner.eval().loss(episode)
    learner.adapt(episode.support)
    assert int(learner.trained) == 3
    assert "trained" in learner.state_dict(), "a resumed run goes on where it stopped"


def test_after_the_annealing_it_is_maml_with_a_rate_for_each_tensor_and_step() -> None:
    learner, episode = plus_plus(annealing=0), tasks()
    with torch.no_grad():
        learner.rates += 0.1 * torch.rand_like(learner.rates)
    assert learner.adapted == ("0.convolution.weight", "0.convolution.bias", "1.weight", "1.bias")

    def move(step: int, name: str, theta: Tensor, g: Tensor) -> Tensor:
        return theta - learner.rates[step][learner.adapted.index(name)] * g

    expected, _ = moved(learner, episode, learner.adapted, move)
    assert torch.allclose(learner.loss(episode), expected)


def test_while_it_warms_up_second_derivatives_are_left_out() -> None:
    second = plus_plus(annealing=0)
    warm = plus_plus(annealing=0, warm_up=1)
    warm.load_state_dict(second.state_dict())
    exact = slopes(second.loss(tasks()), second)
    first, then = slopes(warm.loss(tasks()), warm), slopes(warm.loss(tasks()), warm)
    assert not all(torch.allclose(a, b, rtol=1e-3) for a, b in zip(first, exact, strict=True))
    assert all(torch.allclose(a, b) for a, b in zip(then, exact, strict=True))
    with pytest.raises(SpecError, match="warm_up"):
        plus_plus(warm_up=-1)


@pytest.mark.parametrize(
    ("learner", "normalization"),
    [
        ({"name": "maml_plus_plus", "outputs": 5, "inner_steps": 2, "annealing": 6, "warm_up": 3}, "per_step"),
        ({"name": "reptile", "outputs": 5, "inner_steps": 3, "inner_batch": 4}, "running"),
        ({"name": "maml", "outputs": 5, "inner_steps": 2, "warm_up": 6}, "batch"),
    ],
    ids=["maml_plus_plus", "reptile", "maml"],
)
def test_what_training_counts_survives_an_interruption(
    learner: dict[str, Any], normalization: str, digits_table: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """A run that is stopped within the annealing, or between two mini-batches, goes on bit for bit."""
    torch.set_default_dtype(torch.float32)
    table = digits_table(steps=8) | {"learner": learner}
    table["encoder"] |= {"normalization": normalization, "steps": 3}
    spec = Spec.of(table)
    for _ in fit(spec, tmp_path / "whole"):
        pass
    turns = iter([False, False, False, True])
    for _ in fit(spec, tmp_path / "parts", stop=lambda: next(turns)):
        pass
    assert load_checkpoint(tmp_path / "parts" / "last").step == 4
    for _ in fit(spec, tmp_path / "parts", resume=True):
        pass
    whole, parts = (load_checkpoint(tmp_path / name / "last").learner.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(leaf, parts[name]) for name, leaf in whole.items())
    assert [int(leaf) for name, leaf in whole.items() if name == "trained"] in ([], [8])


class Turned(nn.Module):
    """With a complex parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(36, WAYS, dtype=torch.complex128))

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1).to(self.w.dtype) @ self.w).abs()


@pytest.mark.parametrize("cls", [MAML, MAMLPlusPlus, MetaCurvature, MetaSGD])
def test_complex_parameters_are_adapted(cls: Any) -> None:
    assert torch.isfinite(cls(Turned()).loss(tasks()))


@pytest.mark.parametrize("cls", [IMAML, Reptile, LSTMMetaLearner, PLATIPUS, BayesianMAML])
def test_complex_parameters_are_refused(cls: Any) -> None:
    with pytest.raises(ShapeError, match=r"expected real parameters, 'w' is complex; keep its parts"):
        cls(Turned())


class _Weighed(nn.Module):
    """Words, and a last number that is none."""

    out_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.words = TextCNN(shape=(3,), vocabulary=9, width=4, filters=6)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.words(x[:, :3]) * x[:, 3:]
        return features


def test_only_what_gets_the_examples_looks_at_them() -> None:
    support = Support(torch.tensor([[[1.0, 2, 3, 0.5], [4, 5, 6, 70.5]]]), torch.tensor([[0, 1]]), 2)
    episode = Episode(support, Query(support.x, support.y))
    assert MAML(_Weighed(), outputs=2).loss(episode).isfinite()
    with pytest.raises(ShapeError, match="expected whole numbers of words"):
        MAML(TextCNN(shape=(4,), vocabulary=9, width=4, filters=6), outputs=2).loss(episode)


def test_meta_curvature_of_a_large_vocabulary_is_refused_before_it_takes_the_memory() -> None:
    with pytest.raises(ShapeError, match=r"'0.words.weight' \[32768, 2\] would need a square matrix .* use meta_sgd"):
        MetaCurvature(TextCNN(shape=(4,), width=2, filters=3), outputs=WAYS)
