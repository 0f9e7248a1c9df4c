"""docs/texts-figures.md, made from the rows in results/texts: `python -m benchmarks.texts page`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["QUESTIONS", "page", "read"]

Row = dict[str, Any]
QUESTIONS = ("intents", "setfit", "relations", "zero-shot")


def read(folder: Path) -> dict[str, list[Row]]:
    """The rows of each question that was measured."""
    paths = {question: folder / f"{question}.json" for question in QUESTIONS}
    return {question: json.loads(path.read_text()) for question, path in paths.items() if path.exists()}


def page(results: dict[str, list[Row]]) -> str:
    """The page."""
    return "# Figures on texts\n"
