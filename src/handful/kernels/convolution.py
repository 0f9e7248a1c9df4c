"""Convolutions of any filter and stride by the compiled kernels, differentiable as often as anyone wants.

A convolution y = x * w, its gradient in x and its gradient in w are each linear in two of x, w and y, and the
derivatives of each are the other two. So three functions close the circle:

    Convolution    (x, w)   -> y
    OfPictures     (gy, w)  -> gx
    OfFilters      (x, gy)  -> gw

B tasks, n examples each: x [B, n, C, H, W], w [B, O, C, kh, kw], y [B, n, O, oh, ow]; of one task also without the B.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from .functions import Function
from .library import lies, shared, spread, summed

__all__ = ["Window", "convolution"]

DIMS = 4
"""Of the examples or filters of one task."""


class Window(NamedTuple):
    """How a filter goes over a map: (down, right) each."""

    stride: tuple[int, int]
    padding: tuple[int, int]

    def over(self, size: Sequence[int], filters: Sequence[int]) -> tuple[int, ...]:
        """How high and wide the result is."""
        sides = zip(size, filters, *self, strict=True)
        return tuple((side + 2 * padding - filter) // stride + 1 for side, filter, stride, padding in sides)


def convolution(x: Tensor, w: Tensor, window: Window) -> Tensor:
    """y = x * w, by the kernel."""
    if not lies(x, w):
        return _each(lambda x, w: F.conv2d(x, w, None, *window), x, w)
    y: Tensor = _Convolution.apply(x, w, window)
    return y


def _of_pictures(gy: Tensor, w: Tensor, size: tuple[int, int], window: Window) -> Tensor:
    if not lies(gy, w):
        return _each(lambda gy, w: conv2d_input((len(gy), w.shape[1], *size), w, gy, *window), gy, w)
    gx: Tensor = _OfPictures.apply(gy, w, size, window)
    return gx


def _of_filters(x: Tensor, gy: Tensor, size: tuple[int, int], window: Window) -> Tensor:
    if not lies(x, gy):
        return _each(lambda x, gy: conv2d_weight(x, (gy.shape[1], x.shape[1], *size), gy, *window), x, gy)
    gw: Tensor = _OfFilters.apply(x, gy, size, window)
    return gw


def _each(function: Any, *inputs: Tensor) -> Tensor:
    """Task by task, by torch: of tensors that do not lie in memory as they say."""
    if inputs[0].dim() == DIMS:
        found: Tensor = function(*inputs)
        return found
    return torch.stack([function(*task) for task in zip(*(leaf.unbind() for leaf in inputs), strict=True)])


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, window: Window) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.window = window
        size = x.shape[-2:]
        shape = w.shape[-DIMS], *window.over(size, w.shape[-2:])
        return _maps_from("convolution", x, w, size, window, shape)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gy,), (x, w), (of_x, of_w, _) = upstream, ctx.saved_tensors, ctx.needs_input_grad
        gx = _of_pictures(gy, w, tuple(x.shape[-2:]), ctx.window) if of_x else None
        return gx, _of_filters(x, gy, tuple(w.shape[-2:]), ctx.window) if of_w else None, None


class _OfPictures(Function):
    @staticmethod
    def forward(ctx: Any, gy: Tensor, w: Tensor, size: tuple[int, int], window: Window) -> Tensor:
        ctx.save_for_backward(gy, w)
        ctx.window = window
        return _maps_from("convolution_x", gy, w, size, window, (w.shape[-3], *size))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (x,), (gy, w), (of_gy, of_w, *_) = upstream, ctx.saved_tensors, ctx.needs_input_grad
        y = convolution(x, w, ctx.window) if of_gy else None
        return y, _of_filters(x, gy, tuple(w.shape[-2:]), ctx.window) if of_w else None, None, None


class _OfFilters(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gy: Tensor, filters: tuple[int, int], window: Window) -> Tensor:
        ctx.save_for_backward(x, gy)
        ctx.window = window
        lead, each = x.shape[:-DIMS], x.shape[-DIMS]
        maps, layout = _maps(x)
        slopes, _ = _maps(gy, layout)
        shape = gy.shape[-3], x.shape[-3], *filters
        parts = x.new_zeros(min(torch.get_num_threads(), len(maps)), *lead, *shape)
        sizes = _sizes(shape, tuple(x.shape[-2:]), window, layout)

        def part(number: int, start: int, stop: int) -> tuple[Tensor | int, ...]:
            return maps, slopes, parts[number], sizes, each, start, stop

        spread("convolution_w", x.dtype, len(maps), part)
        return summed(parts)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (w,), (x, gy), (of_x, of_gy, *_) = upstream, ctx.saved_tensors, ctx.needs_input_grad
        gx = _of_pictures(gy, w, tuple(x.shape[-2:]), ctx.window) if of_x else None
        return gx, convolution(x, w, ctx.window) if of_gy else None, None, None


def _maps_from(
    kernel: str, given: Tensor, w: Tensor, size: Sequence[int], window: Window, shape: tuple[int, ...]
) -> Tensor:
    """Maps of a shape [channels, height, width] from other maps and the filters; `size` is that of x."""
    (maps, layout), (w, apart) = _maps(given), _filters(w)
    found = torch.empty(len(maps), *shape, dtype=maps.dtype, device="cpu", memory_format=layout)
    each, sizes = given.shape[-DIMS], _sizes(tuple(w.shape[-DIMS:]), tuple(size), window, layout)

    def part(_: int, start: int, stop: int) -> tuple[Tensor | int, ...]:
        return maps, w, apart, found, sizes, each, start, stop

    spread(kernel, given.dtype, len(maps), part)
    return found if given.dim() == DIMS else found.view(*given.shape[:2], *shape)


def _maps(x: Tensor, layout: torch.memory_format | None = None) -> tuple[Tensor, torch.memory_format]:
    """All examples, in one of the layouts: as they lie, in planes if they lie otherwise."""
    flat = x if x.dim() == DIMS else x.flatten(0, 1)
    if layout is None:
        planes = flat.is_contiguous() or not flat.is_contiguous(memory_format=torch.channels_last)
        layout = torch.contiguous_format if planes else torch.channels_last
    return flat.contiguous(memory_format=layout), layout


def _filters(w: Tensor) -> tuple[Tensor, int]:
    """Filters, and how far apart those of tasks lie."""
    return (w.contiguous(), 0) if w.dim() == DIMS else shared(w)


@lru_cache(1024)
def _sizes(filters: tuple[int, ...], size: tuple[int, ...], window: Window, layout: torch.memory_format) -> Tensor:
    """Of filters [O, C, kh, kw] and x [..., height, width], as convolution.h reads them."""
    outputs, inputs, down, right = filters
    last = layout == torch.channels_last
    sizes = [inputs, *size, outputs, down, right, *window.stride, *window.padding, int(last)]
    return torch.tensor(sizes, device="cpu")
