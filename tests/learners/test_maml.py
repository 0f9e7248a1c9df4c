import copy
import warnings
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from factories import WAYS, Smooth, answers, shaken, slopes, tasks
from reference import maml, rates_of
from torch import Tensor, nn

from handful.encoders import MLP, Conv4
from handful.encoders.normalization import Policy
from handful.episode import Episode, Query, Support
from handful.errors import HandfulError, LabelError, ShapeError, SpecError
from handful.learners import MAML
from handful.ops.engine import Engine

pytestmark = pytest.mark.usefixtures("float64")


def learner_of(encoder: nn.Module, **options: Any) -> MAML:
    return MAML(shaken(encoder), **{"outputs": WAYS, "inner_rate": 0.3, "inner_steps": 2, **options}).double()


def exact(learner: MAML, episode: Episode, **options: Any) -> list[dict[str, Tensor]]:
    """Loss, answers and gradients are those of the plain loop; returns the loop's buffers."""
    options = {"rates": rates_of(learner), "steps": learner.inner_steps, **options}
    expected, outputs, buffers = maml(learner.model, episode, **options)
    wanted = slopes(expected, learner)
    assert torch.allclose(answers(learner, episode), outputs, rtol=1e-8, atol=1e-10)
    loss = learner.loss(episode)
    assert torch.allclose(loss, expected, rtol=1e-8)
    for mine, want in zip(slopes(loss, learner), wanted, strict=True):
        assert torch.allclose(mine, want, rtol=1e-7, atol=1e-10)
    return buffers


@pytest.mark.parametrize("policy", get_args(Policy))
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("at_once", [None, 1, 2])
def test_exact_for_every_normalization_and_number_of_steps(policy: Policy, steps: int, at_once: int | None) -> None:
    learner = learner_of(Smooth(policy, steps=4), inner_steps=steps, engine=Engine(tasks_at_once=at_once))
    exact(learner, tasks(ragged=True), support_policy=policy == "support")
    learner.eval()
    exact(learner, tasks(seed=1), support_policy=policy == "support")


@pytest.mark.parametrize("downsample", ["pool", "stride"])
def test_exact_for_the_papers_encoder(downsample: str) -> None:
    encoder = Conv4(shape=(1, 16, 16), filters=4, downsample=downsample, normalization="batch", average=True)  # type: ignore[arg-type]
    x = torch.rand(2, 12, 1, 16, 16)
    y = torch.arange(6).remainder(WAYS).expand(2, 6)
    exact(learner_of(encoder, inner_rate=0.1), Episode(Support(x[:, :6], y, WAYS), Query(x[:, 6:], y)))


def test_while_it_warms_up_second_derivatives_are_left_out() -> None:
    """In training only, where it counts; an evaluation in between neither counts nor leaves out anything."""
    episode, learner = tasks(), learner_of(Smooth("batch"), warm_up=2)
    plain = [learner_of(Smooth("batch"), first_order=first_order) for first_order in (True, False)]
    for other in plain:
        other.load_state_dict({name: leaf for name, leaf in learner.state_dict().items() if name != "trained"})
    first, second = (slopes(other.loss(episode), other) for other in plain)
    for expected, training in [(first, True), (second, False), (first, True), (second, True), (second, True)]:
        learner.train(training)
        for mine, want in zip(slopes(learner.loss(episode), learner), expected, strict=True):
            assert torch.allclose(mine, want, rtol=1e-9, atol=1e-12)
    assert int(learner.get_buffer("trained")) == 4
    assert not all(torch.allclose(a, b, rtol=1e-3) for a, b in zip(first, second, strict=True))
    with pytest.raises(SpecError, match="warm_up"):
        learner_of(Smooth("batch"), warm_up=-1)


def test_one_step_by_hand() -> None:
    """Output w·x, loss (w·x − y)², w = 1, α = 0.1: support (1, 3) moves w to 1.4; query (2, 0) costs 7.84.

    dw'/dw = 1 − 2α = 0.8, so the meta-gradient is 2 · 2.8 · 2 · 0.8 = 8.96; to first order 11.2.
    In the rate: dw'/dα = 4, so 2 · 2.8 · 2 · 4 = 44.8.
    """
    for first_order, slope in ((False, 8.96), (True, 11.2)):
        linear = nn.Linear(1, 1, bias=False)
        nn.init.ones_(linear.weight)
        learner = MAML(linear, inner_rate=0.1, first_order=first_order, rates="learned")
        one, two, three = torch.tensor([[[1.0]]]), torch.tensor([[[2.0]]]), torch.tensor([[[3.0]]])
        episode = Episode(Support(one, three), Query(two, 0 * two))
        state = learner.adapt(episode.support)
        assert state.parameters["weight"].item() == pytest.approx(1.4)
        assert learner.predict(state, two).item() == pytest.approx(2.8)
        loss = learner.loss(episode)
        assert loss.item() == pytest.approx(7.84)
        loss.backward()  # type: ignore[no-untyped-call]
        assert linear.weight.grad is not None
        assert linear.weight.grad.item() == pytest.approx(slope)
        assert learner.rates.grad is not None
        assert learner.rates.grad.tolist() == pytest.approx([44.8])


def test_first_order_differs_from_second() -> None:
    episode = tasks()
    learner = learner_of(Smooth())
    second = slopes(learner.loss(episode), learner)
    learner.first_order = True
    first = slopes(learner.loss(episode), learner)
    exact(learner, episode, first_order=True)
    assert not torch.allclose(first[0], second[0], rtol=1e-2)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("at_once", [None, 1])
def test_learned_rates_are_one_for_each_tensor_and_get_a_gradient(first_order: bool, at_once: int | None) -> None:
    learner = learner_of(
        Smooth("group"), rates="learned", first_order=first_order, engine=Engine(tasks_at_once=at_once)
    )
    assert learner.rates.shape == (len(list(learner.model.parameters())),)
    with torch.no_grad():
        learner.rates += 0.2 * torch.rand_like(learner.rates)
    exact(learner, tasks(), first_order=first_order)
    learner.loss(tasks()).backward()  # type: ignore[no-untyped-call]
    assert learner.rates.grad is not None
    assert bool((learner.rates.grad != 0).all())


def test_fixed_rates_are_not_learned() -> None:
    learner = learner_of(Smooth())
    assert learner.rates is None
    assert "rates" not in learner.state_dict()


def test_frozen_parameters_stay() -> None:
    encoder = Smooth("batch")
    for parameter in encoder.convolution.parameters():
        parameter.requires_grad_(False)
    learner, episode = learner_of(encoder, rates="learned"), tasks()
    assert learner.rates.shape == (4,)
    exact(learner, episode)
    state = learner.adapt(episode.support)
    weight = encoder.convolution.weight
    assert torch.equal(state.parameters["0.convolution.weight"], weight.expand(3, *weight.shape))
    assert not torch.equal(state.parameters["0.layer.weight"][0], encoder.layer.weight)  # type: ignore[arg-type]
    learner.loss(episode).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is None


class Odd(Smooth):
    """An encoder with a part that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2, bias=False)


@pytest.mark.parametrize("gradients", [True, False])
def test_unused_parameters_are_named_in_a_warning(gradients: bool) -> None:
    learner, episode = learner_of(Odd()), tasks()
    with (
        torch.set_grad_enabled(gradients),
        pytest.warns(UserWarning, match=r"0.spare.weight took no part in the forward pass") as seen,
    ):
        state = learner.adapt(episode.support)
    assert len(seen) == 1, "once, not at every step"
    assert torch.equal(state.parameters["0.spare.weight"][1], learner.model[0].spare.weight)  # type: ignore[index,union-attr]
    with pytest.warns(UserWarning, match="freeze it"):
        exact(learner, episode)
    learner.model[0].spare.weight.requires_grad_(False)  # type: ignore[index,union-attr]
    frozen = MAML(learner.model, inner_steps=1).double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frozen.adapt(episode.support)


class NoSize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: MAML(MLP(), inner_steps=0), SpecError, "inner_steps of at least 1, got 0"),
        (lambda: MAML(MLP(), evaluation_steps=0), SpecError, "evaluation_steps of at least 1, got 0"),
        (lambda: MAML(nn.Flatten()), ShapeError, "nothing to adapt; unfreeze some"),
        (lambda: MAML(MLP().requires_grad_(False)), ShapeError, "no parameter requires a gradient"),
        (lambda: MAML(NoSize(), outputs=3), ShapeError, "NoSize does not say its out_features.*head of 3 outputs"),
        (lambda: answers(learner_of(Smooth(), outputs=5), tasks()), LabelError, r"outputs \(5,\) for tasks of 3 ways"),
        (lambda: learner_of(Smooth(), outputs=5).loss(tasks()), LabelError, r"outputs=3"),
        (lambda: learner_of(nn.Conv2d(1, 3, 3), outputs=None).loss(tasks()), LabelError, r"gives outputs \(3, 4, 4\)"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], kind: type[HandfulError], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_targets_of_another_shape_are_refused() -> None:
    x = torch.randn(2, 3, 1)
    with pytest.raises(ShapeError, match=r"gives \(2, 3, 1\) for targets \(2, 3, 2\).*outputs= to the number"):
        MAML(MLP(hidden=(4,)), outputs=1).adapt(Support(x, torch.randn(2, 3, 2)))


@pytest.mark.parametrize("out", [(1,), (2,), ()])
def test_regression(out: tuple[int, ...]) -> None:
    class Curve(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, max(1, *out, 1)))

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x).view(len(x), *out)  # type: ignore[no-any-return]

    learner = learner_of(Curve(), outputs=None, inner_rate=0.05)
    x, y = torch.randn(2, 3, 5, 1), torch.randn(2, 3, 5, *out)
    exact(learner, Episode(Support(x[0], y[0]), Query(x[1], y[1])))


def test_example_weights_count_in_the_inner_loss() -> None:
    for at_once in (None, 2):
        learner, episode = learner_of(Smooth("batch"), engine=Engine(tasks_at_once=at_once)), tasks()
        weight = torch.rand(3, 6)
        weighted = Episode(Support(episode.support.x, episode.support.y, WAYS, weight), episode.query)
        exact(learner, weighted)
        assert not torch.allclose(answers(learner, weighted), answers(learner, episode), rtol=1e-3)
    x, y = torch.randn(2, 3, 5, 1), torch.randn(2, 3, 5, 1)
    exact(
        learner_of(nn.Linear(1, 1), outputs=None),
        Episode(Support(x[0], y[0], weight=torch.rand(3, 5)), Query(x[1], y[1])),
    )


# Any module


def native(layer: Callable[[], nn.Module]) -> nn.Module:
    encoder = Smooth()
    encoder.layer = layer()
    return encoder


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm2d(8),
    "batch norm without estimates": lambda: nn.BatchNorm2d(8, track_running_stats=False),
    "batch norm by cumulative mean": lambda: nn.BatchNorm2d(8, momentum=None),
    "instance norm": lambda: nn.InstanceNorm2d(8, affine=True),
    "group norm": lambda: nn.GroupNorm(2, 8),
    "layer norm": lambda: nn.LayerNorm((8, 6, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("at_once", [None, 1])
@pytest.mark.parametrize("training", [True, False])
def test_native_normalization_is_exact(name: str, at_once: int | None, training: bool) -> None:
    if "cumulative" in name and at_once is None and training:
        pytest.skip("its number of batches is read as a Python number, which vmap cannot; use tasks_at_once=1")
    learner = learner_of(native(LAYERS[name]), engine=Engine(tasks_at_once=at_once)).train(training)
    exact(learner, tasks())


@pytest.mark.parametrize("make", [lambda: native(lambda: nn.BatchNorm2d(8)), lambda: Smooth("running")])
@pytest.mark.parametrize("at_once", [None, 1, 2])
def test_buffers_are_kept_for_each_task_and_written_by_loss_in_training_mode_only(
    make: Callable[[], nn.Module], at_once: int | None
) -> None:
    learner, episode = learner_of(make(), engine=Engine(tasks_at_once=at_once)), tasks()
    before = {name: leaf.clone() for name, leaf in learner.model.named_buffers()}
    *_, buffers = maml(learner.model, episode, rates=rates_of(learner), steps=2)
    state = learner.adapt(episode.support)
    assert set(state.buffers) == set(before)
    mean = next(name for name in before if name.endswith("running_mean"))
    assert not torch.allclose(state.buffers[mean][0], state.buffers[mean][1]), "each task has estimates of its own"
    learner.predict(state, episode.query.x)

    def same() -> bool:
        return all(torch.equal(leaf, before[name]) for name, leaf in learner.model.named_buffers())

    learner.eval().loss(episode)
    learner.adapt(episode.support)
    assert same()
    learner.train().loss(episode)
    for name, leaf in learner.model.named_buffers():
        every = torch.stack([own[name] for own in buffers])
        expected = every.mean(0) if every.is_floating_point() else every[0]
        assert torch.allclose(leaf, expected), f"{name} saw every task"
    assert not same()
    assert not any(leaf.requires_grad for leaf in learner.model.buffers())


def test_dropout_falls_in_training_only_and_differently_in_each_task() -> None:
    learner = learner_of(nn.Sequential(Smooth(), nn.Dropout(0.5), nn.Linear(32, WAYS)), outputs=None)
    one = tasks(1)
    x, y = one.support.x.expand(4, *one.support.x.shape[1:]), one.support.y.expand(4, -1)  # type: ignore[union-attr]
    episode = Episode(Support(x, y, WAYS), Query(x, y))
    with torch.no_grad():
        dropped = answers(learner, episode)
        assert not torch.allclose(dropped[0], dropped[1])
        assert not torch.allclose(dropped, answers(learner, episode))
        plain = answers(learner.eval(), episode)
        assert torch.allclose(plain[0], plain[1])
    exact(learner, tasks())


class Transformer(nn.Module):
    """A few tokens with a mask, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.out_features = 8

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        z = self.layer(self.embedding(x["ids"]), src_key_padding_mask=x["mask"] == 0)
        return (z * x["mask"][..., None]).sum(1) / x["mask"].sum(1, keepdim=True)


@pytest.mark.parametrize("at_once", [None, 1])
@pytest.mark.parametrize("training", [True, False])
def test_a_transformer_of_tensors_by_name(at_once: int | None, training: bool) -> None:
    learner = learner_of(Transformer(), engine=Engine(tasks_at_once=at_once)).train(training)
    ids, mask = torch.randint(7, (2, 2, 6, 5)), torch.ones(2, 2, 6, 5)
    mask[..., 3:] = 0
    y = torch.arange(6).remainder(WAYS).expand(2, 6)
    episode = Episode(Support({"ids": ids[0], "mask": mask[0]}, y, WAYS), Query({"ids": ids[1], "mask": mask[1]}, y))
    exact(learner, episode)
    with torch.no_grad():  # where torch takes a path of its own
        inside = answers(learner, episode)
    assert torch.allclose(inside, answers(learner, episode))


class Named(Smooth):
    def forward(self, x: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return super().forward(x["picture"] + x["other"])


def test_the_support_policy_with_tensors_by_name() -> None:
    learner, episode = learner_of(Named("support"), engine=Engine(tasks_at_once=2)), tasks()

    def named(x: object) -> dict[str, Tensor]:
        assert isinstance(x, Tensor)
        return {"picture": x, "other": 0.1 * x.square()}

    episode = Episode(
        Support(named(episode.support.x), episode.support.y, WAYS), Query(named(episode.query.x), episode.query.y)
    )
    exact(learner, episode, support_policy=True)


# Memory, modes


def peak(function: Callable[[], object]) -> int:
    """The most bytes that graphs kept alive for backward passes at any moment."""
    alive: dict[int, int] = {}
    most = 0

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal most
            self.tensor = tensor
            alive[id(self)] = tensor.nbytes
            most = max(most, sum(alive.values()))

        def __del__(self) -> None:
            alive.pop(id(self), None)

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        function()
    return most


def test_memory_is_bounded_by_tasks_at_once() -> None:
    episode = tasks(8)
    learner = learner_of(Smooth("batch"), inner_steps=3)

    def used(at_once: int | None) -> int:
        learner.engine = Engine(tasks_at_once=at_once)
        return peak(lambda: learner.loss(episode).backward())  # type: ignore[no-untyped-call]

    everything = used(None)
    assert used(2) < 0.4 * everything
    assert used(4) < 0.7 * everything
    assert used(8) == everything
    more = learner_of(Smooth("batch"), inner_steps=3, engine=Engine(tasks_at_once=2))
    assert peak(lambda: more.loss(tasks(16))) <= 1.1 * peak(lambda: more.loss(tasks(4))), "whatever the batch"


def test_adapting_without_gradients_keeps_no_graph_of_the_steps() -> None:
    episode = tasks(2)

    def used(steps: int) -> int:
        learner = learner_of(Smooth("batch"), inner_steps=steps).eval()
        with torch.no_grad():
            return peak(lambda: learner.adapt(episode.support))

    assert used(10) <= 1.2 * used(1)


@pytest.mark.parametrize("at_once", [None, 1])
def test_adaptation_inside_no_grad_is_the_same(at_once: int | None) -> None:
    learner, episode = learner_of(Smooth("batch"), inner_steps=3, engine=Engine(tasks_at_once=at_once)), tasks()
    state = learner.adapt(episode.support)
    assert all(leaf.requires_grad for leaf in state.parameters.values()), "outside, the graph is there"
    with torch.no_grad():
        inside = learner.adapt(episode.support)
    for name, leaf in inside.parameters.items():
        assert torch.allclose(leaf, state.parameters[name])
        taken_away = name.endswith("convolution.bias")  # by normalization
        assert taken_away or not torch.allclose(leaf[0], leaf[1]), "each task its own"
        assert leaf.grad_fn is None


@pytest.mark.parametrize(("evaluation_steps", "expected"), [(None, 2), (5, 5), (1, 1)])
def test_evaluation_steps(evaluation_steps: int | None, expected: int) -> None:
    learner, episode = learner_of(Smooth(), evaluation_steps=evaluation_steps), tasks()
    other = copy.deepcopy(learner)
    other.inner_steps, other.evaluation_steps = expected, None
    assert torch.allclose(answers(learner.eval(), episode), answers(other, episode))
    exact(learner, episode, steps=expected)
    exact(learner.train(), episode, steps=2)


def test_more_steps_fit_the_support_better() -> None:
    learner, episode = learner_of(Smooth("group"), inner_rate=1.0), tasks()
    losses = []
    for steps in (0, 1, 5, 20):
        learner.inner_steps = steps
        output = learner.predict(learner.adapt(episode.support), episode.support.x)
        losses.append(float(F.cross_entropy(output.transpose(1, 2), episode.support.y).detach()))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 2


def test_second_backward_through_training_steps() -> None:
    """Ten steps of Adam with batches of any size: nothing piles up and nothing is left in the graph."""
    learner = learner_of(Smooth("running"), rates="learned", engine=Engine(tasks_at_once=2))
    optimizer = torch.optim.Adam(learner.parameters(), 0.01)
    for step in range(10):
        optimizer.zero_grad()
        learner.loss(tasks(1 + step % 4, seed=step)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert all(bool(p.isfinite().all()) for p in learner.parameters())
