"""`handful demo`: the main job on real handwriting, in a minute or two and without a download."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import matplotlib
import torch
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..checkpoint import load_checkpoint
from ..data.episodes import Episodes
from ..encoders import Identity
from ..episode import Data
from ..evaluation import Evaluation, compare, evaluate
from ..files import storage_errors
from ..learner import Learner
from ..learners import PrototypicalNetwork
from ..run import fit
from ..spec import Spec, build, load_data
from ..stopping import interruptible
from .progress import console, follow, training_bar
from .training import prepare

__all__ = ["demo_spec", "picture", "run_demo"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def demo_spec(learner: str, seed: int, *, quick: bool = False) -> Spec:
    """What the demo trains: "prototypical" or "maml", each with a small Conv4, on the digits."""
    encoder = {"name": "conv4", "shape": [1, 8, 8], "filters": 32, "halvings": 1}
    table: dict[str, Any] = {"data": {"name": "digits"}}
    if learner == "prototypical":
        table["learner"] = {"name": "prototypical"}
        table["encoder"] = encoder
        table["train"] = {"ways": 20, "shots": 1, "queries": 3, "steps": 10 if quick else 600}
    else:
        options = {"outputs": 5, "inner_rate": 0.1, "inner_steps": 3, "evaluation_steps": 5, "rates": "learned"}
        table["learner"] = {"name": "maml", **options}
        table["encoder"] = {**encoder, "downsample": "stride", "halvings": 2, "normalization": "batch"}
        table["train"] = {"ways": 5, "shots": 1, "queries": 3, "batch": 8, "steps": 10 if quick else 400}
    table["train"] |= {"seed": seed, "schedule": {"name": "cosine"}}
    table["validation"] = {"ways": 5, "shots": 1, "queries": 5, "every": 5 if quick else 100, "tasks": 200}
    return Spec.of(table)


def run_demo(folder: Path, *, seed: int, quick: bool) -> None:
    """Train, evaluate, draw, and say what to do next."""
    prepare("cpu", 1)
    out, begin = Console(soft_wrap=True), time.perf_counter()
    specs = {name: demo_spec(name, seed, quick=quick) for name in ("prototypical", "maml")}
    pool = load_data(specs["maml"])
    out.print(
        "[bold]Few-shot learning on real handwriting.[/bold] Classes are digits turned and mirrored. The learners are "
        "trained on 0 1 3 6 8 9, their best checkpoint is chosen on 2 and 5, and they are tested on 4 and 7: "
        "five classes never seen, one example of each, name the rest."
    )
    suffix = ("-quick" if quick else "") + (f"-seed{seed}" if seed else "")
    runs = {name: folder / f"{name}{suffix}" for name in specs}
    with interruptible() as stop, training_bar() as bar:
        for name, spec in specs.items():
            last = follow(bar, name, fit(spec, runs[name], resume=True, stop=stop))
            if last is not None and last.stopped == "interrupted":
                out.print("Stopped; the same command goes on from here.")
                raise typer.Exit(130)
    trials = Episodes(pool.split("test"), ways=5, shots=1, queries=5, batch=20, seed=seed + 2)
    learners: dict[str, Learner] = {
        "raw pixels": PrototypicalNetwork(Identity(shape=pool.shape)),
        "untrained encoder": build(specs["prototypical"]),
    }
    names = {"prototypical": "prototypical network", "maml": "MAML"}
    learners |= {names[name]: load_checkpoint(runs[name] / "best").learner for name in specs}
    tasks = 100 if quick else 1000
    with console().status("testing on classes never seen"):
        rows = [(name, evaluate(learner, trials, tasks=tasks)) for name, learner in learners.items()]
        drawn = Episodes(pool.split("test"), ways=5, shots=1, queries=3, seed=seed + 3)
        picture(folder / "episodes.png", learners["prototypical network"], drawn)
    out.print(_table(rows))
    gain = compare(rows[2][1], rows[0][1])
    out.print(
        "The prototypical network against raw pixels on the same tasks: "
        f"{100 * gain.value:+.1f} ± {100 * gain.ci95:.1f} points."
    )
    done = f"\nDone in {time.perf_counter() - begin:.0f} s. A few episodes: {folder / 'episodes.png'}\nNext:"
    out.print(done, markup=False)
    for line in (
        f"handful evaluate {runs['prototypical'] / 'best'} --shots 5       # five examples instead of one",
        f"handful evaluate {runs['maml'] / 'best'} --against {runs['prototypical'] / 'best'}",
        "handful reproduce sinusoid-maml-5shot      # a published number, in minutes",
        "handful data add omniglot                  # the benchmark; then handful list recipes",
    ):
        out.print(f"  {line}", highlight=False, markup=False)


def _table(rows: list[tuple[str, Evaluation]]) -> Table:
    table = Table(title=f"5-way 1-shot on digits never seen, {len(rows[0][1].values)} tasks", title_justify="left")
    table.add_column("")
    table.add_column("accuracy, 95% interval", justify="right")
    table.add_column("queries")
    for name, result in rows:
        mean, half = result.mean
        kind = "together (transductive)" if result.transductive else "each by itself"
        table.add_row(name, f"{100 * mean:.1f} ± {100 * half:.1f} %", kind)
    return table


def picture(path: Path, learner: Learner, episodes: Episodes, *, count: int = 3) -> None:
    """Draw a few episodes: the support, and each query with the answer it got (mistakes in red)."""
    matplotlib.use("agg", force=False)
    learner.eval()
    figure = Figure(figsize=(12, 2.6 * count), layout="constrained")
    for index, part in enumerate(figure.subfigures(count, 1, squeeze=False).flat):
        draw = episodes.draw(index)
        episode = episodes.make(draw).part(0, 1)
        with torch.no_grad():
            answers = learner.predict(learner.adapt(episode.support), episode.query.x)[0].argmax(-1).tolist()
        shots, queries = _pictures(episode.support.x), _pictures(episode.query.x)
        labels, truths = episode.support.y[0].tolist(), episode.query.y[0].tolist()
        names = [episodes.pool.names[number] for number in draw.classes[0].tolist()]
        right = sum(truth == answer for truth, answer in zip(truths, answers, strict=True))
        part.suptitle(f"task {index + 1}: {right} of {len(answers)} right", x=0.01, ha="left", fontweight="bold")
        axes = part.subplots(2, max(len(shots), len(queries)))
        for axis in axes.flat:
            axis.set_axis_off()
        for place, row in enumerate(sorted(range(len(shots)), key=labels.__getitem__)):
            _show(axes[0, place], shots[row], f"{LETTERS[labels[row]]} = {names[labels[row]]}", "black")
        for axis, shape, truth, answer in zip(axes[1], queries, truths, answers, strict=False):
            note = LETTERS[answer] if truth == answer else f"{LETTERS[answer]}, is {LETTERS[truth]}"
            _show(axis, shape, note, "green" if truth == answer else "red")
        for row, word in enumerate(("support", "queries")):
            axes[row, 0].text(-0.5, 0.5, word, transform=axes[row, 0].transAxes, rotation=90, va="center")
    with storage_errors(path):
        figure.savefig(path, dpi=110)


def _pictures(x: Data) -> list[Any]:
    assert isinstance(x, Tensor)  # digits are pictures
    return list(x[0, :, 0].numpy())


def _show(axis: Any, picture: Any, note: str, color: str) -> None:
    axis.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
    axis.set_title(note, fontsize=7, color=color)
