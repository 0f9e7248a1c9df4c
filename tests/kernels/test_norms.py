"""What both compiled norms promise: values and derivatives as by plain operators, in each build that runs here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import plain_norms
from handful.kernels import available, normalization, reason
from plain_norms import inputs

pytestmark = [
    pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}"),
    pytest.mark.usefixtures("build"),
]

Norm = Callable[..., Tensor]
EPS = 1e-3
SHAPES = {
    "batch_norm": [(2, 5, 7, 3, 9), (1, 3, 4, 21, 5), (2, 19, 3, 4, 4), (3, 8, 2, 16), (2, 9, 33, 5, 5), (1, 1, 2, 31)],
    "layer_norm": [(1, 3, 16), (2, 5, 7), (3, 4, 33), (2, 19, 64), (1, 1, 31), (2, 2, 200)],
}
CASES = [(name, shape) for name, shapes in SHAPES.items() for shape in shapes]


def both(name: str) -> tuple[Norm, Norm]:
    """The compiled norm and the plain one."""
    return getattr(normalization, name), getattr(plain_norms, name)


def everything(function: Callable[..., Tensor], leaves: tuple[Tensor, ...], order: int) -> list[Tensor]:
    """The value and derivatives in all directions, of random sums."""
    torch.manual_seed(1)
    found = [function(*leaves, EPS)]
    inner = list(leaves)
    for _ in range(order):
        upstream = [torch.randn_like(leaf).requires_grad_() for leaf in found]
        slopes = torch.autograd.grad(found, inner, upstream, create_graph=True)
        inner += upstream
        found += slopes
    return found


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_value_and_three_derivatives(name: str, shape: tuple[int, ...], threads: int) -> None:
    leaves = inputs(shape)
    found, wanted = (everything(norm, leaves, 3) for norm in both(name))
    for got, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_second_derivatives_without_a_graph(name: str, shape: tuple[int, ...], threads: int) -> None:
    """The kernel's closed form, which a third derivative does without."""
    leaves = inputs(shape)
    found = []
    for norm in both(name):
        torch.manual_seed(1)
        y = norm(*leaves, EPS)
        upstream = torch.randn_like(y).requires_grad_()
        slopes = torch.autograd.grad(y, leaves, upstream, create_graph=True)
        along = [torch.randn_like(slope) for slope in slopes]
        found.append(torch.autograd.grad(slopes, (upstream, *leaves[:2]), along))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("name", "shape"), [("batch_norm", (1, 3, 2, 17)), ("layer_norm", (2, 3, 17))])
def test_finite_differences(name: str, shape: tuple[int, ...]) -> None:
    norm, leaves = both(name)[0], inputs(shape)
    assert torch.autograd.gradcheck(lambda *leaves: norm(*leaves, EPS), leaves)
    assert torch.autograd.gradgradcheck(lambda *leaves: norm(*leaves, EPS), leaves)
