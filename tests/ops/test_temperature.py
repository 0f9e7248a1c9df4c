from __future__ import annotations

import numpy as np
import pytest

from handful.ops.temperature import calibrate, calibration_error, probabilities


def drawn(temperature: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Distances, and labels drawn with the probabilities that these stand for."""
    random = np.random.default_rng(0)
    distance = random.exponential(size=(n, 4)) * 3
    p = probabilities(distance, temperature)
    return distance, (p.cumsum(1) > random.random((n, 1))).argmax(1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    found = calibrate(*drawn(temperature))
    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.error < 0.03
    assert found.examples == 4000


def test_no_temperature_nearby_is_better() -> None:
    distance, y = drawn(1.0, 60)
    best = calibrate(distance, y).temperature

    def loss(t: float) -> float:  # with the smoothed targets that are minimized
        log = np.log(probabilities(distance, t))
        own = log[np.arange(60), y]
        return -float(np.mean((1 - 1 / 62) * own + 1 / 62 / 3 * (log.sum(1) - own)))

    assert loss(best) < min(loss(best * 1.01), loss(best * 0.99))


def test_a_handful_without_mistakes_is_not_certain() -> None:
    distance = np.where(np.eye(5, dtype=bool), 0.0, 10.0)
    found = calibrate(distance, np.arange(5))
    sure = probabilities(distance, found.temperature).max()
    assert found.accuracy == 1
    assert sure == pytest.approx(6 / 7, abs=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_all_right_is_exactly_one(weighted: bool) -> None:
    for n in range(2, 40):
        distance, y = np.where(np.arange(3) == np.arange(n)[:, None] % 3, 0.0, 1.0), np.arange(n) % 3
        weight = np.random.default_rng(n).uniform(0.1, 3, n) if weighted else None
        assert calibrate(distance, y, weight=weight).accuracy == 1.0


def test_a_weight_is_so_many_copies() -> None:
    distance, y = drawn(1.0, 30)
    weight = np.arange(30) % 3
    copied = np.repeat(np.arange(30), weight)
    weighted, plain = calibrate(distance, y, weight=weight), calibrate(distance[copied], y[copied])
    assert weighted.temperature == pytest.approx(plain.temperature)
    assert weighted[2:] == pytest.approx(plain[2:])


@pytest.mark.parametrize("shape", [(0, 3), (5, 1)])
def test_nothing_to_find_it_from(shape: tuple[int, int]) -> None:
    found = calibrate(np.ones(shape), np.zeros(shape[0], np.int64), guess=0.7)
    assert (found.temperature, found.examples) == (0.7, 0)
    assert calibrate(np.ones((4, 3)), np.zeros(4, np.int64), guess=0.7).temperature == 0.7


def test_labels_that_distances_say_nothing_of() -> None:
    distance = np.tile([[0.0, 1.0]], (40, 1))
    p = probabilities(distance, calibrate(distance, np.arange(40) % 2).temperature)
    np.testing.assert_allclose(p, 0.5, atol=1e-3)


def test_calibration_error() -> None:
    assert calibration_error(np.full(10, 0.95), np.ones(10, bool)) == pytest.approx(0.05)
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, False])) == pytest.approx(0.5)
