"""Convolutions by the compiled kernels against PyTorch's, in each build that this processor runs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from handful.kernels import available, reason
from handful.kernels.convolution import Window, convolution

pytestmark = [
    pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}"),
    pytest.mark.usefixtures("build"),
]


def by_torch(x: Tensor, w: Tensor, window: Window) -> Tensor:
    """Each task's examples by its filters."""
    return torch.stack([F.conv2d(examples, own, None, *window) for examples, own in zip(x, w, strict=True)])


def agree(x: Tensor, w: Tensor, window: Window, atol: float = 1e-10) -> Tensor:
    """The value and all first and second derivatives are torch's; the value."""

    def everything(function: object) -> list[Tensor]:
        torch.manual_seed(1)
        y = function(x, w, window)  # type: ignore[operator]
        first = torch.autograd.grad(y, (x, w), torch.randn(y.shape, dtype=y.dtype).requires_grad_(), create_graph=True)
        along = [torch.randn(slope.shape, dtype=y.dtype) for slope in first]
        return [y, *first, *torch.autograd.grad(first, (x, w), along)]

    mine, theirs = everything(convolution), everything(by_torch)
    assert mine[0].grad_fn.name() == "_ConvolutionBackward"  # type: ignore[union-attr]
    for got, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(got, expected, atol=atol, rtol=atol)
    return mine[0]


# filters (high, wide), strides, paddings, heights and widths of maps
WINDOWS = [
    ((3, 3), (1, 1), (1, 1), (9, 6)),  # tiles, where channels allow
    ((3, 3), (1, 1), (1, 1), (2, 5)),
    ((3, 3), (1, 1), (0, 0), (5, 7)),
    ((3, 3), (2, 2), (1, 1), (9, 10)),
    ((3, 3), (2, 2), (1, 1), (10, 9)),
    ((1, 1), (1, 1), (0, 0), (5, 4)),
    ((1, 1), (2, 2), (0, 0), (7, 6)),  # pixels that no filter meets
    ((2, 3), (3, 1), (0, 2), (8, 5)),
    ((7, 7), (2, 2), (3, 3), (15, 13)),
    ((5, 2), (1, 2), (4, 1), (6, 21)),
    ((4, 4), (4, 4), (0, 0), (11, 8)),  # rows that no filter meets
    ((1, 1), (1, 1), (2, 2), (3, 4)),  # outputs of nothing but padding
    ((2, 2), (5, 5), (3, 3), (9, 9)),
    ((6, 5), (1, 1), (0, 0), (6, 5)),  # one output
]


@pytest.mark.parametrize(("filters", "stride", "padding", "size"), WINDOWS)
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 16), (32, 32), (17, 33), (40, 5), (1, 1)])
def test_convolutions(
    filters: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    size: tuple[int, int],
    inputs: int,
    outputs: int,
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, inputs, *size, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, outputs, inputs, *filters, dtype=torch.float64, requires_grad=True)
    agree(x, w, Window(stride, padding))


@pytest.mark.parametrize("stride", [1, 2])
def test_maps_lie_in_planes_or_channels_last(stride: int, threads: int) -> None:
    """What comes channels-last goes so; other views are put into planes."""
    torch.manual_seed(0)
    planes = torch.randn(5, 32, 7, 9, dtype=torch.float64)
    w = torch.randn(1, 48, 32, 3, 3, dtype=torch.float64, requires_grad=True)
    window = Window((stride, stride), (1, 1))
    last = planes.contiguous(memory_format=torch.channels_last)
    turned = planes.transpose(2, 3).contiguous().transpose(2, 3)
    for maps, layout in (
        (planes, torch.contiguous_format),
        (last, torch.channels_last),
        (turned, torch.contiguous_format),
    ):
        y = agree(maps[None].requires_grad_(), w, window)
        assert y[0].is_contiguous(memory_format=layout)


def test_filters_that_tasks_share(threads: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 32, 6, 6, dtype=torch.float64, requires_grad=True)
    w = torch.randn(1, 32, 32, 3, 3, dtype=torch.float64, requires_grad=True)
    for stride in (1, 2):
        agree(x, w.expand(3, -1, -1, -1, -1), Window((stride, stride), (1, 1)))


def test_a_convolution_in_float() -> None:
    """Sums of tiles are half as exact as direct ones."""
    torch.manual_seed(0)
    x, w = torch.randn(1, 4, 64, 12, 12), torch.randn(1, 64, 64, 3, 3)
    for stride in (1, 2):
        window = Window((stride, stride), (1, 1))
        exact = by_torch(x.double(), w.double(), window)
        error = (convolution(x, w, window) - exact).square().mean().sqrt() / exact.square().mean().sqrt()
        assert error < 2e-6


def test_what_the_kernels_cannot_read_is_left_to_torch() -> None:
    x, w, window = torch.randn(2, 3, 4, 6, 6), torch.randn(2, 5, 4, 3, 3), Window((2, 2), (1, 1))
    complex_ones = x.to(torch.complex64), w.to(torch.complex64)
    assert convolution(*complex_ones, window).equal(by_torch(*complex_ones, window))
    mapped = torch.func.vmap(lambda x: convolution(x, w, window))(x[None])
    torch.testing.assert_close(mapped, by_torch(x, w, window)[None])


def test_gradients_that_are_mapped() -> None:
    """Every row of a Jacobian at once: the way back is torch's."""
    torch.manual_seed(0)
    x, w, window = torch.randn(1, 1, 2, 4, 4), torch.randn(1, 2, 2, 3, 3), Window((1, 1), (1, 1))
    mine, theirs = (
        torch.autograd.functional.jacobian(lambda w, of=of: of(x, w, window), w, vectorize=True)
        for of in (convolution, by_torch)
    )
    torch.testing.assert_close(mine, theirs)
