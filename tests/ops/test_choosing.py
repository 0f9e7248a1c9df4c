from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import binom
from sklearn.datasets import load_digits
from tests.ops.test_conformal import clusters, fit, plain_scores

from handful.ops.augmented import TEMPERATURES, judge
from handful.ops.choosing import Chosen, chosen_ranks
from handful.ops.conformal import candidates, p_values
from handful.ops.head_choice import FAMILY, LARGEST, NAMED, _knowing, fit_best, fit_named
from handful.ops.heads import fit_head, strangeness
from handful.ops.nearest_mean import NearestMean
from handful.ops.ridge_margin import RidgeMargin

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]


def plain_distances(rule: str, x: Floats, y: Integers, z: Floats, names: Floats | None, weight: float) -> Floats:
    """Of one thing to each class, by a rule fitted anew to examples and weighted names: [K]."""
    ways = int(y.max()) + 1 if names is None else len(names)
    if names is not None:
        x, y = np.concatenate([x, names]), np.concatenate([y, np.arange(ways)])
    w = np.ones(len(x))
    if names is not None:
        w[-ways:] = weight
    if rule != "squared":
        x, z = x / np.linalg.norm(x, axis=1, keepdims=True), z / np.linalg.norm(z)
    if rule == "ridge":
        a = np.concatenate([x, np.ones((len(x), 1))], 1)
        fit = np.linalg.solve((a.T * w) @ a + np.eye(a.shape[1]), (a.T * w) @ np.eye(ways)[y])
        return -(np.append(z, 1) @ fit)
    found = np.full(ways, np.inf)
    for c in np.unique(y):
        mean = np.average(x[y == c], 0, w[y == c])
        cosine = z @ mean / np.linalg.norm(mean)
        found[c] = 1 - cosine if rule == "cosine" else ((z - mean) ** 2).sum()
    return found


def plain_loss(rule: str, x: Floats, y: Integers, names: Floats | None = None, weight: float = 0.0) -> float:
    """What the rule is chosen by, from all n + 1 examples."""
    kept = np.flatnonzero(np.bincount(y)[y] > 1)
    others = [np.delete(np.arange(len(x)), i) for i in kept]
    d = np.array([plain_distances(rule, x[o], y[o], x[i], names, weight) for i, o in zip(kept, others, strict=True)])
    scale = float(np.square(x - x.mean(0)).sum(1).mean()) if rule == "squared" else 1.0
    smooth, ways, best = 1 / (len(x) + 2), d.shape[1], np.inf
    for temperature in scale * TEMPERATURES:
        log_p = log_softmax(-d / temperature, 1)
        targets = np.full(d.shape, smooth / (ways - 1))
        targets[np.arange(len(kept)), y[kept]] = 1 - smooth
        best = min(best, float(-(targets * log_p).sum(1).mean()))
    return best


@pytest.mark.parametrize("sizes", [[1, 2, 3, 6], [2, 2], [3, 1, 1]])
@pytest.mark.parametrize("rule", ["squared", "cosine", "ridge"])
def test_the_loss_of_all_and_the_new_one_is_that_of_fitting_anew(rule: str, sizes: list[int]) -> None:
    random = np.random.default_rng(len(sizes))
    x, y, _ = clusters(random, sizes)
    z, ways = random.normal(size=(3, 5)), len(sizes)
    head, _ = fit_head(rule, x, y, ways)
    found = judge(head, z)
    for q in range(3):
        for c in range(ways):
            every, labels = np.vstack([x, z[q]]), np.append(y, c)
            assert found.loss[q, c] == pytest.approx(plain_loss(rule, every, labels), rel=1e-9)
            assert found.share[q, c] == pytest.approx((np.bincount(labels)[labels] > 1).mean())


def test_ranks_are_those_of_the_rule_that_is_best_with_the_new_one() -> None:
    """And symmetric: which of the examples is called new does not matter."""
    random = np.random.default_rng(5)
    x, y, _ = clusters(random, [4, 3, 5], spread=1.5)
    x *= random.uniform(0.3, 3, (len(x), 1))
    rules = ("ridge", "cosine", "squared")
    used = set()
    for i in range(len(x)):
        rest = np.delete(np.arange(len(x)), i)
        head, _ = fit_best(x[rest], y[rest], 3)
        assert isinstance(head, Chosen)
        ranks = chosen_ranks(head, x[i : i + 1])
        for c in range(3):
            labels = np.append(y[rest], c)
            every = np.vstack([x[rest], x[i]])
            best = rules[int(np.argmin([plain_loss(rule, every, labels) for rule in rules]))]
            used.add(best)
            scores = plain_scores(best, every, labels, 3)
            assert ranks.all[0, c] == (scores[:-1] >= scores[-1] - 1e-9).sum()
            assert ranks.own[0, c] == (scores[:-1] >= scores[-1] - 1e-9)[labels[:-1] == c].sum()
    assert len(used) > 1


def test_where_little_can_be_judged_the_first_stays_and_where_there_is_no_direction_the_last() -> None:
    x, y, _ = clusters(np.random.default_rng(0), [1, 1, 1, 1, 1, 1])
    head, _ = fit_best(x, y, 6)
    assert isinstance(head, Chosen)
    assert head.best == 0
    z = np.random.default_rng(1).normal(size=(2, 5))
    np.testing.assert_array_equal(p_values(head, z).overall, p_values(head.rules[0], z).overall)
    x, y, _ = clusters(np.random.default_rng(0), [4, 4])
    head, _ = fit_best(x, y, 2)
    assert isinstance(head, Chosen)
    zero = np.zeros((1, 5))
    np.testing.assert_array_equal(p_values(head, zero).overall, p_values(head.rules[-1], zero).overall)


@pytest.mark.parametrize("case", ["many", "one class", "zeros"])
def test_without_a_choice(case: str) -> None:
    sizes = {"many": [2] * 150, "one class": [4], "zeros": [3, 3]}[case]
    x, y, _ = clusters(np.random.default_rng(0), sizes)
    if case == "zeros":
        x[2] = 0
    assert case != "many" or len(x) * len(sizes) > LARGEST
    head, _ = fit_best(x, y, len(sizes))
    assert isinstance(head, NearestMean)
    assert head.metric == "squared"


def drawn(random: np.random.Generator, ways: int = 4, n: int = 25) -> tuple[Floats, Integers, Floats, int]:
    """A task of exchangeable examples and one thing to ask, of one of three kinds that suit different rules."""
    kind = random.integers(3)
    centers = random.normal(size=(ways, 6)) * (1.5 if kind else 0.8)
    y = np.concatenate([np.arange(ways), random.integers(0, ways, n - ways + 1)])
    y[ways:] = random.permutation(y[ways:])
    noise = random.normal(size=(n + 1, 6)) * (1 if kind else np.array([0.1, 0.1, 1, 1, 2, 3]))
    x = (centers[y] + noise) * (random.uniform(0.2, 4, (n + 1, 1)) if kind == 2 else 1)
    return x[:-1], y[:-1], x[-1:], int(y[-1])


def test_coverage_after_the_choice() -> None:
    """To binomial accuracy, one thing asked in each task. Twice as many: `benchmarks.heads coverage`."""
    random, inside, tasks = np.random.default_rng(11), {0.1: 0, 0.2: 0}, 1000
    for _ in range(tasks):
        x, y, z, label = drawn(random)
        p = p_values(Chosen(tuple(fit(rule, x, y, 4) for rule in FAMILY), 0), z)
        for epsilon in inside:
            inside[epsilon] += bool(candidates(p, np.bincount(y), epsilon, each_class=False)[0, label])
    for epsilon, count in inside.items():
        assert binom.cdf(count, tasks, 1 - epsilon) > 1e-3
        assert count / tasks < 1 - epsilon / 2


def test_coverage_after_the_choice_on_digits() -> None:
    data, labels = load_digits(return_X_y=True)
    random, inside, tasks = np.random.default_rng(2), 0, 300
    for _ in range(tasks):
        classes = random.choice(10, 5, replace=False)
        rows = random.permutation(np.flatnonzero(np.isin(labels, classes)))[:41]
        y = np.searchsorted(np.sort(classes), labels[rows])
        assert len(np.unique(y[:-1])) == 5
        p = p_values(Chosen(tuple(fit(rule, data[rows[:-1]], y[:-1], 5) for rule in FAMILY), 0), data[rows[-1:]])
        inside += bool(candidates(p, np.bincount(y[:-1], minlength=5), 0.1, each_class=False)[0, y[-1]])
    assert binom.cdf(inside, tasks, 0.9) > 1e-3


# Names


@pytest.mark.parametrize("rule", NAMED, ids=str)
def test_a_name_counts_as_so_many_examples(rule: tuple[str, float]) -> None:
    """And classes without examples have their names only."""
    random = np.random.default_rng(3)
    x, y, _ = clusters(random, [3, 0, 1, 4])
    names, z = random.normal(size=(4, 5)), random.normal(size=(4, 5))
    unit = names / np.linalg.norm(names, axis=1, keepdims=True)
    kind, weight = rule
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    state, _ = fit_named(x, y, names)
    one = state.rules[NAMED.index(rule)]
    assert isinstance(one, RidgeMargin if kind == "ridge" else NearestMean)
    expected = [plain_distances(kind, units, y, thing, unit, weight) for thing in z]
    np.testing.assert_allclose(strangeness(one, z), expected, atol=1e-9)
    p, judged = p_values(one, z), judge(one, z)
    for q, thing in enumerate(z):
        for c in range(4):
            every, labels = np.vstack([units, thing / np.linalg.norm(thing)]), np.append(y, c)
            scores = []
            for i in range(len(every)):
                rest = np.delete(np.arange(len(every)), i)
                d = plain_distances(kind, every[rest], labels[rest], every[i], unit, weight)
                own, other = d[labels[i]], np.delete(d, labels[i]).min()
                scores.append(own - other if kind == "ridge" else own / np.sqrt(other))
            strange = np.array(scores) >= scores[-1] - 1e-9
            assert p.overall[q, c] == pytest.approx(strange.mean())
            assert p.own[q, c] == pytest.approx(strange[labels == c].mean())
            assert judged.loss[q, c] == pytest.approx(plain_loss(kind, every, labels, unit, weight), rel=1e-9)


def test_names_alone_answer_and_rule_nothing_out() -> None:
    names = np.eye(3)
    state, calibration = fit_named(np.empty((0, 3)), np.empty(0, np.int64), names)
    assert calibration.examples == 0
    z = np.array([[0.1, 2.0, 0.0], [0.0, 0.0, 1.0]])
    assert strangeness(state, z).argmin(1).tolist() == [1, 2]
    assert (p_values(state, z).overall == 1).all()


def test_with_many_examples_names_hardly_matter_and_bad_names_less() -> None:
    random = np.random.default_rng(0)
    x, y, centers = clusters(random, [30, 30, 30], features=8, spread=0.7)
    z = centers[y] + 0.7 * random.normal(size=x.shape)
    bad = np.roll(centers, 1, 0)
    state, _ = fit_named(x, y, bad)
    alone, _ = fit_head("cosine", x, y, 3)
    agree = strangeness(state, z).argmin(1) == strangeness(alone, z).argmin(1)
    assert agree.mean() > 0.95
    few = np.concatenate([np.flatnonzero(y == k)[:2] for k in range(3)])
    good, _ = fit_named(x[few], y[few], centers)
    misled, _ = fit_named(x[few], y[few], bad)
    accuracy = [(strangeness(one, z).argmin(1) == y).mean() for one in (good, misled)]
    assert min(accuracy) > 0.9  # bad names are found out by two examples of each class
    trusting = _knowing(x[few], y[few], bad, "cosine", 4.0)
    assert (strangeness(trusting, z).argmin(1) == y).mean() < 0.8
