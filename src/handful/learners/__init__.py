"""Every method of the field that is here, by the name a spec gives it."""

from ..learner import Learner
from .gradient.anil import ANIL
from .gradient.boil import BOIL
from .gradient.cavia import CAVIA
from .gradient.imaml import IMAML
from .gradient.maml import MAML
from .gradient.maml_plus_plus import MAMLPlusPlus
from .gradient.meta_curvature import MetaCurvature
from .gradient.meta_sgd import MetaSGD
from .gradient.proto_maml import ProtoMAML
from .gradient.reptile import Reptile
from .metric.prototypical import PrototypicalNetwork

__all__ = [
    "ANIL",
    "BOIL",
    "CAVIA",
    "IMAML",
    "LEARNERS",
    "MAML",
    "MAMLPlusPlus",
    "MetaCurvature",
    "MetaSGD",
    "ProtoMAML",
    "PrototypicalNetwork",
    "Reptile",
]

LEARNERS: dict[str, type[Learner]] = {
    "prototypical": PrototypicalNetwork,
    "maml": MAML,
    "anil": ANIL,
    "boil": BOIL,
    "meta_sgd": MetaSGD,
    "maml_plus_plus": MAMLPlusPlus,
    "meta_curvature": MetaCurvature,
    "proto_maml": ProtoMAML,
    "cavia": CAVIA,
    "imaml": IMAML,
    "reptile": Reptile,
}
"""Keyword arguments of the class are its configuration; the encoder comes first."""
