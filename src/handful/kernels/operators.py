"""A mode that gives the compiled kernels what any module computes: products, convolutions, norms and GELUs.

torch's own convolutions (oneDNN) take four times the products for filters of 3×3, and are slow where the stride is not
one; its products (MKL) leave half of an AMD processor unused, for which it has no AVX-512; the gradient of the gradient
of its batch and layer norms is composed of some forty operators, that of its GELU of ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch._C._functorch as functorch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack
from torch.overrides import TorchFunctionMode

from .convolution import Window, convolution
from .gelu import gelu
from .library import available, lies, traced, variant
from .normalization import batch_norm, layer_norm
from .product import product, worth

__all__ = ["CompiledOperators", "Fused", "compiled_operators", "threads_inside"]

LEAST = 1 << 20
"""Multiplications, of all tasks together, from which a kernel is used: less is over before Python has done so."""
MOST_FILTERS = 1 << 15
"""Inputs by outputs of a convolution beyond which reading and writing weights takes the time."""
LEAST_NORMALIZED = 1 << 13
"""Numbers, of all tasks together, from which a kernel normalizes, or applies GELU."""
PLACES = 16
"""Of a map, as many as fill a vector."""


def compiled_operators(x: Tensor, parameters: Iterable[Tensor], tasks: int = 1) -> AbstractContextManager[Any]:
    """`CompiledOperators` where they may pay, for examples x that go through the parameters of so many tasks.

    Nowhere where somebody looks in: another mode of torch, or what makes a graph.
    """
    if traced() or not x.is_cpu or torch._C._len_torch_function_stack() or variant() != "avx512" or not available():
        return nullcontext()
    enough = x.numel() * sum(parameter.numel() for parameter in parameters) >= LEAST * tasks
    return CompiledOperators() if enough else nullcontext()


class Fused:
    """A kind of module whose passes are a few long kernels, so that threads need not wait for Python."""


def threads_inside(module: nn.Module) -> bool:
    """Whether threads do better to share each operator of a module than to work on tasks of their own.

    So it is where compiled operators are used: Python, which they are called from, serves one thread at a time. On two
    idle cores a second-order step of a transformer took 150 ms so, and 170 to 190 ms by two workers; of a residual
    network 325 and 400 ms. (Where another program has one of the cores, operators wait for the slower thread: 570 and
    280 ms.)
    """
    return variant() == "avx512" and available() and not any(isinstance(layer, Fused) for layer in module.modules())


class CompiledOperators(TorchFunctionMode):
    """Within, large products, convolutions, norms and GELUs of any module go to the kernels, also in `vmap`.

    Their derivatives do wherever they are computed. Everything in mixed precision, in forward mode or under another
    transform of `torch.func` is left to torch.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute `func`, by a kernel if there is one for it."""
        other = _OPERATORS.get(func)
        if other is not None and not torch.is_autocast_enabled("cpu"):
            found = other(*args, **(kwargs or {}))
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))


def _by_task(function: Callable[..., Tensor | None], *inputs: Tensor | None, bare: bool = False) -> Tensor | None:
    """The function of tensors [B, ...], or [1, ...] if all tasks share them. Outside of `vmap` there is one task.

    bare: the function also takes the tensors of one task as they are, which saves nodes of the graph.
    """
    found: Tensor | None
    level = functorch.maybe_current_level()
    if level is None:
        if bare:
            return function(*inputs)
        found = function(*(None if leaf is None else leaf[None] for leaf in inputs))
        return None if found is None else found.squeeze(0)
    if not any(leaf is not None and functorch.is_batchedtensor(leaf) for leaf in inputs):
        return None
    outer = [None if leaf is None else _unmapped(leaf, level) for leaf in inputs]
    with temporarily_pop_interpreter_stack():
        found = function(*outer)
    return None if found is None else functorch._add_batch_dim(found, 0, level)


def _unmapped(leaf: Tensor, level: int) -> Tensor:
    if functorch.is_batchedtensor(leaf) and functorch.maybe_get_level(leaf) == level:
        dim, leaf = functorch.maybe_get_bdim(leaf), functorch.get_unwrapped(leaf)
        return leaf.movedim(dim, 0) if dim else leaf
    return leaf[None]


def _of_all(leaf: Tensor, tasks: int) -> Tensor:
    """[B, ...] of what all tasks share, [1, ...]; what is there already needs no node of the graph."""
    return leaf if len(leaf) == tasks else leaf.expand(tasks, *leaf.shape[1:])


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    if not products_pay() or input.dim() < 2 or weight.dim() != 2 or input.shape[-1] != weight.shape[-1]:
        return None
    return None if _odd(bias, weight) else _by_task(_linear_of_tasks, input, weight, bias)


def _linear_of_tasks(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor | None:
    y = _product_of_tasks(x, w, turned=True)
    return y if y is None or bias is None else y + bias.view(-1, *[1] * (y.dim() - 2), bias.shape[-1])


def _odd(bias: Tensor | None, weight: Tensor) -> bool:
    """Whether there is more to say of a bias than one number for each output."""
    return bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != weight.dtype or not bias.is_cpu)


def _matmul(*inputs: Any, dims: int | None = None, **others: Any) -> Tensor | None:
    if others or len(inputs) != 2 or not (products_pay() and all(isinstance(leaf, Tensor) for leaf in inputs)):
        return None
    a, b = inputs
    if min(a.dim(), b.dim()) < 2 or (dims and not a.dim() == b.dim() == dims):
        return None
    if a.shape[-1] != b.shape[-2] or not (b.dim() == 2 or a.shape[:-2] == b.shape[:-2]):
        return None
    return _by_task(_product_of_tasks, a, b)


def _product_of_tasks(a: Tensor, b: Tensor, *, turned: bool = False) -> Tensor | None:
    """a [B, ..., M, K] by b [B, ..., K, O], of which either may be that of all tasks, or by b [B, K, O].

    turned: whether b is given as its transpose.
    """
    tasks, columns = max(len(a), len(b)), b.shape[-2 if turned else -1]
    if math.prod(a.shape[1:]) * tasks * columns < LEAST or not lies(a, b):
        return None
    shape = (tasks, *a.shape[1:-1], columns)
    if b.dim() == 3 and len(b) == 1:
        a = a.reshape(1, -1, a.shape[-1])
    else:
        a, b = _of_all(a, tasks), _of_all(b, tasks)
        a = a.flatten(0, max(0, a.dim() - 4)) if b.dim() > 3 else a.flatten(1, -2)
        b = b.flatten(0, max(0, b.dim() - 4))
    if not worth(a, b, (False, turned)):
        return None
    c = product(a, b, (False, turned))
    return c if c.shape == shape else c.view(shape)


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    filters, stride = weight.shape[2:], _pair(stride)
    if isinstance(padding, str):
        if padding == "same" and not (stride == (1, 1) and all(side % 2 for side in filters)):
            return None
        padding = tuple(side // 2 for side in filters) if padding == "same" else 0
    window = Window(stride, _pair(padding))
    if input.dim() != 4 or weight.dim() != 4 or groups != 1 or _pair(dilation) != (1, 1):
        return None
    if input.shape[1] != weight.shape[1] or weight.shape[0] * weight.shape[1] > MOST_FILTERS:
        return None
    if min(window.stride) < 1 or min(window.padding) < 0 or _odd(bias, weight):
        return None
    sides = window.over(input.shape[2:], filters)
    positions = len(input) * math.prod(sides)
    if min(sides) < 1 or positions < max(weight.shape[:2]):
        return None

    def of_tasks(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor | None:
        tasks = 1 if x.dim() == w.dim() == 4 else max(len(x), len(w))
        if tasks * positions * weight.numel() < LEAST or not lies(x, w):
            return None
        if x.dim() == w.dim() == 4:
            y = convolution(x, w, window)
        elif len(w) == 1:
            y = convolution(x.flatten(0, 1), w[0], window).view(tasks, -1, w.shape[1], *sides)
        else:
            y = convolution(_of_all(x, tasks), w, window)
        return y if bias is None else y + bias.view(*bias.shape[:-1], 1, bias.shape[-1], 1, 1)

    return _by_task(of_tasks, input, weight, bias, bare=True)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if not training or running_mean is not None or running_var is not None or weight is None or bias is None:
        return None
    if input.dim() < 3 or math.prod(input.shape[2:]) < PLACES or _odd(bias, weight) or weight.shape != input.shape[1:2]:
        return None

    def of_tasks(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor | None:
        if weight.dim() > 1:
            tasks = max(len(x), len(weight), len(bias))
            x, weight, bias = (_of_all(leaf, tasks) for leaf in (x, weight, bias))
        if x.numel() < LEAST_NORMALIZED or not (lies(x, weight, bias) and x.is_contiguous()):
            return None
        return batch_norm(x, weight, bias, float(eps))

    return _by_task(of_tasks, input, weight, bias, bare=True)


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor | None:
    shape = tuple(normalized_shape)
    if weight is None or bias is None or not input.shape[-len(shape) :] == weight.shape == bias.shape == shape:
        return None
    if input.dim() == len(shape) or math.prod(shape) < PLACES:
        return None

    def of_tasks(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor | None:
        if x.numel() < LEAST_NORMALIZED or not lies(x, weight, bias):
            return None
        own = max(len(weight), len(bias))
        tasks = max(own, len(x) if own > 1 else 1)
        rows = _of_all(x, own if len(x) == 1 else len(x))
        scale, shift = (_of_all(leaf, tasks).flatten(1) for leaf in (weight, bias))
        return layer_norm(rows.reshape(tasks, -1, math.prod(shape)), scale, shift, float(eps)).view(rows.shape)

    return _by_task(of_tasks, input, weight, bias)


def _gelu(input: Tensor, approximate: str = "none") -> Tensor | None:
    if approximate != "none":
        return None
    return _by_task(lambda x: gelu(x) if x.numel() >= LEAST_NORMALIZED and lies(x) else None, input, bare=True)


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[-1]) if isinstance(value, Sequence) else (value, value)


@cache
def products_pay() -> bool:
    """Whether products of matrices are faster by the kernel: where torch's MKL does not know the processor."""
    try:
        intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        intel = True
    return torch.backends.mkl.is_available() and not intel


_OPERATORS: dict[Any, Callable[..., Tensor | None]] = {
    F.linear: _linear,
    F.conv2d: _conv2d,
    F.batch_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    F.gelu: _gelu,
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), _matmul),
    **dict.fromkeys((torch.mm, Tensor.mm), partial(_matmul, dims=2)),
    **dict.fromkeys((torch.bmm, Tensor.bmm), partial(_matmul, dims=3)),
}
