"""Every error a user can meet: what was expected, what came, what to do.

Each kind is also a builtin kind, so that callers who do not know Handful can still catch it.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "CheckpointError",
    "CollectionError",
    "DataError",
    "DownloadError",
    "HandfulError",
    "LabelError",
    "MissingExtraError",
    "RankError",
    "ShapeError",
    "SpecError",
    "StorageError",
    "UnknownNameError",
    "unknown_name",
]


class HandfulError(Exception):
    """The root of every error raised on purpose."""


class ShapeError(HandfulError, ValueError):
    """A tensor, or a pair of them, has the wrong shape or type."""


class LabelError(HandfulError, ValueError):
    """Labels are out of range, or a class has no example."""


class DataError(HandfulError, ValueError):
    """Data cannot be used as they are: too few examples, unreadable, not finite."""


class SpecError(HandfulError, ValueError):
    """A specification has an unknown key or a value of the wrong kind."""


class UnknownNameError(HandfulError, LookupError):
    """A name is not in a catalog."""


class CheckpointError(HandfulError, RuntimeError):
    """A checkpoint is missing, broken, foreign or newer than this program."""


class CollectionError(HandfulError, RuntimeError):
    """A collection is missing, damaged, foreign, newer than this program, or made by another encoder."""


class StorageError(HandfulError, OSError):
    """Nothing can be written or read there: full disk, no permission, no folder."""


class DownloadError(HandfulError, OSError):
    """A download failed, or what came is not what was published."""


class MissingExtraError(HandfulError, ImportError):
    """An optional package is not installed."""


class RankError(HandfulError, RuntimeError):
    """Another process of a run that many share has ended, or cannot be reached."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> UnknownNameError:
    """The error for a `name` that is not among the `valid` ones, which it lists."""
    names = sorted(valid)
    close = get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return UnknownNameError(f"unknown {kind} {str(name)!r}{hint or '.'} Valid: {', '.join(names) or 'none'}.")
