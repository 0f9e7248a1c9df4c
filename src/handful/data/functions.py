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

__all__ = ["FunctionEpisodes", "FunctionFamily", "Line", "Sinusoid"]

Floats = NDArray[np.float64]


class FunctionFamily(Protocol):
    """Functions from R to R, drawn at random."""

    def sample(self, random: np.random.Generator, batch: int, points: int) -> tuple[Floats, Floats]:
        """x and y of `points` points on each of `batch` functions, both [batch, points]."""
        ...


@dataclass(frozen=True)
class Sinusoid:
    """y = A·sin(x − φ): A in [0.1, 5], φ in [0, π], x in [−5, 5] (Finn et al. 2017, section 5.1)."""

    amplitude: tuple[float, float] = (0.1, 5.0)
    phase: tuple[float, float] = (0.0, math.pi)
    x: tuple[float, float] = (-5.0, 5.0)

    def sample(self, random: np.random.Generator, batch: int, points: int) -> tuple[Floats, Floats]:
        """As `FunctionFamily.sample`."""
        amplitude, phase = random.uniform(*self.amplitude, (batch, 1)), random.uniform(*self.phase, (batch, 1))
        x = random.uniform(*self.x, (batch, points))
        return x, amplitude * np.sin(x - phase)


@dataclass(frozen=True)
class Line:
    """y = a·x + b + noise: a and b in [−3, 3], x in [−5, 5] (Finn et al. 2018, PLATIPUS, noise 0.3)."""

    slope: tuple[float, float] = (-3.0, 3.0)
    intercept: tuple[float, float] = (-3.0, 3.0)
    x: tuple[float, float] = (-5.0, 5.0)
    noise: float = 0.0

    def sample(self, random: np.random.Generator, batch: int, points: int) -> tuple[Floats, Floats]:
        """As `FunctionFamily.sample`."""
        slope, intercept = random.uniform(*self.slope, (batch, 1)), random.uniform(*self.intercept, (batch, 1))
        x = random.uniform(*self.x, (batch, points))
        return x, slope * x + intercept + self.noise * random.standard_normal(x.shape)


class FunctionEpisodes:
    """Batches of regression tasks; `[t]` is a pure function of (family, split, seed, t).

    Args:
        family: where functions come from.
        shots: support points a task.
        queries: query points a task.
        batch: B, tasks a batch.
        seed: another seed is another sequence of tasks.
        split: splits draw from the same family, but never the same sequence.
    """

    def __init__(
        self,
        family: FunctionFamily,
        *,
        shots: int = 10,
        queries: int = 10,
        batch: int = 1,
        seed: int = 0,
        split: str = "train",
    ) -> None:
        if min(shots, queries, batch) < 1:
            raise DataError(f"episodes: shots, queries and batch must be at least 1, got {shots}, {queries}, {batch}")
        self.family, self.shots, self.queries = family, shots, queries
        self.batch, self.seed, self.split = batch, seed, split

    def __getitem__(self, t: int) -> Episode:
        """The t-th batch of tasks, t ≥ 0: x and y are [B, points, 1]."""
        if t < 0:
            raise IndexError(f"episodes are numbered from 0, got {t}")
        random = generator("functions", self.split, self.seed, t)
        points = self.family.sample(random, self.batch, self.shots + self.queries)
        x, y = (torch.from_numpy(array).to(torch.get_default_dtype()).unsqueeze(-1) for array in points)
        k = self.shots
        return Episode(Support(x[:, :k], y[:, :k]), Query(x[:, k:], y[:, k:]))

    def __iter__(self) -> Iterator[Episode]:
        """All batches, without end."""
        return (self[t] for t in itertools.count())
