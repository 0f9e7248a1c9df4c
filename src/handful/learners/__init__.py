"""Every method of the field that is here, by the name a spec gives it."""

from ..learner import Learner
from .gradient.lstm_meta_learner import LSTMMetaLearner
from .gradient.maml import MAML
from .memory.conditional_neural_process import ConditionalNeuralProcess
from .memory.mann import MANN
from .memory.meta_lstm import MetaLSTM
from .memory.snail import SNAIL
from .metric.prototypical import PrototypicalNetwork

__all__ = [
    "LEARNERS",
    "MAML",
    "MANN",
    "SNAIL",
    "ConditionalNeuralProcess",
    "LSTMMetaLearner",
    "MetaLSTM",
    "PrototypicalNetwork",
]

LEARNERS: dict[str, type[Learner]] = {
    "prototypical": PrototypicalNetwork,
    "maml": MAML,
    "lstm_meta_learner": LSTMMetaLearner,
    "mann": MANN,
    "snail": SNAIL,
    "meta_lstm": MetaLSTM,
    "conditional_neural_process": ConditionalNeuralProcess,
}
"""Keyword arguments of the class are its configuration; the encoder comes first."""
