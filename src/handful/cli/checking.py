"""`handful data check`: a user's own data, looked through."""

from __future__ import annotations

import json as json_module
from pathlib import Path

from rich.console import Console

from ..data.check import Report, check_data

__all__ = ["run_check"]


def run_check(path: Path, label: str, text: str | None, json: bool) -> None:
    """Print what was found in the data, for people or as JSON."""
    report = check_data(path, label=label, text=text)
    if json:
        print(json_module.dumps(report.table(), indent=2, ensure_ascii=False))
        return
    out = Console(soft_wrap=True, highlight=False)
    for line in _lines(report):
        out.print(line, markup=False)


def _lines(report: Report) -> list[str]:
    counts = sorted(report.classes.values())
    lines = [f"{report.path}: {report.examples} {report.kind}, {len(counts)} classes"]
    if counts:
        middle = counts[len(counts) // 2]
        lines.append(f"examples a class: {counts[0]} to {counts[-1]}, median {middle}")
    for what, groups in (
        ("unreadable", report.unreadable),
        ("tiny", report.tiny),
        ("huge", report.huge),
        ("duplicates", [" = ".join(group) for group in report.duplicates]),
        ("nearly the same", [" ~ ".join(group) for group in report.near]),
        ("in different classes", [" ~ ".join(group) for group in report.contradictions]),
    ):
        if groups:
            lines += [f"{what}: {len(groups)}", *(f"  {group}" for group in groups[:5])]
            lines += [f"  and {len(groups) - 5} more (--json lists all)"] if len(groups) > 5 else []
    return [*lines, *(f"- {advice}" for advice in report.advice)]
