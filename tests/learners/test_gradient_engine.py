"""What gradient learners promise of the engine beside the numbers: gradients outside, hooks, noise, buffers, memory."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from handful.encoders import Conv4
from handful.encoders.normalization import BatchNorm
from handful.episode import Episode, Query, Support
from handful.errors import SpecError
from handful.learners import MAML
from handful.ops.choices import saved_bytes, within
from handful.ops.engine import Engine

pytestmark = pytest.mark.usefixtures("float64")

TASKS, WAYS = 4, 3
Y = torch.arange(6).remainder(WAYS).expand(TASKS, 6).contiguous()


def episode(*, wanting: bool = False) -> Episode:
    torch.manual_seed(1)
    x, q, weight = torch.randn(TASKS, 6, 5), torch.randn(TASKS, 6, 5), torch.rand(TASKS, 6) + 0.5
    if wanting:
        x, q, weight = x.requires_grad_(), q.requires_grad_(), weight.requires_grad_()
    return Episode(Support(x, Y, WAYS, weight), Query(q, Y))


def learner(engine: dict[str, Any] | None = None, *layers: nn.Module) -> MAML:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), *layers, nn.Tanh(), nn.Linear(7, WAYS))
    return MAML(model, inner_steps=2, inner_rate=0.1, engine=Engine.of(engine))


@pytest.mark.parametrize("gradient", ["graph", "recompute", "hvp"])
@pytest.mark.parametrize("kind", [nn.BatchNorm1d, BatchNorm, nn.Dropout])
def test_the_way_back_is_in_the_mode_of_the_forward_pass(kind: type[nn.Module], gradient: str) -> None:
    for training in (True, False):

        def slopes(turned: bool, gradient: str, training: bool = training) -> tuple[Tensor, ...]:
            own = learner({"tasks_at_once": TASKS, "gradient": gradient}, kind(*[7] * (kind != nn.Dropout))).train(
                training
            )
            torch.manual_seed(2)
            loss = own.loss(episode())
            own.train(training != turned)
            found = torch.autograd.grad(loss, list(own.parameters()))
            assert own.training == own.model[1].training == (training != turned)  # type: ignore[index]
            return found

        for found, expected in zip(slopes(True, gradient), slopes(False, "graph"), strict=True):
            assert torch.allclose(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "engine",
    [
        {"tasks_at_once": 1, "workers": 1},
        {"tasks_at_once": 2, "workers": 2},
        {"tasks_at_once": 2, "gradient": "graph"},
        {"tasks_at_once": TASKS, "workers": 1, "gradient": "graph"},
    ],
    ids=str,
)
def test_examples_and_weights_get_their_gradients_too(engine: dict[str, Any]) -> None:
    def slopes(engine: dict[str, Any]) -> tuple[Tensor, ...]:
        tasks = episode(wanting=True)
        own = learner(engine)
        inputs = (tasks.support.x, tasks.support.weight, tasks.query.x, *own.parameters())
        return torch.autograd.grad(own.loss(tasks), inputs)  # type: ignore[arg-type]

    expected = slopes({"tasks_at_once": TASKS, "workers": 1})
    assert all(float(slope.abs().max()) > 1e-6 for slope in expected)
    for found, slope in zip(slopes(engine), expected, strict=True):
        assert torch.allclose(found, slope, atol=1e-12)


@pytest.mark.parametrize("gradient", ["recompute", "hvp"])
def test_forms_that_cannot_say_so(gradient: str) -> None:
    tasks = episode(wanting=True)
    with pytest.raises(SpecError, match="set gradient = 'graph'"):
        learner({"gradient": gradient}).loss(tasks)
    with torch.no_grad():
        learner({"gradient": gradient}).loss(tasks)


def test_a_network_in_front_of_the_learner_is_trained_however_many_tasks() -> None:
    front = nn.Linear(5, 5)
    tasks = episode()
    x = front(tasks.support.x)
    learner({"tasks_at_once": 1, "workers": 1}).loss(Episode(Support(x, Y, WAYS), tasks.query)).backward()  # type: ignore[no-untyped-call]
    assert front.weight.grad is not None


@pytest.mark.parametrize(
    "engine", [None, {"tasks_at_once": 2, "workers": 1}, {"tasks_at_once": 1, "workers": 2}], ids=str
)
def test_hooks_see_the_finished_gradient_once(engine: dict[str, Any] | None) -> None:
    plain, hooked = learner(engine), learner(engine)
    calls: list[Tensor] = []
    first = next(hooked.parameters())
    first.register_hook(lambda g: calls.append(g) or 0.5 * g)  # type: ignore[func-returns-value]
    for own in (plain, hooked):
        own.loss(episode()).backward()  # type: ignore[no-untyped-call]
    expected = next(plain.parameters()).grad
    assert len(calls) == 1
    assert first.grad is not None
    assert expected is not None
    assert torch.allclose(first.grad, 0.5 * expected)


def test_a_loss_in_chunks_has_the_type_of_the_losses() -> None:
    own = learner({"tasks_at_once": 1, "workers": 1}, nn.Identity())
    own.register_parameter("first", nn.Parameter(torch.zeros((), dtype=torch.float32)))
    assert next(own.parameters()).dtype == torch.float32
    assert own.loss(episode()).dtype == torch.float64


def test_noise_does_not_depend_on_what_was_seen_before() -> None:
    torch.set_num_threads(2)
    try:
        own = MAML(nn.Sequential(nn.Linear(5, 4000), nn.Dropout(0.5), nn.Linear(4000, WAYS)), inner_steps=1)
        numbers = 6 * 5
        assert own.engine.plan(own, TASKS, numbers).workers == 1  # too little to share: force it
        own.engine = Engine(workers=2)
        losses = []
        for _ in range(3):
            torch.manual_seed(5)
            losses.append(own.loss(episode()).item())
    finally:
        torch.set_num_threads(1)
    assert losses[0] == losses[1] == losses[2]


class Constants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(5, WAYS)
        self.register_buffer("mask", torch.full((2,), torch.finfo(torch.float64).min))
        self.register_buffer("places", torch.tensor([0.1, 0.7, 1 / 3]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(x)
        return logits


def test_constant_buffers_stay_as_they_are() -> None:
    own = MAML(Constants())
    before = {name: buffer.clone() for name, buffer in own.named_buffers()}
    for _ in range(3):
        own.loss(episode())
    for name, buffer in own.named_buffers():
        assert torch.equal(buffer, before[name]), name


class Witness:
    """Lives as long as a node of a graph."""


def test_graphs_that_nobody_walks_are_forgotten() -> None:
    witnesses: list[weakref.ref[Witness]] = []
    theta, buffers = {"w": torch.ones(3, requires_grad=True)}, dict[str, Tensor]()

    def loss(theta: dict[str, Tensor]) -> Tensor:
        y = theta["w"].tanh()  # saves what it gives
        witness = Witness()
        witnesses.append(weakref.ref(witness))
        assert y.grad_fn is not None
        y.grad_fn.register_hook(lambda *_, kept=witness: None)
        return y.square().sum()

    def steps() -> None:
        own = dict(theta)
        for _ in range(3):
            own = {"w": own["w"] - Engine().gradients(loss, own, buffers, ["w"])["w"]}

    within(1e9, lambda *_: steps())(None, 0)
    gc.collect()
    assert len(witnesses) == 3
    assert [witness() for witness in witnesses] == [None] * 3


def test_the_bytes_of_a_graph_are_those_that_hooks_see() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Conv4(shape=(1, 28, 28), filters=8, normalization="batch"), nn.Tanh(), nn.Linear(8, 3))
    seen: dict[int, int] = {}

    def note(leaf: Tensor) -> Tensor:
        seen[leaf.untyped_storage().data_ptr()] = leaf.untyped_storage().nbytes()
        return leaf

    with torch.autograd.graph.saved_tensors_hooks(note, lambda leaf: leaf):
        total = model(torch.rand(6, 1, 28, 28)).logsumexp(1).sum()
        torch.autograd.grad(total, list(model.parameters()), create_graph=True)
    x = torch.rand(6, 1, 28, 28)
    found = torch.autograd.grad(model(x).logsumexp(1).sum(), list(model.parameters()), create_graph=True)
    assert saved_bytes(found) == pytest.approx(sum(seen.values()), rel=0.05)
