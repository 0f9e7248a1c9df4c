from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, kstest

from handful.ops import nearest_mean
from handful.ops.conformal import Head, PValues, candidates, examples_needed, p_values, refusals_are_too_many
from handful.ops.nearest_mean import fit_nearest_mean, leave_one_out
from handful.ops.ridge_margin import fit_ridge_margin, ridge_leave_one_out

Floats = NDArray[np.floating]


def plain_scores(rule: str, x: Floats, y: NDArray[np.int64], ways: int) -> Floats:
    """The score of every example, each by a rule fitted anew without it (among the others' means, with it)."""
    if rule != "squared":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = np.empty(len(x))
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        if rule == "ridge":
            z = np.concatenate([x, np.ones((len(x), 1))], 1)
            w = np.linalg.solve(z[others].T @ z[others] + np.eye(z.shape[1]), z[others].T @ np.eye(ways)[y[others]])
            strange = -(z[i] @ w)
        else:
            strange = np.full(ways, np.inf)
            for c in range(ways):
                members = x[others & (y == c)]
                if len(members):
                    mean = members.mean(0)
                    cosine = x[i] @ mean / np.linalg.norm(mean) if rule == "cosine" else 0
                    strange[c] = 1 - cosine if rule == "cosine" else ((x[i] - mean) ** 2).sum()
        other = np.delete(strange, y[i]).min(initial=np.inf)
        if rule == "ridge":
            scores[i] = strange[y[i]] - (other if ways > 1 else 0)
        else:
            with np.errstate(divide="ignore"):
                scores[i] = strange[y[i]] / np.sqrt(other if ways > 1 else 1)
    return scores


def plain_p_values(rule: str, x: Floats, y: NDArray[np.int64], ways: int, z: Floats) -> PValues:
    overall, own = np.empty((len(z), ways)), np.empty((len(z), ways))
    for q in range(len(z)):
        for c in range(ways):
            labels = np.append(y, c)
            scores = plain_scores(rule, np.vstack([x, z[q]]), labels, ways)
            strange = scores >= scores[-1] - 1e-9
            overall[q, c], own[q, c] = strange.mean(), strange[labels == c].mean()
    return PValues(overall, own)


def fit(rule: str, x: Floats, y: NDArray[np.int64], ways: int) -> Head:
    return fit_ridge_margin(x, y, ways) if rule == "ridge" else fit_nearest_mean(x, y, ways, rule)  # type: ignore[arg-type]


def clusters(
    random: np.random.Generator, sizes: list[int], features: int = 5, spread: float = 1.0
) -> tuple[Floats, NDArray[np.int64], Floats]:
    centers = random.normal(size=(len(sizes), features))
    y = np.repeat(np.arange(len(sizes)), sizes)
    return centers[y] + spread * random.normal(size=(len(y), features)), y, centers


SIZES = {
    "ragged": [1, 2, 3, 5, 9],
    "many classes": [2, 3, 1, 4, 2, 3, 2, 6, 1, 2, 3],
    "one shot": [1, 1, 1],
    "two": [4, 6],
    "one class": [5],
    "one example": [1],
}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rule", ["squared", "cosine", "ridge"])
@pytest.mark.parametrize("neighbors", [2, 3, 16])
def test_adding_by_formula_is_fitting_anew(
    rule: str, sizes: str, neighbors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest_mean, "NEIGHBORS", neighbors)
    random = np.random.default_rng(len(sizes))
    x, y, centers = clusters(random, SIZES[sizes])
    z = np.concatenate([centers[:2] + random.normal(size=centers[:2].shape), random.normal(size=(2, 5)), x[:1]])
    order = random.permutation(len(y))
    found = p_values(fit(rule, x[order], y[order], len(SIZES[sizes])), z)
    expected = plain_p_values(rule, x, y, len(SIZES[sizes]), z)
    np.testing.assert_allclose(found.overall, expected.overall)
    np.testing.assert_allclose(found.own, expected.own)


@pytest.mark.parametrize("metric", ["squared", "cosine"])
def test_distances_without_an_example_are_those_of_a_mean_made_without_it(metric: nearest_mean.Metric) -> None:
    x, y, _ = clusters(np.random.default_rng(0), [1, 2, 5])
    rows, found = leave_one_out(fit_nearest_mean(x, y, 3, metric))
    assert rows.tolist() == list(range(1, 8))
    for row, values in zip(rows, found, strict=True):
        rest = np.delete(np.arange(8), row)
        anew = nearest_mean.distances(fit_nearest_mean(x[rest], y[rest], 3, metric), x[row : row + 1])
        np.testing.assert_allclose(values, anew[0], atol=1e-12)


def test_a_weight_is_so_many_copies() -> None:
    x, y, _ = clusters(np.random.default_rng(0), [2, 2, 5])
    weight = np.array([1, 2, 3, 1, 0, 1, 2, 1, 1])
    weighted, copied = fit_nearest_mean(x, y, 3, "squared", weight), np.repeat(np.arange(9), weight)
    plain = fit_nearest_mean(x[copied], y[copied], 3, "squared")
    np.testing.assert_allclose(nearest_mean.distances(weighted, x), nearest_mean.distances(plain, x), atol=1e-12)
    np.testing.assert_allclose(weighted.own[copied], plain.own, atol=1e-12)


def test_ridge_without_an_example() -> None:
    x, y, _ = clusters(np.random.default_rng(0), [1, 2, 5])
    found = ridge_leave_one_out(fit_ridge_margin(x, y, 3, 0.5))
    design = np.concatenate([x / np.linalg.norm(x, axis=1, keepdims=True), np.ones((8, 1))], 1)
    for row in range(8):
        rest = np.delete(np.arange(8), row)
        a = design[rest]
        w = np.linalg.solve(a.T @ a + 0.5 * np.eye(6), a.T @ np.eye(3)[y[rest]])
        np.testing.assert_allclose(found[row], design[row] @ w, atol=1e-12)


def covered(rule: str, epsilon: float, *, moved: float = 0.0, tasks: int = 400) -> tuple[int, int, int]:
    """How often the true class was a candidate, how often nothing was, and how many things were asked.

    The label of every example is drawn too, so that those of a task and the new one are exchangeable. One thing
    asked a task keeps trials independent; `moved` moves it away from the examples.
    """
    random = np.random.default_rng(7)
    inside = refused = 0
    for _ in range(tasks):
        centers = 1.5 * random.normal(size=(4, 6))
        y = np.concatenate([np.arange(4), random.integers(0, 4, 25)])  # all classes are there
        random.shuffle(y)
        labels = random.integers(0, 4, 1)
        x, z = centers[y] + random.normal(size=(29, 6)), centers[labels] + random.normal(size=(1, 6)) + moved
        p = p_values(fit(rule, x, y, 4), z)
        stays = candidates(p, np.bincount(y, minlength=4), epsilon, each_class=False)
        inside += int(stays[0, labels[0]])
        refused += int(not stays.any())
    return inside, refused, tasks


@pytest.mark.parametrize("rule", ["squared", "cosine", "ridge"])
@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.2])
def test_coverage_is_as_promised(rule: str, epsilon: float) -> None:
    inside, refused, asked = covered(rule, epsilon)
    assert binom.cdf(inside, asked, 1 - epsilon) > 1e-3  # not too few
    assert binom.sf(inside - 1, asked, 1 - epsilon) > 1e-3 or inside / asked < 1 - epsilon / 2  # nor vacuous
    assert not refusals_are_too_many(refused, asked, epsilon)


@pytest.mark.parametrize("rule", ["squared", "cosine", "ridge"])
def test_where_the_assumption_breaks_coverage_fails_and_it_shows(rule: str) -> None:
    inside, refused, asked = covered(rule, 0.1, moved=5.0)
    assert binom.cdf(inside, asked, 0.9) < 1e-6
    if rule == "squared":  # the others scale every vector to length 1, so that nothing is far from everything
        assert refusals_are_too_many(refused, asked, 0.1)


def test_random_ties_make_p_values_uniform() -> None:
    random = np.random.default_rng(0)
    values = []
    for _ in range(300):
        y = np.concatenate([np.arange(3), random.integers(0, 3, 10)])[random.permutation(13)]
        label = random.integers(0, 3)
        x = random.integers(0, 2, size=(14, 2)) + 1.0 * np.append(y, label)[:, None]  # many ties
        values.append(p_values(fit_nearest_mean(x[:13], y, 3, "squared"), x[13:], random=random).overall[0, label])
    assert kstest(values, "uniform").pvalue > 1e-3


def test_a_promise_that_cannot_be_made_keeps_every_class() -> None:
    x, y, _ = clusters(np.random.default_rng(0), [4, 4], spread=0.1)
    far = np.full((1, 5), 100.0)
    p = p_values(fit_nearest_mean(x, y, 2, "squared"), far)
    assert candidates(p, np.bincount(y), 0.1).all()
    x, y, centers = clusters(np.random.default_rng(0), [5, 4], spread=0.1)
    between = centers.mean(0, keepdims=True)
    p = p_values(fit_nearest_mean(x, y, 2, "squared"), between)
    assert not candidates(p, np.bincount(y), 0.1).any()


def test_classes_with_enough_examples_have_promises_of_their_own() -> None:
    p = PValues(np.array([[0.05, 0.05, 0.05, 0.5]]), np.array([[0.5, 0.5, 0.1, 0.01]]))
    sizes = np.array([9, 8, 9, 9])
    assert candidates(p, sizes, 0.1).tolist() == [[True, False, False, True]]
    assert candidates(p, sizes, 0.1, each_class=False).tolist() == [[False, False, False, True]]
    assert candidates(p, sizes + 1, 0.1).tolist() == [[True, True, False, False]]  # each by itself


@pytest.mark.parametrize(("epsilon", "needed"), [(0.2, 4), (0.1, 9), (0.05, 19), (0.01, 99), (0.3, 3), (0.5, 1)])
def test_examples_needed(epsilon: float, needed: int) -> None:
    assert examples_needed(epsilon) == needed


def test_refusals() -> None:
    assert not refusals_are_too_many(0, 0, 0.1)
    assert not refusals_are_too_many(1, 1, 0.1)
    assert not refusals_are_too_many(10, 100, 0.1)
    assert refusals_are_too_many(30, 100, 0.1)
