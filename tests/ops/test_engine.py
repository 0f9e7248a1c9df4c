"""Every way to map and to differentiate, against a plain loop over tasks that shares nothing with the engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from handful.encoders import Conv4
from handful.encoders.normalization import BatchNorm
from handful.errors import SpecError, UnknownNameError
from handful.kernels import operators
from handful.ops import choices
from handful.ops.choices import Plan, plan
from handful.ops.engine import Engine
from handful.ops.tasks import call_each

pytestmark = pytest.mark.usefixtures("float64")

TASKS, EXAMPLES, STEPS = 4, 5, 3
Tensors = dict[str, Tensor]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = x.unflatten(1, (3, 4))
        mixed: Tensor = self.out(self.layer(z, z, z, need_weights=False)[0].mean(1))
        return mixed


def convolution(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 3, 3, padding=1), layer, nn.Tanh(), Head(36))


class Head(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.out = nn.Linear(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.out(x.flatten(1))
        return mixed


MODULES: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.Sequential(nn.Linear(12, 5), nn.Tanh(), Head(5)),
    "native batch norm": lambda: convolution(nn.BatchNorm2d(3)),
    "our batch norm": lambda: convolution(BatchNorm(3, policy="batch")),
    "attention": Attention,
}


# Inner optimizers: (meta-parameters, θ, g, memory) -> new θ, of one task or of many


def descent(meta: Tensors, name: str, theta: Tensor, g: Tensor, memory: Tensors) -> Tensor:
    return theta - 0.3 * g


def momentum(meta: Tensors, name: str, theta: Tensor, g: Tensor, memory: Tensors) -> Tensor:
    memory[name] = 0.9 * memory[name] + g if name in memory else g
    return theta - 0.1 * memory[name]


def learned_rates(meta: Tensors, name: str, theta: Tensor, g: Tensor, memory: Tensors) -> Tensor:
    return theta - meta["optimizer.rate"] * g


def gated(meta: Tensors, name: str, theta: Tensor, g: Tensor, memory: Tensors) -> Tensor:
    """As an LSTM's cell: what to keep of θ, and how much of −g to write, depend on both and on the past."""
    w, past = meta["optimizer.gates"], memory.get(name, torch.zeros(()))
    memory[name] = torch.tanh(w[0] * g + w[1] * past)
    return (
        torch.sigmoid(4 + w[2] * g + w[3] * memory[name]) * theta - 0.1 * torch.sigmoid(w[4] * theta + w[5] * past) * g
    )


OPTIMIZERS = {"descent": descent, "momentum": momentum, "learned rates": learned_rates, "gated": gated}


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.2))
        self.gates = nn.Parameter(torch.linspace(-0.5, 0.7, 6))


class Problem(nn.Module):
    """A model, an optimizer with parameters of its own, and tasks for them."""

    def __init__(self, module: str, optimizer: str, *, head_only: bool = False, first_order: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.model, self.optimizer = MODULES[module](), Learned()
        self.update, self.first_order = OPTIMIZERS[optimizer], first_order
        self.adapted = [n for n, _ in self.model.named_parameters() if "out" in n or not head_only]
        self.x, self.y = torch.randn(2, TASKS, EXAMPLES, 12), torch.randn(2, TASKS, EXAMPLES, 1)

    def mean(self, engine: Engine) -> tuple[Tensor, Tensors]:
        """By the engine: the mean loss, and each task's buffers."""

        def part(own: Problem, start: int, stop: int) -> tuple[Tensor, Tensors]:
            x, y = self.x[:, start:stop], self.y[:, start:stop]
            tasks = stop - start
            theta = {n: p.expand(tasks, *p.shape) for n, p in own.model.named_parameters()}
            buffers = {n: p.expand(tasks, *p.shape).clone() for n, p in own.model.named_buffers()}
            meta, memory = dict(own.named_parameters()), dict[str, Tensor]()
            for _ in range(STEPS):
                g = engine.gradients(
                    lambda state: (call_each(own.model, state, x[0]) - y[0]).square().mean((1, 2)),
                    theta,
                    buffers,
                    own.adapted,
                    first_order=own.first_order,
                )
                theta = theta | {name: own.update(meta, name, theta[name], g[name], memory) for name in g}
            answer = call_each(own.model, {**theta, **buffers}, x[1])
            return (answer - y[1]).square().mean(), buffers

        value, seen = engine.mean(self, part, TASKS, EXAMPLES * 12)
        return value, {name: torch.cat([buffers[name] for buffers in seen]) for name in seen[0]}

    def plainly(self) -> tuple[Tensor, Tensors]:
        """The same, one task after the other."""
        losses, seen = [], []
        meta = dict(self.named_parameters())
        for x, y, qx, qy in zip(self.x[0], self.y[0], self.x[1], self.y[1], strict=True):
            own = dict(self.model.named_parameters())
            buffers = {n: p.clone() for n, p in self.model.named_buffers()}
            memory: Tensors = {}
            with sdpa_kernel(SDPBackend.MATH):
                for _ in range(STEPS):
                    loss = (functional_call(self.model, {**own, **buffers}, (x,)) - y).square().mean()
                    slopes = torch.autograd.grad(loss, [own[n] for n in self.adapted], create_graph=True)
                    for name, slope in zip(self.adapted, slopes, strict=True):
                        slope = slope.detach() if self.first_order else slope
                        own[name] = self.update(meta, name, own[name], slope, memory)
                losses.append((functional_call(self.model, {**own, **buffers}, (qx,)) - qy).square().mean())
            seen.append(buffers)
        return torch.stack(losses).mean(), {name: torch.stack([b[name] for b in seen]) for name in seen[0]}

    def slopes(self, loss: Tensor) -> list[Tensor]:
        wanted = list(self.parameters())
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)]


FORMS = ("auto", "graph", "recompute", "hvp")
MAPPINGS = ((None, 1), (1, 1), (3, 1), (1, 2), (2, 2), (None, 3))


def exact(problem: Problem) -> None:
    expected, buffers = problem.plainly()
    wanted = problem.slopes(expected)
    for gradient in FORMS:
        for at_once, workers in MAPPINGS:
            if gradient == "hvp" and workers > 1:
                continue
            where = f"{gradient}, {at_once} at once, {workers} workers"
            value, seen = problem.mean(Engine(at_once, workers, gradient))  # type: ignore[arg-type]
            assert torch.allclose(value, expected, rtol=1e-12), where
            for mine, want in zip(problem.slopes(value), wanted, strict=True):
                assert torch.allclose(mine, want, rtol=1e-9, atol=1e-11), where
            for name, leaf in buffers.items():
                assert torch.allclose(seen[name].to(leaf), leaf, rtol=1e-10), f"{name}: {where}"


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("first_order", [False, True], ids=["second", "first"])
def test_every_way_agrees_with_a_plain_loop(module: str, optimizer: str, first_order: bool) -> None:
    exact(Problem(module, optimizer, first_order=first_order))


@pytest.mark.parametrize("module", MODULES)
def test_what_is_not_adapted_gets_its_gradient_through_the_inner_loop_too(module: str) -> None:
    """As in ANIL: the body is not adapted, but the adapted head depends on it."""
    exact(Problem(module, "gated", head_only=True))


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_finite_differences(module: str, optimizer: str) -> None:
    problem = Problem(module, optimizer)
    for gradient in FORMS:
        engine = Engine(2, 1, gradient)  # type: ignore[arg-type]
        slopes = problem.slopes(problem.mean(engine)[0])
        direction = [torch.randn_like(leaf) for leaf in problem.parameters()]

        def moved(by: float, engine: Engine = engine, direction: list[Tensor] = direction) -> Tensor:
            with torch.no_grad():
                for leaf, step in zip(problem.parameters(), direction, strict=True):
                    leaf += by * step
                value = problem.mean(engine)[0]
                for leaf, step in zip(problem.parameters(), direction, strict=True):
                    leaf -= by * step
            return value

        slope = sum((g * d).sum() for g, d in zip(slopes, direction, strict=True))
        assert torch.allclose(torch.as_tensor(slope), (moved(1e-5) - moved(-1e-5)) / 2e-5, rtol=1e-6, atol=1e-9)


def test_the_same_bits_in_every_run_and_for_any_number_of_workers() -> None:
    problem = Problem("native batch norm", "momentum")

    def bits(workers: int) -> list[Tensor]:
        value, _ = problem.mean(Engine(1, workers))
        return [value, *problem.slopes(value)]

    first = bits(1)
    for workers in (1, 2, 2, 4):
        assert all(map(torch.equal, bits(workers), first))


# Mean and map


class Weight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.unused = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(2))
        self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)


@pytest.mark.parametrize("at_once", [None, 1, 2, 3, 5, 9])
@pytest.mark.parametrize("workers", [1, 2])
def test_mean_has_the_value_and_gradient_of_the_mean(at_once: int | None, workers: int) -> None:
    x, module = torch.randn(5, 3), Weight()

    def loss(own: Weight, start: int, stop: int) -> Tensor:
        return ((x[start:stop] * own.weight).sum(1).sin() * own.frozen.sum()).mean()

    value, spans = Engine(at_once, workers).mean(module, lambda own, a, b: (loss(own, a, b), (a, b)), 5, 3)
    assert [a for a, _ in spans] == [0, *(b for _, b in spans)][:-1]
    assert spans[-1][1] == 5
    expected = loss(module, 0, 5)
    assert torch.allclose(value, expected)
    (3 * value).backward()  # type: ignore[no-untyped-call]
    (gradient,) = torch.autograd.grad(3 * expected, module.weight)
    assert torch.allclose(module.weight.grad, gradient)  # type: ignore[arg-type]
    assert module.unused.grad is None or not bool(module.unused.grad.any())
    assert module.frozen.grad is None


@pytest.mark.parametrize("workers", [1, 2])
def test_mean_without_gradients(workers: int) -> None:
    x, module = torch.randn(5, 3), Weight()
    part = lambda own, a, b: ((x[a:b] * own.weight).mean(), None)  # noqa: E731
    with torch.no_grad():
        value, _ = Engine(2, workers).mean(module, part, 5, 3)
    assert torch.allclose(value, (x * module.weight).mean())
    assert not value.requires_grad
    value, _ = Engine(2, workers).mean(module.requires_grad_(False), part, 5, 3)
    assert torch.allclose(value, (x * module.weight).mean())


def test_a_mean_of_chunks_has_no_second_derivative_rather_than_a_wrong_one() -> None:
    module = Weight()
    value, _ = Engine(1).mean(module, lambda own, a, b: (own.weight.pow(3).sum(), None), 2, 1)
    with pytest.raises(SpecError, match=r"first derivative only.*tasks_at_once = 2, workers = 1"):
        torch.autograd.grad(value, module.weight, create_graph=True)


@pytest.mark.parametrize("gradient", FORMS)
def test_a_mean_in_one_piece_has_every_derivative(gradient: Any) -> None:
    """θ' = θ − α·∂/∂θ of θ⁴ = θ − 4αθ³; the derivatives of its square by hand."""

    class Scalar(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.theta = nn.Parameter(torch.tensor(0.7))

    module, engine, rate = Scalar(), Engine(1, 1, gradient), 0.05

    def part(own: Scalar, start: int, stop: int) -> tuple[Tensor, None]:
        theta = {"theta": own.theta.expand(1)}
        g = engine.gradients(lambda state: state["theta"].pow(4), theta, {}, ["theta"])
        return (theta["theta"] - rate * g["theta"]).square().mean(), None

    value, _ = engine.mean(module, part, 1, 1)
    found, theta = [], 0.7
    for _ in range(3):
        (value,) = torch.autograd.grad(value, module.theta, create_graph=True)
        found.append(value.item())
    power = lambda k: theta**k  # noqa: E731 - (θ − 4αθ³)² = θ² − 8αθ⁴ + 16α²θ⁶
    expected = [
        2 * power(1) - 32 * rate * power(3) + 96 * rate**2 * power(5),
        2 - 96 * rate * power(2) + 480 * rate**2 * power(4),
        -192 * rate * power(1) + 1920 * rate**2 * power(3),
    ]
    assert found == pytest.approx(expected, rel=1e-12)


def test_what_took_no_part_is_said_once() -> None:
    module = Weight()

    def part(own: Weight, start: int, stop: int) -> tuple[Tensor, None]:
        theta = {name: leaf.expand(stop - start, *leaf.shape) for name, leaf in own.named_parameters()}
        for _ in range(2):
            g = engine.gradients(lambda state: state["weight"].square().sum(1), theta, {}, ["weight", "unused"])
            assert set(g) == {"weight"}
        return g["weight"].sum(), None

    for workers in (1, 2):
        engine = Engine(1, workers)
        with pytest.warns(UserWarning, match="unused took no part in the forward pass") as seen:
            engine.mean(module, part, 4, 1)
        assert len(seen) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="unused"):
                engine.map(module, part, 4, 1)


def test_attention_in_workers_leaves_its_settings() -> None:
    def settings() -> tuple[bool, ...]:
        return torch.backends.cuda.flash_sdp_enabled(), torch.backends.mha.get_fastpath_enabled()

    def part(own: Attention, start: int, stop: int) -> Tensor:
        state = {name: leaf.expand(stop - start, *leaf.shape) for name, leaf in own.named_parameters()}
        return call_each(own, state, x[start:stop])

    before, module, x = settings(), Attention(), torch.randn(8, 5, 12)
    for at_once in (1, 2):
        parts = Engine(at_once, 2).map(module, part, 8, 1)
        assert torch.allclose(torch.cat(parts), module(x.flatten(0, 1)).unflatten(0, (8, 5)))
        assert settings() == before


# Memory


def peak(function: Callable[[], object]) -> int:
    """The most bytes that graphs kept alive at any moment, what several steps share counted once."""
    alive: dict[int, tuple[int, int]] = {}
    most = 0

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal most
            self.tensor = tensor
            try:
                place = tensor.untyped_storage().data_ptr()
            except RuntimeError:  # a tensor of forward mode is nowhere
                place = id(self)
            alive[id(self)] = place, tensor.nbytes
            most = max(most, sum(dict(alive.values()).values()))

        def __del__(self) -> None:
            alive.pop(id(self), None)

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        function()
    return most


class Wide(nn.Module):
    """Few parameters, many activations."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight).tanh().sin().exp().mean(1)


def used(gradient: Any, steps: int) -> tuple[int, list[Tensor]]:
    torch.manual_seed(0)
    module, engine, x = Wide(), Engine(1, 1, gradient), torch.randn(2, 5, 100, 4)

    def part(own: Wide, start: int, stop: int) -> tuple[Tensor, None]:
        theta = {"weight": own.weight.expand(stop - start, 4)}
        for _ in range(steps):
            g = engine.gradients(lambda state: call_each(own, state, x[start:stop]).mean(1), theta, {}, ["weight"])
            theta = {"weight": theta["weight"] - 0.01 * g["weight"]}
        return call_each(own, theta, x[start:stop]).mean(), None

    def step() -> None:
        engine.mean(module, part, 2, 2000)[0].backward()  # type: ignore[no-untyped-call]

    return peak(step), [module.weight.grad]  # type: ignore[list-item]


@pytest.mark.parametrize("gradient", ["recompute", "hvp"])
def test_memory_does_not_grow_with_the_inner_steps(gradient: str) -> None:
    few, _ = used(gradient, 2)
    many, slopes = used(gradient, 20)
    parameters = 18 * 4 * 8  # bytes of θ at the further steps
    assert many - few <= 3 * parameters
    kept, wanted = used("graph", 20)
    assert kept > 5 * many
    assert kept > 5 * used("graph", 2)[0]
    assert torch.allclose(slopes[0], wanted[0], rtol=1e-10)


def test_the_graph_of_as_many_steps_as_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    everything, wanted = used("graph", 20)
    assert used("auto", 20)[0] > 0.9 * everything, "4 GiB are enough; one step is counted out of our sight"
    monkeypatch.setattr(choices, "GRAPH_BYTES", everything // 2)
    half, slopes = used("auto", 20)
    assert 0.2 * everything < half < 0.7 * everything
    assert torch.allclose(slopes[0], wanted[0], rtol=1e-10)


# Choices


@pytest.mark.parametrize(
    ("sizes", "device", "threads", "said", "expected"),
    [
        ((32, 3920, 112_000), "cuda", 8, {}, Plan(32, 1)),
        ((32, 3920, 112_000), "cuda", 8, {"tasks_at_once": 4, "workers": 3}, Plan(4, 1)),
        ((32, 3920, 112_000), "cpu", 1, {}, Plan(16, 1)),
        ((32, 3920, 112_000), "cpu", 2, {}, Plan(16, 2)),
        ((16, 15_680, 112_000), "cpu", 1, {}, Plan(6, 1)),
        ((16, 15_680, 112_000), "cpu", 2, {}, Plan(4, 2)),  # not 6, 6 and 4 by two workers
        ((16, 15_680, 112_000), "cpu", 3, {}, Plan(6, 3)),
        ((4, 3920, 112_000), "cpu", 2, {}, Plan(2, 2)),
        ((4, 3920, 112_000), "cpu", 16, {}, Plan(1, 4)),
        ((4, 105_840, 32_901), "cpu", 2, {}, Plan(1, 2)),
        ((1, 105_840, 32_901), "cpu", 2, {}, Plan(1, 1)),
        ((25, 10, 1761), "cpu", 2, {}, Plan(25, 1)),
        ((25, 10, 1761), "cpu", 2, {"workers": 2}, Plan(13, 2)),
        ((4, 26_460, 112_069), "cpu", 1, {}, Plan(4, 1)),
        ((4, 26_460, 303_029), "cpu", 1, {}, Plan(1, 1)),
        ((8, 100, 3_000_000), "cpu", 1, {}, Plan(2, 1)),
        ((8, 100, 100_000_000), "cpu", 1, {}, Plan(1, 1)),
        ((32, 3920, 112_000), "cpu", 2, {"tasks_at_once": 32}, Plan(32, 1)),
        ((32, 3920, 112_000), "cpu", 2, {"tasks_at_once": 1, "workers": 1}, Plan(1, 1)),
        ((16, 15_680, 112_000), "cpu", 2, {"inside": True}, Plan(8, 1)),  # of as many as by two workers
        ((4, 26_460, 303_029), "cpu", 1, {"inside": True}, Plan(4, 1)),
        ((4, 26_460, 303_029), "cpu", 2, {"inside": True}, Plan(4, 1)),
        ((4, 26_460, 303_029), "cpu", 2, {"inside": True, "workers": 2}, Plan(1, 2)),
        ((4, 26_460, 303_029), "cpu", 2, {"inside": True, "tasks_at_once": 1}, Plan(1, 2)),
        ((25, 10, 1761), "cpu", 2, {"inside": True}, Plan(25, 1)),
    ],
)
def test_the_plan(sizes: tuple[int, int, int], device: str, threads: int, said: Any, expected: Plan) -> None:
    assert plan(*sizes, device, threads, **said) == expected


def test_the_plan_of_a_graph_for_any_number_of_examples_asks_no_number() -> None:
    """As in `torch.export`: what depended on it would hold for some numbers only, or break the exported graph."""
    unknown: Any = torch.SymInt(None)  # type: ignore[no-untyped-call]
    assert plan(25, unknown, 112_000, "cpu", 2) == Plan(25, 1)
    assert plan(25, unknown, 112_000, "cpu", 2, tasks_at_once=4) == Plan(4, 1)


@pytest.mark.parametrize(
    ("module", "workers"),
    [
        (nn.Linear(500, 500), 1),
        (Conv4(shape=(1, 16, 16)), 2),  # its kernels are long
        (nn.Sequential(nn.Linear(500, 500), nn.GRUCell(500, 2)), 1),
        (nn.Sequential(nn.Linear(500, 500), nn.GRU(500, 2)), 2),  # goes task by task
    ],
)
def test_threads_share_operators_or_tasks(module: nn.Module, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "variant", lambda: "avx512")
    monkeypatch.setattr(operators, "available", lambda: True)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert Engine().plan(module, 10, 10_000).workers == workers
        assert Engine(workers=2).plan(module, 10, 10_000).workers == 2
        monkeypatch.setattr(operators, "available", lambda: False)
        assert Engine().plan(module, 10, 10_000).workers == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"tasks_at_once": 0}, SpecError, "tasks_at_once of at least 1, got 0"),
        ({"workers": True}, SpecError, "workers of at least 1, got True"),
        ({"workers": 1.5}, SpecError, "workers of at least 1"),
        ({"gradient": "exact"}, UnknownNameError, "auto, graph, hvp, recompute"),
        ({"gradient": "hvp", "workers": 2}, SpecError, "use 'recompute'"),
        ({"task_at_once": 2}, UnknownNameError, "gradient, tasks_at_once, workers"),
    ],
)
def test_what_no_engine_can_be(options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Engine.of(options)


def test_an_engine_and_its_table() -> None:
    assert Engine.of(None) == Engine()
    assert Engine().table() == {}
    engine = Engine(workers=2, gradient="recompute")
    assert Engine.of(engine) is engine
    assert Engine.of(engine.table()) == engine
    assert hash(engine) == hash(Engine(None, 2, "recompute"))


def test_cross_entropy_of_a_sum_is_that_of_each_task() -> None:
    """What `gradients_of` rests on: the sum over tasks has each task's own gradient."""
    x, y, weight = torch.randn(2, 6, 3), torch.randint(3, (2, 6)), torch.randn(2, 3, 3, requires_grad=True)
    loss = F.cross_entropy((x @ weight).transpose(1, 2), y, reduction="none").mean(1)
    (both,) = torch.autograd.grad(loss.sum(), weight, retain_graph=True)
    (one,) = torch.autograd.grad(loss[1], weight)
    assert torch.equal(both[1], one[1])
