"""Batch normalization by the compiled kernels against plain operators, in each build that this processor runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from handful.kernels import available, operators, reason
from handful.kernels.normalization import batch_norm
from handful.kernels.operators import CompiledOperators
from plain_norms import batch_norm as by_hand
from plain_norms import inputs

pytestmark = [
    pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}"),
    pytest.mark.usefixtures("build"),
]

EPS = 1e-3


def test_float32_far_from_zero() -> None:
    """A mean of a thousand deviations, over many places."""
    torch.manual_seed(0)
    x = torch.randn(1, 300, 2, 19, 19) + 1000
    weight, bias = torch.rand(1, 2), torch.randn(1, 2)
    expected = by_hand(x.double(), weight.double(), bias.double(), EPS)
    torch.testing.assert_close(batch_norm(x, weight, bias, EPS).double(), expected, atol=2e-4, rtol=0)


def test_slopes_may_lie_as_they_like() -> None:
    """Of a mean, of a transposed map, of a constant."""
    x, weight, bias = inputs((2, 4, 5, 6, 7))
    for read in (lambda y: y.mean((3, 4)).pow(2).sum(), lambda y: (y.transpose(3, 4) ** 2)[..., 0].sum(), Tensor.sum):
        mine, theirs = (
            torch.autograd.grad(read(function(x, weight, bias, EPS)), (x, weight, bias))
            for function in (batch_norm, by_hand)
        )
        for got, expected in zip(mine, theirs, strict=True):
            torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-10)


def test_weights_may_be_those_of_all_tasks_or_every_second() -> None:
    """Their second derivatives reach what they were taken from."""
    x = inputs((3, 4, 5, 6, 7))[0]
    for taken in (lambda w: w[:1, :5].expand(3, 5), lambda w: w[:, ::2][:, :5]):
        found = []
        for function in (batch_norm, by_hand):
            own = torch.linspace(-1, 2, 33, dtype=torch.float64).view(3, 11).requires_grad_()
            slopes = torch.autograd.grad(
                function(x, taken(own), taken(own.sin()), EPS).pow(3).sum(), (x, own), create_graph=True
            )
            found.append([*slopes, *torch.autograd.grad(sum(leaf.pow(2).sum() for leaf in slopes), (x, own))])
        for got, expected in zip(*found, strict=True):
            torch.testing.assert_close(got, expected, atol=1e-7, rtol=1e-9)


def test_other_transforms_of_the_slopes() -> None:
    """What a kernel cannot read is computed by torch."""
    x, weight, bias = inputs((1, 4, 3, 6, 7))
    y = batch_norm(x, weight, bias, EPS)
    found = torch.autograd.grad(y, x, torch.stack([y.detach(), y.detach() ** 2]), is_grads_batched=True)[0]
    expected = [torch.autograd.grad(by_hand(x, weight, bias, EPS), x, y.detach() ** power)[0] for power in (1, 2)]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-10, rtol=1e-10)


class Norms(nn.Module):
    """Batch norms in the ways in which modules write them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3, track_running_stats=False)
        self.lines = nn.BatchNorm1d(3, track_running_stats=False, eps=0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.first(x))
        return self.lines(y.flatten(2)) + F.batch_norm(x, None, None, self.lines.weight, self.lines.bias, True).mean()


@pytest.mark.parametrize("mapped", [False, True])
def test_modules(mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []

    def heard(*arguments: Any) -> Tensor:
        calls.append(batch_norm(*arguments))
        return calls[-1]

    monkeypatch.setattr(operators, "LEAST_NORMALIZED", 1)
    monkeypatch.setattr(operators, "batch_norm", heard)
    torch.manual_seed(0)
    module = Norms().double()
    state = {
        name: (leaf + torch.rand(2, *leaf.shape)).detach().requires_grad_() for name, leaf in module.named_parameters()
    }
    x = torch.randn(2, 4, 3, 5, 6, dtype=torch.float64, requires_grad=True)

    def call(own: dict[str, Tensor], examples: Tensor) -> Tensor:
        answer: Tensor = functional_call(module, own, (examples,))
        return answer

    def all_of_it() -> list[Tensor]:
        if mapped:
            y = vmap(call)(state, x)
        else:
            y = torch.stack([call({name: leaf[t] for name, leaf in state.items()}, x[t]) for t in range(2)])
        first = torch.autograd.grad(y.pow(3).mean(), [x, *state.values()], create_graph=True)
        return [y, *first, *torch.autograd.grad(sum(leaf.pow(2).sum() for leaf in first), [x, *state.values()])]

    expected = all_of_it()
    with CompiledOperators():
        got = all_of_it()
    assert len(calls) == (3 if mapped else 6)  # as many as there are went to the kernels
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)


def left_to_torch() -> list[tuple[tuple[object, ...], dict[str, object]]]:
    x, weight = torch.randn(4, 3, 5, 5), torch.rand(3)
    return [
        ((x, torch.zeros(3), torch.ones(3), weight, weight), {"training": False}),
        ((x, torch.zeros(3), torch.ones(3), weight, weight), {"training": True}),  # with running statistics
        ((x, None, None, None, None), {"training": True}),
        ((x, None, None, weight), {"training": True}),
        ((x[:, :, 0, 0], None, None, weight, weight), {"training": True}),
        ((x[..., :3, :3], None, None, weight, weight), {"training": True}),  # maps of few places
        ((x.to(memory_format=torch.channels_last), None, None, weight, weight), {"training": True}),
        ((x.bfloat16(), None, None, weight.bfloat16(), weight.bfloat16()), {"training": True}),
    ]


@pytest.mark.parametrize("case", range(8))
def test_what_there_is_no_kernel_for_is_left_to_torch(case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "LEAST_NORMALIZED", 1)
    torch.manual_seed(0)
    arguments, options = left_to_torch()[case]
    expected = F.batch_norm(*arguments, **options)  # type: ignore[arg-type]
    with CompiledOperators():
        got = F.batch_norm(*arguments, **options)  # type: ignore[arg-type]
    assert got.equal(expected)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (4, 2, 5, 5)])
def test_wrong_arguments_are_said_by_torch(shape: tuple[int, ...]) -> None:
    with CompiledOperators(), pytest.raises((RuntimeError, ValueError)):
        F.batch_norm(torch.randn(shape), None, None, torch.rand(3), torch.rand(3), training=True)
