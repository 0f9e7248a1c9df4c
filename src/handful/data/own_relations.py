"""A user's own relations: a table of sentences with two entities each, or a file in FewRel's layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError
from ..files import expanded, storage_errors
from ..rows import LABELS, TEXTS, decoded, doubt_minus_one, parsed_json, read_columns
from .entities import MARK, mentions, sentence_of, unmarked
from .pool import ClassPool
from .relations import Reading, Relation, four_spans, read_relations
from .splitting import Split, split_pool
from .tables import (
    Columns,
    called,
    check_lengths,
    class_of,
    frequent,
    known_column,
    named_columns,
)

__all__ = [
    "RelationColumns",
    "holds_relations",
    "relation_columns",
    "relation_rows",
    "relation_table",
    "relations",
    "relations_pool",
]

SENTENCES, HEADS, TAILS = (*TEXTS, "tokens", "token"), ("head", "h"), ("tail", "t")
"""Names of columns that are found unless others are said; of classes also 'relation'."""


def relations(
    *,
    path: str,
    label: str = "label",
    text: str | None = None,
    head: str = "head",
    tail: str = "tail",
    reading: Reading = "vectors",
    model: str = "minilm",
    length: int = 40,
    encoding: str = "utf-8",
    least: int = 1,
    split: Split | None = None,
    within: bool = False,
    split_seed: int = 0,
) -> ClassPool:
    """Sentences with two entities, of a file. Classes are relations.

    Args:
        path: .csv, .tsv (with a line of column names), .jsonl (an object a line) or .parquet (extra `tables`); or .json
            in FewRel's layout, {relation: [{"tokens": words, "h": [name, id, [places]], "t": ...}, ...]}.
        label, text, head, tail, reading, model, length: as `relations_pool`.
        encoding: of a CSV, TSV, JSONL or JSON file.
        least: leave out relations of fewer sentences.
        split, within, split_seed: as `split_pool`.

    Raises:
        DataError: not such a file, in another encoding; or as `relations_pool`.
        StorageError: no such file, no permission.
    """
    file = expanded(path)
    columns, places = relation_table(file, encoding)
    chosen = relation_columns(columns, label, text, head, tail, str(file))
    pool = _pool(columns, chosen, places, reading, model, length, str(file))
    return split_pool(frequent(pool, least, str(file)), split, within=within, seed=split_seed)


def relations_pool(
    columns: Any,
    *,
    label: str = "label",
    text: str | None = None,
    head: str = "head",
    tail: str = "tail",
    reading: Reading = "vectors",
    model: str = "minilm",
    length: int = 40,
    what: str = "table",
) -> ClassPool:
    """A pool of a table's sentences with two entities, without splits.

    Args:
        columns: a pandas DataFrame, a pyarrow Table, or a mapping from column names to sequences.
        label: the column of relations; where none is called 'label', 'class', 'category', 'intent' or 'relation' is.
        text: the column of sentences: texts, or lists of words; by default 'text', 'sentence', 'utterance', 'content',
            'tokens' or 'token'. Names are found in small letters and capitals.
        head, tail: the columns of entities: texts that stand in the sentence as whole words, in other letters if not in
            these, and with any spaces. Of one that is there several times the first is taken that lies apart from the
            other, unless the column `head_start` or `tail_start` says the character that it begins with (of lists the
            word), from 0 on. Also as OpenNRE has them, {"name", "pos": [start, end]}; with lists of words as FewRel has
            them, [name, id, [places of words]], there and at Hugging Face. Where there are no such columns, as SemEval
            has them, marked in the sentence: <e1>head</e1>, <e2>tail</e2>.
        reading, model, length: what becomes of sentences, see `fewrel`.
        what: what errors call the table.

    Raises:
        UnknownNameError: no such column, or reading.
        DataError: no rows; one without label or sentence, or an entity that is not there, each named; no such columns.
    """
    named = named_columns(columns)
    chosen = relation_columns(named, label, text, head, tail, what)
    places = [f"row {number}" for number in range(1, 1 + len(named[chosen.label]))]
    return _pool(named, chosen, places, reading, model, length, what)


def _pool(
    columns: Columns,
    chosen: RelationColumns,
    places: Sequence[str],
    reading: Reading,
    model: str,
    length: int,
    what: str,
) -> ClassPool:
    found, problems = relation_rows(columns, chosen, places, what)
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(f"{what}: {'; '.join(problems[:5])}{more}; mend or remove them")
    labels = [name for _, name, _ in found]
    doubt_minus_one(labels, what)
    return read_relations([one for *_, one in found], labels, what=what, reading=reading, model=model, length=length)


def relation_table(path: Path, encoding: str) -> tuple[dict[str, list[Any]], list[str]]:
    """The columns of a file, and what its rows are called in errors; as `relations`."""
    if path.suffix.lower() != ".json":
        columns = read_columns(path, encoding=encoding)
        return columns, [f"row {number}" for number in range(1, 1 + len(next(iter(columns.values()), [])))]
    with storage_errors(path, "read"):
        content = path.read_bytes()
    layout = "expected FewRel's layout, an object of relations, each a list of sentences"
    try:
        found = parsed_json(decoded(path, content, encoding))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); {layout} (a file of an object a line ends in .jsonl)") from error
    if not isinstance(found, dict) or not all(isinstance(rows, list) for rows in found.values()):
        raise DataError(f"{path}: {layout}; write others as a table, an object a line (.jsonl)")
    rows = [(name, row if isinstance(row, dict) else {}) for name, rows in found.items() for row in rows]
    columns = {key: [row.get(key) for _, row in rows] for key in ("tokens", "h", "t")}
    places = [f"{name}, sentence {number}" for name, rows in found.items() for number in range(1, 1 + len(rows))]
    return {**columns, "label": [name for name, _ in rows]}, places


class RelationColumns(NamedTuple):
    """What the columns of a table of relations are; the last two say where entities begin. None where marks do."""

    label: str
    text: str
    head: str | None
    tail: str | None
    head_start: str | None
    tail_start: str | None


def holds_relations(columns: Columns, text: str | None = None) -> bool:
    """Whether a table has the usual columns of sentences (or this one) and two entities, or marks of these."""
    sentences = called(columns, SENTENCES if text is None else (text,))
    return sentences is not None and (
        all(called(columns, names) for names in (HEADS, TAILS)) or _marked(columns, sentences)
    )


def _marked(columns: Columns, text: str) -> bool:
    """Whether entities are marked in the sentences, and have no columns."""
    apart = called(columns, (*HEADS, *TAILS)) is not None
    return not apart and any(isinstance(cell, str) and MARK.search(cell) for cell in columns[text])


def relation_columns(
    columns: Columns, label: str, text: str | None, head: str, tail: str, what: str
) -> RelationColumns:
    """What the columns of a table are; as `relations_pool`."""
    of_label = known_column(columns, (*LABELS, "relation") if label == "label" else (label,), what)
    of_text = known_column(columns, SENTENCES if text is None else (text,), what)
    if (head, tail) == ("head", "tail") and _marked(columns, of_text):
        return RelationColumns(of_label, of_text, None, None, None, None)
    of_head = known_column(columns, HEADS if head == "head" else (head,), what)
    of_tail = known_column(columns, TAILS if tail == "tail" else (tail,), what)
    starts = (called(columns, (f"{name}_start",)) for name in (of_head, of_tail))
    return RelationColumns(of_label, of_text, of_head, of_tail, *starts)


def relation_rows(
    columns: Columns, chosen: RelationColumns, places: Sequence[str], what: str
) -> tuple[list[tuple[str, str, Relation]], list[str]]:
    """The place, the class and what is read of each row; and what is wrong with the others.

    Raises:
        DataError: no rows, or columns of different lengths.
    """
    check_lengths(columns, [name for name in chosen if name], what)
    found, problems = list[tuple[str, str, Relation]](), list[str]()
    cells = [columns[name] if name else [None] * len(places) for name in chosen]
    for place, label, *row in zip(places, *cells, strict=True):
        try:
            found.append((place, class_of(label, chosen.label), _relation(row, chosen)))
        except DataError as error:
            problems.append(f"{place}: {error}")
    return found, problems


def _relation(cells: Sequence[Any], chosen: RelationColumns) -> Relation:
    """What is read of a row: sentence, head, tail, and where these begin."""
    if chosen.head is None:
        cells = unmarked(cells[0], chosen.text)
    of_head, of_tail = chosen.head or "head", chosen.tail or "tail"
    content, head_cell, tail_cell, head_start, tail_start = cells
    sentence = sentence_of(content, chosen.text)
    text, spans, _ = sentence
    head_name, heads = mentions(sentence, head_cell, head_start, of_head)
    tail_name, tails = mentions(sentence, tail_cell, tail_start, of_tail)
    apart = ((one, other) for one, other in product(heads, tails) if one[1] <= other[0] or other[1] <= one[0])
    head, tail = next(apart, (heads[0], tails[0]))
    if head == tail:
        raise DataError(f"{of_head} and {of_tail} are the same words, {text[slice(*head)]!r}; expected two")
    first, second = (sum(end <= start for _, end in spans) for start, _ in (head, tail))
    words = [text[start:end] for start, end in spans]
    several = len(heads) > 1 or len(tails) > 1
    return Relation(text, words, (head_name, tail_name), (first, second), four_spans(text, head, tail), several)
