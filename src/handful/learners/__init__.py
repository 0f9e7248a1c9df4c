"""Every method of the field that is here, by the name a spec gives it."""

from ..learner import Learner
from .baseline.baseline import Baseline
from .baseline.baseline_plus import BaselinePlus
from .baseline.fine_tuning import FineTuning, TransductiveFineTuning
from .baseline.frozen import Frozen
from .baseline.nearest import NearestNeighbor
from .baseline.simpleshot import SimpleShot
from .closed_form.metaoptnet import MetaOptNet
from .closed_form.ridge import R2D2
from .generative.bayesian_maml import BayesianMAML
from .generative.metagan import MetaGAN
from .generative.metagan_relation import MetaGANRelation
from .generative.platipus import PLATIPUS
from .gradient.anil import ANIL
from .gradient.boil import BOIL
from .gradient.cavia import CAVIA
from .gradient.imaml import IMAML
from .gradient.lstm_meta_learner import LSTMMetaLearner
from .gradient.maml import MAML
from .gradient.maml_plus_plus import MAMLPlusPlus
from .gradient.meta_curvature import MetaCurvature
from .gradient.meta_sgd import MetaSGD
from .gradient.proto_maml import ProtoMAML
from .gradient.reptile import Reptile
from .memory.conditional_neural_process import ConditionalNeuralProcess
from .memory.mann import MANN
from .memory.meta_lstm import MetaLSTM
from .memory.snail import SNAIL
from .metric.deepemd import DeepEMD
from .metric.feat import FEAT
from .metric.matching import MatchingNetwork
from .metric.prototypical import PrototypicalNetwork
from .metric.relation import RelationNetwork
from .metric.rnnp import RNNP
from .metric.robust import RobustPrototypes
from .metric.siamese import SiameseNetwork
from .transductive.bd_cspn import BDCSPN
from .transductive.laplacianshot import LaplacianShot
from .transductive.pt_map import PTMAP
from .transductive.soft_kmeans import SoftKMeans
from .transductive.tim import TIM
from .zero_shot.clip import CLIP
from .zero_shot.devise import DeViSE
from .zero_shot.zero_shot_prototypical import ZeroShotPrototypical

__all__ = [
    "ANIL",
    "BDCSPN",
    "BOIL",
    "CAVIA",
    "CLIP",
    "FEAT",
    "IMAML",
    "LEARNERS",
    "MAML",
    "MANN",
    "PLATIPUS",
    "PTMAP",
    "R2D2",
    "RNNP",
    "SNAIL",
    "TIM",
    "Baseline",
    "BaselinePlus",
    "BayesianMAML",
    "ConditionalNeuralProcess",
    "DeViSE",
    "DeepEMD",
    "FineTuning",
    "Frozen",
    "LSTMMetaLearner",
    "LaplacianShot",
    "MAMLPlusPlus",
    "MatchingNetwork",
    "MetaCurvature",
    "MetaGAN",
    "MetaGANRelation",
    "MetaLSTM",
    "MetaOptNet",
    "MetaSGD",
    "NearestNeighbor",
    "ProtoMAML",
    "PrototypicalNetwork",
    "RelationNetwork",
    "Reptile",
    "RobustPrototypes",
    "SiameseNetwork",
    "SimpleShot",
    "SoftKMeans",
    "TransductiveFineTuning",
    "ZeroShotPrototypical",
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
    "anil": ANIL,
    "boil": BOIL,
    "meta_sgd": MetaSGD,
    "maml_plus_plus": MAMLPlusPlus,
    "meta_curvature": MetaCurvature,
    "proto_maml": ProtoMAML,
    "cavia": CAVIA,
    "imaml": IMAML,
    "reptile": Reptile,
    "lstm_meta_learner": LSTMMetaLearner,
    "mann": MANN,
    "snail": SNAIL,
    "meta_lstm": MetaLSTM,
    "conditional_neural_process": ConditionalNeuralProcess,
    "platipus": PLATIPUS,
    "bayesian_maml": BayesianMAML,
    "metagan": MetaGAN,
    "metagan_relation": MetaGANRelation,
    "r2d2": R2D2,
    "metaoptnet": MetaOptNet,
    "nearest": NearestNeighbor,
    "frozen": Frozen,
    "baseline": Baseline,
    "baseline_plus": BaselinePlus,
    "simpleshot": SimpleShot,
    "fine_tuning": FineTuning,
    "transductive_fine_tuning": TransductiveFineTuning,
    "soft_kmeans": SoftKMeans,
    "tim": TIM,
    "laplacianshot": LaplacianShot,
    "pt_map": PTMAP,
    "bd_cspn": BDCSPN,
    "zero_shot_prototypical": ZeroShotPrototypical,
    "devise": DeViSE,
    "clip": CLIP,
}
"""Keyword arguments of the class are its configuration; the encoder comes first."""
