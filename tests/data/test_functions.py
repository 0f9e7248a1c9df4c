import inspect
import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from handful.data.functions import FunctionEpisodes, Line, Sinusoid
from handful.episode import Episode
from handful.errors import DataError


def leaves(episode: Episode) -> list[torch.Tensor]:
    return [episode.support.x, episode.support.y, episode.query.x, episode.query.y]  # type: ignore[list-item]


def same(a: Episode, b: Episode) -> bool:
    return all(torch.equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**40), st.integers(0, 10**6))
def test_an_episode_hangs_on_its_number_only(shots: int, queries: int, batch: int, seed: int, t: int) -> None:
    options = {"shots": shots, "queries": queries, "batch": batch, "seed": seed}
    episodes = FunctionEpisodes(Sinusoid(), **options)  # type: ignore[arg-type]
    episode = episodes[t]
    assert [leaf.shape for leaf in leaves(episode)] == [(batch, n, 1) for n in (shots, shots, queries, queries)]
    assert episode.support.ways is None
    episodes[t + 1]
    np.random.seed(3)  # noqa: NPY002 - nobody's global numbers matter
    assert same(FunctionEpisodes(Sinusoid(), **options)[t], episode)  # type: ignore[arg-type]
    assert not same(episodes[t + 1], episode)
    assert not same(FunctionEpisodes(Sinusoid(), split="test", **options)[t], episode)  # type: ignore[arg-type]
    assert not same(FunctionEpisodes(Sinusoid(), **{**options, "seed": seed + 1})[t], episode)  # type: ignore[arg-type]


def test_episodes_in_turn() -> None:
    episodes = FunctionEpisodes(Line(), batch=2)
    assert all(same(episode, episodes[t]) for t, episode in enumerate(itertools.islice(episodes, 3)))


@pytest.mark.usefixtures("float64")
def test_support_and_query_lie_on_one_sinusoid() -> None:
    episode = FunctionEpisodes(Sinusoid(), shots=7, queries=9, batch=5)[3]
    sx, sy, qx, qy = leaves(episode)
    design = torch.cat([sx.sin(), sx.cos()], -1)  # A·sin(x − φ) is linear in A·cos φ and A·sin φ
    fit = torch.linalg.lstsq(design, sy).solution
    assert torch.allclose(torch.cat([qx.sin(), qx.cos()], -1) @ fit, qy)
    amplitude = fit[:, :, 0].norm(dim=1)
    assert len(set(amplitude.tolist())) == 5, "each task is another function"
    assert not torch.isin(qx, sx).any(), "queries are other points"


@pytest.mark.usefixtures("float64")
def test_amplitude_phase_and_points_are_uniform_over_the_papers_ranges() -> None:
    sx, sy, *_ = leaves(FunctionEpisodes(Sinusoid(), shots=5, queries=1, batch=2000)[0])
    fit = torch.linalg.lstsq(torch.cat([sx.sin(), sx.cos()], -1), sy).solution[:, :, 0]
    amplitude, phase = fit.norm(dim=1), torch.atan2(-fit[:, 1], fit[:, 0])
    for values, low, high in ((amplitude, 0.1, 5.0), (phase, 0.0, math.pi), (sx.flatten(), -5.0, 5.0)):
        assert scipy.stats.kstest(values.numpy(), "uniform", (low, high - low)).pvalue > 0.001


@pytest.mark.usefixtures("float64")
def test_lines_and_their_noise() -> None:
    sx, sy, qx, qy = leaves(FunctionEpisodes(Line(), shots=2, queries=5, batch=2000)[0])
    slope = (sy[:, 1] - sy[:, 0]) / (sx[:, 1] - sx[:, 0])
    intercept = sy[:, 0] - slope * sx[:, 0]
    assert torch.allclose(slope[:, None] * qx + intercept[:, None], qy, atol=1e-6)
    for values in (slope, intercept):
        assert scipy.stats.kstest(values.flatten().numpy(), "uniform", (-3, 6)).pvalue > 0.001
    flat = Line(slope=(0, 0), intercept=(1, 1), noise=0.3)
    noisy = leaves(FunctionEpisodes(flat, shots=50, queries=1, batch=100)[0])[1]
    assert scipy.stats.kstest((noisy.flatten().numpy() - 1) / 0.3, "norm").pvalue > 0.001


def test_numbers_are_of_the_default_type() -> None:
    assert {leaf.dtype for leaf in leaves(FunctionEpisodes(Sinusoid())[0])} == {torch.float32}


def test_published_tasks_never_change() -> None:
    """A change here is a change of every published number."""
    episode = FunctionEpisodes(Sinusoid(), shots=2, queries=1, seed=0)[0]
    drawn = [round(value, 4) for leaf in (episode.support.x, episode.query.x) for value in leaf.flatten().tolist()]  # type: ignore[union-attr]
    assert drawn == [4.1199, 2.1643, 0.4866]


def test_shots_are_uniform_over_their_range() -> None:
    episodes = FunctionEpisodes(Line(), shots=(5, 8), queries=2, batch=3)
    sizes = []
    for episode in itertools.islice(episodes, 800):
        assert episode.query.y.shape == (3, 2, 1)
        sizes.append(episode.support.y.shape[1] - 5)
    assert scipy.stats.chisquare(np.bincount(sizes, minlength=4)).pvalue > 0.001


@pytest.mark.parametrize("family", [Sinusoid, Line])
def test_ranges_of_functions_are_checked(family: type) -> None:
    for name in [name for name in inspect.signature(family).parameters if name != "noise"]:
        for wrong in ((2.0, 1.0), (0.0, math.nan), (0.0, math.inf), (1.0,)):
            with pytest.raises(DataError, match=rf"expected {name} as a range \(least, greatest\)"):
                family(**{name: wrong})
    for noise in (-1.0, math.nan):
        with pytest.raises(DataError, match="expected noise of at least 0"):
            Line(noise=noise)


@pytest.mark.parametrize("wrong", [{"shots": 0}, {"shots": (3, 2)}, {"shots": 1.5}, {"queries": 0}, {"batch": 0}])
def test_bad_numbers_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match=f"{next(iter(wrong))} must be a whole number of at least 1"):
        FunctionEpisodes(Line(), **wrong)  # type: ignore[arg-type]
    with pytest.raises(IndexError, match="numbered from 0, got -2"):
        FunctionEpisodes(Line())[-2]
