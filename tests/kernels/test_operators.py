"""Any module's products and convolutions by the compiled kernels: the same numbers, and torch's own where need be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

from handful import Episode, Query, Support
from handful.encoders import ResNet12, ResNet18
from handful.kernels import available, compiled_operators, operators, plain, product, reason
from handful.kernels.operators import CompiledOperators
from handful.learners import MAML

pytestmark = pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}")


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the work and whatever the processor, the kernels have it."""
    monkeypatch.setattr(operators, "LEAST", 1)
    monkeypatch.setattr(operators, "LEAST_NORMALIZED", 1)
    monkeypatch.setattr(operators, "products_pay", lambda: True)
    monkeypatch.setattr(operators, "variant", lambda: "avx512")
    monkeypatch.setattr(product, "LEAST", 1)
    monkeypatch.setattr(product, "LEAST_EACH", 1)


class Everything(nn.Module):
    """Convolutions and products in all the ways in which modules write them, a batch norm if asked for, GELU."""

    def __init__(self, *, normalized: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(32, track_running_stats=False) if normalized else nn.Identity()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.down = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.same = nn.Conv2d(32, 32, 3, padding="same")
        self.skip = nn.Conv2d(32, 8, 1, stride=2)
        self.linear = nn.Linear(8, 6)
        self.mixing = nn.Parameter(torch.randn(6, 6) / 3)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(self.same(torch.tanh(self.norm(self.down(torch.tanh(self.stem(x)))))))
        tokens = F.gelu(self.linear(self.skip(z).flatten(2).mT))  # [n, places, 6]
        weights = (tokens @ tokens.mT / 3).softmax(-1)
        answer: Tensor = (torch.matmul(weights, tokens) @ self.mixing).mean(1)
        return answer


def nodes(value: Tensor) -> set[str]:
    """Names of the nodes of a graph."""
    waiting, seen = [value.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return {node.name() for node in seen}


KERNELS = {"_ProductBackward", "_ConvolutionBackward", "_GeluBackward"}


def by_tasks(call: Callable[[dict[str, Tensor], Tensor], Tensor], state: dict[str, Tensor], x: Tensor) -> Tensor:
    tasks = len(x)
    return torch.stack([call({name: leaf[t] for name, leaf in state.items()}, x[t]) for t in range(tasks)])


@pytest.mark.parametrize("mapped", [False, True])
def test_a_module_and_three_derivatives(mapped: bool) -> None:
    torch.manual_seed(0)
    module = Everything().double()
    named = module.named_parameters()
    state = {name: (leaf * torch.rand(2, *[1] * leaf.dim())).detach().requires_grad_() for name, leaf in named}
    x = torch.randn(2, 4, 3, 9, 11, dtype=torch.float64, requires_grad=True)

    def call(own: dict[str, Tensor], examples: Tensor) -> Tensor:
        answer: Tensor = functional_call(module, own, (examples,))
        return answer

    def everything() -> list[Tensor]:
        y = vmap(call)(state, x) if mapped else by_tasks(call, state, x)
        found, leaves = [y], [*state.values(), x]
        for _ in range(3):
            found += torch.autograd.grad(sum(leaf.pow(2).mean() for leaf in found), leaves, create_graph=True)
        return found

    expected = everything()
    with CompiledOperators():
        got = everything()
    assert nodes(got[0]) >= KERNELS
    assert "ConvolutionBackward0" not in nodes(got[0])
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)


def test_tasks_may_share_examples_or_weights() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(3, 4, 5, 7, 7, dtype=torch.float64), torch.randn(3, 6, 5, 3, 3, dtype=torch.float64)
    a, b, c = (torch.randn(3, *shape, dtype=torch.float64) for shape in ((4, 9, 8), (4, 8, 5), (5, 8)))
    cases: list[tuple[Callable[..., Tensor], tuple[int | None, ...], tuple[Tensor, ...]]] = [
        (F.conv2d, (0, None), (x, w[0])),
        (F.conv2d, (None, 0), (x[0], w)),
        (F.conv2d, (1, 0), (x.transpose(0, 1), w)),
        (torch.matmul, (0, None), (a, b[0])),
        (torch.matmul, (None, 0), (a[0], b)),
        (F.linear, (0, None), (a, c[0])),
        (F.linear, (None, 0), (a[0], c)),
        (F.linear, (0, 0, None), (a, c, c[0, :, 0])),
        (F.linear, (0, 0, 0), (a, c, c[:, :, 0])),
    ]
    for function, dims, inputs in cases:
        expected = vmap(function, in_dims=dims)(*inputs)
        with CompiledOperators():
            torch.testing.assert_close(vmap(function, in_dims=dims)(*inputs), expected, atol=1e-11, rtol=1e-11)


class Heard(TorchFunctionMode):
    """What was called."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return func(*args, **(kwargs or {}))


def cases() -> Iterator[tuple[Callable[..., Tensor], tuple[object, ...]]]:
    x, w = torch.randn(2, 4, 8, 8), torch.randn(6, 4, 3, 3)
    yield F.conv2d, (x, torch.randn(6, 2, 3, 3), None, 1, 0, 1, 2)  # groups
    yield F.conv2d, (x, w, None, 1, 0, 2)  # dilated
    yield F.conv2d, (x, torch.randn(6, 4, 2, 2), None, 1, "same")
    yield F.conv2d, (x[0], w)  # one example
    yield F.conv2d, (x.half(), w.half())
    yield F.linear, (torch.randn(4), torch.randn(3, 4))
    yield torch.matmul, (torch.randn(5, 2, 3), torch.randn(3))
    yield torch.matmul, (torch.randn(5, 1, 2, 3), torch.randn(4, 3, 2))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("case", range(8))
def test_what_there_is_no_kernel_for_is_left_to_torch(case: int) -> None:
    torch.manual_seed(0)
    function, inputs = list(cases())[case]
    with CompiledOperators():
        assert function(*inputs).equal(function(*inputs))
        got = function(*inputs)
    assert got.equal(function(*inputs))


@pytest.mark.parametrize(
    ("function", "shapes", "options"),
    [
        (F.conv2d, [(2, 4, 8, 8), (6, 5, 3, 3)], {}),
        (F.conv2d, [(2, 4, 2, 2), (6, 4, 3, 3)], {}),
        (F.conv2d, [(2, 4, 8, 8), (6, 4, 3, 3)], {"stride": 0}),
        (F.conv2d, [(2, 4, 8, 8), (6, 4, 3, 3)], {"padding": -1}),
        (F.conv2d, [(2, 4, 8, 8), (6, 4, 3, 3), (1,)], {}),
        (F.linear, [(2, 4), (3, 5)], {}),
        (F.linear, [(2, 4), (3, 4), (2,)], {}),
        (torch.matmul, [(2, 4), (3, 5)], {}),
        (torch.mm, [(5, 2, 4), (4, 5)], {}),
        (torch.bmm, [(5, 2, 4), (4, 5)], {}),
        (torch.bmm, [(2, 4), (4, 5)], {}),
    ],
)
def test_wrong_arguments_are_said_by_torch(
    function: Callable[..., Tensor], shapes: list[tuple[int, ...]], options: dict[str, int]
) -> None:
    with CompiledOperators(), pytest.raises(RuntimeError):
        function(*map(torch.randn, shapes), **options)


def test_other_numbers_in_the_bias_are_said_by_torch() -> None:
    x, w = torch.randn(5, 4), torch.randn(3, 4)
    with CompiledOperators(), pytest.raises(RuntimeError):
        F.linear(x, w, torch.randn(3, dtype=torch.float64))


def test_arguments_by_name() -> None:
    torch.manual_seed(0)
    x, w, a, b = torch.randn(3, 4, 8, 8), torch.randn(6, 4, 3, 3), torch.randn(5, 4), torch.randn(4, 6)
    room = torch.empty(5, 6)

    def everything() -> list[Tensor]:
        return [
            F.conv2d(input=x, weight=w, bias=w[:, 0, 0, 0], stride=[2], padding=(1, 0)),
            F.linear(input=a, weight=b.mT.contiguous(), bias=b[0]),
            torch.matmul(a, other=b),
            a.mm(mat2=b),
            torch.mm(a, b, out=room).clone(),
            torch.bmm(input=a[None], mat2=b[None]),
        ]

    expected = everything()
    with CompiledOperators():
        got = everything()
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_others_who_look_in_see_torchs_operators() -> None:
    """Mixed precision, another transform, another mode, a graph being made, and `plain`."""
    torch.manual_seed(0)
    linear, x = nn.Linear(40, 30), torch.randn(20, 40)

    def kernels(y: Tensor) -> bool:
        return bool(KERNELS & nodes(y))

    with compiled_operators(x, linear.parameters()):
        assert kernels(linear(x))
    with compiled_operators(x, linear.parameters()), torch.autocast("cpu", torch.bfloat16):
        assert linear(x).dtype == torch.bfloat16
    with compiled_operators(x, linear.parameters()):
        slope = torch.func.grad(lambda x: F.linear(x, linear.weight).sum())(x)
    torch.testing.assert_close(slope, torch.func.grad(lambda x: F.linear(x, linear.weight).sum())(x))
    with Heard(), compiled_operators(x, linear.parameters()):
        assert not kernels(linear(x))
    with plain(), compiled_operators(x, linear.parameters()):
        assert not kernels(linear(x))


def test_small_work_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "LEAST", 20 * 40 * 1230)
    linear, x = nn.Linear(40, 30), torch.randn(20, 40)
    of_two = [leaf.expand(2, *leaf.shape) for leaf in linear.parameters()]
    assert isinstance(compiled_operators(x, linear.parameters()), CompiledOperators)
    assert isinstance(compiled_operators(x, of_two, tasks=2), CompiledOperators)
    assert not isinstance(compiled_operators(x[:19], linear.parameters()), CompiledOperators)


@pytest.mark.parametrize("encoder", [ResNet12, ResNet18])
def test_our_residual_networks(encoder: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network, x = encoder(shape=(3, 32, 32), widths=(8, 16, 24, 32)).double(), torch.rand(4, 3, 32, 32).double()
    found = []
    for without in (True, False):
        network.zero_grad()
        with plain() if without else torch.enable_grad():
            z = network(x)
            z.pow(2).sum().backward()
        assert bool(KERNELS & nodes(z)) is not without
        found.append([z, *(leaf.grad for leaf in network.parameters())])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("gradient", ["graph", "recompute", "hvp"])
@pytest.mark.parametrize("tasks_at_once", [1, 2])
def test_meta_gradients(gradient: str, tasks_at_once: int) -> None:
    """Of MAML around a module that Handful knows nothing of, with the kernels and without."""
    torch.manual_seed(0)
    module = nn.Sequential(Everything(normalized=True), nn.Linear(6, 3)).double()
    learner = MAML(module, inner_steps=2, inner_rate=0.3, engine={"gradient": gradient, "tasks_at_once": tasks_at_once})
    x = torch.randn(2, 6, 3, 9, 9, dtype=torch.float64)
    y = torch.arange(3).repeat(2, 2)
    episode = Episode(Support(x[:, :3], y[:, :3], ways=3), Query(x[:, 3:], y[:, 3:]))
    found = []
    for without in (True, False):
        learner.zero_grad()
        with plain() if without else torch.enable_grad():
            learner.loss(episode).backward()
        found.append([leaf.grad for leaf in learner.parameters()])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)
