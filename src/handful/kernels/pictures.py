"""The first block, of pictures in which nobody differentiates, as a function of its weights: y is never made.

    y = w·p for each patch p      mean(y) = w·mean(p)      var(y) = w·cov(p)·w      z = relu(maxpool(γ x̂ + β))

With a = γ rstd w and b = β − γ rstd mean(y), made by plain operators, z = relu(maxpool(a·p + b)). As long as the same
patches are chosen that is linear in a and b, and two functions, each the gradient of the other, are all it takes:

    Select (a, b) -> z          Gather (gz) -> ga, gb, the sums of the chosen patches times gz, and of gz

Tensors are those of block.py. a, b, and what makes them, are in double: 9 C + 1 numbers a channel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .functions import Function, mapped, positional
from .library import spread, summed

__all__ = ["MOST_CHANNELS", "differentiated", "picture_block"]

MOST_CHANNELS = 3
"""Of pictures: the patches of more have too many pairs of numbers."""


def picture_block(
    x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, eps: float, support: int
) -> tuple[Tensor, Tensor, Tensor]:
    """z, and the mean and variance of y, as `block.pooled_block`; no gradient in x."""
    center, covariance = (value.squeeze(0) for value in _Moments.apply(x[None], support))
    filters = w.flatten(1).double()  # [O, K]
    mean, along = filters @ center, filters @ covariance
    variance = (along * filters).sum(-1).clamp_min(0)  # rounding
    scale = gamma * torch.rsqrt(variance + eps)
    a, b = (scale[:, None] * filters).view(w.shape), beta - scale * mean
    z, _ = _Select.apply(x[None], a[None], b[None])
    return z.squeeze(0), mean.detach().to(w.dtype), variance.detach().to(w.dtype)


def differentiated(x: Tensor) -> bool:
    """Whether somebody differentiates in x, also outside of `torch.func`'s transformations that go on."""
    while True:
        if x.requires_grad:
            return True
        if not torch._C._functorch.is_functorch_wrapped_tensor(x):
            return False
        x = torch._C._functorch.get_unwrapped(x)


class _Moments(Function):
    """[B, K] mean and [B, K, K] covariance of the patches of the first `support` of x; K as in w, [C][3][3]."""

    @staticmethod
    def forward(x: Tensor, support: int) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        tasks, each, height, width, channels = x.shape
        features, count = 9 * channels, support * (height - 2) * (width - 2)
        shift = x[:, :support].mean((1, 2, 3))
        total = x.new_zeros(torch.get_num_threads(), tasks, 1 + features, features, dtype=torch.float64)

        def run(part: int, start: int, stop: int) -> tuple[Any, ...]:
            return x, shift, total[part], support, each, start, stop, height - 2, width - 2, channels

        spread("patch_moments", x.dtype, tasks * each, run)
        means = summed(total) / count
        mean, products = means[:, 0], means[:, 1:].triu()
        products = products + products.triu(1).mT - mean[:, :, None] * mean[:, None]
        return mean + shift.double().repeat_interleave(9, 1), products

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        raise NotImplementedError("no gradient in pictures here; compute inside `with handful.kernels.plain():`")

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return mapped(_Moments.apply, info, in_dims, inputs)


class _Select(Function):
    """z, and which of four patches each is of: that with the greatest a·p + b, or 4 for none."""

    @staticmethod
    def forward(x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return _selected(x, a, b, None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_Gather.apply(upstream[0], *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return mapped(_Select.apply, info, in_dims, inputs)


class _Reselect(Function):
    """a·p + b of the patches that were chosen, and 0 where none was."""

    @staticmethod
    def forward(x: Tensor, a: Tensor, b: Tensor, chosen: Tensor) -> tuple[Tensor]:
        return (_selected(x, a, b, chosen)[0],)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(inputs[0], inputs[-1])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_Gather.apply(upstream[0], *ctx.saved_tensors), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return mapped(_Reselect.apply, info, in_dims, inputs)


class _Gather(Function):
    """ga and gb, in double."""

    @staticmethod
    def forward(gz: Tensor, x: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        gz, x, chosen = gz.contiguous(), x.contiguous(), chosen.contiguous()
        tasks, each, height, width, channels = x.shape
        outputs = gz.shape[-1]
        ga = x.new_zeros(torch.get_num_threads(), tasks, outputs, channels, 3, 3, dtype=torch.float64)
        gb = ga.new_zeros(len(ga), tasks, outputs)

        def run(part: int, start: int, stop: int) -> tuple[Any, ...]:
            sizes = (each, start, stop, height - 2, width - 2, channels, outputs)
            return x, gz, chosen, ga[part], gb[part], *sizes

        spread("picture_gather", x.dtype, tasks * each, run)
        return summed(ga), summed(gb)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *directions: Tensor) -> tuple[Tensor | None, ...]:
        x, chosen = ctx.saved_tensors
        return *_Reselect.apply(x, *directions, chosen), None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return mapped(_Gather.apply, info, in_dims, inputs)


def _selected(x: Tensor, a: Tensor, b: Tensor, chosen: Tensor | None) -> tuple[Tensor, Tensor]:
    """z and the choice, which is made if it is not given."""
    x, a, b = x.contiguous(), a.to(x.dtype).contiguous(), b.to(x.dtype).contiguous()
    chosen = None if chosen is None else chosen.contiguous()
    tasks, each, height, width, channels = x.shape
    rows, columns, outputs = height // 2 - 1, width // 2 - 1, a.shape[1]
    z = x.new_empty(tasks, each, rows + 2, columns + 2, outputs)
    index = (
        x.new_empty(tasks, each, rows, columns, outputs, dtype=torch.uint8) if chosen is None else chosen.contiguous()
    )

    def run(part: int, start: int, stop: int) -> tuple[Any, ...]:
        sizes = (each, start, stop, height - 2, width - 2, channels, outputs)
        return x, a, b, int(chosen is not None), z, index, *sizes

    spread("picture_select", x.dtype, tasks * each, run)
    return z, index


positional(_Moments, _Select, _Reselect, _Gather)
