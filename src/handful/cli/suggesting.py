"""`handful suggest`: what to label next."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from ..recognizer import open_recognizer
from .recognizing import new_table, print_table, said_warnings

__all__ = ["run_suggest"]


def run_suggest(
    place: Path,
    things: Sequence[str],
    count: int,
    encoder: str | None,
    json: bool,
    skip_unreadable: bool,
    encoding: str,
) -> None:
    """Print what would teach the most, the most useful first."""
    with said_warnings(), open_recognizer(place, encoder=encoder) as recognizer:
        found = recognizer.suggest(things, count=count, skip_unreadable=skip_unreadable, encoding=encoding)
    if json:
        print(json_module.dumps([one.table() for one in found], indent=2, ensure_ascii=False))
        return
    if not found:
        print("Nothing to label: every one of these is an example already")
        return
    shown = new_table("", "label these next", "perhaps", "probability", "or")
    for number, one in enumerate(found, 1):
        others = ", ".join(label for label in one.candidates[:5] if label != one.label)
        perhaps = one.label if one.candidates else f"unlike every example (nearest: {one.label})"
        shown.add_row(*map(escape, (str(number), one.source, perhaps, f"{one.probability:.3f}", others)))
    print_table(shown)
    print(f"Then: handful add {place} LABEL FILE")
