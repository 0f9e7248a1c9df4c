"""Finding and calling the compiled kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from handful.encoders import Conv4
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


@pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_parts_cover_everything_once(count: int, threads: int) -> None:
    """Sums of pooled gradients, by every part into room of its own."""
    ones = torch.ones(count, 4, 4, 32)
    chosen = torch.zeros(count, 2, 2, 32, dtype=torch.uint8)
    sums = torch.zeros(threads, 1, 2, 32, dtype=torch.float64)
    parts = []

    def arguments(part: int, start: int, stop: int) -> tuple[torch.Tensor | int, ...]:
        parts.append(stop - start)
        return ones, ones, chosen, sums[part], count, start, stop, 2, 2, 32

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        library.spread("pool_sums", torch.float32, count, arguments)
    finally:
        torch.set_num_threads(before)
    assert sum(parts) == count
    assert max(parts) - min(parts) <= 1
    assert bool((sums.sum(0) == 4 * count).all())


@pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}")
def test_without_torch_s_threads_one_does_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_parallel", lambda: None)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    x, encoder = torch.rand(3, 1, 28, 28), Conv4(filters=32).eval()
    try:
        with torch.no_grad():
            alone = encoder(x)
            monkeypatch.undo()
            torch.testing.assert_close(encoder(x), alone, rtol=0, atol=0)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}")
def test_a_library_that_was_cut_short_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading it would end the process."""
    folder = Path(library.__file__).parent
    for path in (*folder.glob("*.[ch]"), *folder.glob("*.so")):
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[: len(content) // 2] if path.suffix == ".so" else content)
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    found, why = library._load.__wrapped__()
    assert found is None
    assert "is cut short; install handful again" in why


@pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}")
def test_rows_longer_than_the_stack() -> None:
    encoder = Conv4(shape=(1, 16, 17000), filters=64)
    assert encoder(torch.rand(1, 1, 16, 17000)).isfinite().all()


SHORT = """
import resource
from pathlib import Path

import torch

from handful.kernels import passes
from handful.kernels.convolution import Window, convolution

window = Window((1, 1), (1, 1))
for threads in (1, 3):
    torch.set_num_threads(threads)
    x, w = torch.zeros(1, 2, 5, 40_002, 32), torch.zeros(1, 32, 32, 3, 3)  # a strip takes more than what comes of it
    maps = torch.zeros(1, 2, 32, 3, 40_000)
    for work in (lambda: passes.convolve(x, w, border=0), lambda: convolution(maps, w, window)):
        room = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (room + (50 << 20), limit[1]))
        try:
            work()
        except MemoryError as error:
            print(error)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limit)
    assert not passes.convolve(x[:, :1, :, :5], w).any(), "it goes on when there is some"
"""


@pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say how much memory is in use")
def test_without_memory_a_kernel_says_so() -> None:
    """In a process of its own, whose memory nobody has used before."""
    done = subprocess.run([sys.executable, "-c", SHORT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = ["conv", "convolution"] * 2
    assert done.stdout.splitlines() == [f"no room for what the compiled kernel {name} keeps meanwhile" for name in said]
