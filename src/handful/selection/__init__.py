"""Which tasks to train on next, chosen by what the learner did on those before. Without one, tasks are uniform."""

from .base import Selection
from .class_pairs import ClassPairs
from .curriculum import Curriculum
from .scheduler import TaskScheduler

__all__ = ["SELECTIONS", "ClassPairs", "Curriculum", "Selection", "TaskScheduler"]

SELECTIONS: dict[str, type[Selection]] = {
    "class_pairs": ClassPairs,
    "scheduler": TaskScheduler,
    "curriculum": Curriculum,
}
"""Every selection by the name a spec gives it. Keyword arguments of the class are its configuration."""
