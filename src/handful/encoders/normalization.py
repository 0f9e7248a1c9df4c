"""Normalization with an explicit policy: whose statistics normalize an example?

It decides one to five points of accuracy, and whether a method is transductive:

    batch      the examples forwarded together, at any time: queries share statistics (transductive)
    support    the support of the task, for its queries too: each query is answered by itself
    running    batch statistics while training, running estimates otherwise
    per_step   as running, with estimates, scale and shift of its own for each inner step (MAML++)
    episode    as running, but a task forgets all others: its first inner step begins the estimates anew, and inner
               steps normalize by their batch and write estimates in evaluation too (Ravi & Larochelle)
    frozen     running estimates at any time, never updated
    group, layer, instance    each example by itself
    none       no normalization

Native batch norm with scale and shift gives wrong second-order gradients under `torch.func.vmap` of
`torch.func.grad`. So in transformations of torch.func, statistics are computed without them, and they are applied
outside. While a learner adapts it is the same, because native second derivatives are no faster. Elsewhere native
batch norm takes both: as exact, and a step of first order takes 0.87 to 0.98 of the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ShapeError, unknown_name
from ..kernels import embedded_block, pooled_block

__all__ = [
    "BATCH_POLICIES",
    "BatchNorm",
    "Policy",
    "adapting",
    "called_plainly",
    "normalization",
    "policies_of",
    "shares_statistics",
]

Policy = Literal["batch", "support", "running", "per_step", "episode", "frozen", "group", "layer", "instance", "none"]


BATCH_POLICIES: tuple[Policy, ...] = ("batch", "support", "running", "per_step", "episode", "frozen")
TIMELESS: tuple[Policy, ...] = ("batch", "running", "frozen")
"""Those that ask neither for the inner step nor for the support."""


class _Moment(NamedTuple):
    step: int = 0  # how many inner steps the parameters have taken
    support: int | None = None  # the first so many examples are the support; None: all are


_moment: ContextVar[_Moment | None] = ContextVar("handful_moment", default=None)


@contextmanager
def adapting(step: int, support: int | None = None) -> Iterator[None]:
    """Tell the layers inside a forward pass which inner step this is, and how many leading examples are support."""
    token = _moment.set(_Moment(step, support))
    try:
        yield
    finally:
        _moment.reset(token)


def called_plainly() -> bool:
    """Whether neither a learner adapts what is called nor a transformation of torch.func (vmap, grad) is under way.

    Then hardly anyone will want second derivatives, and what is fastest for first ones will do.
    """
    return _moment.get() is None and not _transformed()


def _transformed() -> bool:
    return torch._C._functorch.maybe_current_level() is not None


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe & Szegedy 2015) over all axes but the second, by one of the six batch policies.

    Args:
        features: channels C of [examples, C, ...].
        policy: "batch", "support", "running", "per_step", "episode" or "frozen".
        steps: with "per_step", how many inner steps have statistics of their own (later steps use the last).
        momentum: weight of a new batch in the running estimates.
        eps: added to the variance.

    Raises:
        UnknownNameError: not one of the six policies.
        ShapeError: fewer than one step; when called, batch statistics of one value a channel, which has no variance.
    """

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(
        self, features: int, *, policy: Policy = "running", steps: int = 1, momentum: float = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        if policy not in BATCH_POLICIES:
            raise unknown_name("batch normalization", policy, BATCH_POLICIES)
        if steps < 1:
            raise ShapeError(f"batch normalization: expected at least one step, got {steps}")
        self.policy, self.momentum, self.eps = policy, momentum, eps
        self.steps = steps if policy == "per_step" else 1
        self.weight = nn.Parameter(torch.ones(self.steps, features))
        self.bias = nn.Parameter(torch.zeros(self.steps, features))
        remembers = policy in ("running", "per_step", "episode", "frozen")
        self.register_buffer("running_mean", torch.zeros(self.steps, features) if remembers else None)
        self.register_buffer("running_var", torch.ones(self.steps, features) if remembers else None)

    def forward(self, x: Tensor) -> Tensor:
        """[examples, C, ...] -> the same."""
        always = self.policy in TIMELESS and torch.compiler.is_compiling()  # torch.compile reads no context variables
        said = None if always else _moment.get()
        moment = said or _Moment()
        step = min(moment.step, self.steps - 1)
        weight, bias = self.weight[step], self.bias[step]
        if said is None and not _transformed():
            return self.normalize(x, step, None, weight, bias)
        shape = (-1,) + (1,) * (x.ndim - 2)
        return self.normalize(x, step, moment.support) * weight.view(shape) + bias.view(shape)

    def normalize(
        self, x: Tensor, step: int, support: int | None, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """[examples, C, ...] -> the same; with scale and shift [C] if given, which the support's statistics ignore."""
        if self.policy == "support" and support is not None:
            axes = [0, *range(2, x.ndim)]
            _check_variance(x[:support])
            variance, mean = torch.var_mean(x[:support], axes, correction=0, keepdim=True)
            return (x - mean) * torch.rsqrt(variance + self.eps)
        if self.running_mean is None or self.running_var is None:
            _check_variance(x)
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)
        moment = _moment.get() if self.policy == "episode" else None
        adapts = moment is not None and moment.support is None
        training = (self.training and self.policy != "frozen") or adapts
        if training:
            _check_variance(x)
        mean, variance = self.running_mean[step], self.running_var[step]
        begins = adapts and moment is not None and moment.step == 0
        if not training or (self.steps == 1 and not begins):
            return F.batch_norm(x, mean, variance, weight, bias, training, self.momentum, self.eps)
        now = mean.clone(), variance.clone()  # inside `vmap`, an update of a row of several is lost
        if begins:
            now[0].zero_()
            now[1].fill_(1.0)
        normalized = F.batch_norm(x, *now, weight, bias, True, self.momentum, self.eps)
        mean.copy_(now[0])
        variance.copy_(now[1])
        return normalized

    def by_batch(self) -> bool:
        """Whether the next examples are normalized by statistics of their own: of all of them, or of the support."""
        if self.policy in ("batch", "support"):
            return True
        return self.training and self.policy not in ("episode", "frozen")

    def by_estimates(self) -> bool:
        """Whether the next examples are normalized by the running estimates."""
        return self.running_mean is not None and not self.by_batch()

    def embedded_block(self, x: Tensor, w: Tensor) -> Tensor:
        """As `pooled_block`, by the running estimates and without a derivative."""
        assert self.running_mean is not None
        assert self.running_var is not None
        step = min((_moment.get() or _Moment()).step, self.steps - 1)
        scale = self.weight[step] * torch.rsqrt(self.running_var[step] + self.eps)
        return embedded_block(x, w, scale, self.bias[step] - self.running_mean[step] * scale)

    def pooled_block(self, x: Tensor, w: Tensor) -> Tensor:
        """3×3 convolution by w, normalization by their own statistics, 2×2 max-pooling and ReLU of framed examples:

        [n, H+2, W+2, C] -> [n, H/2+2, W/2+2, O], in one pass of compiled kernels.
        """
        moment = _moment.get() or _Moment()
        step = min(moment.step, self.steps - 1)
        support = moment.support if self.policy == "support" else None
        n, height, width, _ = x.shape
        values = (support or n) * (height - 2) * (width - 2)
        if values == 1:
            _check_variance(x.new_empty(1, len(w)))
        z, mean, variance = pooled_block(x, w, self.weight[step], self.bias[step], self.eps, support)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                unbiased = variance * (values / (values - 1))
                for estimate, value in ((self.running_mean, mean), (self.running_var, unbiased)):
                    estimate[step].mul_(1 - self.momentum).add_(value, alpha=self.momentum)
        return z

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.weight.shape[1]}, policy={self.policy!r}" + (f", steps={self.steps}" if self.steps > 1 else "")


def _check_variance(x: Tensor) -> None:
    if x.numel() <= x.shape[1]:
        raise ShapeError(
            f"batch normalization: one value has no variance, and {tuple(x.shape)} holds one for each channel; "
            "expected more examples together, or another policy (frozen, group, layer, none)"
        )


def normalization(policy: Policy, features: int, *, steps: int = 1, area: int | None = None) -> nn.Module:
    """The layer of a policy for `features` channels, of `area` positions each where that is known.

    Raises:
        UnknownNameError: no such policy.
        ShapeError: "group" needs a multiple of 8 channels, "layer" and "instance" more than one value.
    """
    if policy not in get_args(Policy):
        raise unknown_name("normalization", policy, get_args(Policy))
    if policy == "none":
        return nn.Identity()
    if area is not None and {"instance": area, "layer": features * area}.get(policy) == 1:
        raise ShapeError(
            f"{policy} normalization: one value normalized by itself is always 0; expected more positions in a map, "
            "or another policy (group, layer, running)"
        )
    if policy == "group":
        if features % 8:
            raise ShapeError(f"group normalization: expected a multiple of 8 channels, got {features}")
        return nn.GroupNorm(features // 8, features)
    if policy == "layer":
        return nn.GroupNorm(1, features)
    if policy == "instance":
        return nn.GroupNorm(features, features)
    if policy == "episode":
        return BatchNorm(features, policy=policy, momentum=0.95, eps=1e-3)
    return BatchNorm(features, policy=policy, steps=steps)


def policies_of(module: nn.Module) -> set[str]:
    """The batch policies in a module; native batch norm counts as "running" or, without estimates, as "batch".

    A module that lets examples influence each other in another way says so by `couples_examples = True`, and counts
    as "batch" too.
    """
    found = {str(layer.policy) for layer in module.modules() if isinstance(layer, BatchNorm)}
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            found.add("batch" if layer.running_mean is None else "running")
        elif getattr(layer, "couples_examples", False):
            found.add("batch")
    return found


def shares_statistics(module: nn.Module, *, training: bool = False) -> bool:
    """Whether, in evaluation or in training, the output for one example depends on those forwarded with it."""
    coupling = {"batch", "running", "per_step", "episode"} if training else {"batch"}
    return not coupling.isdisjoint(policies_of(module))
