"""Measure what the recognizer promises and how it does; docs/guarantee-figures.md is made from the rows at the end.

    python -m benchmarks.guarantee                                        everything, an hour of one core at most
    python -m benchmarks.guarantee coverage --sets digits clinc150        a part; other rows stay as they are
    python -m benchmarks.guarantee page                                   the page alone

Sets that are not prepared (`handful data add`) are left out, saying so. `--encoder omniglot=CHECKPOINT` gives a set of
pictures a trained encoder; of Omniglot it is what `handful reproduce omniglot-prototypical-5w5s` leaves.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from handful.errors import HandfulError
from handful.machine import commit, describe_machine
from handful.ops.heads import HEADS

from . import coverage, labeling, mislabeled, page, speed, tasks, unknown
from .vectors import SETS, VectorSet, read_set

Rows = Iterator[list[dict[str, Any]]]


def measure_coverage(name: str, data: VectorSet, options: argparse.Namespace) -> Rows:
    for head in options.heads:
        for shots in coverage.SHOTS:
            if tasks.enough(data, shots):
                yield coverage.coverage(data, head, shots, options.tasks)


def measure_unknown(name: str, data: VectorSet, options: argparse.Namespace) -> Rows:
    for shots in coverage.SHOTS:
        if shots != 2 and tasks.enough(data, shots):
            yield unknown.unknown(data, 5, shots, unknown.ASKED, max(2, options.tasks // 10))
    if name == "clinc150":
        yield unknown.unknown(data, 150, 10, 1000, max(2, options.tasks // 200))
    if name == "banking77":
        yield unknown.unknown(data, 50, 10, 1000, max(2, options.tasks // 200))


def measure_mislabeled(name: str, data: VectorSet, options: argparse.Namespace) -> Rows:
    for shots in mislabeled.SHOTS:
        for share in mislabeled.SHARES:
            yield [mislabeled.mislabeled(data, shots, share, max(2, options.tasks // 10))]


def measure_labeling(name: str, data: VectorSet, options: argparse.Namespace) -> Rows:
    for uneven in (False, True):
        yield labeling.labeling(name, data, uneven, max(2, options.tasks // 100))


def measure_speed(options: argparse.Namespace) -> Rows:
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # of children
    for spread in (0.5, 1.0, 1.5):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:  # its memory is its own
            yield [fresh.submit(speed.vectors, spread).result()]
    for encoder in (None, options.encoders.get("omniglot")):
        yield [speed.pictures(encoder)]


QUESTIONS: dict[str, Callable[[str, VectorSet, argparse.Namespace], Rows]] = {
    "coverage": measure_coverage,
    "unknown": measure_unknown,
    "mislabeled": measure_mislabeled,
    "labeling": measure_labeling,
}


def main() -> None:
    options = _arguments()
    shown = shlex.join(["python", "-m", "benchmarks.guarantee", *options.shown])
    about = {"commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds"), "command": shown}
    about["machine"] = describe_machine()
    asked = options.questions or [*QUESTIONS, "speed"]
    for name in SETS if {*asked} & {*QUESTIONS} else ():
        if name not in options.sets:
            continue
        try:
            data = read_set(name, options.encoders)
        except HandfulError as error:
            print(f"{name}: left out, {error}", flush=True)
            continue
        for question in (one for one in QUESTIONS if one in asked and (one == "coverage" or not data.paired)):
            _keep(question, QUESTIONS[question](name, data, options), about, options.results, name)
    if "speed" in asked:
        _keep("speed", measure_speed(options), about, options.results, "")
    page.write(options.results, options.docs)


def _keep(question: str, found: Rows, about: dict[str, Any], results: Path, name: str) -> None:
    begin = time.perf_counter()
    for rows in found:
        page.keep(results / f"{question}.json", [{**row, **about} for row in rows])
    print(f"{question} {name}: {time.perf_counter() - begin:.0f} s", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, "speed", "page"])
    parser.add_argument("--tasks", type=int, default=2000, help="of coverage; other questions take a share of it")
    parser.add_argument("--heads", nargs="+", default=["squared", "auto"], choices=[*HEADS, "auto"])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--encoder", action="append", default=[], metavar="SET=CHECKPOINT")
    parser.add_argument("--results", type=Path, default=page.RESULTS)
    parser.add_argument("--docs", type=Path, default=page.DOCS)
    options = parser.parse_args()
    pairs = [one.partition("=") for one in options.encoder]
    options.encoders = {name: Path(place) for name, _, place in pairs}
    places = {str(options.results), str(options.docs), "--results", "--docs"}
    options.shown = [f"{one.partition('=')[0]}=CHECKPOINT" if "=" in one else one for one in sys.argv[1:]]
    options.shown = [one for one in options.shown if one not in places]
    return options


if __name__ == "__main__":
    main()
