"""`handful list` and `handful data add`; and the index of methods: python -m handful.cli.listing docs/methods."""

from __future__ import annotations

import inspect
import json as json_module
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..data import DATASETS
from ..encoders import ENCODERS, PRETRAINED
from ..encoders.shipped import shipped_about, shipped_names
from ..errors import DataError, StorageError, unknown_name
from ..files import write_file
from ..learners import LEARNERS
from ..ledger import between_marks
from ..recipes import recipe_names
from ..recognizer.embedders import BUILT_IN
from ..recognizer.networks import SENTENCES, Sentences
from ..reproduce import load_recipe

ABOUT = ("trained_on", "note", "ledger")
TEACHING: dict[str, Any] = {name: type(make()) for name, make in BUILT_IN.items()} | dict.fromkeys(SENTENCES, Sentences)
"""Encoders that only a recognizer takes."""

__all__ = ["BEGIN", "END", "methods_page", "run_add", "run_list"]

BEGIN, END = "<!-- learners: made by `make results`, do not edit -->", "<!-- end of learners -->"


def run_list(what: str, json: bool) -> None:
    """Print a catalog as a table or as JSON."""
    rows = {"learners": _learners, "encoders": _encoders, "data": _data, "recipes": _recipes}[what]()
    if json:
        print(json_module.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in rows[0]:
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == "name")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    out = Console()
    (out if out.is_terminal else Console(width=200)).print(table)


def run_add(name: str, source: Path | None) -> None:
    """Prepare a data set from `source`, or by a download."""
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    entry = DATASETS[name]
    options = inspect.signature(entry.load).parameters
    required = [name for name, option in options.items() if option.default is option.empty]
    if required:
        raise DataError(f"data set {name!r} is your own: say {', '.join(required)} in [data]; nothing is to be added")
    if source is not None and entry.add is None:
        raise DataError(f"data set {name!r} needs no files: it is there already")
    if source is not None and not source.exists():
        raise StorageError(f"{source}: no such file or folder; expected the published archives, or what is in them")
    if source is not None and entry.add is not None:
        entry.add(source)
    entry.load(**({"reading": "words"} if "reading" in options else {}))  # vectors are made when they are needed
    Console(stderr=True).print(f"[green]{name} is ready.[/green] Licence: {entry.licence}. Source: {entry.source}")


def _learners() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "paper": cls.paper,
            "kind": cls.kind,
            "regression": cls.regression,
            "any_ways": cls.any_ways,
            "transductive": cls.uses_queries,
            "options": _options(cls, skip=1),
        }
        for name, cls in LEARNERS.items()
    ]


def _encoders() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "use": "teach" if name in TEACHING else "spec, teach" if name in PRETRAINED else "spec",
            "summary": (entry.__doc__ or "").splitlines()[0],
            **_about(name),
            "options": [] if name in TEACHING else _options(entry),
        }
        for name, entry in {**ENCODERS, **PRETRAINED, **TEACHING}.items()
    ]


def _about(name: str) -> dict[str, str]:
    if name in SENTENCES:
        return {"trained_on": SENTENCES[name].data, "note": SENTENCES[name].licence, "ledger": ""}
    return {key: shipped_about(name)[key] if name in shipped_names() else "" for key in ABOUT}


def _data() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "summary": entry.summary,
            "licence": entry.licence,
            "source": entry.source,
            "options": _options(entry.load),
        }
        for name, entry in DATASETS.items()
    ]


def _recipes() -> list[dict[str, Any]]:
    recipes = [load_recipe(name) for name in recipe_names()]
    return [
        {
            "name": recipe.name,
            "title": recipe.title,
            "metric": recipe.metric,
            "published": None if recipe.published is None else recipe.published.value,
            "source": None if recipe.published is None else recipe.published.source,
        }
        for recipe in recipes
    ]


def _options(target: Any, skip: int = 0) -> list[str]:
    return list(inspect.signature(target).parameters)[skip:]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)


def pages_of(folder: Path) -> dict[str, str]:
    """The page of each learner that has one: its own, or the one of several that names it most often `like this`."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))}
    del texts["README"]
    pages = {}
    for name in LEARNERS:
        mentions = {stem: text.count(f"`{name}`") for stem, text in texts.items()}
        page = name if name in texts else max(mentions, key=lambda stem: mentions[stem])
        if page == name or mentions[page]:
            pages[name] = page
    return pages


def methods_page(page: str, pages: dict[str, str]) -> str:
    """The index of methods with its table made anew; `pages` as from `pages_of`."""
    lines = ["| learner | paper | kind | regression | any ways | all queries together |", "|---|---|---|---|---|---|"]
    for row in _learners():
        name = f"[{row['name']}]({pages[row['name']]}.md)" if row["name"] in pages else row["name"]
        flags = [_shown(row[key]) for key in ("regression", "any_ways", "transductive")]
        lines.append(f"| {' | '.join([name, row['paper'], row['kind'].replace('_', ' '), *flags])} |")
    return between_marks(page, BEGIN, END, "\n".join(lines))


if __name__ == "__main__":
    index = Path(sys.argv[1]) / "README.md"
    write_file(index, methods_page(index.read_text(), pages_of(index.parent)))
