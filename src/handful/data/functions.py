"""Regression tasks: families of functions, each task one function seen at a few points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..episode import Episode, Query, Support
from ..errors import DataError
from ..ops.seeds import generator
from .episodes import Range, count_of, range_of, seed_of

__all__ = ["FunctionEpisodes", "FunctionFamily", "Line", "Sinusoid"]

Floats = NDArray[np.float64]


class FunctionFamily(Protocol):
    """Functions from R to R, drawn at random."""

    def sample(self, random: np.random.Generator, batch: int, points: int) -> tuple[Floats, Floats]:
        """x and y of `points` points on each of `batch` functions, both [batch, points]."""
        ...


@dataclass(frozen=True)
class Sinusoid:
    """y = A·sin(x − φ): A in [0.1, 5], φ in [0, π], x in [−5, 5] (Finn et al. 2017, section 5.1).

    Attributes:
        amplitude, phase, x: the least and the greatest A, φ (in radians) and x, drawn uniformly.

    Raises:
        DataError: a range that is none.
    """

    amplitude: tuple[float, float] = (0.1, 5.0)
    phase: tuple[float, float] = (0.0, math.pi)
    x: tuple[float, float] = (-5.0, 5.0)

    def __post_init__(self) -> None:
        _check_ranges(amplitude=self.amplitude, phase=self.phase, x=self.x)

    def sample(self, random: np.random.Generator, batch: int, points: int) -> tuple[Floats, Floats]:
        """As `FunctionFamily.sample`."""
        amplitude, phase = random.uniform(*self.amplitude, (batch, 1)), random.uniform(*self.phase, (batch, 1))
        x = random.uniform(*self.x, (batch, points))
        return x, amplitude * np.sin(x - phase)


@dataclass(frozen=True)
class Line:
    """y = a·x + b + noise: a and b in [−3, 3], x in [−5, 5] (Finn et al. 2018, PLATIPUS, noise 0.3).

    Attributes:
        slope, intercept, x: the least and the greatest a, b and x, drawn uniformly.
        noise: standard deviation of what is added to each y.

    Raises:
        DataError: a range that is none, or a negative noise.
    """

    slope: tuple[float, float] = (-3.0, 3.0)
    intercept: tuple[float, float] = (-3.0, 3.0)
    x: tuple[float, float] = (-5.0, 5.0)
    noise: float = 0.0

    def __post_init__(self) -> None:
        _check_ranges(slope=self.slope, intercept=self.intercept, x=self.x)
        if not 0 <= self.noise < math.inf:
            raise DataError(f"functions: expected noise of at least 0, a standard deviation, got {self.noise}")

    def sample(self, random: np.random.Generator, batch: int, points: int) -> tuple[Floats, Floats]:
        """As `FunctionFamily.sample`."""
        slope, intercept = random.uniform(*self.slope, (batch, 1)), random.uniform(*self.intercept, (batch, 1))
        x = random.uniform(*self.x, (batch, points))
        return x, slope * x + intercept + self.noise * random.standard_normal(x.shape)


def _check_ranges(**ranges: tuple[float, float]) -> None:
    for name, pair in ranges.items():
        if len(pair) != 2 or not -math.inf < pair[0] <= pair[1] < math.inf:
            raise DataError(f"functions: expected {name} as a range (least, greatest) of finite numbers, got {pair}")


class FunctionEpisodes:
    """Batches of regression tasks; `[t]` is a pure function of (family, split, seed, t).

    Args:
        family: where functions come from.
        shots: support points a task; a (least, greatest) pair is drawn from for each batch.
        queries: query points a task.
        batch: B, tasks a batch.
        seed: another seed is another sequence of tasks.
        split: splits draw from the same family, but never the same sequence.

    Raises:
        DataError: a number below 1.
    """

    def __init__(
        self,
        family: FunctionFamily,
        *,
        shots: Range = 10,
        queries: int = 10,
        batch: int = 1,
        seed: int = 0,
        split: str = "train",
    ) -> None:
        self.family, self.seed, self.split = family, seed_of(seed), split
        self.shots = range_of("shots", shots)
        self.queries, self.batch = count_of("queries", queries), count_of("batch", batch)

    def __getitem__(self, t: int) -> Episode:
        """The t-th batch of tasks, t ≥ 0: x and y are [B, points, 1]."""
        if t < 0:
            raise IndexError(f"episodes are numbered from 0, got {t}")
        random = generator("functions", self.split, self.seed, t)
        k = int(random.integers(self.shots[0], self.shots[1] + 1))  # draws nothing where there is no choice
        points = self.family.sample(random, self.batch, k + self.queries)
        x, y = (torch.from_numpy(array).to(torch.get_default_dtype()).unsqueeze(-1) for array in points)
        return Episode(Support(x[:, :k], y[:, :k]), Query(x[:, k:], y[:, k:]))

    def __iter__(self) -> Iterator[Episode]:
        """All batches, without end."""
        return (self[t] for t in itertools.count())
