"""Layer normalization by the compiled kernels against plain operators, in each build that this processor runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from handful.kernels import available, operators, reason
from handful.kernels.normalization import layer_norm
from handful.kernels.operators import CompiledOperators
from plain_norms import inputs
from plain_norms import layer_norm as by_hand

pytestmark = [
    pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}"),
    pytest.mark.usefixtures("build"),
]

EPS = 1e-3


def test_float32_far_from_zero_and_over_many_rows() -> None:
    """A mean of a thousand deviations; and what is summed over rows does not drift."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, 300) + 1000
    weight, bias = torch.rand(1, 300), torch.randn(1, 300)
    expected = by_hand(x.double(), weight.double(), bias.double(), EPS)
    torch.testing.assert_close(layer_norm(x, weight, bias, EPS).double(), expected, atol=1e-3, rtol=0)
    x, weight, bias = inputs((1, 40_000, 16), torch.float32)
    (slope,) = torch.autograd.grad(layer_norm(x, weight, bias, EPS).sum(), bias)
    assert slope.eq(40_000).all()


def test_slopes_may_lie_as_they_like() -> None:
    x, weight, bias = inputs((2, 6, 20))
    for read in (lambda y: y.mean(1).pow(2).sum(), lambda y: (y.mT**2)[..., 0].sum(), Tensor.sum):
        mine, theirs = (
            torch.autograd.grad(read(function(x, weight, bias, EPS)), (x, weight, bias))
            for function in (layer_norm, by_hand)
        )
        for got, expected in zip(mine, theirs, strict=True):
            torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-10)


def test_other_transforms_of_the_slopes() -> None:
    """What a kernel cannot read is computed by torch."""
    x, weight, bias = inputs((1, 4, 18))
    y = layer_norm(x, weight, bias, EPS)
    found = torch.autograd.grad(y, x, torch.stack([y.detach(), y.detach() ** 2]), is_grads_batched=True)[0]
    expected = [torch.autograd.grad(by_hand(x, weight, bias, EPS), x, y.detach() ** power)[0] for power in (1, 2)]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-10, rtol=1e-10)


class Norms(nn.Module):
    """Layer norms in the ways in which modules write them: over tokens, over several axes, of a turned picture."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.maps = nn.LayerNorm(16), nn.LayerNorm((5, 16), eps=0.1)

    def forward(self, x: Tensor) -> Tensor:  # [examples, 5, 16]
        turned = F.layer_norm(x.mT.reshape(len(x), 5, 16), (16,), self.tokens.weight, self.tokens.bias)
        return self.maps(torch.tanh(self.tokens(x))) + turned


@pytest.mark.parametrize("mapped", ["no", "all", "examples", "parameters"])
def test_modules(mapped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not mapped, and mapped over parameters and examples or over one of these."""
    calls: list[Tensor] = []

    def heard(*arguments: Any) -> Tensor:
        calls.append(layer_norm(*arguments))
        return calls[-1]

    monkeypatch.setattr(operators, "LEAST_NORMALIZED", 1)
    monkeypatch.setattr(operators, "layer_norm", heard)
    torch.manual_seed(0)
    module = Norms().double()
    of_parameters, of_examples = mapped in ("all", "parameters"), mapped in ("all", "examples")
    state = {
        name: (leaf + torch.rand(*[2] * of_parameters, *leaf.shape)).detach().requires_grad_()
        for name, leaf in module.named_parameters()
    }
    x = torch.randn(*[2] * of_examples, 4, 5, 16, dtype=torch.float64, requires_grad=True)

    def call(own: dict[str, Tensor], examples: Tensor) -> Tensor:
        answer: Tensor = functional_call(module, own, (examples,))
        return answer

    def all_of_it() -> list[Tensor]:
        axes = (0 if of_parameters else None, 0 if of_examples else None)
        y = call(state, x) if mapped == "no" else vmap(call, in_dims=axes)(state, x)
        first = torch.autograd.grad(y.pow(3).mean(), [x, *state.values()], create_graph=True)
        return [y, *first, *torch.autograd.grad(sum(leaf.pow(2).sum() for leaf in first), [x, *state.values()])]

    expected = all_of_it()
    with CompiledOperators():
        got = all_of_it()
    assert len(calls) == 3  # all went to the kernels
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)


def left_to_torch() -> list[tuple[object, ...]]:
    x, weight = torch.randn(4, 3, 32), torch.rand(32)
    return [
        (x, (32,)),
        (x, (32,), weight),
        (x, (32,), None, weight),
        (x[..., :8], (8,), weight[:8], weight[:8]),  # short rows
        (weight, (32,), weight, weight),  # one row
        (x.bfloat16(), (32,), weight.bfloat16(), weight.bfloat16()),
        (x.bfloat16(), (32,), weight, weight),
    ]


@pytest.mark.parametrize("case", range(7))
def test_what_there_is_no_kernel_for_is_left_to_torch(case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "LEAST_NORMALIZED", 1)
    monkeypatch.setattr(operators, "layer_norm", None)
    torch.manual_seed(0)
    arguments = left_to_torch()[case]
    expected = F.layer_norm(*arguments)  # type: ignore[arg-type]
    with CompiledOperators():
        assert F.layer_norm(*arguments).equal(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [torch.rand(16), torch.rand(1, 32), torch.rand(32, dtype=torch.float64)])
def test_wrong_arguments_are_said_by_torch(weight: Tensor) -> None:
    with CompiledOperators(), pytest.raises(RuntimeError):
        F.layer_norm(torch.randn(4, 300, 32), (32,), weight, weight)
