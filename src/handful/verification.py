"""Are two examples of one class? Verification (ROC, equal error rate, rates at a threshold) and retrieval.

Everything is on features, so that any encoder can be asked about classes that it has never seen. A threshold is
always chosen on other classes than those it is judged on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from .errors import DataError, ShapeError
from .ops.intervals import Mean, mean_interval
from .ops.seeds import generator

__all__ = ["Pairs", "Verification", "equal_error_rate", "mean_average_precision", "pairs_within_folds", "verify"]


class Pairs(NamedTuple):
    """Pairs of examples: how alike they are, whether they are of one class, and the fold of classes they are from."""

    similarity: NDArray[np.float64]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]


class Verification(NamedTuple):
    """What was found.

    Attributes:
        auc: area under the ROC curve of all pairs.
        eer: rate at which as many of the same class are refused as of different classes are accepted.
        tar, far: over folds, the shares of same pairs and of different pairs that are accepted, by the threshold that
            keeps the rate asked for on the other folds.
        accuracy: over folds, by the threshold that is best on the other folds, both kinds of pairs counting half.
    """

    auc: float
    eer: float
    tar: Mean
    far: Mean
    accuracy: Mean


def pairs_within_folds(z: Tensor, y: Tensor, *, folds: int = 10, seed: int = 0) -> Pairs:
    """All pairs of examples whose classes are in one fold, by cosine similarity.

    Args:
        z: [M, F] features.
        y: [M] integers, the class of each.
        folds: the classes are divided into so many.
        seed: another seed is another division.

    Raises:
        ShapeError: sizes differ.
        DataError: fewer than two classes a fold, or a fold without a pair of one class; features that are not finite.
    """
    unit = _unit(z, y, "verification")
    names, number = np.unique(y.cpu().numpy(), return_inverse=True)
    if folds < 2 or len(names) < 2 * folds:
        raise DataError(
            f"verification: {folds} folds need {2 * folds} classes, there are {len(names)}: ask for fewer, from 2 on"
        )
    fold_of = generator("folds", seed).permutation(np.arange(len(names)) % folds)[number]  # [M]
    similarity, same, fold = [], [], []
    for index in range(folds):
        rows = np.flatnonzero(fold_of == index)
        first, second = np.triu_indices(len(rows), 1)
        alike = (unit[rows] @ unit[rows].T).numpy()
        similarity.append(alike[first, second])
        same.append(number[rows][first] == number[rows][second])
        fold.append(np.full(len(first), index))
        if not same[-1].any():
            raise DataError("verification: a fold has no pair of one class; expected classes of two examples or more")
    return Pairs(np.concatenate(similarity), np.concatenate(same), np.concatenate(fold))


def verify(pairs: Pairs, *, far: float = 0.01) -> Verification:
    """How well similarity tells pairs of one class from others.

    Args:
        pairs: see `pairs_within_folds`.
        far: share of pairs of different classes that may be accepted.

    Raises:
        DataError: a share outside (0, 1); fewer than two folds, or one that lacks pairs of either kind.
    """
    if not 0 < far < 1:
        raise DataError(f"verification: expected a rate of false acceptance in (0, 1), got {far}")
    similarity, same, fold = pairs
    found = {int(one): len(np.unique(same[fold == one])) for one in np.unique(fold)}
    if len(found) < 2 or min(found.values()) < 2:
        raise DataError(
            "verification: a threshold is chosen on other folds than it is judged on, so expected two folds or more, "
            f"each with pairs of one class and of different classes; kinds of pairs by fold: {found}"
        )
    rates = []
    for index in np.unique(fold):
        own, other = fold == index, fold != index
        strict = np.quantile(similarity[other & ~same], 1 - far, method="higher")
        fpr, tpr, thresholds = roc_curve(same[other], similarity[other])
        best = thresholds[np.argmax(tpr - fpr)]
        accepted = [
            (similarity[own & kind] > strict).mean() for kind in (same, ~same)
        ] + [(similarity[own & kind] >= best).mean() for kind in (same, ~same)]  # fmt: skip
        rates.append((accepted[0], accepted[1], (accepted[2] + 1 - accepted[3]) / 2))
    tar, false, accuracy = (mean_interval(column) for column in np.array(rates).T)
    return Verification(
        float(roc_auc_score(same, similarity)), equal_error_rate(same, similarity), tar, false, accuracy
    )


def equal_error_rate(same: ArrayLike, similarity: ArrayLike) -> float:
    """Where the ROC curve, straight between its points, meets the line of equal errors.

    Raises:
        DataError: all pairs are of one kind, or a similarity is not a number.
    """
    kinds = np.unique(np.asarray(same, dtype=bool))
    if len(kinds) < 2 or np.isnan(np.asarray(similarity, dtype=np.float64)).any():
        raise DataError("equal error rate: expected pairs of one class and of different classes, all with a similarity")
    fpr, tpr, _ = roc_curve(same, similarity, drop_intermediate=False)
    gap = fpr - (1 - tpr)  # rises from −1 to 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(fpr[after - 1] + share * (fpr[after] - fpr[after - 1]))


def mean_average_precision(z: Tensor, y: Tensor) -> Mean:
    """Each example asks for those of its class among all others, by cosine similarity: mean over examples.

    Args:
        z: [M, F] features.
        y: [M] integers. An example that is alone in its class does not ask.

    Raises:
        ShapeError: sizes differ.
        DataError: no class has two examples, or features are not finite.
    """
    unit = _unit(z, y, "retrieval")
    labels, scores = y.cpu().numpy(), []
    for row in range(len(labels)):
        others = np.arange(len(labels)) != row
        relevant = labels[others] == labels[row]
        if relevant.any():
            scores.append(average_precision_score(relevant, (unit @ unit[row]).numpy()[others]))
    if not scores:
        raise DataError("retrieval: expected a class of two examples or more, there is none")
    return mean_interval(scores)


def _unit(z: Tensor, y: Tensor, what: str) -> Tensor:
    """Rows of length one, in double precision on the CPU."""
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise ShapeError(f"{what}: expected features [M, F] and labels [M], got {tuple(z.shape)}, {tuple(y.shape)}")
    z = z.detach().cpu().double()
    if not z.isfinite().all():
        row = int((~z.isfinite()).any(1).nonzero()[0])
        raise DataError(f"{what}: the features of example {row} are not finite; leave it out, or mend the encoder")
    return F.normalize(z, dim=1)
