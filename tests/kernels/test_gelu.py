"""GELU by the compiled kernels against torch's, in each build that this processor runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from handful.kernels import available, operators, reason
from handful.kernels.gelu import gelu
from handful.kernels.operators import CompiledOperators

pytestmark = [
    pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}"),
    pytest.mark.usefixtures("build"),
]


def by_torch(x: Tensor) -> Tensor:
    return F.gelu(x)


def everything(function: Callable[[Tensor], Tensor], x: Tensor, *, third: bool = False) -> list[Tensor]:
    """The value and derivatives in all directions."""
    torch.manual_seed(1)
    upstream, along = torch.randn_like(x).requires_grad_(), torch.randn_like(x)
    y = function(x)
    (slope,) = torch.autograd.grad(y, x, upstream, create_graph=True)
    curves = torch.autograd.grad(slope, (x, upstream), along, create_graph=third)
    found = [y, slope, *curves]
    return [*found, *torch.autograd.grad(curves, (x, upstream), [along, along])] if third else found


@pytest.mark.parametrize("third", [False, True])
@pytest.mark.parametrize("count", [1, 7, 16, 33, 1000])
def test_value_and_derivatives(count: int, third: bool, threads: int) -> None:
    torch.manual_seed(0)
    x = (4 * torch.randn(count, dtype=torch.float64)).requires_grad_()
    for got, expected in zip(everything(gelu, x, third=third), everything(by_torch, x, third=third), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)


def test_float32_is_as_exact_as_torch() -> None:
    x = torch.linspace(-20, 20, 40_001).requires_grad_()
    for function in (gelu, by_torch):
        y = function(x)
        (slope,) = torch.autograd.grad(y, x, torch.ones_like(x), create_graph=True)
        (curve,) = torch.autograd.grad(slope, x, torch.ones_like(x))
        double = x.detach().double().requires_grad_()
        (first,) = torch.autograd.grad(F.gelu(double), double, torch.ones_like(double), create_graph=True)
        (second,) = torch.autograd.grad(first, double, torch.ones_like(double))
        for got, expected in ((y, F.gelu(double)), (slope, first), (curve, second)):
            torch.testing.assert_close(got.double(), expected, atol=1.5e-6, rtol=0)


def test_the_far_ends() -> None:
    x = torch.tensor([-300.0, -40.0, -13.5, -0.0, 0.0, 13.5, 40.0, 300.0], requires_grad=True)
    y = gelu(x)
    torch.testing.assert_close(y, x.clamp(min=0), atol=1e-6, rtol=0)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    torch.testing.assert_close(slope.detach(), torch.tensor([0, 0, 0, 0.5, 0.5, 1, 1, 1]), atol=1e-6, rtol=0)
    (curve,) = torch.autograd.grad(slope.sum(), x)
    assert curve.isfinite().all()
    huge = torch.tensor([-3e38, 3e38], requires_grad=True)
    assert torch.autograd.grad(gelu(huge).sum(), huge)[0].tolist() == [0, 1]
    assert gelu(torch.tensor([float("nan")])).isnan().all()
    assert gelu(torch.tensor([float("inf")])).isinf().all()


def test_finite_differences() -> None:
    x = torch.linspace(-5, 5, 19, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gelu, (x,))
    assert torch.autograd.gradgradcheck(gelu, (x,))


def test_numbers_may_lie_as_they_like() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 6, 7, dtype=torch.float64, requires_grad=True)
    for read in (lambda f: f(x.permute(2, 0, 1))[..., 1].sum(), lambda f: f(x[:, ::2]).mean(), lambda f: f(x.mT).sum()):
        mine, theirs = (torch.autograd.grad(read(function), x)[0] for function in (gelu, by_torch))
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)
    y = gelu(x)
    both = torch.stack([y.detach(), y.detach() ** 2])
    (found,) = torch.autograd.grad(y, x, both, is_grads_batched=True)
    expected = [torch.autograd.grad(F.gelu(x), x, part)[0] for part in both]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-12, rtol=1e-12)


def test_in_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "LEAST_NORMALIZED", 1)
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    expected, rough = torch.nn.GELU()(x), F.gelu(x, approximate="tanh")
    with CompiledOperators():
        got, mapped = torch.nn.GELU()(x.requires_grad_()), vmap(F.gelu)(x)
        assert "_Gelu" in str(got.grad_fn)
        assert "_Gelu" in str(mapped.grad_fn)
        assert F.gelu(x, approximate="tanh").equal(rough)
        assert F.gelu(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(mapped, expected, atol=1e-12, rtol=1e-12)
