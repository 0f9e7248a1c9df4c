import pytest
import torch

from handful.ops.calibration import expected_calibration_error, interval_coverage

pytestmark = pytest.mark.usefixtures("float64")


def test_by_hand() -> None:
    """Three answers at 0.9, two of them right, and one at 0.6, right: 3/4·|0.9 − 2/3| + 1/4·|0.6 − 1|."""
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.6, 0.4]])
    y = torch.tensor([0, 1, 1, 0])
    assert float(expected_calibration_error(p.log(), y, bins=10)) == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.4)
    assert float(expected_calibration_error(p.log(), y, bins=1)) == pytest.approx(abs(3.3 / 4 - 3 / 4))


def test_sure_and_right_is_calibrated() -> None:
    logits = 100 * torch.eye(3).expand(4, 3, 3)
    assert float(expected_calibration_error(logits, torch.arange(3).expand(4, 3))) == 0


def test_coverage_of_samples_from_the_target_distribution() -> None:
    members, y = torch.randn(10, 400, 50, 1), torch.randn(10, 50, 1)
    assert float(interval_coverage(members, y, level=0.8)) == pytest.approx(0.8, abs=0.06)
    assert float(interval_coverage(members, 100 + y)) == 0
