"""Which rule answers: a head in closed form, the best of several, or a learner; and what it can promise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, unknown_name
from ..ops.choosing import Chosen
from ..ops.conformal import Head, PValues, candidates, examples_needed
from ..ops.head_choice import FAMILY, NAMED, fit_best
from ..ops.heads import HEADS, fit_head, refit_head
from ..ops.nearest_mean import NearestMean
from ..ops.ridge_margin import RidgeMargin
from ..ops.temperature import Calibration
from .answers import percent, promise
from .descriptions import NAMES
from .embedders import Embedder, checked_name, embedder_for, encoder_names

if TYPE_CHECKING:
    from ..learner import Learner

__all__ = [
    "AUTO",
    "LEARNER",
    "closed_form",
    "embedder_and_head",
    "fit",
    "kept",
    "missed",
    "promised",
    "refuse_ways",
    "said",
]

Floats = NDArray[np.floating]
AUTO, LEARNER = "auto", "learner"
MANY = 1 << 22
"""Examples times classes from which on means are not all measured anew after a change; fewer take no time."""


def embedder_and_head(
    kind: str, encoder: str | None, head: str | None, learner: Learner | None, features: int
) -> tuple[Embedder, str]:
    """What makes vectors of examples, and the name of what compares them.

    Args:
        kind: pictures, texts or vectors.
        encoder: a name, or a checkpoint's folder (of the same name: ./NAME); None: what fits the kind.
        head: a name; None: a checkpoint's own learner, or the best of several.
        learner: a learner in memory instead of both, or None.
        features: the length of given vectors.

    Raises:
        UnknownNameError, CheckpointError, SpecError: no such encoder or head, or one that cannot be used so.
        DataError: names that contradict each other, or an encoder of another kind.
    """
    encoder = checked_name(encoder)
    alone = kind in ("texts", "molecules")  # of a checkpoint of these the encoder is taken, and not its learner
    there = encoder is not None and Path(encoder).exists() and not alone
    whole = there and encoder not in ("vectors", *encoder_names())
    if learner is not None and (encoder is not None or head not in (None, LEARNER)):
        raise DataError("teach: a learner has an encoder and a head of its own; leave out the others")
    if learner is None and (head not in (None, LEARNER) or not whole):
        embedder = embedder_for(kind, encoder, features)
        if head == LEARNER:
            raise DataError("head 'learner': expected a checkpoint's folder as the encoder (--with FOLDER)")
        return embedder, _checked_head(head or AUTO, embedder.identity.features)
    from .trained import taught_by_checkpoint, taught_by_learner

    found = taught_by_checkpoint(str(encoder)) if learner is None else taught_by_learner(learner)
    if found.kind != kind:
        raise DataError(f"{found.identity.name}: its learner takes {found.kind}, and these are {kind}")
    return found, LEARNER


def _checked_head(head: str, features: int) -> str:
    if head not in (*HEADS, AUTO, NAMES):
        from ..learners import LEARNERS
        from .trained import learner_of_vectors, weightless

        if head not in LEARNERS:
            raise unknown_name("head", head, [*HEADS, AUTO, *weightless(features)])
        learner_of_vectors(head, features)
    return head


def fit(
    head: str,
    x: Floats,
    y: NDArray[np.int64],
    ways: int,
    embedder: Embedder,
    calibration: Calibration | None = None,
    before: tuple[Head, NDArray[np.int64]] | None = None,
) -> tuple[Head, Calibration]:
    """What examples [n, F] with labels [n] in [0, ways) taught; the calibration is found if it is not given.

    Args:
        head: a name.
        x: examples.
        y: their labels.
        ways: how many classes.
        embedder: what made the vectors.
        calibration: as it is, if it is known.
        before: the same head, fitted to other examples, and which of these each one was [n], -1 for none.

    Raises:
        LabelError: a learner whose tasks have another number of classes.
    """
    if before is not None and isinstance(before[0], NearestMean) and head in (AUTO, *HEADS) and len(x) * ways > MANY:
        return refit_head(before[0], x, y, ways, before[1])
    if head == AUTO:
        return fit_best(x, y, ways)
    if head in HEADS:
        return fit_head(head, x, y, ways, calibration=calibration)
    from .learner_head import fit_learner
    from .trained import TrainedLearner, learner_of_vectors

    if isinstance(embedder, TrainedLearner):
        refuse_ways(embedder, ways)
        return fit_learner(embedder.learner, x, y, ways, embedder.feature_shape)
    return fit_learner(learner_of_vectors(head, x.shape[1]), x, y, ways, x.shape[1:])


def refuse_ways(embedder: Embedder, ways: int) -> None:
    """Raises LabelError if a learner's tasks have another number of classes, once and for all."""
    own = getattr(embedder, "refuse_ways", None)
    if own is not None:
        own(ways)


def said(name: str, head: Head, embedder: Embedder) -> str:
    """Which rule answers, for people."""
    if name == AUTO:
        if isinstance(head, Chosen):
            others = ", ".join(FAMILY)
            return f"{HEADS[FAMILY[head.best]]}, the best of {others} by leave-one-out with each thing that is asked"
        return f"{HEADS['squared']}; a best of several is not chosen with so many examples, one class or zero vectors"
    if name in HEADS:
        return HEADS[name]
    if name == NAMES and isinstance(head, Chosen):
        kind, weight = NAMED[head.best]
        return f"{HEADS[kind]}, where a name counts as {weight:g} examples, by leave-one-out if there are enough"
    whose = type(getattr(embedder, "learner", None)).__name__ if name == LEARNER else name
    return f"{whose}, adapted to the examples" + (
        "" if _weaker(head) is None else "; what it promises is found by holding out examples in turn"
    )


def closed_form(head: NearestMean | RidgeMargin | Chosen) -> str:
    """The name that fits an equal head, whatever it was asked for by."""
    if isinstance(head, Chosen):
        return AUTO
    return head.metric if isinstance(head, NearestMean) else "ridge"


def _weaker(head: Head) -> Any:
    """The head if its promise is weaker than ε says."""
    return head if hasattr(head, "missed") else None


def missed(head: Head, epsilon: float) -> float:
    """How often the true class may be missing among the candidates at most."""
    weaker = _weaker(head)
    return epsilon if weaker is None else float(weaker.missed(epsilon))


def kept(head: Head, p: PValues, sizes: NDArray[np.int64], epsilon: float) -> NDArray[np.bool_]:
    """Candidates, [Q, K], as `candidates`."""
    weaker = _weaker(head)
    return candidates(p, sizes, epsilon, each_class=weaker is None or weaker.each_class)


def promised(head: Head, sizes: Mapping[str, int], epsilon: float) -> str:
    """What holds with so many examples of each class, in words."""
    weaker, needed = _weaker(head), examples_needed(epsilon)
    unseen = [label for label, size in sizes.items() if not size]
    if unseen:
        named = ", ".join(unseen[:3]) + (f" and {len(unseen) - 3} others" if len(unseen) > 3 else "")
        return f"{promise(sizes, epsilon)}; nothing for {named}, known by name alone"
    if weaker is None or sum(sizes.values()) < needed:
        return promise(sizes, epsilon)
    folds = len(weaker.folds.held)
    bound = "1 − 2ε" if weaker.each_class else f"1 − 2ε − {weaker.missed(epsilon) - 2 * epsilon:.3f}, {folds} folds"
    enough = weaker.each_class and all(size >= needed for size in sizes.values())
    return (
        f"at least {percent(round(1 - weaker.missed(epsilon), 3))} overall{', and for each class' * enough}, and "
        f"usually about {percent(1 - epsilon)} (cross-conformal: {bound})"
    )
