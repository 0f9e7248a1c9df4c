"""`handful train` and `handful reproduce`."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from pathlib import Path

import torch
import typer
from rich.progress import Progress

from ..errors import SpecError
from ..ledger import measured, percent
from ..machine import tune_allocator
from ..reproduce import Outcome, load_recipe, reproduce
from ..run import Event, fit, interruptible
from ..spec import Spec
from .progress import console, describe, follow, training_bar

__all__ = ["prepare", "run_reproduce", "run_train"]


def prepare(device: str, threads: int) -> None:
    """Set the process up for training.

    Raises:
        SpecError: no such device.
    """
    try:
        torch.zeros((), device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise SpecError(
            f"device {device!r} is not to be had: {str(error).splitlines()[0].split('. ')[0]}; use --device cpu"
        ) from None
    torch.set_num_threads(threads)
    tune_allocator()


def run_train(path: Path, folder: Path, resume: bool, tensorboard: bool, device: str, threads: int) -> None:
    """Train a spec in a folder, with a bar."""
    spec = Spec.read(path)
    prepare(device, threads)
    with interruptible() as stop, training_bar() as bar:
        events = fit(spec, folder, resume=resume, device=device, tensorboard=tensorboard, stop=stop)
        last = follow(bar, path.stem, events)
    if last is not None:
        console().print(describe(last, folder), soft_wrap=True, markup=False)
        if last.stopped == "interrupted":
            raise typer.Exit(130)
        best = folder / ("last" if last.best is None else "best")
        console().print(f"Next: handful evaluate {best}", soft_wrap=True, markup=False)


def run_reproduce(name: str, to: Path, runs: Path, seeds: int, device: str, threads: int, json: bool) -> None:
    """Reproduce a published number, with a bar."""
    recipe = load_recipe(name)
    prepare(device, threads)
    with interruptible() as stop, training_bar() as bar:
        made = reproduce(recipe, results=to, runs=runs, seeds=seeds, device=device, stop=stop)
        outcome = next(_outcomes(bar, recipe.name, made), None)
    if outcome is None:
        console().print("Stopped; the same command goes on from here.")
        raise typer.Exit(130)
    if json:
        print(json_module.dumps(outcome.table, indent=2, ensure_ascii=False))
        return
    table, published = outcome.table, recipe.published
    print(f"{recipe.title}: {measured(table)}, {table['tasks']} tasks")
    if published is not None:
        print(f"Published: {percent(table['metric'], published.value, published.ci95)} ({published.source})")
    print(f"Written to {to / (recipe.name + '.json')}")


def _outcomes(bar: Progress, name: str, made: Iterator[Event | Outcome]) -> Iterator[Outcome]:
    """Show the events of each training in the bar, and pass on the outcome."""
    kept: list[Outcome] = []

    def events() -> Iterator[Event]:
        for item in made:
            if isinstance(item, Outcome):
                kept.append(item)
            else:
                yield item

    follow(bar, name, events())
    yield from kept
