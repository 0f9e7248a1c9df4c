"""`handful doctor`: what this machine has, what is used of it, and what would help."""

from __future__ import annotations

import json as json_module
import os
import re
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..data.cache import data_folder
from ..encoders import Conv4
from ..errors import StorageError
from ..files import storage_errors
from ..kernels import available, plain, reason, variant
from ..machine import commit, describe_machine, tune_allocator, versions
from ..recognizer.cache import usage

__all__ = ["run_doctor"]

CACHE = re.compile(r"-[0-9a-f]{16}$")
"""The end of a folder's name that stands for its content, as `cached_pool` is given it for what users bring."""


class Finding(NamedTuple):
    """Something looked at."""

    name: str
    found: str
    good: bool
    advice: str = ""


def run_doctor(json: bool) -> None:
    """Print what was found, as a table or as JSON."""
    findings = [
        _looked(check)
        for check in (_program, _processor, _kernels, _memory, _speed, _accelerator, _extras, _data, _embeddings)
    ]
    if json:
        print(json_module.dumps([finding._asdict() for finding in findings], indent=2, ensure_ascii=False))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark = "[green]✓[/green]" if finding.good else "[yellow]![/yellow]"
        about = finding.found + (f"; {finding.advice}" if finding.advice else "")
        table.add_row(mark, finding.name, escape(about))  # 'handful[onnx]' is no markup
    out = Console()
    (out if out.is_terminal else Console(width=200)).print(table)


def _looked(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except StorageError as error:
        return Finding(check.__name__[1:], str(error), False)


def _program() -> Finding:
    about = ", ".join(f"{name} {version}" for name, version in versions().items())
    origin = commit()
    return Finding("program", about + (f", commit {origin[:8]}{origin[40:]}" if origin else ""), True)


def _processor() -> Finding:
    about = describe_machine()
    cores = int(about["cores"])
    advice = "" if cores == 1 else f"trainings use one unless told --threads {cores}"
    return Finding("processor", f"{about['processor']}, cores: {cores}", True, advice)


def _kernels() -> Finding:
    if available():
        others = "; adapted modules use them too" if variant() == "avx512" else ""
        about = f"compiled for {variant()}: Conv4 is fused where its statistics are the batch's{others}"
        return Finding("kernels", about, True)
    return Finding("kernels", f"PyTorch's own are used; compiled ones are not, {reason()}", False)


def _speed() -> Finding:
    """A step of Conv4 on pictures of 28×28, compiled and by PyTorch: the same gradient, and how much sooner."""
    torch.manual_seed(0)
    encoder, x = Conv4(normalization="batch"), torch.rand(40, 1, 28, 28)

    def gradient() -> torch.Tensor:
        return torch.autograd.grad(encoder(x).square().mean(), list(encoder.parameters()))[0]

    seconds = _quickest(gradient)
    if not available():
        return Finding("speed", f"{len(x) / seconds:,.0f} pictures of 28×28 a second, forth and back", True)
    with plain():
        expected, native = gradient(), _quickest(gradient)
    off = float((gradient() - expected).norm() / expected.norm())
    found = f"{len(x) / seconds:,.0f} pictures of 28×28 a second, forth and back, {native / seconds:.1f}× PyTorch's"
    good = off < 0.05
    advice = "" if good else f"but gradients differ by {off:.1%}: set HANDFUL_KERNELS=off and please report it"
    return Finding("speed", found, good, advice)


def _memory() -> Finding:
    if tune_allocator():
        return Finding("memory", "freed memory is kept for the next step (glibc)", True)
    return Finding("memory", "the system's allocator cannot be told to keep freed memory", True)


def _accelerator() -> Finding:
    if torch.cuda.is_available():
        return Finding("accelerator", f"{torch.cuda.get_device_name()}: --device cuda", True)
    return Finding("accelerator", "none that CUDA knows", True)


def _extras() -> Finding:
    """Which of the extras that the package names have all they need."""
    needed: dict[str, list[str]] = {}
    for line in requires("handful") or ():
        name, _, extra = line.partition("; extra == ")
        if extra and "[" not in name:
            needed.setdefault(extra.strip("'\""), []).append(re.split(r"[^\w.-]", name)[0])
    needed.pop("dev", None)
    missing = [extra for extra, names in sorted(needed.items()) if not all(map(_installed, names))]
    here = ", ".join(extra for extra in sorted(needed) if extra not in missing)
    advice = f"pip install 'handful[{missing[0]}]' adds one of {', '.join(missing)}" if missing else ""
    return Finding("extras", here or "none installed", True, advice)


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _data() -> Finding:
    folder = data_folder()
    with storage_errors(folder, "read"):
        ready = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.exists() else []
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    good = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    advice = "" if good else "nothing can be written there; set HANDFUL_DATA to another folder"
    caches = [name for name in ready if CACHE.search(name)]
    found = [name for name in ready if name not in caches]
    if caches:
        kinds = ", ".join(sorted({CACHE.sub("-…", name) for name in caches}))
        found.append(f"{len(caches)} made of your own ({kinds}), which come again if deleted")
    return Finding("data", f"{folder}: {', '.join(found) or 'nothing yet'}", good, advice)


def _embeddings() -> Finding:
    path, size, most = usage()
    found = f"{path}: {size / 1e6:,.1f} MB of at most {most / 1e6:,.0f} MB (HANDFUL_CACHE_MB)"
    return Finding("embeddings", found, True, "delete the file to clear it" if size else "")


def _quickest(run: Callable[[], object]) -> float:
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)
