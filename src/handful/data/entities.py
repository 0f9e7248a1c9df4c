"""Entities in a sentence: where they stand, as tables say it, or FewRel, OpenNRE and SemEval."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..encoders.spans import Span
from ..errors import DataError
from .relations import word_spans
from .tables import cells_of, holds_several, label_of
from .texts import WORD, check_text

__all__ = ["MARK", "Sentence", "mentions", "sentence_of", "unmarked"]

MARK = re.compile(r"</?e[12]>")
"""What stands around the entities of a sentence in SemEval's layout."""


class Sentence(NamedTuple):
    """A text, the characters of each of its words, and whether it was given as a list of these."""

    text: str
    words: list[Span]
    listed: bool


def unmarked(cell: Any, column: str) -> tuple[str, str, str, int, int]:
    """The sentence without its marks, head and tail, and the characters that these begin with.

    Raises:
        DataError: not a text with both marked.
    """
    text, places = "", dict[str, int]()
    content = check_text(cell, column)
    for mark, part in zip(["", *MARK.findall(content)], MARK.split(content), strict=True):
        places[mark] = len(text)
        text += part
    first, second = (text[places.get(f"<{e}>", 0) : places.get(f"</{e}>", 0)] for e in ("e1", "e2"))
    if not first.strip() or not second.strip():
        raise DataError(f"{column}: expected <e1>head</e1> and <e2>tail</e2> in it, got {content[:60]!r}")
    head, tail = (places[f"</{e}>"] - len(name.lstrip()) for e, name in (("e1", first), ("e2", second)))
    return text, first, second, head, tail


def sentence_of(cell: Any, column: str) -> Sentence:
    """The sentence in a cell of this column. Raises DataError if it is neither a text nor a list of words."""
    if not isinstance(cell, list | tuple | np.ndarray):
        text = check_text(cell, column)
        return Sentence(text, [word.span() for word in WORD.finditer(text)], False)
    words = [word for word in cell if isinstance(word, str)]
    if len(words) < len(cell):
        raise DataError(f"{column} is not a list of words, got {str(cell)[:40]!r}")
    return Sentence(check_text(" ".join(words), column), word_spans(words), True)


def mentions(sentence: Sentence, cell: Any, start: Any, column: str) -> tuple[str, list[Span]]:
    """The name of an entity, and the characters of each place where it may be.

    Args:
        sentence: what it stands in.
        cell: its name; or as FewRel and OpenNRE have it.
        start: the character that it begins with (of a list the word), or nothing.
        column: of the cell, for errors.

    Raises:
        DataError: it is not there.
    """
    text, words, listed = sentence
    if holds_several(cell):
        return _placed_entity(cell, sentence, column)
    name = check_text(label_of(cell), column)
    pattern = r"\s*".join(map(re.escape, WORD.findall(name)))  # words may have been set apart from signs
    if label_of(start) is None:
        for flags in (0, re.IGNORECASE):
            if found := [one.span() for one in re.finditer(rf"(?<!\w){pattern}(?!\w)", text, flags)]:
                return name, found
        raise DataError(f"{column} {name[:60]!r} is not in the sentence as whole words; write it as it stands there")
    most, unit = (len(words), "word") if listed else (len(text), "character")
    number = (cells_of(start) or [-1])[0]
    if number not in range(most):
        raise DataError(f"{column}_start: expected a {unit} from 0 to {most - 1}, got {str(start)[:40]!r}")
    at = words[int(number)][0] if listed else int(number)
    match = re.compile(pattern, re.IGNORECASE).match(text, at)
    if match is None:
        got = text[at : at + min(len(name), 60)]
        raise DataError(f"{column}_start: expected {name[:60]!r} at {unit} {number:g} (the first is 0), got {got!r}")
    return name, [match.span()]


def _placed_entity(cell: Any, sentence: Sentence, column: str) -> tuple[str, list[Span]]:
    """As FewRel has it: a name, an id, and the words of each mention, of which the first is taken. Or as others do."""
    text, words, listed = sentence
    parts = words if listed else []
    try:
        if isinstance(cell, Mapping) and "pos" in cell:  # OpenNRE's: from a word, or a character, to before another
            parts = words if listed else [(at, at + 1) for at in range(len(text))]
            start, end = cell["pos"]
            cell = [cell["name"], None, [range(start, end)]]
        elif isinstance(cell, Mapping):  # Hugging Face's
            cell = [cell["text"], None, cell["indices"]]
        name, _, (places, *_) = cell
        found = [parts[place] for place in places]
        if min(places) < 0:
            raise IndexError(min(places))
    except (TypeError, ValueError, LookupError) as error:
        wanted = (
            f"[name, id, [places]] with places from 0 to {len(parts) - 1}" if parts else "a list of words beside it"
        )
        raise DataError(f"{column}: expected a text, or {wanted}, got {str(cell)[:60]!r}") from error
    return check_text(name, column), [(min(start for start, _ in found), max(end for _, end in found))]
