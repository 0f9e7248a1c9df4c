"""The compiled kernels: found, loaded and called."""

from __future__ import annotations

import ctypes
import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch._C._functorch as functorch
import torch.autograd.forward_ad as forward_mode
from torch import Tensor, nn

__all__ = [
    "available",
    "call",
    "fusable",
    "lies",
    "plain",
    "reason",
    "shared",
    "spread",
    "summed",
    "traced",
    "variant",
]

DTYPES = {torch.float32: "f", torch.float64: "d"}
ORDINARY = (Tensor, nn.Parameter)
"""Kinds of tensors that lie in memory as they say; subclasses may not."""
SOURCES = "*.[ch]"
"""Files that decide a build, in the order of their names, as in hatch_build.py."""
MOST = 32
"""Arguments of a kernel that runs on several threads, as in block.c."""

_plain: ContextVar[bool] = ContextVar("handful_plain_kernels", default=False)


def reason() -> str:
    """Why the compiled kernels are not used; empty where they are."""
    return _load()[1]


def available() -> bool:
    """Whether the compiled kernels may be used here and now."""
    return not _plain.get() and _load()[0] is not None


def fusable(x: Tensor, *weights: Tensor) -> bool:
    """Whether blocks of these filters on x can be one each: kinds of numbers and of processor, and nobody looking in.

    Not in mixed precision, in forward mode, under a dispatch mode, or for filters that do not fill vectors.
    """
    return (
        type(x) in ORDINARY
        and x.device.type == "cpu"
        and x.dtype in DTYPES
        and x.numel() > 0
        and all(type(w) in ORDINARY and w.is_cpu and w.dtype == x.dtype and w.shape[0] % 32 == 0 for w in weights)
        and available()
        and not torch.is_autocast_enabled("cpu")
        and torch._C._len_torch_dispatch_stack() == 0
        and forward_mode._current_level < 0
    )


def lies(*tensors: Tensor) -> bool:
    """Whether the kernels can read these where they are: ordinary tensors of one kind of number, and nobody looking in.

    Nothing in forward mode, under a dispatch mode, or under a transform of `torch.func`.
    """
    first = tensors[0]
    return (
        all(type(leaf) in ORDINARY and leaf.is_cpu and leaf.dtype == first.dtype and _lies(leaf) for leaf in tensors)
        and first.dtype in DTYPES
        and functorch.maybe_current_level() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and forward_mode._current_level < 0
        and available()
    )


def _lies(leaf: Tensor) -> bool:
    wrapped = functorch.is_functorch_wrapped_tensor(leaf) or functorch.is_legacy_batchedtensor(leaf)
    return not wrapped and leaf.layout is torch.strided and leaf.numel() > 0 and not leaf.is_neg()


def traced() -> bool:
    """Whether a graph of what is called is made."""
    return torch.compiler.is_compiling() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


@contextmanager
def plain() -> Iterator[None]:
    """Use PyTorch's own operators meanwhile."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def variant() -> str:
    """The build that this processor runs fastest: "avx512", "avx2", or "" for none."""
    capability = str(torch.backends.cpu.get_cpu_capability()).lower()
    return capability if capability in ("avx512", "avx2") else ""


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get("HANDFUL_KERNELS", "").lower() in ("0", "off"):
        return None, "switched off by HANDFUL_KERNELS"
    name = variant()
    if not name:
        return None, "they need an x86 processor with AVX2"
    folder = Path(__file__).parent
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob(SOURCES))))
    path = folder / f"block-{name}-{digest.hexdigest()[:12]}.so"
    if not path.exists():
        return None, "they were not built when handful was installed; install it again where there is a C compiler"
    if not _whole(path):
        return None, f"{path.name} is cut short; install handful again"
    try:
        return ctypes.CDLL(str(path)), ""
    except OSError as error:
        return None, f"they cannot be loaded: {error}"


def _whole(path: Path) -> bool:
    """Whether an ELF file reaches as far as its header says: to load one that was cut short ends the process."""
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 64 or head[:4] != b"\x7fELF":
        return True  # the loader says what is wrong with it
    (sections,), (size, number) = struct.unpack_from("<Q", head, 40), struct.unpack_from("<HH", head, 58)
    return bool(sections + size * number <= path.stat().st_size)


@cache
def _function(name: str, dtype: torch.dtype) -> Any:
    library = _load()[0]
    assert library is not None
    function = getattr(library, f"{name}_{DTYPES[dtype]}")
    function.restype = None
    return function


def call(name: str, dtype: torch.dtype, *arguments: Tensor | float | None) -> None:
    """A kernel of block.h on contiguous tensors (their addresses), whole numbers, numbers of `dtype` and null."""
    function = _function(name, dtype)
    if function.argtypes is None:
        number = ctypes.c_float if dtype == torch.float32 else ctypes.c_double
        function.argtypes = tuple(number if isinstance(value, float) else ctypes.c_long for value in arguments)
    function(*_words(arguments))


def spread(
    name: str, dtype: torch.dtype, count: int, arguments: Callable[[int, int, int], Sequence[Tensor | int | None]]
) -> None:
    """A kernel on equal parts of `count` examples, as many as torch has threads: `arguments(part, start, stop)`.

    By torch's own threads: others would find the processor taken, because idle ones spin for a while.

    Raises:
        MemoryError: there is no room for what a kernel keeps meanwhile.
    """
    parts = min(torch.get_num_threads(), count) if _parallel() is not None else 1
    words = (ctypes.c_long * (MOST * parts))()
    kept = []  # what only the lists hold must outlive the call
    for part in range(parts):
        values = arguments(part, count * part // parts, count * (part + 1) // parts)
        words[MOST * part : MOST * part + len(values)] = _words(values)
        kept.append(values)
    library = _load()[0]
    assert library is not None
    if library.team(_parallel(), _function(name, dtype), words, ctypes.c_long(parts)):
        raise MemoryError(f"no room for what the compiled kernel {name} keeps meanwhile")


def _words(values: Sequence[Tensor | float | None]) -> list[Any]:
    try:
        return [value.data_ptr() if isinstance(value, Tensor) else value or 0 for value in values]
    except RuntimeError as error:  # a batch that `is_grads_batched` made
        raise NotImplementedError(
            f"compiled kernels need tensors that lie in memory ({error}): use torch.func, or compute inside "
            "`with handful.kernels.plain():`"
        ) from error


@cache
def _parallel() -> Any:
    """`GOMP_parallel` of the OpenMP runtime that torch uses; None where there is none."""
    try:
        return ctypes.CDLL(str(next(Path(torch.__file__).parent.glob("lib/libtorch_cpu.*")))).GOMP_parallel
    except (StopIteration, OSError, AttributeError):
        return None


def shared(w: Tensor) -> tuple[Tensor, int]:
    """[B, ...], and how far apart tasks lie: 0 if all have the same, of which one is given."""
    if len(w) == 1 or w.stride(0) == 0:
        return w[:1].contiguous(), 0
    w = w.contiguous()
    return w, w.stride(0)


def summed(parts: Tensor) -> Tensor:
    """The sum over threads."""
    return parts[0] if len(parts) == 1 else parts.sum(0)
