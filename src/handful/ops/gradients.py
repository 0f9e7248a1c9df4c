"""Gradients of a support loss that are themselves differentiable, by three forms that agree to rounding.

    graph       the graph of the gradient is kept: fastest, and its memory grows with every inner step
    recompute   nothing is kept but the inputs; the way back computes the gradient again, now with a graph
    hvp         the same, but the way back is a Hessian-vector product, forward over reverse (Pearlmutter 1994)

With g = ∇_w L(w, u), the way back from g to all that L depends on is, for the incoming direction v,

    (∂g/∂w)ᵀ v = ∂/∂ε ∇_w L(w + εv, u)        (∂g/∂u)ᵀ v = ∂/∂ε ∇_u L(w + εv, u)

by the symmetry of second derivatives: the right sides are what "hvp" computes, the left sides "recompute".
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from typing import Any, Literal

import torch
import torch.autograd.forward_ad as forward_mode
from torch import Tensor, nn

from ..kernels.functions import Function
from .tasks import Named
from .workers import NoiseDrawn, in_worker

__all__ = ["Form", "Loss", "gradients_of"]

Form = Literal["none", "graph", "recompute", "hvp"]
Loss = Callable[[dict[str, Tensor]], Tensor]
"""Losses of any shape, which are summed, from tensors by name; a function of these tensors, which are all that
gradients pass through."""

Found = tuple[Tensor | None, ...]


def gradients_of(
    loss: Loss, theta: Named, buffers: Named, wanted: Sequence[str], form: Form, module: nn.Module | None = None
) -> dict[str, Tensor]:
    """∇ of the summed loss in the wanted tensors, by name; those that take no part are left out.

    Args:
        loss: of `theta` and `buffers` together.
        theta: everything, adapted or not, that meta-gradients are to pass through.
        buffers: what the loss may write into; written once, whatever the form.
        wanted: names in `theta`.
        form: "none" for a gradient without a derivative.
        module: whose layers the loss calls; on the way back they are in training or in evaluation mode as they are now.
    """
    if form in ("none", "graph"):
        kept = {name: leaf.detach() for name, leaf in theta.items()} if form == "none" else dict(theta)
        for name in wanted:
            if not kept[name].requires_grad:
                kept[name] = kept[name].detach().requires_grad_()
        with torch.enable_grad():
            total = loss({**kept, **buffers}).sum()
            inputs = [kept[name] for name in wanted]
            found: Found = torch.autograd.grad(total, inputs, create_graph=form == "graph", allow_unused=True)
    else:
        problem = _Problem(loss, list(theta), list(wanted), buffers, module, forward=form == "hvp")
        found = _Gradient.apply(problem, buffers, *theta.values())
    return {name: leaf for name, leaf in zip(wanted, found, strict=True) if leaf is not None}


class _Gradient(Function):
    """The gradient as one node, whose way back is computed when it is walked."""

    @staticmethod
    def forward(ctx: Any, problem: _Problem, buffers: Named, *theta: Tensor) -> Found:
        ctx.problem = problem
        ctx.save_for_backward(*theta)
        ctx.set_materialize_grads(False)
        return problem.solve(theta, buffers)

    @staticmethod
    def backward(ctx: Any, *direction: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.problem.back(ctx.saved_tensors, direction, ctx.needs_input_grad[2:])


class _Problem:
    """A support loss and the circumstances in which it was computed: buffers, noise, precision, the layers' modes,
    context variables."""

    def __init__(
        self,
        loss: Loss,
        names: list[str],
        wanted: list[str],
        buffers: Named,
        module: nn.Module | None,
        *,
        forward: bool,
    ) -> None:
        self.loss, self.names, self.forward = loss, names, forward
        self.wanted = [names.index(name) for name in wanted]
        self.before = {name: leaf.clone() for name, leaf in buffers.items()}
        self.modes = [(layer, layer.training) for layer in module.modules()] if module is not None else []
        self.context = copy_context()

    def solve(self, theta: Sequence[Tensor], buffers: Named) -> Found:
        """The gradient in the wanted tensors, without a graph."""
        self.device = theta[0].device
        kind = self.device.type
        self.cast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        noise = _noise(self.device)
        with torch.enable_grad():
            leaves = _leaves(theta, [index in self.wanted for index in range(len(theta))])
            total = self._total(leaves, buffers)
            inputs = [leaves[index] for index in self.wanted]
            found: Found = torch.autograd.grad(total, inputs, allow_unused=True)
        drew = not all(map(torch.equal, noise, _noise(self.device)))
        if drew and in_worker():
            raise NoiseDrawn
        self.noise = noise if drew else None
        return found

    def back(self, theta: Sequence[Tensor], direction: Found, needed: Sequence[bool]) -> Found:
        """The transposed derivative of the gradient, applied to a direction: for each of `theta`, or None."""
        return self.context.copy().run(self._back, theta, direction, needed)

    def _back(self, theta: Sequence[Tensor], direction: Found, needed: Sequence[bool]) -> Found:
        again = torch.is_grad_enabled()  # someone wants a derivative of this too: then everything keeps its graph
        kind, dtype, enabled = self.cast
        others = [] if kind == "cpu" else [self.device]
        with (
            torch.random.fork_rng(others, enabled=self.noise is not None, device_type="cuda" if not others else kind),
            torch.enable_grad(),
            torch.autocast(kind, dtype, enabled=enabled),
            _in_modes(self.modes),
        ):
            self._restore_noise()
            if self.forward and not again:
                try:
                    return self._forward_over_reverse(theta, direction, needed)
                except NotImplementedError:  # an operator without a forward derivative
                    self._restore_noise()
            return self._reverse_over_reverse(theta, direction, needed, again)

    def _reverse_over_reverse(
        self, theta: Sequence[Tensor], direction: Found, needed: Sequence[bool], again: bool
    ) -> Found:
        asked = [need or index in self.wanted for index, need in enumerate(needed)]
        leaves = list(theta) if again else _leaves(theta, asked)
        leaves = [
            leaf if leaf.requires_grad or not ask else _leaf(leaf) for leaf, ask in zip(leaves, asked, strict=True)
        ]
        inputs = [leaves[index] for index in self.wanted]
        found = torch.autograd.grad(self._total(leaves), inputs, create_graph=True, allow_unused=True)
        pairs = [(g, v) for g, v in zip(found, direction, strict=True) if v is not None and g is not None]
        pairs = [(g, v) for g, v in pairs if g.requires_grad]
        if not pairs:
            return (None,) * len(theta)
        outputs, vectors = zip(*pairs, strict=True)
        inputs = [leaf for leaf, need in zip(leaves, needed, strict=True) if need]
        return _spread(torch.autograd.grad(outputs, inputs, vectors, create_graph=again, allow_unused=True), needed)

    def _forward_over_reverse(self, theta: Sequence[Tensor], direction: Found, needed: Sequence[bool]) -> Found:
        _load_forward_mode()
        with forward_mode.dual_level():
            leaves = _leaves([leaf.contiguous() for leaf in theta], needed)  # tangents cannot overlap themselves
            for index, vector in zip(self.wanted, direction, strict=True):
                if vector is not None:
                    leaves[index] = forward_mode.make_dual(leaves[index], vector)
            inputs = [leaf for leaf, need in zip(leaves, needed, strict=True) if need]
            found = torch.autograd.grad(self._total(leaves), inputs, allow_unused=True)
            tangents = [None if g is None else forward_mode.unpack_dual(g).tangent for g in found]
        return _spread(tangents, needed)

    def _total(self, theta: Sequence[Tensor], buffers: Named | None = None) -> Tensor:
        own = {name: leaf.clone() for name, leaf in self.before.items()} if buffers is None else buffers
        return self.loss({**dict(zip(self.names, theta, strict=True)), **own}).sum()

    def _restore_noise(self) -> None:
        if self.noise is not None:
            torch.set_rng_state(self.noise[0])
            for state in self.noise[1:]:
                torch.get_device_module(self.device).set_rng_state(state, self.device)


@contextmanager
def _in_modes(modes: Sequence[tuple[nn.Module, bool]]) -> Iterator[None]:
    """Layers in training or in evaluation mode, each as said; afterward as they were."""
    others = [(layer, mode) for layer, mode in modes if layer.training != mode]
    for layer, mode in others:
        layer.training = mode
    try:
        yield
    finally:
        for layer, mode in others:
            layer.training = not mode


@cache
def _load_forward_mode() -> None:
    """torch compiles some derivatives when forward mode is first used, and warns of its own way to do so."""
    with warnings.catch_warnings(), forward_mode.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)  # what it is from torch 2.15 on
        forward_mode.make_dual(torch.zeros(()), torch.zeros(()))


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _leaves(theta: Sequence[Tensor], asked: Sequence[bool]) -> list[Tensor]:
    return [_leaf(leaf) if ask else leaf.detach() for leaf, ask in zip(theta, asked, strict=True)]


def _spread(found: Sequence[Tensor | None], needed: Sequence[bool]) -> Found:
    """What was found for the needed inputs, with None for the others."""
    rest = iter(found)
    return tuple(next(rest) if need else None for need in needed)


def _noise(device: torch.device) -> list[Tensor]:
    """The state of the generators that a computation on the device draws from."""
    if device.type == "cpu":
        return [torch.get_rng_state()]
    return [torch.get_rng_state(), torch.get_device_module(device).get_rng_state(device)]
