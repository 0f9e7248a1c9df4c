"""Encoders of pictures that work without a network, on classes that none of them was trained on.

    python -m benchmarks.encoders [ENCODER ...]

Each picture goes the recognizer's way: a file, decoded, fitted and embedded. Then prototypes of 5 classes from 1 and
from 5 examples, on 1,000 tasks of seed 2, 15 queries a class, with 95% intervals. Prints the table of docs/encoders.md.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from handful import Episodes, Identity, PrototypicalNetwork, evaluate
from handful.collection import EncoderIdentity
from handful.data import ClassPool, cifar_fs, faces, mini_imagenet, omniglot
from handful.encoders.shipped import shipped_names
from handful.errors import HandfulError
from handful.recognizer.cache import vectors_of
from handful.recognizer.embedders import Embedder, embedder_for
from handful.recognizer.inputs import Item

EACH = 30  # pictures of a class, at most
DATA: dict[str, Callable[[], ClassPool]] = {
    "CIFAR-FS test": lambda: cifar_fs().split("test"),
    "mini-ImageNet test": lambda: mini_imagenet().split("test"),
    "ORL faces": faces,
    "Omniglot test, dark on bright": lambda: omniglot(rotations=False).split("test"),
}


class Pixels:
    """The pixels themselves, 32×32 in color, of length 1."""

    kind, form = "pictures", (3, 32, 32)
    identity = EncoderIdentity("pixels", "pixels", 3072)

    def embed(self, contents: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """[n, 3072]."""
        x = np.stack(contents).reshape(len(contents), -1).astype(np.float32)
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1)


def files_of(pool: ClassPool, ink: bool) -> tuple[list[Item], list[int]]:
    """Some pictures of each class as PNG files, and how many of each."""
    items, counts, digest = [], [], pool.digest
    for name, start, count in zip(pool.names, pool.starts.tolist(), pool.counts.tolist(), strict=True):
        counts.append(min(count, EACH))
        for row in range(start, start + counts[-1]):
            pixels = pool.examples[row].numpy()
            pixels = 255 - pixels if ink else pixels
            file = io.BytesIO()
            Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(file, "PNG")
            items.append(Item(file.getvalue(), name, f"{name} {row}", f"{digest} {ink} {row}"))
    return items, counts


def embedder(name: str) -> Embedder:
    """By its name."""
    return Pixels() if name == "pixels" else embedder_for("pictures", name, 0)


def main(names: Sequence[str]) -> None:
    """Print the table."""
    chosen = list(names) or ["pixels", "gradients", *shipped_names()]
    print("| data |", " | ".join(f"`{name}`" for name in chosen), "|\n|---|" + "---|" * len(chosen))
    for title, load in DATA.items():
        try:
            pool = load()
        except HandfulError as error:
            print(f"{title}: left out, {error}", file=sys.stderr)
            continue
        items, counts = files_of(pool, ink="dark" in title)
        rows: dict[int, list[str]] = {1: [], 5: []}
        for name in chosen:
            z = torch.from_numpy(vectors_of(embedder(name), items))
            made = ClassPool.grouped(z, counts, pool.names, families=pool.families.tolist())
            learner = PrototypicalNetwork(Identity(shape=made.shape))
            for shots, cells in rows.items():
                queries = min(15, min(counts) - shots)
                tasks = Episodes(made, ways=5, shots=shots, queries=queries, batch=20, seed=2)
                mean = evaluate(learner, tasks, tasks=1000).mean
                cells.append(f"{100 * mean.value:.1f} ± {100 * mean.ci95:.1f}")
        for shots, cells in rows.items():
            print(f"| {title}, {shots} example{'s' * (shots > 1)} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
