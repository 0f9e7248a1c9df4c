"""What to do with a user's own data, by what was found in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ..pictures import SUFFIXES
from .folder import SPLITS, PictureFile
from .tables import Columns, cells_of

__all__ = ["Assays", "Groups", "advice_on", "advice_on_columns", "advice_on_folders", "advice_on_texts", "columns_seen"]

MANY = 15
"""Classes from which on they are divided into splits, rather than the examples of each."""


class Groups(NamedTuple):
    """How many groups of examples there are that are the same or nearly so."""

    duplicates: int
    against: int
    """In different classes."""
    leaks: int
    """In different splits."""


class Assays(NamedTuple):
    """Tasks that are assays, or regressions."""

    fewest: Sequence[int]
    """Of each the values, or the rarer outcome's molecules."""
    target: Literal["active", "value"]


def advice_on(
    kind: str, counts: Sequence[int], unreadable: Sequence[str], groups: Groups, assays: Assays | None = None
) -> list[str]:
    """What the data are good for, and what to do first.

    Args:
        kind: as `Report.kind`.
        counts: examples of each class, the fewest first.
        unreadable: what a loader would refuse, and why.
        groups: of the same, or nearly.
        assays: of measurements and points.
    """
    said = []
    if unreadable:
        remedy = ""
        if kind == "pictures":
            remedy = ", or leave them out (skip_unreadable = true; --skip-unreadable)"
        elif kind in ("molecules", "measurements") and any("smiles" in one.lower() for one in unreadable):
            remedy = ", or leave molecules that cannot be read out (skip_unreadable = true)"
        said.append(f"{len(unreadable)} cannot be used: mend or remove them{remedy}")
    if groups.against:
        different = "with different outcomes" if kind == "measurements" else "in different classes"
        said.append(f"{_groups(groups.against)} of the same or nearly the same {different}: decide which is right")
    if groups.duplicates:
        said.append(
            f"{_groups(groups.duplicates)} of duplicates: keep one of each, or a test may ask for what was taught"
        )
    if groups.leaks:
        said.append(
            f"{_groups(groups.leaks)} of the same or nearly the same in several splits, a leak: keep each in one"
        )
    if not counts:
        return [*said, "nothing to learn from"]
    if assays is not None:
        return [*said, _on_assays(kind, *assays)]
    singles = sum(count == 1 for count in counts)
    if singles:
        have = "1 class has" if singles == 1 else f"{singles} classes have"
        said.append(f"{have} a single example: it can be taught, but nothing is left to test it by")
    if counts[-1] > 10 * counts[0]:
        said.append(f"the largest class has {counts[-1]} examples, the smallest {counts[0]}: episodes draw them evenly")
    if len(counts) < 2:
        return [*said, "one class: add another, there is nothing to tell apart"]
    if kind != "relations":  # `teach` does not take them
        every = "both" if len(counts) == 2 else f"all {len(counts)}"
        said.append(f"to be taught: {every} classes, one example each is enough to begin with")
        if sum(counts) - len(counts) < 9:
            said.append("a promise of 90% needs 9 examples beside those taught (19 for 95%): there are too few for one")
    return [*said, _on_classes(kind, counts)]


def advice_on_folders(root: Path, files: Sequence[PictureFile]) -> list[str]:
    """What the folders in and around those of classes may mean."""
    inner: dict[str, set[str]] = {}
    splits: dict[str, set[str | None]] = {}
    for path, name, split in files:
        below = path.relative_to(root).parts[1 if split is None else 2 : -1]
        inner.setdefault(name, set()).add(below[0] if below else "")
        splits.setdefault(name, set()).add(split)
    said = []
    several = [name for name in splits if len(splits[name]) > 1]
    if several:
        said.append(
            f"classes {', '.join(several[:5])}{' ...' if len(several) > 5 else ''} are in several of the splits: they "
            "divide the examples of each class (within = true), or give each class to one split"
        )
    first = sorted(next(iter(inner.values())))
    if len(inner) > 1 and len(first) > 1 and "" not in first and all(below == {*first} for below in inner.values()):
        remedy = "if these are the classes, set nested = true"
        if all(name.lower() in SPLITS for name in first):
            remedy = "for splits put them outside (PATH/train/robin) and set within = true"
        said.append(f"every class folder holds the folders {', '.join(first[:5])}, which are taken together: {remedy}")
    return said


def columns_seen(columns: Columns) -> str:
    """The columns of a table, and what they hold."""
    kinds = ("numbers" if all(map(cells_of, column)) else "texts" for column in columns.values())
    return ", ".join(f"{name!r} ({kind})" for name, kind in zip(columns, kinds, strict=True))


def advice_on_columns(columns: Columns, label: str, chosen: Sequence[str]) -> list[str]:
    """What to do about classes that look like values, and columns that were to hold numbers, and hold none."""
    said = []
    if any(not cell.is_integer() for value in columns[label] for cell in cells_of(value) or ()):
        said.append(
            f"column {label!r} holds decimals: if they are values to be told, and not classes, name it as the target "
            f"of regression tasks (--targets {label}), and the column that says the task (--task)"
        )
    for name in chosen:
        if not all(isinstance(value, str) and cells_of(value) is None for value in columns[name]):
            continue
        if all(Path(str(value)).suffix.lower() in SUFFIXES for value in columns[name]):
            said.append(
                f"column {name!r} names pictures, which a table is not read for: put links to them into class folders"
            )
        else:
            said.append(
                f"column {name!r} holds no numbers: if examples are its texts, say so (--text {name}); otherwise name "
                "the columns of numbers (--features)"
            )
    return said


def advice_on_texts(texts: Sequence[object]) -> list[str]:
    """What `teach` does not take, though training does."""
    signs = sum(isinstance(one, str) and bool(one.strip()) and not any(map(str.isalnum, one)) for one in texts)
    return [f"{signs} without letters or figures: teach refuses them"] if signs else []


def _on_classes(kind: str, counts: Sequence[int]) -> str:
    """Each split gives such tasks: of many classes a fifth at least, of few ones half of the examples of each."""
    named = f' ([data] name = "{kind}")' if kind in ("molecules", "relations") else ""
    for share, how in (
        (1, "splits by class"),
        (2, "few classes: divide the examples of each (within = true, split = { train = 0.5, test = 0.5 })"),
    ):
        fits = _episodes([count // share for count in counts], fewest=2 if share > 1 else MANY)
        if fits is not None:
            ways, shots, queries, usable = fits
            ways = ways if share > 1 else min(ways, usable // 5)
            more = "" if usable == len(counts) else f" (least = {share * (shots + queries)} leaves out the others)"
            return (
                f"to be trained on{named}: {usable} classes give ways = {ways}, shots = {shots}, queries = {queries}"
                f"{more}; {how}"
            )
    return "to be trained on: too few; take an encoder trained on other data, or add classes and examples"


def _on_assays(kind: str, fewest: Sequence[int], target: str) -> str:
    """Of as many assays as there are at least three, a split each; of fewer, the molecules are divided."""
    one, examples, named = "assay", "molecules", '[data] name = "molecules"'
    if kind == "points":
        one, examples, named = "task", "points", '[data] name = "regression"'
    elif target == "value":
        named += ', target = "value"'
    tasks, ends = one if len(fewest) == 1 else f"{one}s", "of each outcome" if target == "active" else "in all"
    for within in (False, True):
        fits = _episodes([count // 5 for count in fewest] if within else fewest, fewest=1 if within else 3)
        if fits is not None:
            _, shots, queries, usable = fits
            need = (shots + queries) * (5 if within else 1)
            more = "" if usable == len(fewest) else f" (least = {need} leaves out the others)"
            split = f"divide the {examples} of each (within = true)" if within else f"splits by {one}"
            return (
                f"to be trained on ({named}): {usable} {tasks} give shots = {shots}, queries = {queries} {ends}{more}; "
                f"{split}"
            )
    few = "points" if kind == "points" else "measurements"
    return f"to be trained on: too few {few} {ends}; add some, or {one}s"


def _groups(found: int) -> str:
    return "1 group" if found == 1 else f"{found} groups"


def _episodes(counts: Sequence[int], *, fewest: int = 2) -> tuple[int, int, int, int] | None:
    """The most demanding usual tasks that at least half of the classes can give, and so many at least."""
    for shots, queries in ((5, 15), (1, 15), (5, 5), (1, 5), (1, 1)):
        usable = sum(count >= shots + queries for count in counts)
        if usable >= max(fewest, len(counts) // 2):
            return min(5, usable), shots, queries, usable
    return None
