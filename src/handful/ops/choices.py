"""What the engine chooses by itself: how many tasks at once, how many workers, which steps keep their graph."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

__all__ = ["Plan", "affordable_form", "count_graph", "graph_bytes", "plan", "within"]

M = TypeVar("M")
R = TypeVar("R")

NUMBERS_AT_ONCE = 110_000
PARAMETERS_AT_ONCE = 8_000_000
WORK_ALONE = 5_000_000_000
WORK_TO_SHARE = 500_000_000
GRAPH_BYTES = 4 << 30


class Plan(NamedTuple):
    """How tasks are mapped."""

    tasks_at_once: int
    workers: int


def plan(
    tasks: int,
    numbers: int,
    parameters: int,
    device: str,
    threads: int,
    *,
    inside: bool = False,
    tasks_at_once: int | None = None,
    workers: int | None = None,
) -> Plan:
    """How to map so many tasks, where it is not said.

    On an accelerator, or in a graph for any number of examples (`torch.export`): all tasks at once. On a CPU:

    - as many at once as have 110,000 numbers in their examples, in equal chunks, as many chunks for each worker.
      Second-order steps on one core, against one task after the other: Conv4 on 28×28 (3,920 numbers a task) takes
      0.6 of the time with 16 at once, 0.66 with 8; a transformer on 42×42 (26,460 numbers) 0.89 with 4; Conv4 on 84×84
      (105,840 numbers) as much with 1 as with 4; a sinusoid a fifth with all.
    - as many as have 8 million parameters together, so that models of their own for each task stay few;
    - a worker for each of the caller's threads, where tasks · numbers · parameters is at least 5·10⁸. Below, handing
      the work over costs as much as the work: a sinusoid step has 4·10⁵, one of strided Conv4 10¹⁰. But one worker
      with the tasks of all of them, if threads are better off `inside` of operators;
    - one after the other, where numbers · parameters of a task is at least 5·10⁹, if they are not: by torch's own
      operators a residual network on 42×42 (8·10⁹) takes 1.06 to 1.14 of the time with 4 at once, and four times the
      memory. By compiled ones it takes 0.89 of the time.

    Args:
        tasks: B.
        numbers: in the examples of one task.
        parameters: of the module.
        device: its type.
        threads: the caller's threads for tensor operations.
        inside: whether threads share operators rather than tasks, see `handful.kernels.threads_inside`.
        tasks_at_once, workers: what is said.
    """
    if device != "cpu" or isinstance(numbers, torch.SymInt):
        return Plan(min(tasks_at_once or tasks, tasks), 1)
    inside = inside and workers is None and tasks_at_once is None
    if workers is None:
        workers = threads if tasks * numbers * parameters >= WORK_TO_SHARE else 1
    if tasks_at_once is None:
        fitting = min(NUMBERS_AT_ONCE // max(numbers, 1), PARAMETERS_AT_ONCE // max(parameters, 1))
        fitting = 1 if numbers * parameters >= WORK_ALONE and not inside else max(1, fitting)
        rounds = -(-tasks // (fitting * workers))
        workers, shares = (1, rounds) if inside else (workers, min(rounds * workers, tasks))
        tasks_at_once = -(-tasks // shares)  # as much for every worker to do
    at_once = min(tasks_at_once, tasks)
    return Plan(at_once, min(workers, -(-tasks // at_once)))


class _Budget:
    """How many bytes the graphs of a chunk of tasks may still take, how many one step takes, and the steps so far.

    `measured` is what the first chunk found a step to take: the others are as large, and it takes long to walk a graph.
    """

    def __init__(self, left: float, measured: list[int]) -> None:
        self.left, self.measured, self.step, self.steps = left, measured, 0, 0


_budget: ContextVar[_Budget | None] = ContextVar("handful_budget", default=None)


def within(left: float, job: Callable[[M, int], R]) -> Callable[[M, int], R]:
    """The job with so many bytes for its graphs."""
    measured: list[int] = []

    def limited(own: M, number: int) -> R:
        token = _budget.set(_Budget(left, measured))
        try:
            return job(own, number)
        finally:
            _budget.reset(token)

    return limited


def count_graph(step: Iterable[Tensor]) -> None:
    """Takes the graph of a step, which these gradients hold, from the budget. The second step is measured, together
    with the first, and stands for all: a single one is not worth the counting.
    """
    budget = _budget.get()
    if budget is None:
        return
    budget.steps += 1
    if budget.steps == 2:
        if not budget.measured:
            budget.measured.append(saved_bytes(step) // 2)
        budget.step = budget.measured[0]
        budget.left -= budget.step
    budget.left -= budget.step


def saved_bytes(outputs: Iterable[Tensor]) -> int:
    """How much memory the graph of these tensors keeps for the way back.

    The graph is walked: hooks on what is saved would keep it alive for ever, in a circle that no collector sees.
    """
    waiting = [output.grad_fn for output in outputs]
    seen: set[Any] = {None}
    kept: dict[int, int] = {}
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]  # type: ignore[union-attr]
        for leaf in _saved(node):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                kept[storage.data_ptr()] = storage.nbytes()
    return sum(kept.values())


def _saved(node: Any) -> list[Any]:
    found: list[Any] = []
    for name in _saved_names(node.__class__):
        value = getattr(node, name)
        found += value if isinstance(value, Sequence) else [value]
    return found


@cache
def _saved_names(kind: Hashable) -> list[str]:
    """Where a kind of node keeps tensors: an operator's under names of its own, a Function's under one."""
    return [name for name in dir(kind) if name.startswith("_saved_") or name == "saved_tensors"]


def affordable_form() -> Literal["graph", "recompute"]:
    """Whether another step may keep its graph."""
    budget = _budget.get()
    return "recompute" if budget is not None and budget.left < budget.step else "graph"


def graph_bytes(device: torch.device) -> float:
    """How much memory graphs may take: half of an accelerator's, 4 GiB on a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2
    return GRAPH_BYTES
