"""How well a score ranks: areas under curves, for answers that are yes or no."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

__all__ = ["delta_auprc", "roc_auc"]

Floats = NDArray[np.float64]


def roc_auc(y: NDArray[np.int64], score: Floats) -> float:
    """Share of pairs, one of each outcome, in which the 1 has the higher score; equal scores count one half.

    Args:
        y: [Q] zeros and ones, both there.
        score: [Q], higher for 1.
    """
    return float(roc_auc_score(y, score))


def delta_auprc(y: NDArray[np.int64], score: Floats) -> float:
    """Average precision above that of guessing, the share of ones (Stanley et al. 2021, FS-Mol, section 4)."""
    return float(average_precision_score(y, score) - y.mean())
