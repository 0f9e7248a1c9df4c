"""Mapping over tasks: a module with parameters of its own for each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import mha
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import ShapeError, SpecError
from .workers import in_worker

__all__ = ["Named", "call_each", "check_embeddings", "chunks", "map_tasks", "plain_attention", "pure_call"]

Named = Mapping[str, Tensor]
"""Parameters or buffers by name."""


def call_each(module: nn.Module, state: Named, x: Any) -> Tensor:
    """The module on each task's examples with each task's own state: [B, ...] by name, [B, S, *] -> [B, S, *out].

    Only the forward pass is mapped. Differentiate the result with `torch.autograd`: the sum over tasks of a
    loss has, as its gradient in the [B, ...] parameters, every task's own gradient. Buffers in `state` are
    updated in place.

    `vmap` maps all tasks at once. One after the other go: a single task; modules that `vmap` cannot map (recurrent
    networks) or maps wrongly (embeddings with a padding index); and everything in automatic mixed precision, which
    convolutions inside `vmap` escape.

    Raises:
        SpecError: `vmap` cannot map the module; one task at a time it works.
        ShapeError: the module gives something else than a tensor.
    """

    def call(task: Named, examples: Any) -> Tensor:
        result = functional_call(module, dict(task), (examples,))
        if not isinstance(result, Tensor):
            raise ShapeError(
                f"{type(module).__name__} gives a {type(result).__name__}; expected a tensor [examples, *out]: "
                "wrap it in a module that gives its outputs alone"
            )
        return result

    first = x if isinstance(x, Tensor) else next(iter(x.values()))
    tasks = first.shape[0]
    with plain_attention():
        if tasks == 1:
            return call(*map_tasks(lambda leaf: leaf.squeeze(0), (dict(state), x))).unsqueeze(0)
        if torch.is_autocast_enabled(first.device.type) or any(map(_unmappable, module.modules())):
            apart = {name: leaf.unbind() if leaf.requires_grad else leaf for name, leaf in state.items()}
            rows = [
                ({n: leaf[task] for n, leaf in apart.items()}, map_tasks(itemgetter(task), x)) for task in range(tasks)
            ]
            return torch.stack([call(*row) for row in rows])
        try:
            mapped: Tensor = vmap(call, randomness="different")(dict(state), x)
        except RuntimeError as error:
            if "vmap" not in str(error) and "atching rule" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise SpecError(
                f"{type(module).__name__} cannot be mapped over tasks all at once ({reason}); "
                "set engine = { tasks_at_once = 1 }"
            ) from error
    return mapped


def check_embeddings(module: nn.Module, name: str) -> None:
    """Refuse embeddings whose weights cannot be tensors of a task's own.

    Args:
        module: what is to be adapted.
        name: of what adapts it.

    Raises:
        SpecError: an embedding with max_norm, or one with sparse gradients that is not frozen.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            if layer.max_norm is not None:
                raise SpecError(
                    f"{name}: an embedding with max_norm rewrites its weights whenever it is used; leave it out"
                )
            if layer.sparse and layer.weight.requires_grad:
                raise SpecError(
                    f"{name}: an embedding with sparse=True has gradients that cannot be differentiated; leave it out"
                )


def _unmappable(layer: nn.Module) -> bool:
    padded = isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.padding_idx is not None
    return padded or isinstance(layer, nn.RNNBase)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention by matrix products: the fused kernels have neither second derivatives nor a rule for `vmap`.

    A setting of the process: who shares work between threads makes it, and the workers leave it alone.
    """
    if in_worker():
        yield
        return
    fast = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        mha.set_fastpath_enabled(fast)


def pure_call(module: nn.Module, x: Any) -> Any:
    """The module on x, leaving its buffers as they were even in training mode."""
    if not module.training:
        return module(x)
    return functional_call(module, {name: buffer.clone() for name, buffer in module.named_buffers()}, (x,))


def map_tasks(function: Callable[..., Tensor], *states: Any) -> Any:
    """`function` of every tensor in a state (tuples, mappings, None), or of the same tensor in several."""
    first = states[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return function(*states)
    if isinstance(first, Mapping):
        return {name: map_tasks(function, *(state[name] for state in states)) for name in first}
    parts = [map_tasks(function, *leaves) for leaves in zip(*states, strict=True)]
    return tuple(parts) if type(first) is tuple else type(first)(*parts)


def chunks(tasks: int, at_once: int | None) -> Iterator[tuple[int, int]]:
    """(start, stop) of at most `at_once` tasks each (None: all)."""
    step = at_once or tasks
    return ((start, min(start + step, tasks)) for start in range(0, tasks, step))
