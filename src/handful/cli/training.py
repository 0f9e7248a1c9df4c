"""`handful train` and `handful reproduce`."""

from __future__ import annotations

import json as json_module
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import typer
from rich.progress import Progress

from ..distributed import Ranks, joined
from ..errors import HandfulError, SpecError
from ..files import kept_folder
from ..ledger import measured, percent
from ..machine import tune_allocator
from ..reproduce import Outcome, Recipe, load_recipe, reproduce
from ..run import Event, fit
from ..spec import Spec
from ..stopping import interruptible
from ..tables import plain_numbers
from ..training import check_device
from .progress import console, describe, follow, training_bar

__all__ = ["prepare", "prepared", "run_reproduce", "run_train"]


def prepare(device: str, threads: int) -> None:
    """Set the process up for training.

    Raises:
        SpecError: no such device.
    """
    check_device(device)
    torch.set_num_threads(threads)
    tune_allocator()


@contextmanager
def prepared(device: str, threads: int) -> Iterator[tuple[Ranks, str]]:
    """Set the process up, alone or as one of those that torchrun started: these, and the device of this one.

    Of an error that several processes meet, or that one of them causes in the others, the user is told once.
    """
    with joined(cuda=device.startswith("cuda")) as ranks:
        try:
            if ranks.size > 1 and device.startswith("cuda:"):
                raise SpecError(
                    f"expected --device cuda, got {device!r}: of many processes each takes the GPU of its number on "
                    "its machine (CUDA_VISIBLE_DEVICES chooses among them)"
                )
            if ranks.size > 1 and device == "cuda":
                device = f"cuda:{ranks.local}"
            prepare(device, threads)
            if not ranks.first:
                warnings.simplefilter("ignore")
            yield ranks, device
            ranks.meet()  # an exit before the others' makes torchrun end them
        except (HandfulError, OSError) as error:
            if ranks.size > 1:
                if ranks.speaks():
                    print(f"error: {error}", file=sys.stderr, flush=True)
                raise typer.Exit(1) from None
            raise


def run_train(path: Path, folder: Path, resume: bool, tensorboard: bool, device: str, threads: int) -> None:
    """Train a spec in a folder, with a bar."""
    with prepared(device, threads) as (ranks, own):
        spec = Spec.read(path)
        out = console(ranks)
        last_saved = folder / "last"
        if resume and ranks.first and not (last_saved.exists() or kept_folder(last_saved).exists()):
            out.print(f"Nothing to resume in {folder}: begins anew", soft_wrap=True, markup=False)
        with interruptible() as stop, training_bar(out) as bar:
            events = fit(spec, folder, resume=resume, device=own, tensorboard=tensorboard, stop=stop, ranks=ranks)
            last = follow(bar, path.stem, events)
        if last is not None:
            out.print(describe(last, folder), soft_wrap=True, markup=False)
            if last.stopped != "interrupted":
                best = folder / ("last" if last.best is None else "best")
                out.print(f"Next: handful evaluate {best}", soft_wrap=True, markup=False)
    if last is not None and last.stopped == "interrupted":
        raise typer.Exit(130)


def run_reproduce(name: str, to: Path, runs: Path, seeds: int, device: str, threads: int, json: bool) -> None:
    """Reproduce a published number, with a bar."""
    with prepared(device, threads) as (ranks, own):
        recipe = load_recipe(name)
        out = console(ranks)
        with interruptible() as stop, training_bar(out) as bar:
            made = reproduce(recipe, results=to, runs=runs, seeds=seeds, device=own, stop=stop, ranks=ranks)
            outcome = next(_outcomes(bar, recipe.name, made), None)
        if outcome is None:
            out.print("Stopped; the same command goes on from here.")
        elif ranks.first:
            _show(outcome, recipe, to, json)
    if outcome is None:
        raise typer.Exit(130)


def _show(outcome: Outcome, recipe: Recipe, to: Path, json: bool) -> None:
    if json:
        print(json_module.dumps(plain_numbers(outcome.table), indent=2, ensure_ascii=False))
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
