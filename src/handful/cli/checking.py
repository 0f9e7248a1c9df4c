"""`handful data check`: a user's own data, looked through."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ..data.check import Report, check_data

__all__ = ["run_check"]

NAMED = 20
"""The most classes that are all printed."""


def run_check(path: Path, columns: Mapping[str, Any], encoding: str, nested: bool, json: bool) -> None:
    """Print what was found in the data, for people or as JSON; `columns` says what those of a table are."""
    report = check_data(path, **columns, encoding=encoding, nested=nested)
    if json:
        print(json_module.dumps(report.table(), indent=2, ensure_ascii=False))
        return
    out = Console(soft_wrap=True, highlight=False)
    for line in _lines(report):
        out.print(line, markup=False)


def _lines(report: Report) -> list[str]:
    kind = report.kind[:-1] if report.examples == 1 else report.kind
    measured = report.kind == "measurements"
    one, several, each = ("class", "classes", "examples a class")
    if report.kind == "points":
        one, several, each = ("task", "tasks", "points a task")
    classes = "" if measured else f", {len(report.classes)} {one if len(report.classes) == 1 else several}"
    against = "with different outcomes" if measured else "in different classes"
    lines = [f"{report.path}: {report.examples} {kind}{classes}"]
    if report.classes:
        lines.append(f"{'molecules of each' if measured else each}: {_counts(report.classes)}")
    if report.passed_over:
        lines.append("passed over: " + ", ".join(f"{count} {kind}" for kind, count in report.passed_over.items()))
    for what, groups in (
        ("folders without pictures", report.empty),
        ("unreadable", report.unreadable),
        ("tiny", report.tiny),
        ("huge", report.huge),
        ("duplicates", [_joined(group, " = ") for group in report.duplicates]),
        ("nearly the same", [_joined(group, " ~ ") for group in report.near]),
        (against, [_joined(group, " ~ ") for group in report.contradictions]),
        ("in different splits", [_joined(group, " ~ ") for group in report.leaks]),
    ):
        if groups:
            lines += [f"{what}: {len(groups)}", *(f"  {group}" for group in groups[:5])]
            lines += [f"  and {len(groups) - 5} more (--json lists all)"] if len(groups) > 5 else []
    return [*lines, *(f"- {advice}" for advice in report.advice)]


def _counts(classes: Mapping[str, int]) -> str:
    """How many each has; of many classes, the least, the most and the smallest few."""
    if len(classes) <= NAMED:
        return ", ".join(f"{name} {count}" for name, count in classes.items())
    order = sorted(classes, key=lambda name: classes[name])
    least, middle, most = (classes[order[place]] for place in (0, len(order) // 2, -1))
    fewest = ", ".join(f"{name} {classes[name]}" for name in order[:5])
    return f"{least} to {most}, median {middle}; fewest: {fewest} (--json lists all)"


def _joined(group: Sequence[str], sign: str) -> str:
    return sign.join(group[:5]) + (f" and {len(group) - 5} more" if len(group) > 5 else "")
