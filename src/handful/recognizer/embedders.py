"""From pictures, texts, molecules and vectors to vectors that can be compared: encoders by name.

An encoder is a fixed function of one example: nothing in it is learned from the examples taught, so that these and
what is asked later stay exchangeable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from ..collection import EncoderIdentity, NewExample
from ..errors import CheckpointError, DataError, ShapeError, unknown_name
from .about import About, trained_on
from .inputs import FIT, Item, with_pixels
from .molecules import SETS, Fingerprints, TrainedMolecules
from .ngrams import hashed, pieces, words

if TYPE_CHECKING:
    from .portable import Portable

__all__ = ["BUILT_IN", "Embedder", "embedded", "embedder_for"]

Vectors = NDArray[np.float32]
BATCH = 64


class Embedder(Protocol):
    """A fixed function from examples of one kind to vectors."""

    @property
    def kind(self) -> str:
        """pictures, texts, molecules or vectors."""

    @property
    def identity(self) -> EncoderIdentity:
        """What decides its vectors."""

    @property
    def form(self) -> tuple[int, int, int] | None:
        """Of pictures: (channels, height, width)."""

    def embed(self, contents: Sequence[Any]) -> Vectors:
        """[n, F], finite."""


@final
class GivenVectors:
    """Vectors that are features already, from an encoder of the user's own.

    Args:
        features: F.
    """

    kind = "vectors"
    form = None
    about = About("not known here: the vectors were given, ask who made them", "not known here: the vectors were given")

    def __init__(self, features: int) -> None:
        self.identity = EncoderIdentity("vectors", hashlib.sha256(b"vectors").hexdigest(), features)

    def embed(self, contents: Sequence[NDArray[Any]]) -> Vectors:
        """The vectors themselves."""
        for vector in contents:
            if vector.shape != (self.identity.features,):
                raise ShapeError(f"vectors: expected {self.identity.features} numbers each, got shape {vector.shape}")
        return np.stack(contents)


@final
class HashedNGrams:
    """Texts by the words and the pieces of words in them, hashed to 2 × 1,024 counts of length 1 together.

    It has learned nothing: it sees spelling, not meaning, and works in any language without a download.
    """

    kind = "texts"
    form = None
    about = About("nothing: it counts pieces of words", "MIT, as Handful")
    identity = EncoderIdentity("ngrams", hashlib.sha256(b"ngrams 1: words 1-2, pieces 3-5").hexdigest(), 2048)

    def embed(self, contents: Sequence[str]) -> Vectors:
        """Raises DataError for a text without a letter or figure."""
        parts = [hashed(contents, tokens, 1024) for tokens in (words, pieces)]
        found: Vectors = (np.concatenate(parts, 1) / np.sqrt(2)).astype(np.float32)
        return found


@final
class Gradients:
    """Pictures by the directions of their edges, and a little by their colors; of length 1.

    It has learned nothing: it sees outlines (histograms of oriented gradients, Dalal & Triggs 2005) and where which
    color is, not what things are. An encoder that was trained does better: --with CHECKPOINT.
    """

    kind = "pictures"
    form = (3, 64, 64)
    about = About("nothing: it measures edges and colors", "MIT, as Handful")
    identity = EncoderIdentity("gradients", hashlib.sha256(b"gradients 1: 64, 8x8x9, 4x4x3").hexdigest(), 624)

    def embed(self, contents: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Of [3, 64, 64] pictures."""
        parts = [_edges_and_colors(np.stack(contents[at : at + BATCH])) for at in range(0, len(contents), BATCH)]
        return np.concatenate(parts)


def _edges_and_colors(pictures: NDArray[np.uint8]) -> Vectors:
    x = pictures.astype(np.float32) / 255  # [n, 3, 64, 64]
    dy, dx = np.gradient(x.mean(1), axis=(1, 2))
    strength, turn = np.hypot(dx, dy), np.arctan2(dy, dx) % np.pi * (9 / np.pi)
    cells = np.empty((len(x), 9, 8, 8), np.float32)
    for direction in range(9):  # each edge counts for the two directions beside its own
        apart = np.abs(turn - direction)
        share = np.maximum(1 - np.minimum(apart, 9 - apart), 0)
        cells[:, direction] = (strength * share).reshape(len(x), 8, 8, 8, 8).sum((2, 4))
    energy = np.pad(np.square(cells).sum(1), ((0, 0), (1, 1), (1, 1)))
    around = sum(energy[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3))
    edges = (cells / np.sqrt(around + 0.1)[:, None]).reshape(len(x), -1)
    colors = (x.reshape(len(x), 3, 4, 16, 4, 16).mean((3, 5)) - 0.5).reshape(len(x), -1)
    found = np.concatenate([edges, colors], 1)
    unit: Vectors = (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)).astype(np.float32)
    return unit


@final
class TrainedEncoder:
    """The encoder of a checkpoint, as it was meta-trained; its learner's own head is not used.

    Args:
        folder: the checkpoint.

    Raises:
        CheckpointError: no checkpoint; its learner adapts its encoder, or examples share statistics in it.
    """

    def __init__(self, folder: str | Path) -> None:
        from ..checkpoint import load_checkpoint
        from ..encoders import shares_statistics
        from ..encoders.pixels import FromPixels
        from ..learner import EmbeddingLearner

        checkpoint = load_checkpoint(folder)
        learner = checkpoint.learner.eval()
        if not isinstance(learner, EmbeddingLearner):
            raise CheckpointError(
                f"{folder}: its learner, {checkpoint.spec.learner.name!r}, adapts its encoder to each task, and a "
                "recognizer needs vectors that stay; expected one that does not, such as 'prototypical'"
            )
        if shares_statistics(learner):
            raise CheckpointError(
                f"{folder}: its encoder normalizes examples by each other, so that none has a vector of its own; "
                'expected normalization = "running", "frozen", "group" or "layer"'
            )
        shape = tuple(getattr(learner.encoder, "shape", ()))
        self.data = checkpoint.spec.data
        if len(shape) not in (1, 3) and self.data.name not in SETS:
            raise CheckpointError(
                f"{folder}: expected an encoder of pictures, molecules or vectors, got examples of shape {shape}"
            )
        self.kind = "pictures" if len(shape) == 3 else "vectors"
        self.form = shape if len(shape) == 3 else None
        self._shape, ink = shape, checkpoint.spec.data.name in ("omniglot", "digits")
        self._module = FromPixels(learner.encoder, bright_ink=ink) if self.form else learner.encoder
        self.about = trained_on(checkpoint.spec.data.name)
        digest = hashlib.sha256(f"{shape} {ink}".encode())
        for name, tensor in sorted(learner.encoder.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        features = int(learner.encoder.out_features)  # type: ignore[arg-type]
        self.identity = EncoderIdentity(str(Path(folder).absolute()), digest.hexdigest(), features)

    def embed(self, contents: Sequence[NDArray[Any]]) -> Vectors:
        """Of pictures of its form, or vectors of its length."""
        import torch

        found = []
        for start in range(0, len(contents), BATCH):
            x = np.stack(contents[start : start + BATCH])
            if x.shape[1:] != self._shape:
                raise ShapeError(f"encoder: expected examples of shape {self._shape}, got {x.shape[1:]}")
            with torch.no_grad():
                found.append(self._module(torch.from_numpy(x)).numpy())
        return np.concatenate(found)

    def portable(self) -> Portable:
        """For an export."""
        import torch

        from .portable import Portable

        seeded = torch.Generator().manual_seed(0)
        if self.form:
            sample = torch.randint(0, 256, (2, *self._shape), generator=seeded, dtype=torch.uint8)
            return Portable(self._module, (sample,), {"form": self.form, "fit": FIT})
        return Portable(self._module, (torch.randn(2, *self._shape, generator=seeded),), {})


BUILT_IN: dict[str, Callable[[], Embedder]] = {
    "ngrams": HashedNGrams,
    "gradients": Gradients,
    "morgan": lambda: Fingerprints("morgan"),
    "maccs": lambda: Fingerprints("maccs"),
}
"""Encoders that need no checkpoint."""
DEFAULT = {"texts": "ngrams", "pictures": "gradients", "molecules": "morgan"}


def embedder_for(kind: str, name: str | None, features: int) -> Embedder:
    """The encoder for examples of a kind.

    Args:
        kind: pictures, texts, molecules or vectors.
        name: a built-in encoder, or a checkpoint's folder; by default what fits the kind.
        features: the length of given vectors.

    Raises:
        UnknownNameError, CheckpointError: no such encoder.
        DataError: it takes examples of another kind.
    """
    found: Embedder
    if kind == "vectors" and name in (None, "vectors"):
        return GivenVectors(features)
    chosen = name or DEFAULT[kind]
    if chosen in BUILT_IN:
        found = BUILT_IN[chosen]()
    elif Path(chosen).exists():
        found = trained = TrainedEncoder(chosen)
        if trained.data.name in SETS:
            options: dict[str, Any] = {"features": "morgan", "atoms": 64, **trained.data.options}
            found = TrainedMolecules(trained, options["features"], options["atoms"])
    else:
        raise unknown_name("encoder, or checkpoint folder,", chosen, [*BUILT_IN, "vectors"])
    if found.kind != kind:
        raise DataError(f"encoder {chosen!r} takes {found.kind}, and these are {kind}; name another with --with")
    return found


def embedded(embedder: Embedder, items: Sequence[Item], head: str) -> list[NewExample]:
    """The examples with their vectors.

    Raises:
        DataError: none, one that cannot be read, or one without a direction for a head that needs it.
    """
    if not items:
        raise DataError("expected at least one example, got none")
    vectors = embedder.embed(with_pixels(items, embedder.form))
    if head != "squared":
        zeros = np.flatnonzero(~vectors.any(1)).tolist()
        if zeros:
            source = items[zeros[0]].source
            raise DataError(f"{source}: its vector is all zeros, which has no direction; use head 'squared'")
    return [
        NewExample(item.label, vector, item.source, item.sha256, item.preview)
        for item, vector in zip(items, vectors, strict=True)
    ]
