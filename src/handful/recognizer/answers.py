"""What a recognizer says, and what it can promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..ops.conformal import examples_needed

__all__ = ["Answer", "Neighbor", "advised", "answered", "checked_epsilon", "percent", "promise"]


@dataclass(frozen=True)
class Neighbor:
    """An example that is near.

    Attributes:
        id: its number in the collection.
        label: its class.
        source: where it came from.
        distance: squared distance of the vectors.
        text: of texts, its beginning; of molecules, the SMILES.
    """

    id: int
    label: str
    source: str
    distance: float
    text: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a new thing is.

    Attributes:
        source: what was asked.
        label: the most probable candidate; if there is none, the most probable class all the same.
        probability: of the label, if the thing is of one of the classes taught.
        candidates: classes that hold the true one as often as promised, the most probable first.
        unknown: whether there is no candidate. A known thing is refused so at most ε of the time; how many strangers
            are caught cannot be promised.
        nearest: the nearest examples, the reason for the answer.
        advice: what would help.
        promise: what holds for the candidates.
        version: of the collection that answered.
    """

    source: str
    label: str
    probability: float
    candidates: tuple[str, ...]
    unknown: bool
    nearest: tuple[Neighbor, ...]
    advice: str
    promise: str
    version: int

    def table(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def percent(share: float) -> str:
    """90%, 99.5%."""
    return f"{round(100 * share, 6):g}%"


def promise(sizes: Mapping[str, int], epsilon: float) -> str:
    """What holds with so many examples of each class: "90% overall; scratch needs 4 more for a promise of its own"."""
    needed, total = examples_needed(epsilon), sum(sizes.values())
    if total < needed:
        more = needed - total
        return f"nothing at {percent(1 - epsilon)} yet: {more} more example{'s' * (more > 1)} needed in all"
    short = sorted(((needed - size, label) for label, size in sizes.items() if size < needed), key=lambda one: one[0])
    if not short:
        return f"{percent(1 - epsilon)} overall, and for each class"
    if len(short) == len(sizes) and len(sizes) > 1:
        least, most = short[0][0], short[-1][0]
        many = f"{least}" if least == most else f"{least} to {most}"
        return f"{percent(1 - epsilon)} overall; each class needs {many} more for a promise of its own"
    named = ", ".join(f"{label} needs {more} more" for more, label in short[:3])
    rest = f", {len(short) - 3} other classes more still" if len(short) > 3 else ""
    return f"{percent(1 - epsilon)} overall; {named}{rest} for a promise of its own"


def advised(answer_label: str, candidates: tuple[str, ...], sizes: Mapping[str, int], epsilon: float) -> str:
    """What to do next about an answer."""
    missing = examples_needed(epsilon) - sum(sizes.values())
    if missing > 0:
        return f"Add {missing} more example{'s' * (missing > 1)}, of any class: until then no class can be ruled out."
    if not candidates:
        return f"Unlike every example. If it is {answer_label} or another class, add it there."
    if len(candidates) > 1:
        some = " and ".join(candidates[:2]) if len(candidates) == 2 else ", ".join(candidates[:4])
        fewest = min(candidates, key=lambda label: sizes[label])
        fewer = f"; {fewest} has fewest" if len({sizes[label] for label in candidates}) > 1 else ""
        return f"Not sure between {some}: add examples of them that look like this{fewer}."
    return ""


def answered(
    source: str,
    names: Sequence[str],
    counts: Mapping[str, int],
    p: NDArray[np.float64],
    stays: NDArray[np.bool_],
    nearest: tuple[Neighbor, ...],
    epsilon: float,
    holds: str,
    version: int,
) -> Answer:
    """The answer by the probabilities [K] of the classes, and which of them stay candidates [K]."""
    order = np.argsort(-p, kind="stable")
    inside = tuple(names[k] for k in order[stays[order]])
    best = int(order[0]) if not inside else names.index(inside[0])
    advice = advised(names[best], inside, counts, epsilon)
    return Answer(source, names[best], float(p[best]), inside, not inside, nearest, advice, holds, version)


def checked_epsilon(epsilon: float) -> float:
    """It as a number.

    Raises:
        DataError: not from 0.001 to 0.5.
    """
    if not isinstance(epsilon, Real) or not 0.001 <= epsilon <= 0.5:
        raise DataError(f"epsilon: expected a share from 0.001 to 0.5 (how often may I wrongly refuse?), got {epsilon}")
    return float(epsilon)
