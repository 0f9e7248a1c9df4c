"""How far long work is, for a person who watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]


@contextmanager
def progress(doing: str | None, total: float | None) -> Iterator[Callable[[float], object]]:
    """A progress bar on stderr, if that is a terminal and it has a name. Yields what to call at each advance."""
    if doing is None or not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda step: bar.advance(task, step)
