"""The passes over a block's tensors, by the compiled kernels: plain functions of contiguous or any tensors.

B tasks, n examples each     H, W of y     C channels of x     O of y
The first `support` of the n examples make the statistics (mean, variance) that normalize all of them.
x  [B, n, H+2, W+2, C]       w  [B, O, C, 3, 3]       y  [B, n, H, W, O]       z  [B, n, H/2+2, W/2+2, O]
gx, gw, gy (framed as x), gz: gradients       xd, wd, yd (framed), zd: directions
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .library import call, shared, spread, summed

Arguments = tuple[Tensor | int | None, ...]

__all__ = [
    "Kept",
    "along",
    "block",
    "block_gradient",
    "convolve",
    "embed",
    "unpool",
    "weight_gradient",
]

LANES = 32
"""Channels that a pass writes at once: what it gives has a multiple of them."""


class Kept(NamedTuple):
    """What a block keeps for its gradient."""

    y: Tensor  # [B, n, H, W, O]
    mean: Tensor  # [B, O] of y
    variance: Tensor  # [B, O] of y, biased
    rstd: Tensor  # [B, O]
    xs: Tensor  # [B, n, H/2, W/2, O] x̂ of the pooled values
    chosen: Tensor  # [B, n, H/2, W/2, O] which of the four was pooled; 4: ReLU cut it

    def contiguous(self) -> Kept:
        """As the kernels read them: what tasks share is given to each."""
        return Kept(*(value.contiguous() for value in self))


class _Shape(NamedTuple):
    tasks: int  # B
    each: int  # n
    support: int  # the first so many of the n make the statistics
    height: int  # H
    width: int  # W
    inputs: int  # C
    outputs: int  # O

    @property
    def examples(self) -> int:
        return self.tasks * self.each

    @property
    def values(self) -> int:
        """Numbers behind a mean."""
        return self.support * self.height * self.width

    def sums(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Room for the sums of each thread and task."""
        return torch.zeros(torch.get_num_threads(), self.tasks, *shape, dtype=dtype, device="cpu")


def _shape(x: Tensor, w: Tensor, support: int | None = None) -> _Shape:
    tasks, each, height, width, inputs = x.shape
    return _Shape(tasks, each, support or each, height - 2, width - 2, inputs, w.shape[-4])


def _shape_of(y: Tensor, support: int) -> _Shape:
    tasks, each, height, width, outputs = y.shape
    return _Shape(tasks, each, support, height, width, 0, outputs)


def block(x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, eps: float, support: int) -> tuple[Tensor, Kept]:
    """z = relu(maxpool(γ (y − mean) rstd + β)) of y = x * w, and what its gradient needs."""
    s, dtype = _shape(x, w, support), x.dtype
    x, (w, apart) = x.contiguous(), shared(w)
    scale, offset, step = _channels(gamma, beta)
    y = x.new_empty(s.tasks, s.each, s.height, s.width, s.outputs)
    middle = x.new_empty(s.tasks, s.outputs)
    call("middle", dtype, x, w, apart, middle, s.tasks, s.each, s.height, s.width, s.inputs, s.outputs)
    sums = s.sums(2, s.outputs)

    def convolve(part: int, start: int, stop: int) -> Arguments:
        sizes = (s.each, start, stop, s.height, s.width, s.inputs, s.outputs)
        return x, w, None, None, apart, 0, 0, y, 0, middle, sums[part], s.support, *sizes

    spread("conv", dtype, s.examples, convolve)
    mean, variance, rstd = (torch.empty_like(middle) for _ in range(3))
    call("statistics", dtype, sums, len(sums), middle, float(eps), s.values, s.tasks, s.outputs, mean, variance, rstd)
    half = (s.tasks, s.each, s.height // 2, s.width // 2, s.outputs)
    z = x.new_empty(s.tasks, s.each, s.height // 2 + 2, s.width // 2 + 2, s.outputs)
    xs, index = x.new_empty(half), x.new_empty(half, dtype=torch.uint8)

    def pool(part: int, start: int, stop: int) -> Arguments:
        sizes = (s.each, start, stop, s.height, s.width, s.outputs)
        return y, mean, rstd, scale, offset, step, z, xs, index, *sizes

    spread("pool", dtype, s.examples, pool)
    return z, Kept(y, mean, variance, rstd, xs, index)


def embed(x: Tensor, w: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """z = relu(maxpool(scale y + offset)) of y = x * w, which is never kept."""
    s = _shape(x, w)
    x, (w, apart) = x.contiguous(), shared(w)
    scale, offset, step = _channels(scale, offset)
    z = x.new_empty(s.tasks, s.each, s.height // 2 + 2, s.width // 2 + 2, s.outputs)

    def run(part: int, start: int, stop: int) -> Arguments:
        sizes = (s.each, start, stop, s.height, s.width, s.inputs, s.outputs)
        return x, w, apart, scale, offset, step, z, *sizes

    spread("embed", x.dtype, s.examples, run)
    return z


def block_gradient(
    gz: Tensor, more: Tensor | None, x: Tensor, w: Tensor, gamma: Tensor, kept: Kept, support: int, *, of_x: bool
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """gx, gw, gγ, gβ in one pass, without room for gy. `more`: a further gradient of y."""
    if of_x and (spare := -x.shape[-1] % LANES):
        x, w = F.pad(x, (0, spare)), _widened(w, spare)
        gx, gw, ggamma, gbeta = block_gradient(gz, more, x, w, gamma, kept, support, of_x=True)
        assert gx is not None
        return gx[..., :-spare], gw[:, :, :-spare], ggamma, gbeta
    s, dtype, kept = _shape(x, w, support), x.dtype, kept.contiguous()
    x, gz, more = x.contiguous(), gz.contiguous(), None if more is None else more.contiguous()
    scale, step = _channels(gamma)
    total = _pooled_sums(gz, kept, s)
    w, apart = shared(w)
    gx = torch.empty_like(x) if of_x else None
    sums = s.sums(s.outputs, s.inputs, 3, 3, dtype=dtype)

    def run(part: int, start: int, stop: int) -> Arguments:
        statistics = (kept.mean, kept.rstd, scale, step, total, 1)
        sizes = (s.tasks, s.each, start, stop, s.height, s.width, s.inputs, s.outputs)
        results = (sums[part], gx, s.support)
        return x, w, apart, kept.y, gz, kept.chosen, more, *statistics, *results, *sizes

    spread("block_backward", dtype, s.examples, run)
    return gx, summed(sums), _apart(total, 1, dtype), _apart(total, 0, dtype)


def unpool(gz: Tensor, gamma: Tensor, kept: Kept, support: int) -> tuple[Tensor, Tensor, Tensor]:
    """gy (framed), gγ, gβ."""
    s, dtype, kept = _shape_of(kept.y, support), gz.dtype, kept.contiguous()
    gz, (scale, step) = gz.contiguous(), _channels(gamma)
    total = _pooled_sums(gz, kept, s)
    gy = gz.new_empty(s.tasks, s.each, s.height + 2, s.width + 2, s.outputs)

    def run(part: int, start: int, stop: int) -> Arguments:
        statistics = (kept.mean, kept.rstd, scale, step, total, 1)
        sizes = (s.support, s.tasks, s.each, start, stop, s.height, s.width, s.outputs)
        return kept.y, gz, kept.chosen, *statistics, gy, *sizes

    spread("unpool", dtype, s.examples, run)
    return gy, _apart(total, 1, dtype), _apart(total, 0, dtype)


def along(
    directions: tuple[Tensor, Tensor, Tensor],
    gz: Tensor,
    gamma: Tensor,
    kept: Kept,
    ggamma: Tensor,
    gbeta: Tensor,
    support: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of <yd, gy> + <γd, gγ> + <βd, gβ> in gz, y and γ."""
    yd, gamma_d, beta_d = (direction.contiguous() for direction in directions)
    y, mean, _, rstd, xs, index = kept.contiguous()
    s, dtype = _shape_of(y, support), y.dtype
    gz, (scale, step) = gz.contiguous(), _channels(gamma)
    sums = s.sums(2, s.outputs)

    def moments(part: int, start: int, stop: int) -> Arguments:
        return y, yd, mean, sums[part], s.support, s.each, start, stop, s.height, s.width, s.outputs

    spread("direction_sums", dtype, s.examples, moments)
    means = summed(sums) / s.values
    m1, m2 = _apart(means, 0, dtype), (means[:, 1] * rstd).to(dtype)
    zd, crossed = torch.empty_like(gz), s.sums(s.outputs)

    def pool(part: int, start: int, stop: int) -> Arguments:
        sizes = (s.each, start, stop, s.height, s.width, s.outputs)
        scales = (rstd, scale, gamma_d, beta_d, step)
        return yd, gz, m1, m2, *scales, xs, index, zd, crossed[part], *sizes

    spread("direction_pool", dtype, s.examples, pool)
    gd, gradients, out = summed(crossed).to(dtype), (ggamma.contiguous(), gbeta.contiguous()), torch.empty_like(y)

    def unpool(part: int, start: int, stop: int) -> Arguments:
        sizes = (s.each, start, stop, s.height, s.width, s.outputs)
        statistics = (mean, rstd, scale, gamma_d, step, m1, m2, *gradients, gd)
        return y, yd, gz, index, *statistics, out, s.support, *sizes

    spread("direction_unpool", dtype, s.examples, unpool)
    return zd, out, gd


def convolve(x: Tensor, w: Tensor, *other: Tensor, turned: bool = False, border: int = 1) -> Tensor:
    """x * w, framed unless `border` is 0; plus the same of `other` x and w.

    `turned`: by the transposed weights, turned by half a turn, as gy gives gx.
    """
    if turned and (spare := -w.shape[-3] % LANES):
        assert not other, "what is turned comes alone"
        return convolve(x, _widened(w, spare), turned=True, border=border)[..., :-spare]
    s = _shape(x, w.transpose(-4, -3) if turned else w)
    x, (w, apart) = x.contiguous(), shared(w)
    x1, (w1, apart1) = (other[0].contiguous(), shared(other[1])) if other else (None, (None, 0))
    y = x.new_empty(s.tasks, s.each, s.height + 2 * border, s.width + 2 * border, s.outputs)

    def run(part: int, start: int, stop: int) -> Arguments:
        sizes = (s.each, start, stop, s.height, s.width, s.inputs, s.outputs)
        return x, w, x1, w1, apart, apart1, int(turned), y, border, None, None, 0, *sizes

    spread("conv", x.dtype, s.examples, run)
    return y


def weight_gradient(x: Tensor, gy: Tensor, w: Tensor) -> Tensor:
    """gw of x * w for framed gy."""
    s = _shape(x, w)
    x, gy = x.contiguous(), gy.contiguous()
    sums = s.sums(s.outputs, s.inputs, 3, 3, dtype=x.dtype)

    def run(part: int, start: int, stop: int) -> Arguments:
        sizes = (s.each, start, stop, s.height, s.width, s.inputs, s.outputs)
        return x, gy, sums[part], *sizes

    spread("conv_weights", x.dtype, s.examples, run)
    return summed(sums)


def _widened(w: Tensor, spare: int) -> Tensor:
    """[B, O, C, 3, 3] -> [B, O, C + spare, 3, 3], nothing added."""
    return F.pad(w, (0, 0, 0, 0, 0, spare))


def _channels(*values: Tensor) -> tuple[Any, ...]:
    """Each [B, O], and how far apart tasks lie: 0 if all have the same."""
    if all(len(value) == 1 or value.stride(0) == 0 for value in values):
        return *(value[:1].contiguous() for value in values), 0
    return *(value.contiguous() for value in values), values[0].shape[1]


def _pooled_sums(gz: Tensor, kept: Kept, s: _Shape) -> Tensor:
    """Sums over the task of gz and gz·x̂ where ReLU let them through: [B, 2, O]."""
    sums = s.sums(2, s.outputs)

    def run(part: int, start: int, stop: int) -> Arguments:
        sizes = (s.each, start, stop, s.height // 2, s.width // 2, s.outputs)
        return gz, kept.xs, kept.chosen, sums[part], *sizes

    spread("pool_sums", gz.dtype, s.examples, run)
    return summed(sums)


def _apart(sums: Tensor, which: int, dtype: torch.dtype) -> Tensor:
    """One of the sums [B, 2, O]: [B, O]."""
    return sums[:, which].to(dtype).contiguous()
