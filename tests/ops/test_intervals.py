import math

import numpy as np
import pytest
import scipy.stats

from handful.ops.intervals import Mean, grouped_interval, mean_interval, median_interval, paired_difference


@pytest.mark.parametrize("n", [2, 3, 30, 600])
def test_student_interval_as_scipy_has_it(n: int) -> None:
    x = np.random.default_rng(n).normal(0.7, 0.1, n)
    low, high = scipy.stats.t.interval(0.95, n - 1, loc=x.mean(), scale=scipy.stats.sem(x))
    mean = mean_interval(x)
    assert mean.value == pytest.approx(x.mean())
    assert (mean.value - mean.ci95, mean.value + mean.ci95) == pytest.approx((low, high))


def test_two_values_by_hand() -> None:
    mean = mean_interval([0.0, 1.0])
    assert mean.value == 0.5
    assert mean.ci95 == pytest.approx(math.tan(math.pi * 0.475) * 0.5)  # Student with one degree is Cauchy


def test_many_values_are_the_fields_interval() -> None:
    x = np.random.default_rng(0).random(10_000)
    assert mean_interval(x).ci95 == pytest.approx(1.96 * x.std(ddof=1) / 100, rel=1e-3)


def test_ninety_five_in_a_hundred_intervals_hold_the_truth() -> None:
    random = np.random.default_rng(0)
    held = [abs((mean := mean_interval(random.normal(3.0, 2.0, 5))).value - 3.0) <= mean.ci95 for _ in range(4000)]
    assert scipy.stats.binomtest(sum(held), len(held), 0.95).pvalue > 0.01


def test_few_values() -> None:
    single = mean_interval([0.25])
    assert single.value == 0.25
    assert math.isnan(single.ci95)
    assert mean_interval([2.0, 2.0]) == Mean(2.0, 0.0)
    assert mean_interval(np.array([0, 1, 1, 0], dtype=np.int8)).value == 0.5
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([])


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_has_no_interval_and_warns_nobody() -> None:
    bad = [1.0, math.inf]
    for found in (mean_interval(bad), grouped_interval([*bad, 2, 3], [0, 0, 1, 1], fixed=True)):
        assert found.value == math.inf
        assert math.isnan(found.ci95)
    assert math.isnan(paired_difference(bad, bad).value)


def test_shown_with_its_interval() -> None:
    assert str(Mean(0.98765, 0.0123)) == "0.9877 ± 0.012"


def test_paired_is_the_interval_of_the_differences() -> None:
    random = np.random.default_rng(0)
    hard = random.random(200)
    a, b = hard + random.normal(0.01, 0.01, 200), hard
    paired = paired_difference(a, b)
    assert paired == mean_interval(a - b)
    assert paired.value - paired.ci95 > 0
    assert paired.ci95 < mean_interval(a).ci95 / 5
    with pytest.raises(ValueError, match=r"same tasks, got \(200,\) and \(199,\)"):
        paired_difference(a, b[1:])


def test_the_interval_of_a_median_holds_it_often_enough() -> None:
    random = np.random.default_rng(0)
    found = [median_interval(random.exponential(size=30)) for _ in range(2000)]
    held = np.mean([low <= np.log(2) <= high for _, low, high in found])
    assert 0.95 <= held <= 0.98  # order statistics hold 95.7% here


def test_a_median_by_hand() -> None:
    assert median_interval([6, 1, 2, 5, 3, 4]) == (3.5, 1, 6)  # 1 − 2/2⁶ = 97%
    assert median_interval(range(1, 10)) == (5, 2, 8)  # 96.1%; 3 to 7 would be 82%
    few = median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert few.value == 3
    assert np.isnan(few.low)
    with pytest.raises(ValueError, match="at least one"):
        median_interval([])


def test_groups_that_are_a_sample_count_once_each() -> None:
    values, group = [1.0, 3.0, 5.0, 5.0, 9.0], [0, 0, 1, 1, 2]
    assert grouped_interval(values, group, fixed=False) == mean_interval([2.0, 5.0, 9.0])


def test_groups_that_are_all_there_are_vary_within_only() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        values = np.concatenate([random.normal(0, 1, 8), random.normal(100, 2, 12)])
        found = grouped_interval(values, [0] * 8 + [1] * 12, fixed=True)
        covered += abs(found.value - 50) <= found.ci95
    assert 0.92 < covered / 400 < 0.98
    assert found.ci95 < 2
    assert grouped_interval([1.0, 1.0, 2.0, 2.0], [0, 0, 1, 1], fixed=True) == Mean(1.5, 0.0)
    assert np.isnan(grouped_interval([1.0, 2.0], [0, 1], fixed=True).ci95)
