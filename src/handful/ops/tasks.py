"""Mapping over tasks: a module with parameters of its own for each task."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import disable_saved_tensors_hooks
from torch.backends import mha
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ShapeError, SpecError
from ..kernels import compiled_operators
from .workers import in_worker

__all__ = [
    "Named",
    "call_each",
    "call_with",
    "check_embeddings",
    "chunks",
    "explained",
    "map_tasks",
    "mappable",
    "plain_attention",
    "plain_recurrence",
    "pure_call",
    "without_checkpoints",
]

CHECKPOINT = (
    "torch.utils.checkpoint (or another hook on saved tensors) within an adapted module would compute again with the "
    "module's own tensors, and give wrong gradients: leave it out; to save memory, set gradient = 'recompute' in engine"
)
Named = Mapping[str, Tensor]
"""Parameters or buffers by name."""


def call_each(module: nn.Module, state: Named, x: Any) -> Tensor:
    """The module on each task's examples with each task's own state: [B, ...] by name, [B, S, *] -> [B, S, *out].

    Only the forward pass is mapped. Differentiate the result with `torch.autograd`: the sum over tasks of a
    loss has, as its gradient in the [B, ...] parameters, every task's own gradient. Buffers in `state` are
    updated in place, also where the module puts another tensor of the same shape (then without its gradient).

    `vmap` maps all tasks at once. One after the other go: a single task; modules that `vmap` cannot map (recurrent
    networks, batch norm that averages over all batches) or maps wrongly (embeddings with a padding index); and
    everything in automatic mixed precision, which convolutions inside `vmap` escape.

    Raises:
        SpecError: `vmap` cannot map the module; one task at a time it works. Or it uses `torch.utils.checkpoint`.
        ShapeError: the module gives something else than a tensor; or as `explained`.
    """

    loose = [name for name in _loose_buffers(module) if name in state]
    first = x if isinstance(x, Tensor) else next(iter(x.values()))
    tasks = first.shape[0]

    def call(task: Named, examples: Any) -> Tensor:
        given = {name: task[name].clone() for name in loose}  # the graph may need what is written over
        own = {**task, **given}
        with without_checkpoints(), compiled_operators(first, state.values(), tasks):
            result = call_with(module, own, (examples,))
        for name in loose:
            after = own[name] if own[name] is given[name] else own[name].detach()
            if after.shape == task[name].shape:
                task[name].copy_(after)
        if not isinstance(result, Tensor):
            raise ShapeError(
                f"{type(module).__name__} gives a {type(result).__name__}; expected a tensor [examples, *out]: "
                "wrap it in a module that gives its outputs alone"
            )
        return result

    with plain_attention():
        if tasks == 1:
            return call(*map_tasks(lambda leaf: leaf.squeeze(0), (dict(state), x))).unsqueeze(0)
        if torch.is_autocast_enabled(first.device.type) or not mappable(module):
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


def call_with(
    module: nn.Module, state: dict[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Any:
    """The module with other tensors in the place of its own, which it has again afterward.

    As `functional_call`, which never gives a layer its own tensors back if the module holds it in two places
    (torch 2.13): here each layer is given them once, tied tensors under each name.

    Args:
        state: parameters and buffers by the names of `named_parameters` and `named_buffers`. A buffer for which the
            module puts another one stands here afterward.
    """
    first: dict[int, str] = {}
    given = dict(state)
    for prefix, layer in module.named_modules():
        for key, leaf in (*layer._parameters.items(), *layer._buffers.items()):
            name = f"{prefix}.{key}" if prefix else key
            origin = first.setdefault(id(leaf), name)
            if leaf is not None and origin in state:
                given[name] = state[origin]
    before = dict(given)
    with explained(module), plain_recurrence(module, given):
        result = functional_call(module, given, args, dict(kwargs or {}), tie_weights=False)
    state.update({name: leaf for name, leaf in given.items() if name in state and leaf is not before[name]})
    return result


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


def _loose_buffers(module: nn.Module) -> Iterator[str]:
    """Names of buffers that others may have replaced in `forward`; torch's layers and ours write into theirs."""
    for prefix, layer in module.named_modules():
        if layer._buffers and not type(layer).__module__.startswith(("torch.nn.", "handful.")):
            yield from (f"{prefix}.{key}" if prefix else key for key in layer._buffers)


def mappable(module: nn.Module) -> bool:
    """Whether `vmap` maps the module, as far as its layers tell."""
    return not any(map(_unmappable, module.modules()))


def _unmappable(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return layer.padding_idx is not None
    if isinstance(layer, _BatchNorm):  # an average over all batches reads its counter
        return layer.momentum is None and layer.track_running_stats
    return isinstance(layer, nn.RNNBase | nn.LSTMCell)


@contextmanager
def explained(module: nn.Module) -> Iterator[None]:
    """What torch says of the examples or of the module, in words that say what to do.

    Raises:
        ShapeError: an embedding is asked for a row it does not have, or examples are of another type than parameters.
        SpecError: a kind of module that cannot be called with other tensors than its own.
    """
    name = type(module).__name__
    try:
        yield
    except IndexError as error:
        if "out of range in self" not in str(error):
            raise
        raise ShapeError(
            f"{name}: an embedding in it got a number that is none of its rows; expected whole "
            "numbers from 0 to below its num_embeddings: give it more rows, or look at the examples"
        ) from error
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        if "stateless API" in reason:
            raise SpecError(
                f"{name}: expected a module that can be called with other tensors than its own; give the one it was "
                "made from (of nn.DataParallel its .module), or a scripted one as nn.Sequential(module)"
            ) from error
        leaves = [leaf for leaf in module.parameters() if leaf.is_floating_point()]
        if not leaves or re.search(r"same dtype|type .*should be the same|scalar type|mixed dtype", reason) is None:
            raise
        types = " and ".join(sorted({str(leaf.dtype) for leaf in leaves}))
        raise ShapeError(
            f"{name}: expected examples of the type of its parameters, {types} on {leaves[0].device} ({reason}); "
            "convert them by .to, or the module"
        ) from error


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Refuse hooks on saved tensors that are set within; those around the call are no matter.

    Raises:
        SpecError: one was set.
    """
    with ExitStack() as stack:
        with suppress(RuntimeError):  # there are some around already
            stack.enter_context(disable_saved_tensors_hooks(CHECKPOINT))
        try:
            yield
        except RuntimeError as error:
            if str(error) != CHECKPOINT:
                raise
            raise SpecError(CHECKPOINT) from None


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


@contextmanager
def plain_recurrence(module: nn.Module, state: Named) -> Iterator[None]:
    """Recurrent layers without cuDNN: its have no second derivatives, and in evaluation mode not even first ones.

    A setting of the process; workers, which are on the CPU, have no need of it.
    """
    layers = any(isinstance(layer, nn.RNNBase) for layer in module.modules())
    if not layers or not any(leaf.device.type == "cuda" for leaf in state.values()):
        yield
        return
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before


def pure_call(module: nn.Module, x: Any) -> Any:
    """The module on x, leaving its buffers as they were even in training mode."""
    if not module.training:
        return module(x)
    return call_with(module, {name: buffer.clone() for name, buffer in module.named_buffers()}, (x,))


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
