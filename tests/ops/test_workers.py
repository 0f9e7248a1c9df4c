from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from handful.ops.workers import NoiseDrawn, in_worker, share, without_noise

WORKERS = pytest.mark.parametrize("workers", [1, 2, 3])


class Work(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.again = self.layer
        self.parts = [self.layer]
        self.register_buffer("estimate", torch.zeros(2))


@WORKERS
def test_results_come_in_the_order_of_the_jobs(workers: int) -> None:
    def job(own: Work, number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    assert list(share(Work(), job, 9, workers)) == list(range(9))
    assert list(share(Work(), job, 0, workers)) == []


def test_each_worker_has_a_copy_that_shares_tensors() -> None:
    module, seen = Work(), dict[int, Work]()
    together = threading.Barrier(2, timeout=20)

    def job(own: Work, number: int) -> tuple[bool, int]:
        if number < 2:
            together.wait()
        seen[id(own)] = own
        return in_worker(), torch.get_num_threads()

    assert set(share(module, job, 6, 2)) == {(True, 1)}
    assert not in_worker()
    (copy,) = [own for own in seen.values() if own is not module]
    assert copy.layer is not module.layer
    assert copy.layer is copy.again is copy.parts[0]
    assert copy.layer.weight is module.layer.weight
    assert copy.estimate is module.estimate


@pytest.mark.parametrize("threads", [1, 2])
def test_the_callers_threads_are_as_before(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        list(share(Work(), lambda own, number: torch.get_num_threads(), 4, 2))
        found: list[int] = [torch.get_num_threads()]
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert found == [threads, threads], "here, and in threads to come"
        mkl = [line for line in torch.__config__.parallel_info().splitlines() if "mkl_get_max" in line]
        assert all(line.strip().endswith(f": {threads}") for line in mkl)
    finally:
        torch.set_num_threads(before)


@WORKERS
def test_the_first_error_in_the_order_of_the_jobs(workers: int) -> None:
    done = []

    def job(own: Work, number: int) -> int:
        if number >= 2:
            time.sleep(0.05 if number == 2 else 0)
            raise KeyError(number)
        done.append(number)
        return number

    results = share(Work(), job, 20, workers)
    with pytest.raises(KeyError, match="2"):
        list(results)
    assert done == [0, 1]
    assert list(share(Work(), lambda own, number: number, 3, workers)) == [0, 1, 2], "and it works again"


def test_an_interrupt_of_the_caller_ends_the_work() -> None:
    started: list[int] = []

    def job(own: Work, number: int) -> int:
        started.append(number)
        time.sleep(0.01)
        return number

    results = share(Work(), job, 1000, 2)
    assert isinstance(results, Generator)
    next(results)
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt())
    count = len(started)
    time.sleep(0.05)
    assert len(started) == count < 100
    assert torch.get_num_threads() == 1


_setting: ContextVar[str] = ContextVar("setting", default="default")


@pytest.mark.parametrize("gradients", [True, False])
def test_workers_have_the_callers_modes(gradients: bool) -> None:
    def job(own: Work, number: int) -> tuple[Any, ...]:
        return (
            _setting.get(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
        )

    token = _setting.set("the caller's")
    try:
        with torch.set_grad_enabled(gradients), torch.autocast("cpu", torch.float16):
            seen = set(share(Work(), job, 4, 2))
        assert seen == {("the caller's", gradients, False, True, torch.float16)}
        with torch.inference_mode():
            assert {found[1:4] for found in share(Work(), job, 4, 2)} == {(False, True, False)}
    finally:
        _setting.reset(token)


def test_work_inside_work_is_done_by_the_worker() -> None:
    def job(own: Work, number: int) -> int:
        return without_noise(own, lambda workers: workers, 2)

    assert list(share(Work(), job, 4, 2)) == [1] * 4


class Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Renewed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def __deepcopy__(self, memo: Any) -> Renewed:
        return Renewed()


@pytest.mark.parametrize("module", [Locked(), Renewed()])
def test_what_cannot_be_copied_is_done_by_the_caller(module: nn.Module) -> None:
    assert set(share(module, lambda own, number: (own is module, in_worker()), 4, 2)) == {(True, False)}


# Random numbers


def drawn(module: nn.Module, workers: int) -> list[Tensor]:
    torch.manual_seed(3)

    def attempt(workers: int) -> list[Tensor]:
        return list(share(module, lambda own, number: own(torch.ones(4, 4)), 6, workers))

    return [*without_noise(module, attempt, workers), torch.rand(2)]


def test_random_numbers_are_those_of_a_plain_loop() -> None:
    expected = drawn(nn.Dropout(0.5), 1)
    module = nn.Dropout(0.5)
    for _ in range(3):
        assert all(map(torch.equal, drawn(module, 2), expected))


def test_only_what_drew_noise_is_kept_from_workers() -> None:
    module = nn.Dropout(0.5)
    drawn(module, 2)
    seen: list[int] = []
    without_noise(module, seen.append, 2)
    without_noise(module.eval(), seen.append, 2)
    without_noise(nn.Dropout(0.5), seen.append, 2)
    assert seen == [1, 2, 2]


def test_a_worker_that_says_so() -> None:
    seen: list[int] = []

    def attempt(workers: int) -> int:
        seen.append(workers)
        if workers > 1:
            torch.rand(1)
            raise NoiseDrawn
        return int(torch.randint(1000, ()))

    module = Work()
    torch.manual_seed(1)
    expected = int(torch.randint(1000, ()))
    torch.manual_seed(1)
    assert without_noise(module, attempt, 2) == expected
    assert seen == [2, 1]


def test_modes_of_this_thread_are_not_shared() -> None:
    with torch.device("cpu"):
        assert without_noise(Work(), lambda workers: workers, 2) == 1
    found: list[int] = []
    torch.func.grad(lambda x: found.append(without_noise(Work(), lambda w: w, 2)) or x)(torch.ones(()))
    assert found == [1]
    assert without_noise(Work(), lambda workers: workers, 2) == 2


# Processes


def _child(queue: Any) -> None:
    queue.put(list(share(Work(), lambda own, number: number, 3, 2)))


def test_a_forked_process_has_workers_of_its_own() -> None:
    assert list(share(Work(), lambda own, number: number, 3, 2)) == [0, 1, 2]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_child, args=(queue,))
    process.start()
    assert queue.get(timeout=60) == [0, 1, 2]
    process.join(60)
