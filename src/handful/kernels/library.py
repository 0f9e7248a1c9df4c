"""The compiled kernels: found, loaded and called."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["available", "call", "fusable", "plain", "reason", "spread", "variant"]

DTYPES = {torch.float32: "f", torch.float64: "d"}

_plain: ContextVar[bool] = ContextVar("handful_plain_kernels", default=False)


def reason() -> str:
    """Why the compiled kernels are not used; empty where they are."""
    return _load()[1]


def available() -> bool:
    """Whether the compiled kernels may be used here and now."""
    return not _plain.get() and _load()[0] is not None


def fusable(x: Tensor, w: Tensor) -> bool:
    """Whether a block of w's filters on x can be one: kinds of numbers and of processor, and nobody looking in.

    Not in mixed precision, while a graph is traced, or for filters that do not fill vectors.
    """
    return (
        x.device.type == "cpu" == w.device.type
        and x.dtype == w.dtype
        and x.dtype in DTYPES
        and x.numel() > 0
        and w.shape[0] % 32 == 0
        and available()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    )


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
    digest = hashlib.sha256(b"".join((folder / source).read_bytes() for source in ("block.c", "block.h")))
    path = folder / f"block-{name}-{digest.hexdigest()[:12]}.so"
    if not path.exists():
        return None, "they were not built when handful was installed; install it again where there is a C compiler"
    try:
        return ctypes.CDLL(str(path)), ""
    except OSError as error:
        return None, f"they cannot be loaded: {error}"


@cache
def _function(name: str, dtype: torch.dtype) -> Callable[..., None]:
    library = _load()[0]
    assert library is not None
    function = getattr(library, f"{name}_{DTYPES[dtype]}")
    function.restype = None
    return function  # type: ignore[no-any-return]


def call(name: str, dtype: torch.dtype, *arguments: Tensor | int | float | None) -> None:
    """A kernel of block.h on contiguous tensors (their addresses), whole numbers, numbers of `dtype` and null."""
    number = ctypes.c_float if dtype == torch.float32 else ctypes.c_double
    _function(name, dtype)(
        *(
            ctypes.c_void_p(value.data_ptr())
            if isinstance(value, Tensor)
            else number(value)
            if isinstance(value, float)
            else ctypes.c_void_p(None)
            if value is None
            else ctypes.c_long(value)
            for value in arguments
        )
    )


def spread(count: int, run: Callable[[int, int, int], None]) -> int:
    """`run(part, start, stop)` on equal parts of `count` examples, as many as torch has threads; how many."""
    parts = min(torch.get_num_threads(), count)
    edges = [count * part // parts for part in range(parts + 1)]
    others = [_pool(parts).submit(run, part, edges[part], edges[part + 1]) for part in range(1, parts)]
    try:
        run(0, edges[0], edges[1])
    finally:
        for other in others:
            other.result()
    return parts


@cache
def _pool(parts: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(parts - 1, thread_name_prefix="handful-kernel")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
