"""Every method of the field that is here, by the name a spec gives it."""

from ..learner import Learner
from .gradient.maml import MAML
from .metric.prototypical import PrototypicalNetwork

__all__ = ["LEARNERS", "MAML", "PrototypicalNetwork"]

LEARNERS: dict[str, type[Learner]] = {
    "prototypical": PrototypicalNetwork,
    "maml": MAML,
}
"""Keyword arguments of the class are its configuration; the encoder comes first."""
