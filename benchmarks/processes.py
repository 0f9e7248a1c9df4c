"""A process for each contender, so that its memory is its own, its allocator is set for it alone, what it changes in
torch reaches nobody else, and its failure ends nothing.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from handful.kernels import available
from handful.kernels.passes import convolve
from handful.machine import tune_allocator

from .common import PEERS, Contender, Place, UnmeasuredError, Work

PATIENCE = 900.0  # seconds of a call, at most: nobody may be watching


class Process:
    """A process of its own: calls run in it, one after the other."""

    def __init__(self, place: Place, *, tuned: bool) -> None:
        context = _context()
        self.pool = ProcessPoolExecutor(1, mp_context=context, initializer=_settle, initargs=(place, tuned))

    def __call__(self, function: Callable[..., Any], *given: Any) -> Any:
        try:
            return self.pool.submit(function, *given).result(PATIENCE)
        except TimeoutError:
            for own in list(self.pool._processes.values()):
                own.kill()
            raise UnmeasuredError(f"did not answer for {PATIENCE:.0f} seconds") from None
        except ModuleNotFoundError as error:
            installed = error.name not in PEERS
            raise UnmeasuredError(f"cannot be imported ({error})" if installed else "not installed") from None
        except BrokenProcessPool:
            raise UnmeasuredError("its process died (out of memory?)") from None
        except Exception as error:  # whatever another library does, the others are still to be measured
            first = (str(error).splitlines() or [""])[0]
            raise UnmeasuredError(f"fails here ({type(error).__name__}: {first})") from None

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


@contextmanager
def process(place: Place, *, tuned: bool = False) -> Iterator[Process]:
    """A process that ends with the block."""
    running = Process(place, tuned=tuned)
    try:
        yield running
    finally:
        running.close()


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "handful", "benchmarks.processes"])  # imports once; starts no threads
    return context


def flops_of(question: str, work: Work, threads: int) -> float | None:
    """Floating-point operations of one unit, counted on a plain loop."""
    with process(Place(threads)) as running:
        count: float | None = running(_flops, question, work)
    return count


def limit_of(place: Place) -> float:
    with process(place, tuned=True) as running:
        rate: float = running(_limit, place)
    return rate


# --- what runs in a contender's process

_running: Contender
_device = "cpu"
_before = 0


def _settle(place: Place, tuned: bool) -> None:
    global _device
    _device = place.device
    torch.set_num_threads(place.threads)
    if tuned and not tune_allocator():
        print("this system's allocator cannot be tuned; measured as it is", flush=True)


def get_ready(question: str, work: Work, who: str, place: Place) -> None:
    global _running, _before
    _running = importlib.import_module(f"benchmarks.{question}").contender(work, who, place)
    gc.collect()
    _before = _reset_peak()


def take_turn(calls: int) -> tuple[float, float]:
    """(seconds for a unit, seconds that a call took)."""
    _synchronize()
    began, said = time.perf_counter(), 0.0
    for _ in range(calls):
        result = _running.step()
        said += result if isinstance(result, float) else 0.0
    _synchronize()
    took = time.perf_counter() - began
    return (said or took) / calls / _running.amount, took / calls


def peak_above() -> int:
    if _device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(_device) - _before
    return max(0, _peak() - _before)


def answers(question: str, work: Work, who: str, place: Place) -> dict[str, Any]:
    found = importlib.import_module(f"benchmarks.{question}").contender(work, who, place).answer()
    return {name: leaf.detach().double().cpu().numpy() for name, leaf in found.items()}


def _flops(question: str, work: Work) -> float | None:
    count: float | None = importlib.import_module(f"benchmarks.{question}").flops(work)
    return count


def _limit(place: Place) -> float:
    """Most floating-point operations a second of a large matrix product or a convolution, in a second of each."""
    size = 8192 if place.device.startswith("cuda") else 1536
    dtype = torch.bfloat16 if place.precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, dtype=dtype, device=place.device) for _ in range(2))
    x, w = (torch.randn(*shape, dtype=dtype, device=place.device) for shape in ((32, 64, 32, 32), (64, 64, 3, 3)))
    ways: list[tuple[float, Callable[[], Any]]] = [
        (2 * size**3, lambda: torch.mm(a, b)),
        (18 * 64 * x.numel(), lambda: torch.conv2d(x, w, padding=1)),
    ]
    if place.device == "cpu" and dtype == torch.float32 and available():
        framed = torch.randn(1, 64, 2 + 2, 28 + 2, 64)  # too few rows for Winograd's tiles: all products are made
        ways.append((18 * 64 * 64 * 64 * 2 * 28, lambda: convolve(framed, w[None])))
    return max(operations / _fastest(run) for operations, run in ways)


def _fastest(run: Callable[[], Any]) -> float:
    best, end = float("inf"), time.perf_counter() + 1
    while time.perf_counter() < end:
        _synchronize()
        began = time.perf_counter()
        run()
        _synchronize()
        best = min(best, time.perf_counter() - began)
    return best


def _synchronize() -> None:
    if _device.startswith("cuda"):
        torch.cuda.synchronize(_device)


def _reset_peak() -> int:
    """Bytes in use now; the peak counts from here on, where the system can reset it."""
    if _device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(_device)
        return torch.cuda.memory_allocated(_device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
