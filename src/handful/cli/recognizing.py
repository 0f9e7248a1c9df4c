"""`handful teach`, `recognize`, `add`, `remove`, `rename`, `merge`, `undo`, `history`, `report`."""

from __future__ import annotations

import csv as csv_module
import json as json_module
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..collection import Collection, open_collection
from ..recognizer import Answer, open_recognizer, teach
from ..recognizer.descriptions import without_them

__all__ = [
    "new_table",
    "print_table",
    "run_add",
    "run_change",
    "run_history",
    "run_recognize",
    "run_report",
    "run_teach",
    "said_warnings",
]


def run_teach(
    source: Path | None,
    to: Path,
    encoder: str | None,
    head: str | None,
    names: Path | None,
    epsilon: float | None,
    json: bool,
    skip_unreadable: bool,
    nested: bool,
    encoding: str,
) -> None:
    """Teach, and say what can be promised."""
    begin = time.perf_counter()
    chosen = 0.1 if epsilon is None else epsilon
    with said_warnings():
        made = teach(
            source,
            to,
            encoder=encoder,
            head=head,
            descriptions=names,
            epsilon=chosen,
            skip_unreadable=skip_unreadable,
            nested=nested,
            encoding=encoding,
        )
        with made:
            report = made.report()
    seconds = time.perf_counter() - begin
    if json:
        print(json_module.dumps(report.table() | {"seconds": round(seconds, 3)}, indent=2, ensure_ascii=False))
        return
    examples, classes = sum(report.classes.values()), len(report.classes)
    counts = f"{examples} example{'s' * (examples != 1)} of {classes} class{'es' * (classes != 1)}"
    print(f"Taught {counts} in {seconds:.1f} s: {report.place}")
    print(f"Vectors by {report.encoder}; promise that the true class is among the candidates: {report.promise}")
    if encoder is None and report.encoder == "ngrams":
        print("ngrams has learned nothing: pip install 'handful[text]', and MiniLM reads texts when you teach anew")
    if report.findings:
        things = "thing" if len(report.findings) == 1 else "things"
        print(f"{len(report.findings)} {things} to look at among the examples: handful report {to}")
    print(f"Next: {report.next}")


def run_recognize(
    place: Path,
    things: Sequence[str],
    epsilon: float | None,
    encoder: str | None,
    json: bool,
    csv: bool,
    skip_unreadable: bool,
    encoding: str,
) -> None:
    """Print the answers, in the order asked."""
    if json and csv:
        raise typer.BadParameter("expected --json or --csv, got both")
    with said_warnings(), open_recognizer(place, encoder=encoder) as recognizer:
        answers = recognizer.recognize_many(things, epsilon=epsilon, skip_unreadable=skip_unreadable, encoding=encoding)
        molecules = recognizer.collection.settings["kind"] == "molecules"
    if json:
        print(json_module.dumps([answer.table() for answer in answers], indent=2, ensure_ascii=False))
    elif csv:
        out = csv_module.writer(sys.stdout, lineterminator="\n")
        out.writerow(["source", "label", "probability", "candidates", "unknown", "nearest", "advice"])
        for one in answers:
            near = " ".join(str(neighbor.id) for neighbor in one.nearest)
            candidates = json_module.dumps(one.candidates, ensure_ascii=False)
            out.writerow([one.source, one.label, f"{one.probability:.6f}", candidates, one.unknown, near, one.advice])
    else:
        _show(answers, texts=molecules)


def run_add(
    place: Path, label: str, things: Sequence[str], encoder: str | None, skip_unreadable: bool, encoding: str
) -> None:
    """Add examples of a class."""
    with said_warnings(), open_recognizer(place, encoder=encoder) as recognizer:
        version = recognizer.add(label, things, skip_unreadable=skip_unreadable, encoding=encoding)
        _changed(recognizer.collection, version)


def run_change(place: Path, change: Callable[[Collection], int]) -> None:
    """Change a collection, which needs no encoder."""
    with open_collection(place) as store:
        _changed(store, change(store))


def run_history(place: Path, json: bool) -> None:
    """Print all changes."""
    with open_collection(place) as store:
        changes = store.history()
    if json:
        print(json_module.dumps([change._asdict() for change in changes], indent=2, ensure_ascii=False))
        return
    table = new_table("version", "time", "by", "change", "")
    for one in changes:
        detail = ", ".join(f"{name} {_shown(value)}" for name, value in one.detail.items())
        table.add_row(*map(escape, (str(one.version), one.time, one.by, one.action, detail)))
    print_table(table)


def run_report(place: Path, epsilon: float | None, encoder: str | None, json: bool) -> None:
    """Print what can be promised."""
    with said_warnings(), open_recognizer(place, encoder=encoder) as recognizer:
        report = recognizer.report(epsilon=epsilon)
    print(json_module.dumps(report.table(), indent=2, ensure_ascii=False) if json else report)


def _show(answers: Sequence[Answer], *, texts: bool = False) -> None:
    table = new_table("", "label", "probability", "candidates", "nearest", "")
    for one in answers:
        label = f"unknown (nearest: {one.label})" if one.unknown else one.label
        shown = [neighbor.text if texts and neighbor.text else "" for neighbor in one.nearest]
        near = ", ".join(
            f"{neighbor.id} {neighbor.label} {text}".rstrip() for neighbor, text in zip(one.nearest, shown, strict=True)
        )
        some = ", ".join(one.candidates[:5]) + (
            f" and {len(one.candidates) - 5} more" if len(one.candidates) > 5 else ""
        )
        table.add_row(*map(escape, (one.source, label, f"{one.probability:.3f}", some, near, one.advice)))
    print_table(table)
    if answers:
        print(f"Promise that the true class is among the candidates: {answers[0].promise}")


def _changed(store: Collection, version: int) -> None:
    found = store.read(version)  # another process may have gone on
    examples, classes = len(without_them(found).examples), len(found.labels)  # descriptions are no examples
    several = f"{examples} example{'s' * (examples != 1)} of {classes} class{'es' * (classes != 1)}"
    print(f"{store.place}: version {version}, {several}")


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def new_table(*columns: str) -> Table:
    """A table without lines."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Print as wide as the terminal; into a file, wide."""
    out = Console()
    (out if out.is_terminal else Console(width=200)).print(table)


@contextmanager
def said_warnings() -> Iterator[None]:
    """Say every warning, at once and in a line, as `main` does; also one that was said before."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        yield
