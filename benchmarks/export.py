"""An export's answers beside those of the recognizer it is of: `python -m benchmarks.export SOURCE [--encoder NAME]`.

SOURCE is a data set of pictures that is in the cache (its test classes), or CLINC150's data_full.json (or .xz of it).
Questions are other examples of the same classes, and as many of classes that were not taught.
"""

from __future__ import annotations

import argparse
import json
import lzma
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from handful.data import DATASETS
from handful.recognizer import Answer, Recognizer, teach
from handful.runtime import open_export

EPSILONS = (0.05, 0.1, 0.2)
Groups = dict[str, list[object]]


def sentences(path: Path) -> Groups:
    """By their class."""
    content = path.read_bytes()
    rows = json.loads(lzma.decompress(content) if path.suffix == ".xz" else content)
    found: Groups = {}
    for text, label in rows["train"] + rows["val"] + rows["test"]:
        found.setdefault(label, []).append(text)
    return found


def picture_files(name: str, most: int, folder: Path) -> Groups:
    """The first pictures of each test class, as PNG files, bright ink made dark as on paper."""
    pool = DATASETS[name].load()
    found: Groups = {}
    for number in pool.splits["test"]:
        start, label = int(pool.starts[number]), f"class {number}"
        for row in range(start, start + min(most, int(pool.counts[number]))):
            pixels = pool.examples[row].numpy()
            pixels = 255 - pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{row}.png")
            found.setdefault(label, []).append(folder / f"{row}.png")
    return found


def ask(recognizer: Recognizer, things: list[object]) -> tuple[list[Answer], float]:
    """Answers for each ε in turn, and seconds an answer, one by one."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for epsilon in EPSILONS:
            found += recognizer.recognize_many(things, epsilon=epsilon)
        begin = time.perf_counter()
        for thing in things[:50]:
            recognizer.recognize(thing)
    return found, (time.perf_counter() - begin) / len(things[:50])


def main() -> None:
    """Print one line of JSON for each head."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--encoder")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--questions", type=int, default=10, help="of each class")
    given = parser.parse_args()
    random, count = np.random.default_rng(0), given.shots + given.questions
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found = (
            sentences(Path(given.source)) if Path(given.source).exists() else picture_files(given.source, count, folder)
        )
        names = [str(name) for name in random.choice(sorted(found), 2 * given.classes, replace=False)]
        taught = {name: found[name][: given.shots] for name in names[: given.classes]}
        asked = [thing for name in names for thing in found[name][given.shots : count]]
        for head in ("squared", "cosine", "ridge"):
            made = teach(taught, encoder=given.encoder, head=head)  # type: ignore[arg-type]
            begin = time.perf_counter()
            made.export(folder / "export", force=True)
            seconds = time.perf_counter() - begin
            one, each = ask(made, asked)
            other, each_exported = ask(open_export(folder / "export"), asked)
            pairs = list(zip(one, other, strict=True))
            said = {
                "source": Path(given.source).name,
                "encoder": made.collection.encoder.name,
                "head": head,
                "questions": len(pairs),
                "unknown": sum(a.unknown for a, _ in pairs),
                "other_candidates": sum(set(a.candidates) != set(b.candidates) for a, b in pairs),
                "other_label": sum(a.label != b.label for a, b in pairs),
                "other_nearest": sum([n.id for n in a.nearest] != [n.id for n in b.nearest] for a, b in pairs),
                "probability_apart": max(abs(a.probability - b.probability) for a, b in pairs if a.label == b.label),
                "export_seconds": round(seconds, 1),
                "answer_ms": round(1e3 * each, 2),
                "exported_answer_ms": round(1e3 * each_exported, 2),
            }
            print(json.dumps(said))


if __name__ == "__main__":
    main()
