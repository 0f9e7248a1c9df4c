"""FewRel: sentences in which a head and a tail entity stand in a relation, of Wikipedia and of other domains.

Sources: Han et al. 2018, arXiv:1810.10147; the domains other than Wikipedia, Gao et al. 2019, arXiv:1910.07124.
The published test relations are secret, and 16 relations × 700 sentences are published for validation. Those 16 are
what is here; figures on them are not comparable with the leaderboard's.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..encoders.spans import Span, span_vectors
from ..encoders.text_cnn import REACH
from ..errors import DataError, unknown_name
from ..progress import progress
from .cache import cached_pool
from .pool import ClassPool
from .raw import RawFile, adder, raw_files
from .splitting import Split, split_pool
from .texts import grouped, text_pool, word_numbers

__all__ = ["Domain", "Reading", "Relation", "add_fewrel", "fewrel", "four_spans", "read_relations", "word_spans"]

Domain = Literal["wiki", "pubmed", "nyt", "semeval"]
Reading = Literal["vectors", "places", "words", "tokens"]
SITE = "https://raw.githubusercontent.com/thunlp/FewRel/master/data"
FILES = {
    "wiki": RawFile(
        "val_wiki.json", "76bb44c2485b6faed358a3ce040eadafcc8a8835245cd7e6afc1bef672d4a0bf", f"{SITE}/val_wiki.json"
    ),
    "pubmed": RawFile(
        "val_pubmed.json", "fc0f13b534f6664fe0d8aec231d7590313bc6510d00dbc1b6746147f6a2b46e6", f"{SITE}/val_pubmed.json"
    ),
    "nyt": RawFile(
        "val_nyt.json", "b519adc61a2bab0f05178e33a3cd8f284338b635629493e9e09616ba81bb428e", f"{SITE}/val_nyt.json"
    ),
    "semeval": RawFile(
        "val_semeval.json",
        "fd79cf35481f6596c23b92cd3ded3265481f3027a4b78d99921104f8fe632eb5",
        f"{SITE}/val_semeval.json",
    ),
    "names": RawFile(
        "pid2name.json", "eeedd25512a8e4c2bc06b78009836d27de81807bcba6ed929debd5cd713c07ea", f"{SITE}/pid2name.json"
    ),
}
HALVES = {"train": 0.5, "test": 0.5}

add_fewrel = adder("fewrel", list(FILES.values()))


class Relation(NamedTuple):
    """A sentence in which two entities stand in a relation.

    Attributes:
        text: the sentence.
        words: of it.
        names: of head and tail.
        places: the words that head and tail begin with, from 0 on.
        spans: the characters of all of it, of the head, the tail, and what is between them.
        several: an entity is there more than once, and the first was taken.
    """

    text: str
    words: Sequence[str]
    names: tuple[str, str]
    places: tuple[int, int]
    spans: Sequence[Span]
    several: bool = False


def fewrel(
    *,
    test: Domain = "wiki",
    reading: Reading = "vectors",
    model: str = "minilm",
    length: int = 40,
    split: Split | None = None,
    split_seed: int = 0,
) -> ClassPool:
    """Sentences with two entities. Classes are relations, named as 'P177 crosses'.

    Args:
        test: "wiki" divides the 16 relations of Wikipedia; another domain is the split test, and all 16 are train.
        reading: "vectors" [384] of a frozen sentence encoder, which reads 'head ; tail ; sentence'; "places" [1536],
            its inner states in the sentence, the head, the tail, and between them, see `span_vectors`; or "words"
            [3, length]: numbers of words, and their distances from the head and from the tail, for `text_cnn`;
            "tokens": as `text_pool`, of what "vectors" reads.
        model: the sentence encoder, see `sentence_vectors`; with "tokens", whose tokenizer.
        length: with "words" or "tokens", how many are kept; of words, those around the entities.
        split, split_seed: of the relations of Wikipedia, as `split_pool`; by default halves, train and test.

    Raises:
        DownloadError: no network; the files can be added.
        DataError: a file is not what was published.
        UnknownNameError: no such domain, or reading.
    """
    if test not in ("wiki", "pubmed", "nyt", "semeval"):
        raise unknown_name("domain of FewRel", test, ("wiki", "pubmed", "nyt", "semeval"))
    domains = list(dict.fromkeys(["wiki", test]))
    paths = raw_files("fewrel", [FILES[name] for name in (*domains, "names")], "fewrel")
    titles = json.loads(paths["pid2name.json"].read_bytes())
    pools = []
    for domain in domains:
        rows, labels = list[Relation](), list[str]()
        for relation, instances in json.loads(paths[FILES[domain].name].read_bytes()).items():
            name = f"{relation} {titles[relation][0]}" if relation in titles else relation
            rows += [_published(one["tokens"], one["h"], one["t"]) for one in instances]
            labels += [name if domain == "wiki" else f"{domain}: {name}"] * len(instances)
        pools.append(read_relations(rows, labels, what="FewRel", reading=reading, model=model, length=length))
    pool = ClassPool.grouped(
        torch.cat([part.examples for part in pools]),
        torch.cat([part.counts for part in pools]).tolist(),
        [name for part in pools for name in part.names],
    )
    if test == "wiki":
        return split_pool(pool, HALVES if split is None else split, seed=split_seed)
    if split is not None:
        raise DataError(f"FewRel: with test = {test!r} all relations of Wikipedia are train; leave `split` out")
    known = [name for name in pool.names if not name.startswith(f"{test}: ")]
    return split_pool(pool, {"train": known, "test": [name for name in pool.names if name not in known]})


def _published(words: Sequence[str], head: Sequence[Any], tail: Sequence[Any]) -> Relation:
    """As FewRel's files have it: of each entity its name, an id, and the words of each mention; the first is taken."""
    text, spans = text_and_places(words, head[2][0], tail[2][0])
    return Relation(text, words, (head[0], tail[0]), (head[2][0][0], tail[2][0][0]), spans)


def read_relations(
    rows: Sequence[Relation], labels: Sequence[str], *, what: str, reading: Reading, model: str, length: int
) -> ClassPool:
    """A pool of relations, without splits; arguments as of `text_pool`, readings as of `fewrel`."""
    if reading == "words":
        return grouped(placed_words([row.words for row in rows], [row.places for row in rows], length), labels)
    if reading == "places":
        return _placed(rows, labels, what, model)
    if reading not in ("vectors", "tokens"):
        raise unknown_name("reading of relations", reading, ("vectors", "places", "words", "tokens"))
    texts = [" ; ".join((*row.names, row.text)) for row in rows]
    return text_pool(texts, labels, what=what, reading=reading, model=model, length=length)


def _placed(rows: Sequence[Relation], labels: Sequence[str], what: str, model: str) -> ClassPool:
    texts, spans = [row.text for row in rows], [row.spans for row in rows]
    digest = hashlib.sha256(json.dumps(["places", model, texts, spans, list(labels)]).encode()).hexdigest()

    def make() -> ClassPool:
        with progress(f"embedding {what}", len(texts)) as advance:
            return grouped(span_vectors(texts, spans, model=model, advance=advance).flatten(1), labels)

    return cached_pool(f"texts-{digest[:16]}", {"sha256": digest, "model": model}, make)


def text_and_places(words: Sequence[str], head: Sequence[int], tail: Sequence[int]) -> tuple[str, list[Span]]:
    """A sentence of these words, and the characters of all of it, of the head, the tail, and what is between them.

    Args:
        words: of the sentence.
        head, tail: which words they are.
    """
    spans = word_spans(words)
    first, second = ((spans[place[0]][0], spans[place[-1]][1]) for place in (head, tail))
    text = " ".join(words)
    return text, four_spans(text, first, second)


def word_spans(words: Sequence[str]) -> list[Span]:
    """The characters of each of these words, joined by spaces."""
    ends = itertools.accumulate(len(word) + 1 for word in words)
    return [(end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True)]


def four_spans(text: str, head: Span, tail: Span) -> list[Span]:
    """All of it, the head, the tail, and what is between them: empty where they touch."""
    first, last = sorted((head, tail))
    return [(0, len(text)), head, tail, (min(first[1], last[0]), last[0])]


def placed_words(sentences: Sequence[Sequence[str]], places: Sequence[tuple[int, int]], length: int) -> Tensor:
    """[M, 3, length] int32: numbers of words, and each word's distance from the head and from the tail.

    Of a sentence with more words, a window is kept that begins before the first entity, or in the middle of both.
    """
    starts = []
    for words, (head, tail) in zip(sentences, places, strict=True):
        first, last = sorted((head, tail))
        start = first - (length - (last - first)) // 2 if last - first < length else first
        starts.append(max(0, min(start, len(words) - length)))
    kept = [list(words[start : start + length]) for words, start in zip(sentences, starts, strict=True)]
    numbers = word_numbers(kept, length)
    x = numbers.unsqueeze(1).repeat(1, 3, 1)
    begin = torch.tensor(starts)[:, None] + torch.arange(length)  # [M, length] place in the sentence
    for row, entity in enumerate(zip(*places, strict=True), 1):
        x[:, row] = (begin - torch.tensor(entity)[:, None]).clamp(-REACH, REACH)
    return x * (x[:, :1] > 0)
