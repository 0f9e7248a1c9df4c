"""What the benchmarks share: arguments, interleaved timing, and a report."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from handful.machine import commit, describe_machine, tune_allocator, versions


class Case(NamedTuple):
    """Something to time."""

    who: str
    what: str
    run: Callable[[], object]
    amount: int
    """How much one call does: episodes, pictures, tasks."""


def arguments(description: str) -> argparse.ArgumentParser:
    """The arguments that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads for tensor operations")
    parser.add_argument("--seconds", type=float, default=20.0, help="time to measure for, all in all")
    parser.add_argument("--tune", action="store_true", help="keep freed memory, as the command line `handful` does")
    parser.add_argument("--json", type=Path, help="write the figures, the machine and the commit to this file")
    return parser


def prepared(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments given, with the process set up as they say."""
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.tune and not tune_allocator():
        parser.error("--tune: this system's allocator cannot be tuned")
    return options


def measured(cases: list[Case], seconds: float) -> list[dict[str, Any]]:
    """Amounts a second of each case. The cases take turns, so that a busy spell hits them all alike.

    A turn repeats its case for a twentieth of the case's share of the time, and at least once; there are at least
    three turns. The first one only warms up.
    """
    turn = seconds / len(cases) / 20
    wall: list[list[float]] = [[] for _ in cases]
    processor: list[list[float]] = [[] for _ in cases]
    end = time.perf_counter() + seconds
    while len(wall[0]) < 4 or time.perf_counter() < end:
        for index, case in enumerate(cases):
            calls, began, used = 0, time.perf_counter(), time.process_time()
            while calls == 0 or time.perf_counter() - began < turn:
                case.run()
                calls += 1
            wall[index].append(calls * case.amount / (time.perf_counter() - began))
            processor[index].append(calls * case.amount / max(time.process_time() - used, 1e-9))
    return [_row(case, rates[1:], own[1:]) for case, rates, own in zip(cases, wall, processor, strict=True)]


def _row(case: Case, rates: list[float], own: list[float]) -> dict[str, Any]:
    low, middle, high = statistics.quantiles(rates, n=4)
    return {
        "who": case.who,
        "what": case.what,
        "median": middle,
        "quartiles": [low, high],
        "per_processor_second": statistics.median(own),
        "turns": len(rates),
    }


def report(title: str, unit: str, rows: list[dict[str, Any]]) -> None:
    """Print a table: median, middle half, and the median for each second of processor time."""
    print(f"\n{title}\n  {'':44}{unit:>12}  {'middle half':>19}  {'per CPU second':>14}  turns")
    for row in rows:
        low, high = row["quartiles"]
        name, spread = f"{row['who']}, {row['what']}", f"{low:,.0f} to {high:,.0f}"
        own = row["per_processor_second"]
        print(f"  {name:44}{row['median']:>12,.0f}  {spread:>19}  {own:>14,.0f}  {row['turns']:>5}")


def peer(name: str, make: Callable[[], Any]) -> Any:
    """A peer's case, or None with a line that says why it is not measured. Never an error."""
    try:
        case = make()
        if isinstance(case, Case):
            case.run()
        return case
    except ImportError as error:
        missing = error.name == name
        print(f"{name}: {'not installed' if missing else f'cannot be imported ({error})'}, so not measured")
    except Exception as error:  # whatever another library does, ours is still to be measured
        print(f"{name}: fails here ({type(error).__name__}: {error}), so not measured")
    return None


def write(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Write the figures with where they come from, if a file was asked for."""
    if options.json is None:
        return
    about = {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": versions(),
        "options": {name: value for name, value in vars(options).items() if name != "json"},
    }
    options.json.write_text(json.dumps({**figures, **about}, indent=2) + "\n", encoding="utf-8")
