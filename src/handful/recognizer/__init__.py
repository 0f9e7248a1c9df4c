"""Teach from a handful of examples; recognize with a promise of how often the truth is among the candidates."""

from .answers import Answer, Neighbor
from .doctor import Finding
from .recognizer import Recognizer
from .report import Report
from .suggestions import Suggestion
from .teaching import open_recognizer, teach

__all__ = ["Answer", "Finding", "Neighbor", "Recognizer", "Report", "Suggestion", "open_recognizer", "teach"]
