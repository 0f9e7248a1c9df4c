"""Handful learns from a handful of examples.

The names below are imported when they are first used, so that `import handful` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .adaptable import Adaptable
    from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from .data import (
        DATASETS,
        ClassPool,
        Episodes,
        FunctionEpisodes,
        Line,
        Sinusoid,
        digits,
        omniglot,
        rotations,
        symmetries,
    )
    from .encoders import ENCODERS, MLP, Conv4, Identity, ResNet12
    from .episode import Episode, Query, Support
    from .errors import HandfulError
    from .estimator import FewShotClassifier, FewShotRegressor
    from .evaluation import Evaluation, compare, evaluate
    from .gradient_learner import GradientLearner
    from .learner import EmbeddingLearner, Learner, query_loss
    from .learners import LEARNERS, MAML, PrototypicalNetwork
    from .ops.engine import Engine
    from .recognizer import Answer, Recognizer, open_recognizer, teach
    from .run import fit
    from .spec import Spec, build
    from .training import Step, train

_HOMES = {
    "adaptable": ("Adaptable",),
    "checkpoint": ("Checkpoint", "load_checkpoint", "save_checkpoint"),
    "data": (
        *("DATASETS", "ClassPool", "Episodes", "FunctionEpisodes", "Line", "Sinusoid"),
        *("digits", "omniglot", "rotations", "symmetries"),
    ),
    "encoders": ("ENCODERS", "MLP", "Conv4", "Identity", "ResNet12"),
    "episode": ("Episode", "Query", "Support"),
    "errors": ("HandfulError",),
    "estimator": ("FewShotClassifier", "FewShotRegressor"),
    "evaluation": ("Evaluation", "compare", "evaluate"),
    "gradient_learner": ("GradientLearner",),
    "learner": ("EmbeddingLearner", "Learner", "query_loss"),
    "learners": ("LEARNERS", "MAML", "PrototypicalNetwork"),
    "ops.engine": ("Engine",),
    "recognizer": ("Answer", "Recognizer", "open_recognizer", "teach"),
    "run": ("fit",),
    "spec": ("Spec", "build"),
    "training": ("Step", "train"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "DATASETS",
    "ENCODERS",
    "LEARNERS",
    "MAML",
    "MLP",
    "Adaptable",
    "Answer",
    "Checkpoint",
    "ClassPool",
    "Conv4",
    "EmbeddingLearner",
    "Engine",
    "Episode",
    "Episodes",
    "Evaluation",
    "FewShotClassifier",
    "FewShotRegressor",
    "FunctionEpisodes",
    "GradientLearner",
    "HandfulError",
    "Identity",
    "Learner",
    "Line",
    "PrototypicalNetwork",
    "Query",
    "Recognizer",
    "ResNet12",
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
    "open_recognizer",
    "query_loss",
    "rotations",
    "save_checkpoint",
    "symmetries",
    "teach",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'handful' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_HOMES]
