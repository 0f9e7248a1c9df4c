"""Jobs shared between threads, one thread a core: small kernels run faster so than with many threads inside each.

`functional_call` swaps a module's parameters in place, so each worker has a copy of the module that shares its
tensors. Results come in the order of the jobs, whoever did them, so that sums of them are the same in every run.
"""

from __future__ import annotations

import copy
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import copy_context
from functools import cache
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

__all__ = ["NoiseDrawn", "in_worker", "share", "threadable", "without_noise"]

M = TypeVar("M", bound=nn.Module)
R = TypeVar("R")
T = TypeVar("T")


class NoiseDrawn(Exception):  # noqa: N818 - a signal between floors, never seen outside
    """A worker drew random numbers, whose order would depend on the scheduling of threads."""


_here = threading.local()
_noisy: WeakKeyDictionary[nn.Module, set[bool]] = WeakKeyDictionary()
"""Modules that were seen to draw random numbers, in training mode or not: what was tried once need not be again."""


def in_worker() -> bool:
    """Whether this thread is one of `share`."""
    return getattr(_here, "working", False)


def threadable() -> bool:
    """Whether other threads can take part: nothing watches this one alone.

    Modes of torch (a default device, counters of operations) and `torch.func` transforms belong to one thread.
    """
    watched = torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack()
    transformed = torch._C._functorch.maybe_current_level() is not None
    return not (in_worker() or watched or transformed)


def without_noise(module: nn.Module, attempt: Callable[[int], R], workers: int) -> R:
    """`attempt(workers)`, and if random numbers were drawn in it, once more with one worker, from the same state.

    torch has one generator for all threads. So the numbers drawn are those of a plain loop, for any `workers`.
    """
    if workers == 1 or not threadable() or module.training in _noisy.get(module, ()):
        return attempt(1)
    before = torch.get_rng_state()
    try:
        result = attempt(workers)
        if torch.equal(before, torch.get_rng_state()):
            return result
    except NoiseDrawn:
        pass
    _noisy.setdefault(module, set()).add(module.training)
    torch.set_rng_state(before)
    return attempt(1)


def share(module: M, job: Callable[[M, int], R], jobs: int, workers: int) -> Iterator[R]:
    """The results of job(module or a copy of it, number), in order, computed by as many threads as `workers`.

    Each has one thread for tensor operations, and the caller's context variables, gradient and inference modes and
    automatic mixed precision. The first error in the order of the jobs is raised here, when no job runs any more.
    A module that cannot be copied is worked on by the caller alone.
    """
    copies = _copies(module, min(workers, jobs))
    if len(copies) == 1:
        yield from (job(module, number) for number in range(jobs))
        return
    results: deque[Future[R]] = deque(Future() for _ in range(jobs))
    waiting = deque(enumerate(results))
    state = _state()

    def work(own: M) -> None:
        torch.set_num_threads(1)
        _here.working = True
        try:
            for number, result in _taken(waiting):
                try:
                    with state():
                        result.set_result(job(own, number))
                except BaseException as error:
                    waiting.clear()
                    result.set_exception(error)
        finally:
            _here.working = False

    threads = torch.get_num_threads()
    running: list[Future[None]] = []
    try:
        running += [_pool().submit(copy_context().run, work, own) for own in copies]
        while results:
            yield results.popleft().result()
    finally:
        waiting.clear()
        wait(running)
        torch.set_num_threads(threads)  # MKL has one setting for the process


def _taken(waiting: deque[T]) -> Iterator[T]:
    """What waits, one after the other, until nothing does: other workers take from it too."""
    with suppress(IndexError):
        while True:
            yield waiting.popleft()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(32, os.cpu_count() or 1), "handful")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def _copies(module: M, workers: int) -> list[M]:
    """The module and copies of it that share its tensors; the module alone if it cannot be copied."""
    tensors = [*module.parameters(), *module.buffers()]
    held = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    copies = [module]
    try:
        for _ in range(workers - 1):
            other = copy.deepcopy(module, {id(leaf): leaf for leaf in [*tensors, *held]})
            shared = zip(tensors, [*other.parameters(), *other.buffers()], strict=True)
            if not all(mine is yours for mine, yours in shared):
                return [module]
            copies.append(other)
    except Exception:  # whatever a module's own way of copying raises
        return [module]
    return copies


def _state() -> Callable[[], AbstractContextManager[None]]:
    """Makes contexts in which a thread has the modes that the caller has now."""
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    cast, precision = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    @contextmanager
    def state() -> Iterator[None]:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(gradients),
            torch.autocast("cpu", precision, enabled=cast, cache_enabled=False),
        ):
            yield

    return state
