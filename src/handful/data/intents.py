"""Short texts by what they want or are about: CLINC150, BANKING77, HWU64 (intents), HuffPost (news).

Sources: CLINC150, Larson et al. 2019, arXiv:1909.02027; BANKING77, Casanueva et al. 2020, arXiv:2003.04807; HWU64,
Liu et al. 2019, arXiv:1903.05566; HuffPost, Misra 2022, arXiv:2209.11429, as Bao et al. 2020, arXiv:1908.06039, cut it
for few-shot use.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from ..encoders.intents import NAME as METRIC
from ..errors import unknown_name
from .pool import ClassPool
from .raw import RawFile, adder, raw_files
from .splitting import Split, divided, split_pool
from .texts import Reading, text_pool

__all__ = [
    "add_banking77",
    "add_clinc150",
    "add_huffpost",
    "add_hwu64",
    "banking77",
    "clinc150",
    "huffpost",
    "hwu64",
    "intent_texts",
]

Protocol = Literal["classes", "examples"]
OOS = "oos"

CLINC150 = RawFile(
    "data_full.json",
    "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
    "https://raw.githubusercontent.com/clinc/oos-eval/master/data/data_full.json",
)
BANKING = "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data"
BANKING77 = {
    "train": RawFile(
        "train.csv", "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b", f"{BANKING}/train.csv"
    ),
    "test": RawFile(
        "test.csv", "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d", f"{BANKING}/test.csv"
    ),
}
HWU64 = RawFile("HWU64_full.jsonl", "a4c337fc8d12a5b62715d80e6df3b51bea20d137da0a833e8eb584e90c429d13")
HUFFPOST = RawFile("huffpost.json", "2485569669dd7ec5bf1e2f7468568a1d019faeb9941205bc9fb7edae93c488d6")
HUFFPOST_WORDS = RawFile("huffpost_label_words.tsv", "e9cd7771c71817ec85b9143a6709461321cb70453a2d7e0465faff50cc8b27da")

add_clinc150 = adder("clinc150", [CLINC150])
add_banking77 = adder("banking77", list(BANKING77.values()))
add_hwu64 = adder("hwu64", [HWU64])
add_huffpost = adder("huffpost", [HUFFPOST, HUFFPOST_WORDS])


def clinc150(
    *,
    protocol: Protocol = "classes",
    out_of_scope: bool = False,
    reading: Reading = "vectors",
    model: str = "minilm",
    length: int = 32,
    split: Split | None = None,
    split_seed: int = 0,
) -> ClassPool:
    """CLINC150: 150 intents × 150 questions to an assistant.

    Args:
        protocol: "classes" divides the intents; "examples" keeps all in each of the published train, val and test.
        out_of_scope: the 1,200 questions out of scope too, as the class 'oos' of a split 'oos'.
        reading, model, length: what becomes of texts, see `text_pool`.
        split, split_seed: of the intents, as `split_pool`.

    Raises:
        DownloadError: no network; the file can be added.
        MissingExtraError: vectors without the extra `text`.
    """
    parts = intent_texts("clinc150")
    strange = parts.pop(OOS) if out_of_scope else []
    parts.pop(OOS, None)
    return _pool("CLINC150", parts, protocol, reading, model, length, split, split_seed, strange)


def banking77(
    *,
    protocol: Protocol = "classes",
    reading: Reading = "vectors",
    model: str = "minilm",
    length: int = 64,
    split: Split | None = None,
    split_seed: int = 0,
) -> ClassPool:
    """BANKING77: 13,083 questions to a bank, of 77 intents. Arguments as `clinc150`; published are train and test."""
    return _pool("BANKING77", intent_texts("banking77"), protocol, reading, model, length, split, split_seed)


def hwu64(
    *,
    reading: Reading = "vectors",
    model: str = "minilm",
    length: int = 32,
    split: Split | None = None,
    split_seed: int = 0,
) -> ClassPool:
    """HWU64: 11,036 commands to a home robot, of 64 intents. Arguments as `clinc150`."""
    return _pool("HWU64", intent_texts("hwu64"), "classes", reading, model, length, split, split_seed)


def huffpost(*, reading: Reading = "vectors", model: str = "minilm", length: int = 32) -> ClassPool:
    """HuffPost: headlines of 41 sections × 900. Splits as in MetaPrompter: val 0 to 4, train 5 to 24, test 25 to 40.

    Args:
        reading, model, length: what becomes of texts, see `text_pool`.
    """
    paths = raw_files("huffpost", [HUFFPOST, HUFFPOST_WORDS], "huffpost")
    words = [line.split("\t") for line in paths[HUFFPOST_WORDS.name].read_text(encoding="utf-8").splitlines()]
    often = Counter(name for _, name in words)  # two sections are both called WORLD POST
    names = {int(number): f"{name} {number}" if often[name] > 1 else name for number, name in words}
    lines = [json.loads(line) for line in paths[HUFFPOST.name].read_text(encoding="utf-8").splitlines()]
    rows = [[row["raw"], names[row["label"]]] for row in lines]
    spans = {"train": range(5, 25), "val": range(5), "test": range(25, 41)}
    split = {part: [names[number] for number in span] for part, span in spans.items()}
    return _pool("HuffPost", {"all": rows}, "classes", reading, model, length, split, 0)


def intent_texts(name: Literal["clinc150", "banking77", "hwu64"]) -> dict[str, list[tuple[str, str]]]:
    """The texts and their intents, by published part; CLINC150's that are out of scope as a part 'oos'.

    Raises:
        DownloadError: no network, or the file is nowhere published by itself; it can be added.
        UnknownNameError: no such set.
    """
    if name == "clinc150":
        content = json.loads(raw_files(name, [CLINC150], name)[CLINC150.name].read_bytes())
        strange = [row for part in ("oos_train", "oos_val", "oos_test") for row in content[part]]
        return {part: [tuple(row) for row in content[part]] for part in ("train", "val", "test")} | {
            OOS: [tuple(row) for row in strange]
        }
    if name == "banking77":
        paths, parts = raw_files(name, list(BANKING77.values()), name), {}
        for part, file in BANKING77.items():
            with paths[file.name].open(encoding="utf-8", newline="") as lines:
                parts[part] = [(row["text"], row["category"]) for row in csv.DictReader(lines)]
        return parts
    if name != "hwu64":
        raise unknown_name("set of intents", name, ("clinc150", "banking77", "hwu64"))
    rows = map(json.loads, raw_files(name, [HWU64], name)[HWU64.name].read_text(encoding="utf-8").splitlines())
    return {"all": [(row["sentence"], row["label"]) for row in rows]}


def _pool(
    title: str,
    parts: Mapping[str, Sequence[Sequence[str]]],
    protocol: Protocol,
    reading: Reading,
    model: str,
    length: int,
    split: Split | None,
    seed: int,
    strange: Sequence[Sequence[str]] = (),
) -> ClassPool:
    """The texts of all parts, of intents divided by class or of a split for each part."""
    if model == METRIC and reading == "vectors" and title != "HuffPost":
        warnings.warn(
            f"{title}: the encoder {METRIC!r} has learned on its intents, so that figures say nothing of new ones; "
            "take 'minilm', or texts of another set",
            stacklevel=3,
        )
    rows = [(text, label, part) for part, of in parts.items() for text, label in of]
    rows += [(text, label, OOS) for text, label in strange]
    texts, labels = [text for text, *_ in rows], [f"{label}\n{part}" for _, label, part in rows]
    pool = text_pool(texts, labels, what=title, reading=reading, model=model, length=length)
    entries = [(*name.split("\n"), count) for name, count in zip(pool.names, pool.counts.tolist(), strict=True)]
    if protocol == "examples":
        return divided(pool.examples, entries)
    counts = Counter[str]()
    for name, _, count in entries:
        counts[name] += count
    whole = ClassPool.grouped(pool.examples, list(counts.values()), list(counts))
    if not strange:
        return split_pool(whole, split, seed=seed)
    chosen = split_pool(whole.subset([i for i, name in enumerate(whole.names) if name != OOS]), split, seed=seed)
    named = {part: [chosen.names[i] for i in members] for part, members in chosen.splits.items()}
    return split_pool(whole, {**named, OOS: [OOS]})
