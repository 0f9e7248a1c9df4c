"""Finding and calling the compiled kernels."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import pytest
import torch

from handful.kernels import available, library, plain, reason

PROGRAM = """
import torch
from handful import Conv4
from handful.kernels import available, reason
torch.manual_seed(0)
print(available(), "|", reason(), "|", Conv4(filters=32)(torch.ones(3, 1, 28, 28)).sum().isfinite().item())
"""


def outcome(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return [part.strip() for part in done.stdout.split("|")]


def test_switched_off() -> None:
    found, why, works = outcome(HANDFUL_KERNELS="off")
    assert (found, works) == ("False", "True")
    assert "HANDFUL_KERNELS" in why


def test_a_processor_without_the_instructions() -> None:
    found, why, works = outcome(ATEN_CPU_CAPABILITY="default")
    assert (found, works) == ("False", "True")
    assert "AVX2" in why


@pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}")
def test_an_older_processor() -> None:
    assert outcome(ATEN_CPU_CAPABILITY="avx2") == ["True", "", "True"]


def test_plain_is_for_a_while() -> None:
    before = available()
    with plain():
        assert not available()
    assert available() == before


@pytest.mark.parametrize("count", [1, 2, 7])
def test_parts_cover_everything_once(count: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen: list[int] = []
    try:
        parts = library.spread(count, lambda part, start, stop: seen.extend(range(start, stop)))
    finally:
        torch.set_num_threads(before)
    assert sorted(seen) == list(range(count))
    assert parts == min(3, count)


def test_a_failing_part_is_heard() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    def run(part: int, start: int, stop: int) -> None:
        if part == 1:
            raise ValueError("part 1")

    try:
        with pytest.raises(ValueError, match="part 1"):
            library.spread(4, run)
    finally:
        torch.set_num_threads(before)


def _in_child(results: object) -> None:
    torch.set_num_threads(2)
    results.put(library.spread(4, lambda part, start, stop: None))  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        library.spread(4, lambda part, start, stop: None)
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        child = context.Process(target=_in_child, args=(results,))
        child.start()
        assert results.get(timeout=30) == 2
        child.join()
    finally:
        torch.set_num_threads(before)
