"""Real data as vectors with labels, by encoders that were not trained on these classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from handful.data.cache import data_folder
from handful.data.intents import banking77, clinc150
from handful.data.mini_imagenet import mini_imagenet
from handful.data.molecules import tox21
from handful.data.omniglot import omniglot
from handful.data.pool import ClassPool
from handful.recognizer.embedders import Embedder, Gradients, TrainedEncoder, embedder_for

__all__ = ["SETS", "VectorSet", "read_set"]

SETS = {
    "digits": "digits",
    "omniglot": "Omniglot",
    "mini-imagenet": "mini-ImageNet",
    "clinc150": "CLINC150",
    "banking77": "BANKING77",
    "tox21": "Tox21",
}


@dataclass(frozen=True)
class VectorSet:
    """Examples of classes.

    Attributes:
        title, encoder: as tables write them.
        x, y: [n, F], [n].
        strangers: [m, F] examples of no class, where the set has such.
        paired: classes are two by two, inactive and active in an assay; a task is one assay, and has no strangers.
    """

    title: str
    encoder: str
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    strangers: NDArray[np.float32]
    paired: bool = False

    @cached_property
    def rows(self) -> list[NDArray[np.int64]]:
        """Of each class."""
        return [np.flatnonzero(self.y == label) for label in range(int(self.y.max()) + 1)]


def read_set(name: str, checkpoints: Mapping[str, Path]) -> VectorSet:
    """Digits by their pixels, texts by MiniLM, molecules by fingerprints, pictures of test classes by a checkpoint.

    Without one, Omniglot by the built-in encoder and mini-ImageNet by the shipped one.

    Vectors are kept in the data folder and found again.
    """
    if name == "digits":
        pixels, labels = load_digits(return_X_y=True)
        return _set(name, "pixels", pixels, labels)
    if name in ("clinc150", "banking77"):
        pool = clinc150(out_of_scope=True) if name == "clinc150" else banking77()
        known = pool.subset([label for label, one in enumerate(pool.names) if one != "oos"])
        x, y = _arrays(known)
        return _set(name, "MiniLM", x, y, _arrays(pool.split("oos"))[0] if name == "clinc150" else None)
    if name == "tox21":
        return _assays(name)
    encoder: Embedder
    if name in checkpoints:
        encoder, shown = TrainedEncoder(checkpoints[name]), "trained Conv4"
    elif name == "mini-imagenet":
        encoder, shown = embedder_for("pictures", "photos", 0), "photos"
    else:
        encoder, shown = Gradients(), "gradients"
    place = data_folder() / "vectors" / f"{name}-{encoder.identity.sha256[:16]}.npz"
    if not place.exists():
        pool = omniglot(rotations=False) if name == "omniglot" else mini_imagenet()
        pictures, y = _arrays(pool.split("test"))
        x = encoder.embed(_sized(pictures) if shown == "gradients" else pictures)
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez(place, x=x, y=y)
    with np.load(place) as kept:
        return _set(name, shown, kept["x"], kept["y"])


def _assays(name: str) -> VectorSet:
    pool = tox21(features="morgan")
    ends = np.cumsum(pool.counts.numpy())
    x, y = [], []
    for number, assay in enumerate(pool.splits["test"]):
        rows = slice(ends[assay] - int(pool.counts[assay]), ends[assay])
        bits = pool.examples[pool.rows[rows]].numpy().astype(np.float32)
        x.append(bits / np.maximum(np.linalg.norm(bits, axis=1, keepdims=True), 1))
        y.append(2 * number + pool.y[rows].numpy())
    found = _set(name, "Morgan", np.concatenate(x), np.concatenate(y))
    return replace(found, paired=True)


def _sized(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As `teach` gives them to the built-in encoder."""
    from PIL import Image

    return np.stack(
        [
            np.array(Image.fromarray(one.transpose(1, 2, 0)).resize((64, 64), Image.Resampling.BILINEAR)).transpose(
                2, 0, 1
            )
            for one in pictures
        ]
    )


def _arrays(pool: ClassPool) -> tuple[NDArray[Any], NDArray[np.int64]]:
    return pool.take(pool.rows()).numpy(), np.repeat(np.arange(pool.classes), pool.counts.numpy())


def _set(
    name: str, encoder: str, x: NDArray[Any], y: NDArray[Any], strangers: NDArray[np.float32] | None = None
) -> VectorSet:
    none = np.empty((0, x.shape[1]), np.float32)
    return VectorSet(
        SETS[name], encoder, x.astype(np.float32), y.astype(np.int64), none if strangers is None else strangers
    )
