"""From pictures, texts, molecules and vectors to vectors that can be compared: encoders by name.

An encoder is a fixed function of one example: nothing in it is learned from the examples taught, so that these and
what is asked later stay exchangeable.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from ..collection import EncoderIdentity, NewExample
from ..errors import CheckpointError, DataError, ShapeError, unknown_name
from .about import trained_on
from .built_in import GivenVectors, Gradients, HashedNGrams
from .cache import vectors_of
from .inputs import Item
from .molecules import SETS, Fingerprints, TrainedMolecules
from .networks import NAMES, has_sentences, network_for
from .pixels import FIT

if TYPE_CHECKING:
    from torch import nn

    from ..pictures import Form
    from .portable import Portable

__all__ = [
    "BUILT_IN",
    "Embedder",
    "checked_name",
    "default_encoder",
    "embedded",
    "embedder_for",
    "encoder_names",
    "portable_module",
    "through",
]

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
    def form(self) -> tuple[int, int, int] | Form | None:
        """Of pictures: (channels, height, width), or more exactly."""

    def embed(self, contents: Sequence[Any]) -> Vectors:
        """[n, F], finite."""


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
        tokens = getattr(learner.encoder, "tokens", None)
        self.kind = "pictures" if len(shape) == 3 else "vectors" if tokens is None else "texts"
        self._tokens: Callable[[Sequence[str]], Any] | None = tokens
        self.form = shape if len(shape) == 3 else None
        self._shape, ink = shape, checkpoint.spec.data.name in ("omniglot", "digits")
        self._module = FromPixels(learner.encoder, bright_ink=ink) if self.form else learner.encoder
        self.about = trained_on(checkpoint.spec.data.name)
        digest = hashlib.sha256(f"{shape} {ink}".encode())
        for name, tensor in sorted(learner.encoder.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        features = int(learner.encoder.out_features)  # type: ignore[arg-type]
        self.identity = EncoderIdentity(str(Path(folder).absolute()), digest.hexdigest(), features)

    def embed(self, contents: Sequence[Any]) -> Vectors:
        """Of pictures of its form, texts, or vectors of its length."""
        return through(self._module, contents, self._shape, self._tokens)

    def portable(self) -> Portable:
        """For an export.

        Raises:
            DataError: an encoder of texts, whose tokenizer an export does not hold.
        """
        if self._tokens is not None:
            raise DataError("export: a fine-tuned encoder of texts cannot be exported; expected minilm or hf:NAME")
        return portable_module(self._module, self._shape)


def through(
    module: nn.Module,
    contents: Sequence[Any],
    shape: tuple[int, ...],
    tokens: Callable[[Sequence[str]], Any] | None = None,
) -> Vectors:
    """What a module makes of pictures (as bytes), vectors of a shape, or texts by their tokens, as rows: [n, F]."""
    import torch

    found = []
    for start in range(0, len(contents), BATCH):
        part = contents[start : start + BATCH]
        x = torch.from_numpy(np.stack(part)) if tokens is None else tokens(part)
        if x.shape[1:] != shape:
            raise ShapeError(f"encoder: expected examples of shape {shape}, got {tuple(x.shape[1:])}")
        with torch.no_grad():
            found.append(module(x).flatten(1).numpy())
    return np.concatenate(found)


def portable_module(module: nn.Module, shape: tuple[int, ...]) -> Portable:
    """A module that takes pictures as bytes, or vectors, for an export."""
    import torch

    from .portable import Portable

    seeded = torch.Generator().manual_seed(0)
    if len(shape) == 3:
        sample = torch.randint(0, 256, (2, *shape), generator=seeded, dtype=torch.uint8)
        return Portable(module, (sample,), {"form": shape, "fit": FIT})
    return Portable(module, (torch.randn(2, *shape, generator=seeded),), {})


BUILT_IN: dict[str, Callable[[], Embedder]] = {
    "ngrams": HashedNGrams,
    "gradients": Gradients,
    "morgan": lambda: Fingerprints("morgan"),
    "maccs": lambda: Fingerprints("maccs"),
}
"""Encoders that need no checkpoint."""


def embedder_for(kind: str | None, name: str | None, features: int) -> Embedder:
    """The encoder for examples of a kind.

    Args:
        kind: pictures, texts, molecules or vectors; None: whichever the encoder takes.
        name: a built-in, shipped or pretrained encoder, or a checkpoint's folder; by default what fits the kind.
        features: the length of given vectors.

    Raises:
        UnknownNameError, CheckpointError: no such encoder.
        DataError, DownloadError, MissingExtraError: it takes examples of another kind, or cannot be had; no name.
    """
    found: Embedder | None
    name = checked_name(name)
    if kind == "vectors" and name in (None, "vectors"):
        return GivenVectors(features)
    chosen = name or default_encoder(kind)
    found = BUILT_IN[chosen]() if chosen in BUILT_IN else network_for(chosen, kind)
    if found is None and not Path(chosen).exists():
        raise unknown_name("encoder, or checkpoint folder,", chosen, [*encoder_names(), "vectors"])
    found = found or _trained(chosen)
    if kind is not None and found.kind != kind:
        raise DataError(f"encoder {chosen!r} takes {found.kind}, and these are {kind}; name another with --with")
    return found


def checked_name(name: str | os.PathLike[str] | None) -> str | None:
    """The name of an encoder, or a folder, as a text. Raises DataError if it is neither."""
    if name is None or isinstance(name, str):
        return name
    if not isinstance(name, os.PathLike):
        raise DataError(
            f"encoder: expected a name ({', '.join(encoder_names())}) or a checkpoint's folder, got {name!r:.50}"
        )
    return os.fspath(name)


def default_encoder(kind: str | None) -> str:
    """The best for a kind of examples that works without a network."""
    if kind == "texts":
        return "minilm" if has_sentences() else "ngrams"
    return "morgan" if kind == "molecules" else "photos"


def encoder_names() -> list[str]:
    """All that can be named, but for folders of checkpoints."""
    from ..encoders.shipped import shipped_names

    return [*BUILT_IN, *shipped_names(), *NAMES]


def _trained(folder: str) -> Embedder:
    trained = TrainedEncoder(folder)
    if trained.data.name not in SETS:
        return trained
    options: dict[str, Any] = {"features": "morgan", "atoms": 64} | trained.data.options
    features, atoms, own = options["features"], options["atoms"], trained.identity
    whole = hashlib.sha256(f"{own.sha256} {features} {atoms}".encode()).hexdigest()
    return TrainedMolecules(trained, features, atoms, EncoderIdentity(own.name, whole, own.features))


def embedded(embedder: Embedder, items: Sequence[Item], head: str, *, skippable: bool = True) -> list[NewExample]:
    """The examples with their vectors; those that were made before are found by their content.

    `skippable` is that of `with_pixels`.

    Raises:
        DataError: none, one that cannot be read, or one without a direction for a head that needs it.
    """
    if not items:
        raise DataError("expected at least one example, got none")
    vectors = vectors_of(embedder, items, skippable=skippable)
    if head in ("cosine", "ridge", "names"):
        zeros = np.flatnonzero(~vectors.any(1)).tolist()
        if zeros:
            source = items[zeros[0]].source
            raise DataError(f"{source}: its vector is all zeros, which has no direction; use head 'squared' or 'auto'")
    return [
        NewExample(item.label, vector, item.source, item.sha256, item.preview)
        for item, vector in zip(items, vectors, strict=True)
    ]
