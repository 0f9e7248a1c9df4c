"""The ledger: one JSON file a reproduced number; the README's table is made from it.

python -m handful.ledger results README.md
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import DataError
from .files import storage_errors, write_file

__all__ = ["BEGIN", "END", "between_marks", "measured", "percent", "read_ledger", "results_table", "with_table"]

NAMES = {"mse": "MSE ", "auc": "ROC-AUC ", "delta_auprc": "ΔAUPRC "}
BEGIN, END = "<!-- results: made by `make results`, do not edit -->", "<!-- end of results -->"


def percent(metric: str, value: float, ci95: float | None) -> str:
    """A value with its interval: accuracy in percent, anything else as it is."""
    scale, unit, digits = (100, " %", 2) if metric == "accuracy" else (1, "", 3)
    half = "" if ci95 is None or math.isnan(ci95) else f" ± {scale * ci95:.{digits}f}"
    return f"{scale * value:.{digits}f}{half}{unit}"


def measured(entry: Mapping[str, Any]) -> str:
    """The value of a result with its interval, which is over tasks unless it says over how many trainings."""
    over = f" ({len(entry['runs'])} trainings)" if entry["interval_over"] == "training runs" else ""
    return percent(entry["metric"], entry["value"], entry["ci95"]) + over


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """Every result in the folder, by name.

    Raises:
        DataError: a file is not a result.
    """
    entries = []
    for path in sorted(folder.glob("*.json")):
        try:
            with storage_errors(path, "read"):
                entry = json.loads(path.read_text())
            results_table([entry])
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}: expected a result of `handful reproduce`; write it again") from None
        entries.append(entry)
    return entries


def results_table(entries: list[dict[str, Any]]) -> str:
    """The ledger as a Markdown table."""
    lines = [
        "| recipe | measured | published | tasks | queries | training |",
        "|---|---|---|---|---|---|",
    ]
    for entry in entries:
        published = entry["published"]
        figure = "–" if published is None else percent(entry["metric"], published["value"], published["ci95"])
        name = NAMES.get(entry["metric"], "")
        lines.append(
            f"| `{entry['name']}` | {name}{measured(entry)} | {figure} "
            f"| {entry['tasks']:,} | {'transductive' if entry['transductive'] else 'by themselves'} "
            f"| {entry['train_seconds'] / 60:.0f} min |"
        )
    return "\n".join(lines)


def with_table(document: str, entries: list[dict[str, Any]]) -> str:
    """The document with its results table made anew.

    Raises:
        DataError: the document has no place for it.
    """
    return between_marks(document, BEGIN, END, results_table(entries))


def between_marks(document: str, begin: str, end: str, content: str) -> str:
    """The document with this between two lines of it.

    Raises:
        DataError: the document does not have them.
    """
    before, first, rest = document.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise DataError(f"expected the lines {begin!r} and {end!r} around the table")
    inside = f"{content}\n\n" if content else ""
    return f"{before}{begin}\n\n{inside}{end}{after}"


if __name__ == "__main__":
    ledger, page = Path(sys.argv[1]), Path(sys.argv[2])
    write_file(page, with_table(page.read_text(), read_ledger(ledger)))
