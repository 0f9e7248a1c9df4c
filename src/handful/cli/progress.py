"""Progress bars, on the terminal's error stream only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..distributed import ALONE, Ranks
from ..run import Event

__all__ = ["console", "describe", "follow", "training_bar"]


def console(ranks: Ranks = ALONE) -> Console:
    """Where progress and messages go; of many processes, those of the first."""
    return Console(stderr=True, quiet=not ranks.first)


@contextmanager
def training_bar(out: Console | None = None) -> Iterator[Progress]:
    """A bar with loss, validation score and remaining time; it appears with the first event."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=out or console(), refresh_per_second=4)
    try:
        yield bar
    finally:
        if bar.live.is_started:  # stopping prints a line even where there was no bar
            bar.stop()


def follow(bar: Progress, name: str, events: Iterable[Event]) -> Event | None:
    """Run through the events of a training in a bar; the last event."""
    task, last, average, score = None, None, math.nan, ""
    for last in events:
        if task is None:
            bar.start()
            task = bar.add_task(name, total=last.steps, completed=last.step, note="")
        average = last.loss if math.isnan(average) else 0.98 * average + 0.02 * last.loss
        if last.score is not None:
            score = f"  validation {last.score:.4f}"
        bar.update(task, completed=last.step, note="" if math.isnan(average) else f"loss {average:.3f}{score}")
    return last


def describe(event: Event, folder: object) -> str:
    """What became of a run, in a sentence."""
    best = "" if event.best is None else f", best validation score {event.best:.4f}"
    why = {"finished": "finished", "patience": "stopped early: validation no longer improves"}
    if event.stopped == "interrupted":
        of = "" if event.steps is None else f" of {event.steps}"
        return f"Stopped after step {event.step}{of}; go on with --resume. The run is in {folder}"
    return f"Training {why.get(event.stopped, 'ended')} after {event.step} steps, {event.seconds:.0f} s{best}: {folder}"
