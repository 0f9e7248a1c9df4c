"""Handful learns from a handful of examples.

The names below are imported when they are first used, so that `import handful` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from .data import ClassPool, Episodes, FunctionEpisodes, Line, Sinusoid, digits, omniglot
    from .encoders import MLP, Conv4, Identity
    from .episode import Episode, Query, Support
    from .errors import HandfulError
    from .evaluation import Evaluation, compare, evaluate
    from .learner import EmbeddingLearner, Learner
    from .learners import LEARNERS, MAML, PrototypicalNetwork
    from .run import fit
    from .spec import Spec, build
    from .training import Step, train

_HOMES = {
    "checkpoint": ("Checkpoint", "load_checkpoint", "save_checkpoint"),
    "data": ("ClassPool", "Episodes", "FunctionEpisodes", "Line", "Sinusoid", "digits", "omniglot"),
    "encoders": ("MLP", "Conv4", "Identity"),
    "episode": ("Episode", "Query", "Support"),
    "errors": ("HandfulError",),
    "evaluation": ("Evaluation", "compare", "evaluate"),
    "learner": ("EmbeddingLearner", "Learner"),
    "learners": ("LEARNERS", "MAML", "PrototypicalNetwork"),
    "run": ("fit",),
    "spec": ("Spec", "build"),
    "training": ("Step", "train"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "LEARNERS",
    "MAML",
    "MLP",
    "Checkpoint",
    "ClassPool",
    "Conv4",
    "EmbeddingLearner",
    "Episode",
    "Episodes",
    "Evaluation",
    "FunctionEpisodes",
    "HandfulError",
    "Identity",
    "Learner",
    "Line",
    "PrototypicalNetwork",
    "Query",
    "Sinusoid",
    "Spec",
    "Step",
    "Support",
    "__version__",
    "build",
    "compare",
    "digits",
    "evaluate",
    "fit",
    "load_checkpoint",
    "omniglot",
    "save_checkpoint",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'handful' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return list(__all__)
