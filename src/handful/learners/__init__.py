"""Every method of the field that is here, by the name a spec gives it."""

from ..learner import Learner
from .generative.bayesian_maml import BayesianMAML
from .generative.metagan import MetaGAN
from .generative.metagan_relation import MetaGANRelation
from .generative.platipus import PLATIPUS
from .gradient.maml import MAML
from .metric.prototypical import PrototypicalNetwork
from .zero_shot.clip import CLIP
from .zero_shot.devise import DeViSE
from .zero_shot.zero_shot_prototypical import ZeroShotPrototypical

__all__ = [
    "CLIP",
    "LEARNERS",
    "MAML",
    "PLATIPUS",
    "BayesianMAML",
    "DeViSE",
    "MetaGAN",
    "MetaGANRelation",
    "PrototypicalNetwork",
    "ZeroShotPrototypical",
]

LEARNERS: dict[str, type[Learner]] = {
    "prototypical": PrototypicalNetwork,
    "maml": MAML,
    "platipus": PLATIPUS,
    "bayesian_maml": BayesianMAML,
    "metagan": MetaGAN,
    "metagan_relation": MetaGANRelation,
    "zero_shot_prototypical": ZeroShotPrototypical,
    "devise": DeViSE,
    "clip": CLIP,
}
"""Keyword arguments of the class are its configuration; the encoder comes first."""
