"""Whether the data of a spec are what its encoder and its learner are for, and the same on all machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .data.assays import AssayPool
from .data.descriptions import DescribedPool
from .data.pool import ClassPool
from .data.texts import VOCABULARY
from .distributed import ALONE, Ranks
from .encoders.message_passing import check_graphs
from .encoders.text_cnn import check_words
from .errors import DataError, SpecError
from .learners import LEARNERS
from .parts import Part

__all__ = ["check_kind", "data_digest", "loaded"]

OF_WORDS = ("text_cnn", "hf_text", "identity")
"""Encoders that take numbers of words; `identity` takes anything."""


def loaded(name: str, load: Callable[[], Any], *, ranks: Ranks = ALONE) -> Any:
    """A data set: on each machine one process prepares it, and the others find it prepared.

    Raises:
        DataError: the machines do not have the same.
    """
    with ranks.one_a_machine_first():
        data = load()
    if not ranks.alike(lambda: data_digest(data)):
        raise DataError(
            f"data set {name!r} is not the same on all machines of this run; copy the data of the first machine "
            "(HANDFUL_DATA, and your own files) to the others"
        )
    return data


def data_digest(data: Any) -> str:
    """What tells data from others: a pool's hash, or what a family of functions says of itself."""
    return data.digest if isinstance(data, ClassPool | DescribedPool | AssayPool) else repr(data)


def check_kind(data: Any, expected: tuple[int, ...] | None, learner: Part, encoder: Part, name: str) -> None:
    """See that examples are of the shape and kind that encoder and learner take.

    Args:
        data: a pool, or a family of functions, whose examples are one number.
        expected: the shape that the encoder takes; None: any.
        learner, encoder: of the spec.
        name: of the data.

    Raises:
        SpecError: classes that are described, by what is no example, for a learner of examples.
        DataError: another shape; numbers of words for an encoder or learner that reads none.
        ShapeError: numbers that the encoder's vocabulary does not have, or that are no molecules.
    """
    shape = data.shape if isinstance(data, ClassPool | DescribedPool | AssayPool) else (1,)
    if expected is not None and expected != shape:
        raise DataError(
            f"data {name!r} holds examples of shape {list(shape)}, the encoder expects {list(expected)}: set shape = "
            f"{list(shape)} in [encoder]"
        )
    zero_shot = LEARNERS[learner.name].kind == "zero_shot"
    if isinstance(data, DescribedPool) and not zero_shot and data.descriptions.shape != data.shape:
        raise SpecError(
            f"data {name!r} describes its classes (zero-shot), and learner {learner.name!r} learns from examples: use "
            "zero_shot_prototypical, devise or clip, or other data"
        )
    if not isinstance(data, ClassPool):
        return
    if encoder.name == "text_cnn":
        words = data.examples if len(data.shape) == 1 else data.examples[:, 0]
        check_words(_seen(words), encoder.options.get("vocabulary", VOCABULARY))
    if encoder.name == "message_passing":
        check_graphs(_seen(data.examples))
    numbers = not data.examples.is_floating_point() and data.examples.dtype != torch.uint8
    if numbers and (zero_shot or encoder.name not in OF_WORDS):
        who = f"learner {learner.name!r}" if zero_shot else f"encoder {encoder.name!r}"
        other = "" if zero_shot else ', or use encoder "text_cnn"'
        raise DataError(
            f'data {name!r} holds numbers of words, which {who} does not read: set reading = "vectors" in [data]{other}'
        )


def _seen(x: Tensor) -> Tensor:
    """As an encoder will see examples of a pool of classes."""
    return x / 255 if x.dtype == torch.uint8 else x
