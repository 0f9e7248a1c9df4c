"""A whole learner behind a recognizer: its encoder embeds, or, where it adapts that, its examples are kept as they are.

Also the encoder of a checkpoint alone, whose vectors a closed-form head compares (`embedders.TrainedEncoder`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import torch
from numpy.typing import NDArray
from torch import nn

from ..checkpoint import load_checkpoint
from ..collection import EncoderIdentity
from ..encoders import Identity, shares_statistics
from ..encoders.pixels import FromPixels
from ..errors import CheckpointError, DataError, HandfulError, LabelError, SpecError, unknown_name
from ..gradient_learner import GradientLearner
from ..learner import EmbeddingLearner, Learner
from ..learners import LEARNERS
from .about import About, trained_on
from .embedders import Vectors, portable_module, through
from .portable import Portable

__all__ = ["TrainedLearner", "learner_of_vectors", "taught_by_checkpoint", "taught_by_learner"]


@final
class TrainedLearner:
    """A learner, what it makes of an example, and what of that a vector is.

    Args:
        learner: of classes; in evaluation mode.
        name: of the checkpoint's place, or of the learner.
        ink: whether it knows bright writing on dark ground only.
        about: what it was trained on, if that is known.

    Raises:
        CheckpointError: it looks at all queries together, learns from descriptions, or takes no pictures or vectors.
    """

    def __init__(self, learner: Learner, name: str, *, ink: bool = False, about: About | None = None) -> None:
        refuse(learner, name)
        encoder = getattr(learner, "encoder", None) or getattr(learner, "model", None)
        shape = tuple(getattr(encoder, "shape", ()) or _shape_inside(encoder))
        if len(shape) not in (1, 3):
            raise CheckpointError(f"{name}: expected a learner of pictures or vectors, got examples of shape {shape}")
        self.learner, self.about = learner.eval(), about
        self.kind = "pictures" if len(shape) == 3 else "vectors"
        self.form = shape if len(shape) == 3 else None
        own = learner.encoder if isinstance(learner, EmbeddingLearner) else nn.Identity()
        self._shape, self._module = shape, FromPixels(own, bright_ink=ink) if self.form else own
        with torch.no_grad():
            self.feature_shape = tuple(own(torch.zeros(1, *shape)).shape[1:])
        digest = hashlib.sha256(f"{type(learner).__name__} {shape} {ink}".encode())
        for key, tensor in sorted(learner.state_dict().items()):
            digest.update(key.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        self.identity = EncoderIdentity(name, digest.hexdigest(), math.prod(self.feature_shape))

    def embed(self, contents: Sequence[NDArray[Any]]) -> Vectors:
        """Features of the frozen encoder, or the examples themselves, as rows."""
        return through(self._module, contents, self._shape)

    def portable(self) -> Portable:
        """For an export; of learners that leave their encoder alone."""
        if not isinstance(self.learner, EmbeddingLearner):
            raise DataError(f"export: {type(self.learner).__name__} adapts its encoder, which needs torch")
        return portable_module(self._module, self._shape)

    def refuse_ways(self, ways: int) -> None:
        """Raises LabelError if the learner's tasks have another number of classes, once and for all."""
        if self.learner.any_ways:
            return
        outputs = getattr(self.learner, "outputs", None)
        if outputs is None and isinstance(self.learner, GradientLearner):
            with torch.no_grad():
                outputs = self.learner.model(torch.zeros(2, *self._shape)).shape[-1]
        if outputs not in (None, ways):
            raise LabelError(
                f"{self.identity.name}: {type(self.learner).__name__} was trained for tasks of {outputs} classes and "
                f"answers no others, got {ways}: teach {outputs} classes, or use a learner of any number, such as "
                "'prototypical' or 'proto_maml'"
            )


def taught_by_checkpoint(folder: str | Path) -> TrainedLearner:
    """The learner of a checkpoint. Raises as `TrainedLearner`, and CheckpointError if there is none."""
    checkpoint = load_checkpoint(folder)
    ink = checkpoint.spec.data.name in ("omniglot", "digits")
    about = trained_on(checkpoint.spec.data.name)
    return TrainedLearner(checkpoint.learner.eval(), str(Path(folder).absolute()), ink=ink, about=about)


def taught_by_learner(learner: Learner) -> TrainedLearner:
    """A learner in memory. Its collection opens with an equal one only."""
    return TrainedLearner(learner, type(learner).__name__)


def learner_of_vectors(name: str, features: int) -> Learner:
    """A learner of the catalog that answers on given vectors without any training.

    Raises:
        UnknownNameError: no such learner.
        SpecError: it has weights that only training makes, or needs more to be said.
    """
    if name not in LEARNERS:
        raise unknown_name("head", name, LEARNERS)
    learner = None
    with suppress(TypeError, ValueError, RuntimeError):
        learner = LEARNERS[name](Identity(shape=(features,)))
    if learner is None or any(weight.numel() > 1 for weight in learner.parameters()):
        raise SpecError(
            f"head {name!r} answers by weights that meta-training makes; expected a checkpoint of it "
            "(--with FOLDER, as handful train makes), or a head without weights, such as 'ridge' or 'simpleshot'"
        )
    refuse(learner, f"head {name!r}")
    return learner.eval()


def weightless(features: int) -> list[str]:
    """Names of the learners that `learner_of_vectors` makes."""
    found = []
    for name in LEARNERS:
        with suppress(HandfulError):
            learner_of_vectors(name, features)
            found.append(name)
    return found


def refuse(learner: Learner, name: str) -> None:
    """Raises CheckpointError if a learner cannot answer one thing by itself from labeled examples."""
    kind = type(learner).__name__
    if learner.uses_queries:
        raise CheckpointError(
            f"{name}: {kind} looks at all queries together, so that an answer would depend on what else is asked, and "
            "nothing could be promised; expected a learner that answers each by itself"
        )
    if shares_statistics(learner):
        raise CheckpointError(
            f"{name}: its encoder normalizes examples by each other, so that none has a vector of its own; "
            'expected normalization = "running", "frozen", "group" or "layer" ("support" where a learner adapts it)'
        )
    if learner.kind == "zero_shot":
        raise CheckpointError(f"{name}: {kind} learns classes from descriptions, not from examples; expected another")


def _shape_inside(model: object) -> tuple[int, ...]:
    """Of a model of several parts, that of the first which says it."""
    parts = model.modules() if isinstance(model, nn.Module) else ()
    shapes = (getattr(part, "shape", None) for part in parts)
    return next((tuple(shape) for shape in shapes if isinstance(shape, Sequence)), ())
