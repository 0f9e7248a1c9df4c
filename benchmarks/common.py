"""What the questions share: works, places, a process for each contender, turns, and rows.

Every contender lives in a process of its own, so that its memory is its own, its allocator is set for it alone, what it
changes in torch reaches nobody else, and its failure ends nothing. The processes take turns, one call at a time, while
the others wait; a round is one turn of each, and a ratio is made from the two turns of the same round. A busy spell
then hits both.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from handful.kernels import available
from handful.kernels.passes import convolve
from handful.machine import commit, describe_machine, tune_allocator, versions

OURS, PLAIN = "handful", "plain"
PEERS = ("learn2learn", "higher", "torchopt", "easyfsl")
TOLERANCE = 1e-8  # relative, in float64
SHORT, LONG, FEW, MANY = 0.05, 5.0, 3, 7  # seconds of a turn, at least; of a step that is long; rounds, at least
PATIENCE = 900.0  # seconds of a call, at most: nobody may be watching


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something to measure. A question adds its sizes."""

    name: str
    title: str
    peers: tuple[str, ...]
    notes: tuple[tuple[str, str], ...] = ()
    """(peer, what a reader must know of its row)."""
    compiles: ClassVar[bool] = True
    """Whether `--compile` has something to compile; works that have nothing are left out then."""


class Place(NamedTuple):
    """Where and how a contender runs."""

    threads: int = 1
    allocator: str = "default"
    """"default": the peer as shipped, ours with the allocator as the command line `handful` sets it. "tuned": both."""
    device: str = "cpu"
    precision: str = "float32"
    """"float32"; "bfloat16" by automatic mixed precision; "float64" to compare answers."""
    compiled: bool = False

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.precision == "float64" else torch.float32

    def casting(self) -> Any:
        if self.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(self.device.partition(":")[0], torch.bfloat16)


class Contender(NamedTuple):
    """One side of a comparison, ready to run."""

    step: Callable[[], object]
    """What is timed. Where it returns a float, that is how many seconds it stands for."""
    answer: Callable[[], Mapping[str, Tensor]]
    """What must agree with the others, by name; names that only one side has are not compared."""
    amount: int = 1
    """How many units (episodes, for one) a step makes."""


class UnmeasuredError(Exception):
    """A contender that cannot be measured, and why."""


class Turns(NamedTuple):
    """What one contender's process measured."""

    seconds: list[float]
    """Of each round, for a unit."""
    peak: int
    """Bytes above what was in use after imports and setting up."""


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
    context.set_forkserver_preload(["torch", "handful", "benchmarks.common"])  # imports once; starts no threads
    return context


# --- in a contender's process

_running: Contender
_device = "cpu"
_before = 0


def _settle(place: Place, tuned: bool) -> None:
    global _device
    _device = place.device
    torch.set_num_threads(place.threads)
    if tuned and not tune_allocator():
        print("this system's allocator cannot be tuned; measured as it is", flush=True)


def _get_ready(question: str, work: Work, who: str, place: Place) -> None:
    global _running, _before
    _running = importlib.import_module(f"benchmarks.{question}").contender(work, who, place)
    gc.collect()
    _before = _reset_peak()


def _turn(calls: int) -> tuple[float, float]:
    """(seconds for a unit, seconds that a call took)."""
    _synchronize()
    began, said = time.perf_counter(), 0.0
    for _ in range(calls):
        result = _running.step()
        said += result if isinstance(result, float) else 0.0
    _synchronize()
    took = time.perf_counter() - began
    return (said or took) / calls / _running.amount, took / calls


def _peak_above() -> int:
    if _device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(_device) - _before
    return max(0, _peak() - _before)


def _answers(question: str, work: Work, who: str, place: Place) -> dict[str, Any]:
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
        framed = torch.randn(1, 64, 8 + 2, 8 + 2, 64)  # too small for Winograd's tiles: all products are made
        ways.append((18 * 64 * 64 * 64 * 64, lambda: convolve(framed, w[None])))
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


# --- in the process that conducts them


def agreeing(
    question: str, work: Work, peers: list[str], device: str, threads: int
) -> tuple[dict[str, float], list[str]]:
    """How far each peer's answers are from ours, relative, in float64; and a line for each that is left out.

    Raises:
        UnmeasuredError: we ourselves fail.
    """
    place = Place(threads, device=device, precision="float64")
    checked = importlib.import_module(f"benchmarks.{question}").checked(work)
    with process(place) as running:
        ours = running(_answers, question, checked, OURS, place)
    errors, left_out = {}, []
    for who in peers:
        try:
            with process(place) as running:
                theirs = running(_answers, question, checked, who, place)
            errors[who] = distance(ours, theirs)
            if not errors[who] <= TOLERANCE:
                raise UnmeasuredError(f"computes something else: {errors.pop(who):.1e} away, more than {TOLERANCE:.0e}")
        except UnmeasuredError as why:
            left_out.append(f"{who}: {why}, so not measured")
    return errors, left_out


def distance(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """The largest relative difference of two answers, name by name. Small parts count against the whole."""
    common = ours.keys() & theirs.keys()
    if not common or any(ours[name].size != theirs[name].size for name in common):
        return float("inf")
    if not all(np.isfinite(side[name]).all() for side in (ours, theirs) for name in common):
        return float("inf")
    norms = {name: float((theirs[name] ** 2).sum() ** 0.5) for name in common}
    whole = max(*norms.values(), 1e-300)
    apart = {name: float(((ours[name].ravel() - theirs[name].ravel()) ** 2).sum() ** 0.5) for name in common}
    return max(apart[name] / max(norms[name], 1e-3 * whole) for name in common)


def flops_of(question: str, work: Work, threads: int) -> float | None:
    """Floating-point operations of one unit, counted on a plain loop."""
    with process(Place(threads)) as running:
        count: float | None = running(_flops, question, work)
    return count


def limit_of(place: Place) -> float:
    with process(place, tuned=True) as running:
        rate: float = running(_limit, place)
    return rate


def warm(turn: Callable[[], tuple[float, float] | None], place: Place) -> float | None:
    """The seconds that a call takes once everything is ready; None where it fails.

    A step that takes long is called once only, except where a first call loads libraries or compiles.
    """
    first = turn()
    slow_start = place.compiled or place.device != "cpu"
    found = first if first is None or (first[1] >= LONG and not slow_start) else turn()
    return None if found is None else found[1]


def taking_turns(
    question: str, work: Work, contenders: list[str], place: Place, seconds: float
) -> tuple[dict[str, Turns], list[str]]:
    """What each contender measured, the same number of rounds each; and a line for each that failed.

    Goes on for `seconds`, and for at least seven rounds (three if a step takes five seconds or more) after one that
    only warms up. Each round starts with another contender.
    """
    running: dict[str, Process] = {}
    seconds_of: dict[str, list[float]] = {}
    lines: list[str] = []

    def attempt(who: str, function: Callable[..., Any], *given: Any) -> Any:
        try:
            return running[who](function, *given)
        except UnmeasuredError as why:
            lines.append(f"{who}: {why}, so not measured")
            running.pop(who).close()

    try:
        for who in contenders:
            running[who] = Process(place, tuned=place.allocator == "tuned" or who == OURS)
            attempt(who, _get_ready, question, work, who, place)
        calls, longest = {}, 0.0
        for who in list(running):
            took = warm(partial(attempt, who, _turn, 1), place)
            if took is not None:
                calls[who] = max(1, round(SHORT / max(took, 1e-9)))
                longest = max(longest, took)
                seconds_of[who] = []
        least, end, rounds = (FEW if longest >= LONG else MANY), time.perf_counter() + seconds, 0
        while (rounds < least or time.perf_counter() < end) and len(running) > 1:
            order = list(running)
            for who in order[rounds % len(order) :] + order[: rounds % len(order)]:
                turn = attempt(who, _turn, calls[who])
                if turn is not None:
                    seconds_of[who].append(turn[0])
            rounds += 1
        peaks = {who: attempt(who, _peak_above) for who in list(running)}
        return {who: Turns(seconds_of[who], peak) for who, peak in peaks.items() if peak is not None}, lines
    finally:
        for one in running.values():
            one.close()


def rows(
    question: str,
    work: Work,
    place: Place,
    turns: Mapping[str, Turns],
    errors: Mapping[str, float],
    flops: float | None,
    limit: float,
) -> list[dict[str, Any]]:
    """A row for each peer that was measured."""
    if OURS not in turns:
        return []
    ours = turns[OURS]
    middle = statistics.median(ours.seconds)
    about = {
        "threads": place.threads,
        "allocator": place.allocator,
        "device": place.device,
        "precision": place.precision + (" compiled" if place.compiled else ""),
        "flops": flops,
        "limit_flops_per_second": limit,
        "limit_fraction": None if flops is None else flops / middle / limit,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "machine": describe_machine(place.device) | {"threads": place.threads},
        "versions": versions() | _peer_versions(),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    found = []
    for who, theirs in turns.items():
        if who == OURS:
            continue
        ratios = [their / our for their, our in zip(theirs.seconds, ours.seconds, strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
        found.append(
            {
                "question": question,
                "work": work.name,
                "title": work.title,
                "peer": who,
                "ratio": ratio,
                "low": low,
                "high": high,
                "spread": "quartiles",
                "pairs": len(ratios),
                "our_seconds": middle,
                "peer_seconds": statistics.median(theirs.seconds),
                "our_peak_bytes": ours.peak,
                "peer_peak_bytes": theirs.peak,
                "peak_memory_ratio": ours.peak / theirs.peak if theirs.peak else None,
                "gradient_error": errors[who],
                "note": dict(work.notes).get(who, ""),
                **about,
            }
        )
    return found


def _peer_versions() -> dict[str, str]:
    found = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
