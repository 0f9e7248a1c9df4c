"""Every method of the field that is here, by the name a spec gives it."""

from ..learner import Learner
from .generative.bayesian_maml import BayesianMAML
from .generative.metagan import MetaGAN
from .generative.metagan_relation import MetaGANRelation
from .generative.platipus import PLATIPUS
from .gradient.maml import MAML
from .metric.prototypical import PrototypicalNetwork

__all__ = [
    "LEARNERS",
    "MAML",
    "PLATIPUS",
    "BayesianMAML",
    "MetaGAN",
    "MetaGANRelation",
    "PrototypicalNetwork",
]

LEARNERS: dict[str, type[Learner]] = {
    "prototypical": PrototypicalNetwork,
    "maml": MAML,
    "platipus": PLATIPUS,
    "bayesian_maml": BayesianMAML,
    "metagan": MetaGAN,
    "metagan_relation": MetaGANRelation,
}
"""Keyword arguments of the class are its configuration; the encoder comes first."""
