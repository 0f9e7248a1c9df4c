"""The passes over tensors against PyTorch's operators, in each build of the kernels that this processor runs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from handful.kernels import available, framed, passes, pooled_block, reason, unframed

pytestmark = [
    pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}"),
    pytest.mark.usefixtures("build"),
]


def convolved(x: Tensor, w: Tensor, turned: bool = False) -> Tensor:
    """Each task's framed examples by its filters."""
    filters = w.transpose(1, 2).flip(-1, -2) if turned else w
    pairs = zip(x.movedim(-1, -3), filters, strict=True)
    return torch.stack([F.conv2d(examples, own).movedim(-3, -1) for examples, own in pairs])


def same(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-11)


# every rest of 4 in rows and columns; many maps in a strip, some, one, a strip in parts, rows longer than a strip
SIZES = [(1, 6), (2, 5), (3, 3), (4, 6), (5, 4), (6, 9), (7, 7), (9, 22), (11, 8), (3, 70)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(("channels", "filters"), [(3, 32), (32, 64), (64, 96), (96, 32)])
def test_convolutions_of_tasks(height: int, width: int, channels: int, filters: int, threads: int) -> None:
    """By filters of their own and shared ones, of several sources, turned; and the gradient of the filters."""
    torch.manual_seed(0)
    x, other = framed(torch.randn(2, 2, 7, channels, height, width, dtype=torch.float64))
    own, more = torch.randn(2, 2, filters, channels, 3, 3, dtype=torch.float64)
    gy = framed(torch.randn(2, 7, filters, height, width, dtype=torch.float64))
    shared = more[:1].expand_as(more)
    for w, w1 in ((own, shared), (shared, own), (own, more)):
        expected = convolved(x, w)
        same(passes.convolve(x, w, border=0), expected)
        same(passes.convolve(x, w, other, w1), F.pad(expected + convolved(other, w1), (0, 0, 1, 1, 1, 1)))
        same(passes.convolve(gy, w, turned=True, border=0), convolved(gy, w, turned=True))
    leaf = own.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(convolved(x, leaf), leaf, gy[:, :, 1:-1, 1:-1])
    same(passes.weight_gradient(x, gy, own), slopes)


@pytest.mark.parametrize(("height", "width"), [(2, 3), (3, 4), (7, 6), (9, 13)])
@pytest.mark.parametrize(("channels", "filters"), [(3, 32), (32, 64), (64, 96)])
@pytest.mark.parametrize("support", [7, 3])
def test_derivatives_of_tasks(height: int, width: int, channels: int, filters: int, support: int, threads: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 7, channels, height, width, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, filters, channels, 3, 3, dtype=torch.float64, requires_grad=True)
    gamma, beta = torch.randn(2, 2, filters, dtype=torch.float64).unbind()
    leaves = [x, w, gamma.requires_grad_(), beta.requires_grad_()]
    directions = [torch.randn_like(leaf) for leaf in leaves]

    def fused(x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return unframed(pooled_block(framed(x), w, gamma, beta, 1e-5, support).z)

    def plain(x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        y = F.conv2d(x, w, padding=1)
        variance, mean = torch.var_mean(y[:support], (0, 2, 3), correction=0, keepdim=True)
        u = (y - mean) * torch.rsqrt(variance + 1e-5) * gamma[:, None, None] + beta[:, None, None]
        return F.relu(F.max_pool2d(u, 2))

    def derivatives(z: Tensor) -> list[Tensor]:
        value = (z * torch.sin(z)).sum()
        once = torch.autograd.grad(value, leaves, retain_graph=True)
        first = torch.autograd.grad(value, leaves, create_graph=True)
        along = sum((g * d).sum() for g, d in zip(first, directions, strict=True))
        return [z, *once, *first, *torch.autograd.grad(along, leaves)]

    got = derivatives(torch.func.vmap(fused)(*leaves))
    expected = derivatives(torch.stack([plain(*own) for own in zip(*leaves, strict=True)]))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 3), (6, 9), (9, 22), (19, 8)])
@pytest.mark.parametrize("channels", [3, 32])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_example(
    height: int, width: int, channels: int, value: float, threads: int
) -> None:
    torch.manual_seed(0)
    x, w = framed(torch.randn(3, 4, channels, height, width)), torch.randn(3, 32, channels, 3, 3)
    gy, ones = framed(torch.randn(3, 4, 32, height, width)), torch.ones(3, 32)
    ill = x.clone()
    ill[1, 2, 1, 2, 0] = value
    example, task = torch.ones(3, 4, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    example[1, 2] = task[1] = False
    for run in (lambda x: passes.convolve(x, w), lambda x: passes.embed(x, w, ones, ones)):
        assert torch.equal(run(ill)[example], run(x)[example])
        assert not run(ill)[1, 2].isfinite().all()
    found = passes.weight_gradient(ill, gy, w)
    assert torch.equal(found[task], passes.weight_gradient(x, gy, w)[task])
    assert not found[1].isfinite().all()


def test_other_tasks_change_no_bit_on_one_thread() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        x, w = framed(torch.randn(3, 5, 32, 6, 7)), torch.randn(3, 32, 32, 3, 3)
        ones = torch.ones(3, 32)

        def everything(*tasks: Tensor) -> list[Tensor]:
            x, w, ones = tasks
            z, kept = passes.block(x, w, ones, ones, 1e-5, 3)
            gx, *slopes = passes.block_gradient(z, None, x, w, ones, kept, 3, of_x=True)
            assert gx is not None
            return [z, gx, *slopes, passes.convolve(x, w, x, w), passes.weight_gradient(x, x, w)]

        together = everything(x, w, ones)
        for a, b in zip(together, everything(x[1:2], w[1:2], ones[1:2]), strict=True):
            assert torch.equal(a[1:2], b)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_single_precision(offset: float, scale: float) -> None:
    """As block.h says: with Winograd's usual points the first would be off by 1.6e-6."""
    torch.manual_seed(0)
    x = framed((torch.randn(1, 4, 64, 14, 14) + offset) * scale)
    w, gy = torch.randn(1, 64, 64, 3, 3) / 24, framed(torch.randn(1, 4, 64, 14, 14))

    def off(got: Tensor, exact: Tensor) -> float:
        return float((got.double() - exact).norm() / exact.norm())

    assert off(passes.convolve(x, w, border=0), convolved(x.double(), w.double())) < 1e-6
    exact = passes.weight_gradient(x.double(), gy.double(), w.double())
    assert off(passes.weight_gradient(x, gy, w), exact) < 1e-6
