"""Measure questions, all but the GPU's unless named.

    python -m benchmarks
    python -m benchmarks maml prototypical --threads 2 --seconds 60
    python -m benchmarks maml --works mini-imagenet --allocators tuned --peers learn2learn
    python -m benchmarks gpu --precision bfloat16

Each work is first checked: everybody must compute the same, in float64. Then ours and the peers take turns. Rows are
written as soon as they are known, in the place of older ones of the same work, peer and setting; docs/benchmarks.md and
docs/growth.svg are made from all of them at the end.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from handful.files import write_file

from . import report
from .agreement import agreeing
from .common import OURS, PEERS, PLAIN, Place, UnmeasuredError, Work
from .processes import flops_of, limit_of
from .rows import rows
from .turns import taking_turns

ROOT = Path(__file__).parents[1]
QUESTIONS = ("maml", "modules", "prototypical", "sampling", "evaluation", "growth", "gpu")
ANYWHERE = ("maml", "modules", "prototypical", "gpu")
"""Questions that can be asked of a GPU; the others are about the processor."""


def main() -> None:
    options = arguments()
    chosen = [(question, work) for question in options.questions for work in works(question, options)]
    if options.list:
        for question, work in chosen:
            print(f"{question:14}{work.name:40}{work.title}")
        return
    if options.compile:
        print("MAML's steps are not compiled, and left out")
    limits: dict[Place, float] = {}
    began = time.perf_counter()
    for number, (question, work) in enumerate(chosen, 1):
        minutes = (time.perf_counter() - began) / 60
        print(f"[{number}/{len(chosen)}, {minutes:.0f} min] {question}: {work.title}", flush=True)
        try:
            measure(question, work, device_of(question, options), options, limits)
        except UnmeasuredError as why:
            print(f"    {OURS}: {why}; on to the next", flush=True)
    report.write(options.results, options.docs)
    print(f"{options.docs / 'benchmarks.md'}: made from {options.results}")


def measure(question: str, work: Work, device: str, options: argparse.Namespace, limits: dict[Place, float]) -> None:
    """Check one work, measure it everywhere, and write its rows."""
    module = importlib.import_module(f"benchmarks.{question}")
    threads = options.threads or getattr(module, "THREADS", (1, 2))
    errors, lines = agreeing(question, work, list(work.peers), device, max(threads))
    for line in lines:
        print(f"    {line}", flush=True)
    if not errors:
        return
    flops = flops_of(question, work, max(threads))
    allocators = options.allocators or getattr(module, "ALLOCATORS", ("default", "tuned"))
    seconds = options.seconds * getattr(module, "SHARE", 1.0)
    for count, allocator in itertools.product(threads, allocators):
        place = Place(count, allocator, device, options.precision, options.compile)
        where = place._replace(allocator="tuned", compiled=False)
        if where not in limits:
            limits[where] = limit_of(where)
        rivals = list(errors)[:1] if allocator == "tuned" and not options.peers else list(errors)  # to save time
        turns, lines = taking_turns(question, work, [OURS, *rivals], place, seconds)
        found = rows(question, work, place, turns, errors, flops, limits[where])
        keep(options.results / f"{question}.json", found)
        for line in [*lines, *(f"{count} threads, {allocator}: {report.line(row)}" for row in found)]:
            print(f"    {line}", flush=True)


def device_of(question: str, options: argparse.Namespace) -> str:
    """Where a question is asked."""
    return options.device or getattr(importlib.import_module(f"benchmarks.{question}"), "DEVICE", "cpu")


def keep(path: Path, found: list[dict[str, Any]]) -> None:
    """Add rows to a file, in the place of those that measured the same."""
    kept = json.loads(path.read_text()) if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    new = {report.key(row): row for row in found}
    every = [new.pop(report.key(row), row) for row in kept] + list(new.values())
    write_file(path, json.dumps(every, indent=1) + "\n")


def works(question: str, options: argparse.Namespace) -> list[Work]:
    """The works of a question that were asked for, with the peers that were asked for."""
    module = importlib.import_module(f"benchmarks.{question}")
    found = []
    for work in module.WORKS:
        if not any(part in work.name for part in options.works) or (options.compile and not work.compiles):
            continue
        if options.peers:
            work = replace(work, peers=tuple(who for who in options.peers if who == PLAIN or who in work.peers))
        found.append(module.tiny(work) if options.tiny else work)
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"of {', '.join(QUESTIONS)}")
    parser.add_argument("--works", nargs="+", default=[""], metavar="PART", help="only works with this in their name")
    parser.add_argument(
        "--peers", nargs="+", choices=[*PEERS, PLAIN], help="only these; plain is a loop in plain torch"
    )
    parser.add_argument("--threads", nargs="+", type=int, help="default: what the question asks for, mostly 1 and 2")
    parser.add_argument("--allocators", nargs="+", choices=["default", "tuned"], help="default: as the question asks")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each work and setting, at least seven rounds")
    parser.add_argument("--device", help="cpu or cuda; default: cuda for the question gpu, cpu for the others")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true", help="compile encoders, where that is possible")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to see that everything runs; means nothing")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the rows")
    parser.add_argument("--docs", type=Path, help="folder for the page and the plot (default: docs, or --results)")
    parser.add_argument("--list", action="store_true", help="list the works and leave")
    options = parser.parse_args()
    unknown = [name for name in options.questions if name not in QUESTIONS]
    if unknown:
        parser.error(f"no question {unknown[0]!r}; expected some of {', '.join(QUESTIONS)}")
    if not options.questions:
        some = QUESTIONS if options.device in (None, "cpu") else ANYWHERE
        options.questions = [name for name in some if name != "gpu"]
    devices = {name: device_of(name, options) for name in options.questions}
    wrong = [name for name, device in devices.items() if device != "cpu" and name not in ANYWHERE]
    if wrong:
        parser.error(f"{', '.join(wrong)}: measured on the CPU alone; expected some of {', '.join(ANYWHERE)}")
    if {*devices.values()} != {"cpu"} and not torch.cuda.is_available() and not options.list:
        parser.error(
            f"torch {torch.__version__} finds no GPU here; a measurement needs one, and a build of torch for CUDA "
            "(--device cpu runs the same on the CPU)"
        )
    elsewhere = options.results != parser.get_default("results")
    if options.tiny and not elsewhere:
        parser.error("--tiny: figures of tiny sizes mean nothing; give a --results folder of their own")
    options.docs = options.docs or (options.results if elsewhere else ROOT / "docs")
    return options


if __name__ == "__main__":
    main()
