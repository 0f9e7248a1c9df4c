"""What an encoder was trained on, and on whose terms: what its user should know."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["About", "about", "trained_on"]


class About(NamedTuple):
    """Of an encoder.

    Attributes:
        data: what it was trained on.
        licence: on what terms.
    """

    data: str
    licence: str


def about(embedder: object) -> About:
    """What an encoder says of itself in its attribute `about`."""
    found = getattr(embedder, "about", None)
    return found if isinstance(found, About) else About("not recorded", "not recorded: look it up before you publish")


def trained_on(name: str) -> About:
    """Of an encoder trained on a data set of the catalog."""
    from ..data import DATASETS

    if name not in DATASETS:
        return About(f"the data set {name!r}", "not recorded: that of its data")
    entry = DATASETS[name]
    return About(f"{name}: {entry.summary}", f"of the data: {entry.licence}; source: {entry.source}")
