"""Data sets: examples grouped by class, and tasks drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .attributes import attributes
from .descriptions import DescribedPool, ZeroShotEpisodes
from .digits import digits
from .episodes import Draw, Episodes
from .functions import FunctionEpisodes, Line, Sinusoid
from .omniglot import add_omniglot, omniglot
from .pool import ClassPool, rotations, symmetries

__all__ = [
    "DATASETS",
    "ClassPool",
    "DataSet",
    "DescribedPool",
    "Draw",
    "Episodes",
    "FunctionEpisodes",
    "Line",
    "Sinusoid",
    "ZeroShotEpisodes",
    "attributes",
    "digits",
    "omniglot",
    "rotations",
    "symmetries",
]


class DataSet(NamedTuple):
    """An entry of the catalog: how to load it, and what to know before."""

    load: Callable[..., Any]
    summary: str
    licence: str
    source: str
    add: Callable[[Path], Any] | None = None
    """Takes a copy that the user has, for `handful data add NAME --from FOLDER`."""


DATASETS: dict[str, DataSet] = {
    "omniglot": DataSet(
        omniglot,
        "1,623 handwritten characters of 50 alphabets, 20 drawers each, 28×28",
        "MIT (Lake, Salakhutdinov & Tenenbaum 2015)",
        "https://github.com/brendenlake/omniglot",
        add_omniglot,
    ),
    "digits": DataSet(
        digits,
        "1,797 handwritten digits 8×8, split by digit, times the symmetries of the square",
        "CC BY 4.0 (UCI), comes with scikit-learn",
        "https://archive.ics.uci.edu/dataset/80",
    ),
    "attributes": DataSet(
        attributes, "zero-shot: made-up classes, described by their attributes", "none needed", "made up from a seed"
    ),
    "sinusoid": DataSet(Sinusoid, "regression: A·sin(x − φ)", "none needed", "Finn et al. 2017, arXiv:1703.03400"),
    "line": DataSet(Line, "regression: a·x + b", "none needed", "Finn et al. 2018, arXiv:1806.02817"),
}
"""Every data set by the name a spec gives it. Keyword arguments of `load` are its configuration."""
