"""Generalized zero-shot evaluation: all classes compete, and both kinds of them count."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch

from .data.descriptions import DescribedPool
from .episode import Support
from .errors import unknown_name
from .learner import Learner
from .ops.generalized import calibrated_stacking, harmonic_mean
from .scoring import evaluation_mode

__all__ = ["Generalized", "generalized"]


class Generalized(NamedTuple):
    """Accuracies where every class of both kinds is a possible answer: means over classes."""

    seen: float
    unseen: float

    @property
    def harmonic(self) -> float:
        """Their harmonic mean: no better than twice the worse."""
        return harmonic_mean(self.seen, self.unseen)


@torch.no_grad()
def generalized(
    learner: Learner, data: DescribedPool, seen: Collection[str], *, penalty: float = 0.0, at_once: int = 512
) -> Generalized:
    """Every example of a pool against all its classes (Xian, Schiele & Akata 2017, arXiv:1703.04394, section 4).

    Args:
        learner: a zero-shot learner.
        data: examples that training has not seen, of classes of both kinds.
        seen: names of the classes that it has seen; all others are unseen.
        penalty: of calibrated stacking, on the logits of seen classes; choose it on validation classes.
        at_once: examples answered together.

    Raises:
        UnknownNameError: a seen class that the pool does not have.
    """
    pool = data.examples
    for name in seen:
        if name not in pool.names:
            raise unknown_name("seen class", name, pool.names)
    device = next((p.device for p in learner.parameters()), torch.device("cpu"))
    known = torch.tensor([name in seen for name in pool.names], device=device)  # [N]
    rows = data.descriptions.rows()
    labels = torch.arange(pool.classes).repeat_interleave(data.descriptions.counts)
    support = Support(data.descriptions.gather(rows)[None], labels[None], pool.classes, described=True).to(device)
    y = torch.arange(pool.classes).repeat_interleave(pool.counts)
    with evaluation_mode(learner):
        state = learner.adapt(support)
        parts = torch.split(pool.rows(), at_once)
        logits = [learner.predict(state, pool.gather(part)[None].to(device))[0] for part in parts]
    scores = calibrated_stacking(torch.cat(logits), known, penalty)
    answers = torch.where(scores.amax(-1).isfinite(), scores.argmax(-1), -1).cpu()  # the argmax of NaN is a class too
    hits = torch.zeros(pool.classes).index_add(0, y, (answers == y).float()) / pool.counts  # [N]
    known = known.cpu()
    return Generalized(*(float(hits[kind].mean()) if bool(kind.any()) else 0.0 for kind in (known, ~known)))
