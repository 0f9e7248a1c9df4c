"""Every method of the field that is here, by the name a spec gives it."""

from ..learner import Learner
from .gradient.maml import MAML
from .metric.deepemd import DeepEMD
from .metric.feat import FEAT
from .metric.matching import MatchingNetwork
from .metric.prototypical import PrototypicalNetwork
from .metric.relation import RelationNetwork
from .metric.rnnp import RNNP
from .metric.robust import RobustPrototypes
from .metric.siamese import SiameseNetwork

__all__ = [
    "FEAT",
    "LEARNERS",
    "MAML",
    "RNNP",
    "DeepEMD",
    "MatchingNetwork",
    "PrototypicalNetwork",
    "RelationNetwork",
    "RobustPrototypes",
    "SiameseNetwork",
]

LEARNERS: dict[str, type[Learner]] = {
    "prototypical": PrototypicalNetwork,
    "siamese": SiameseNetwork,
    "matching": MatchingNetwork,
    "relation": RelationNetwork,
    "feat": FEAT,
    "deepemd": DeepEMD,
    "rnnp": RNNP,
    "robust_prototypes": RobustPrototypes,
    "maml": MAML,
}
"""Keyword arguments of the class are its configuration; the encoder comes first."""
