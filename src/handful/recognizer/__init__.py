"""Teach from a handful of examples; recognize with a promise of how often the truth is among the candidates."""

from .answers import Answer, Neighbor
from .doctor import Finding
from .recognizer import Recognizer, open_recognizer, teach
from .report import Report
from .suggestions import Suggestion

__all__ = ["Answer", "Finding", "Neighbor", "Recognizer", "Report", "Suggestion", "open_recognizer", "teach"]
