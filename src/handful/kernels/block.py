"""A convolutional block with batch statistics as one differentiable function, twice differentiable.

    y = convolution of x by w          x̂ = (y − mean) · rstd          z = relu(maxpool(γ x̂ + β))

Three functions give the value, the gradient and its gradient. A gradient that nobody differentiates goes from z to x
in one pass, and the gradient of y is never stored. A gradient that will be differentiated is taken in two steps,
through y, so that what reaches y by both ways is added up before the convolution is reversed, once:

    Block      (x, w, γ, β)   -> z, y
    Unpool     (gz, y, γ)     -> gy, gγ, gβ
    Unconvolve (gy, x, w)     -> gx, gw

The mean and rstd of y are those of all examples of a task, or of its first ones, the support. Pictures in which nobody
differentiates go another way, which makes no y: pictures.py.

Pixels are channels-last, with a border of one zero pixel around what a convolution reads. B tasks have parameters of
their own; `torch.func.vmap` over tasks becomes this axis.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import passes
from .functions import Function, mapped, positional
from .passes import Kept
from .pictures import MOST_CHANNELS, differentiated, picture_block

__all__ = ["Pooled", "embedded_block", "framed", "pooled_block", "unframed"]


class Pooled(NamedTuple):
    """What a block gives."""

    z: Tensor  # [n, H/2+2, W/2+2, O]
    mean: Tensor  # [O] of y
    variance: Tensor  # [O] of y, biased


def framed(x: Tensor) -> Tensor:
    """Pictures [n, C, H, W] -> [n, H+2, W+2, C]."""
    return F.pad(x.movedim(-3, -1), (0, 0, 1, 1, 1, 1))


def unframed(z: Tensor) -> Tensor:
    """[n, H+2, W+2, C] -> [n, C, H, W]."""
    return z[..., 1:-1, 1:-1, :].movedim(-1, -3)


def pooled_block(x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, eps: float, support: int | None = None) -> Pooled:
    """Convolution, normalization by the batch's statistics, 2×2 max-pooling and ReLU, of framed examples.

    Args:
        x: [n, H+2, W+2, C].
        w: [O, C, 3, 3], O a multiple of 32.
        gamma, beta: [O].
        eps: added to the variance.
        support: statistics are those of the first so many examples; of all if not given.
    """
    support = len(x) if support is None else support
    if x.shape[-1] <= MOST_CHANNELS and not differentiated(x):
        return Pooled(*picture_block(x, w, gamma, beta, eps, support))
    z, _, mean, variance, *_ = _Block.apply(x[None], w[None], gamma[None], beta[None], eps, support)
    return Pooled(z.squeeze(0), mean.squeeze(0), variance.squeeze(0))  # indexing would fill zeros on the way back


def embedded_block(x: Tensor, w: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """relu(maxpool(scale · (x * w) + offset)) of framed examples, for scale and offset [O] known beforehand.

    [n, H+2, W+2, C] -> [n, H/2+2, W/2+2, O]. Has no derivative.
    """
    z: Tensor = _Embed.apply(x[None], w[None], scale[None], offset[None])
    return z.squeeze(0)


class _Embed(Function):
    @staticmethod
    def forward(x: Tensor, w: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        return passes.embed(x, w, scale, offset)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        (z,), (dim,) = mapped(lambda *values: (_Embed.apply(*values),), info, in_dims, inputs)
        return z, dim


class _Block(Function):
    @staticmethod
    def forward(x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, eps: float, support: int) -> tuple[Tensor, ...]:
        z, kept = passes.block(x, w, gamma, beta, eps, support)
        return z, *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, y, *statistics = output
        ctx.mark_non_differentiable(*statistics)
        ctx.save_for_backward(*inputs[:3], y, *statistics)
        ctx.support = inputs[-1]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        gz, more = upstream[:2]
        x, w, gamma, *saved = ctx.saved_tensors
        kept = Kept(*saved)
        if gz is None:
            gz = F.pad(torch.zeros_like(kept.xs), (0, 0, 1, 1, 1, 1))
        if not torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active():
            of_x = ctx.needs_input_grad[0]
            return *passes.block_gradient(gz, more, x, w, gamma, kept, ctx.support, of_x=of_x), None, None
        gy, ggamma, gbeta = _Unpool.apply(gz, gamma, ctx.support, *kept)
        if more is not None:
            gy = gy + F.pad(more, (0, 0, 1, 1, 1, 1))
        gx, gw = _Unconvolve.apply(gy, x, w, ctx.needs_input_grad[0])
        return gx, gw, ggamma, gbeta, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return mapped(_Block.apply, info, in_dims, inputs)


class _Unpool(Function):
    @staticmethod
    def forward(gz: Tensor, gamma: Tensor, support: int, *kept: Tensor) -> tuple[Tensor, ...]:
        return passes.unpool(gz, gamma, Kept(*kept), support)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        gz, gamma, ctx.support, *kept = inputs
        ctx.save_for_backward(gz, gamma, *kept, *output[1:])

    @staticmethod
    def backward(ctx: Any, *directions: Tensor) -> tuple[Tensor | None, ...]:
        zd, gy, gd = _Along.apply(*directions, *ctx.saved_tensors, ctx.support)
        return zd, gd, None, gy, *(None for _ in Kept._fields[1:])

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return mapped(_Unpool.apply, info, in_dims, inputs)


class _Unconvolve(Function):
    @staticmethod
    def forward(gy: Tensor, x: Tensor, w: Tensor, of_x: bool) -> tuple[Tensor | None, Tensor]:
        return passes.convolve(gy, w, turned=True) if of_x else None, passes.weight_gradient(x, gy, w)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, xd: Tensor | None, wd: Tensor | None) -> tuple[Tensor | None, ...]:
        return *_Reconvolve.apply(*ctx.saved_tensors, xd, wd, ctx.needs_input_grad[1]), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return mapped(_Unconvolve.apply, info, in_dims, inputs)


class _Last(Function):
    """A second derivative, which has none of its own.

    torch's `once_differentiable` is not heard where `autograd.grad` asks for the derivative in some tensors only.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        raise NotImplementedError(
            "third derivatives of a fused block are not there; compute inside `with handful.kernels.plain():`"
        )


class _Along(_Last):
    """Of `_Unpool`: the gradient of <yd, gy> + <γd, gγ> + <βd, gβ>."""

    @staticmethod
    def forward(
        yd: Tensor, gamma_d: Tensor, beta_d: Tensor, gz: Tensor, gamma: Tensor, *saved: Any
    ) -> tuple[Tensor, ...]:
        *kept, ggamma, gbeta, support = saved
        return passes.along((yd, gamma_d, beta_d), gz, gamma, Kept(*kept), ggamma, gbeta, support)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return mapped(_Along.apply, info, in_dims, inputs)


class _Reconvolve(_Last):
    """Of `_Unconvolve`: the gradient of <xd, gx> + <wd, gw>."""

    @staticmethod
    def forward(
        gy: Tensor, x: Tensor, w: Tensor, xd: Tensor | None, wd: Tensor | None, of_x: bool
    ) -> tuple[Tensor | None, ...]:
        if wd is None:
            wd = torch.zeros_like(w)
        yd = passes.convolve(x, wd) if xd is None else passes.convolve(x, wd, xd, w)
        gx = passes.convolve(gy, wd, turned=True) if of_x else None
        return yd, gx, None if xd is None else passes.weight_gradient(xd, gy, w)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return mapped(_Reconvolve.apply, info, in_dims, inputs)


positional(_Block, _Embed, _Unpool, _Unconvolve, _Along, _Reconvolve)
