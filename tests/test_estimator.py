from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import binom
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from handful.errors import CheckpointError, DataError, ShapeError, UnknownNameError
from handful.estimator import FewShotClassifier, FewShotRegressor
from handful.ops.heads import HEADS

ESTIMATORS = [
    FewShotClassifier(),
    FewShotClassifier(head="cosine"),
    FewShotClassifier(head="ridge"),
    FewShotClassifier(head="auto"),
    FewShotRegressor(),
]
TEXTS = ["turn on the light", "switch the lights off", "lamp off please", "play a song", "play music", "stop the song"]
LABELS = ["light", "light", "light", "music", "music", "music"]


@parametrize_with_checks(ESTIMATORS)  # type: ignore[untyped-decorator]
def test_scikit_learn_accepts_it(estimator, check) -> None:
    if "array_api" in check.func.__name__:  # asks for a setting that SciPy reads when it is imported
        code = (
            "from handful.estimator import *; from sklearn.utils.estimator_checks import estimator_checks_generator\n"
            f"for one, check in estimator_checks_generator({estimator!r}):\n"
            f"    if check.func.__name__ == {check.func.__name__!r}: check(one); print('passed')"
        )
        environment = os.environ | {"SCIPY_ARRAY_API": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, set(done.stdout.split())) == (0, {"passed"}), done.stderr
    else:
        check(estimator)


@pytest.mark.parametrize("head", ["squared", "cosine", "ridge", "auto"])
def test_iris(head: str) -> None:
    x, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), FewShotClassifier(head=head))
    assert cross_val_score(model, x, y).mean() > 0.8
    found = GridSearchCV(FewShotClassifier(), {"head": ["squared", "cosine"]}, cv=3).fit(x, y)
    assert found.best_score_ > 0.9


@pytest.mark.parametrize("head", ["squared", "cosine", "ridge", "auto"])
def test_sets_hold_the_true_class_as_promised(head: str) -> None:
    """Digits, drawn at random and so exchangeable: one question a draw keeps trials independent."""
    x, y = load_digits(return_X_y=True)
    random, inside = np.random.default_rng(0), 0
    for _ in range(200):
        rows = random.choice(len(x), 41, replace=False)
        model = FewShotClassifier(head=head).fit(x[rows[:40]], y[rows[:40]])
        known = model.classes_ == y[rows[40]]
        inside += bool(model.predict_set(x[rows[40:]])[0, known].any())
    assert binom.cdf(inside, 200, 0.88) > 1e-3  # 0.9 less the chance of a class that no example shows, about 0.015


def test_auto_answers_by_the_head_that_judges_the_examples_best() -> None:
    """A weight is so many copies, also in the choice."""
    random, chosen = np.random.default_rng(0), set()
    for _ in range(20):
        x, y = random.normal(size=(12, 3)), np.arange(12) % 3
        x += np.eye(3)[y] * random.uniform(0, 3)
        weight = random.integers(0, 4, 12) + (np.arange(12) < 3)
        model = FewShotClassifier(head="auto").fit(x, y, sample_weight=weight)
        copied = FewShotClassifier(head="auto").fit(np.repeat(x, weight, 0), np.repeat(y, weight))
        np.testing.assert_allclose(model.predict_proba(x), copied.predict_proba(x))
        heads = {head: FewShotClassifier(head=head).fit(x, y, sample_weight=weight) for head in HEADS}
        best = min(heads, key=lambda head: heads[head].calibration_.log_loss)
        chosen.add(best)
        np.testing.assert_array_equal(model.predict_proba(x), heads[best].predict_proba(x))
    assert len(chosen) > 1


def test_texts() -> None:
    model = FewShotClassifier(encoder="ngrams").fit(TEXTS, LABELS)
    assert model.predict(["light off", "a song please"]).tolist() == ["light", "music"]
    assert model.predict_proba(TEXTS).shape == (6, 2)
    assert model.predict_set(["light off"]).all()  # six examples promise nothing at 90%
    assert clone(model).encoder == "ngrams"


def test_an_interval_is_the_plain_jackknife_plus() -> None:
    random = np.random.default_rng(0)
    x, z = random.normal(size=(12, 3)), random.normal(size=(4, 3))
    y = x @ [1, 2, 3] + random.normal(size=12)
    lower, upper = FewShotRegressor().fit(x, y).predict_interval(z, 0.2)
    ends = []
    for i in range(12):
        rest = np.arange(12) != i
        without = FewShotRegressor().fit(x[rest], y[rest])
        error = abs(y[i] - without.predict(x[i : i + 1])[0])
        ends.append((without.predict(z) - error, without.predict(z) + error))
    low, high = (np.sort(np.array([end[side] for end in ends]), 0) for side in (0, 1))
    np.testing.assert_allclose(lower, low[1])  # 2 = ⌊0.2 · 13⌋
    np.testing.assert_allclose(upper, high[10])  # 11 = ⌈0.8 · 13⌉
    for few in (8, 1):
        assert np.isinf(FewShotRegressor().fit(x[:few], y[:few]).predict_interval(z)).all()
    assert np.isinf(FewShotRegressor().fit(x[:1], y[:1]).predict_interval(z, 0.5)).all()


def test_intervals_hold_the_value() -> None:
    random, inside = np.random.default_rng(0), 0
    for _ in range(300):
        x = random.normal(size=(26, 4))
        y = np.sin(x[:, 0]) + x[:, 1] + random.normal(size=26)
        lower, upper = FewShotRegressor().fit(x[:25], y[:25]).predict_interval(x[25:])
        inside += int(lower[0] <= y[25] <= upper[0])
    assert binom.cdf(inside, 300, 0.8) > 1e-3  # promised
    assert inside / 300 > 0.86  # usual


@pytest.mark.parametrize("weights", [None, [1.0, 2, 1, 0.5, 1, 1]])
@pytest.mark.parametrize(
    "model",
    [
        FewShotClassifier(encoder="ngrams"),
        FewShotClassifier(encoder="ngrams", head="auto"),
        FewShotClassifier(head="ridge"),
        FewShotClassifier(),
        FewShotRegressor(),
    ],
    ids=["texts", "auto", "ridge", "squared", "regressor"],
)
def test_saved_and_loaded(model, weights, tmp_path: Path) -> None:
    x = TEXTS if getattr(model, "encoder", None) else np.arange(18.0).reshape(6, 3) % 7
    y = np.arange(6.0) if isinstance(model, FewShotRegressor) else LABELS
    model = clone(model).fit(x, y, sample_weight=weights)
    model.save(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"estimator.json", "examples.safetensors"}
    again = type(model).load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.get_params() == model.get_params()
    if not isinstance(model, FewShotRegressor):
        np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    model = FewShotClassifier().fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    model.save(tmp_path / "model")
    with pytest.raises(CheckpointError, match="holds a FewShotClassifier"):
        FewShotRegressor.load(tmp_path / "model")
    about = json.loads((tmp_path / "model" / "estimator.json").read_text())
    for change in ("{", json.dumps(about | {"format": 9}), json.dumps({**about, "dtype": "nonsense"}), "[]"):
        (tmp_path / "model" / "estimator.json").write_text(change)
        with pytest.raises(CheckpointError):
            FewShotClassifier.load(tmp_path / "model")


def test_mistakes() -> None:
    x, y = [[0.0], [1.0], [2.0]], [0, 1, 1]
    with pytest.raises(UnknownNameError, match="did you mean 'cosine'"):
        FewShotClassifier(head="cosin").fit(x, y)
    weighted = FewShotClassifier().fit(x, y, sample_weight=[1, 2, 1])
    with pytest.raises(DataError, match="fit without sample_weight"):
        weighted.predict_set(x)
    for epsilon in (0, 0.0001, 0.6, 1.5, float("nan"), "0.1", None):
        with pytest.raises(DataError, match=r"expected epsilon from 0\.001 to 0\.5"):
            FewShotClassifier(epsilon=epsilon).fit(x, y).predict_set(x)
        with pytest.raises(DataError, match=r"expected epsilon from 0\.001 to 0\.5"):
            FewShotRegressor(epsilon=epsilon).fit(x, y).predict_interval(x)
    with pytest.raises(DataError, match="got texts; set encoder='ngrams'"):
        FewShotClassifier().fit(TEXTS, LABELS)
    with pytest.raises(ValueError, match="could not convert") as caught:
        FewShotClassifier().fit([["1", "red"], ["2", "blue"]], [0, 1])  # a column of texts is not a text
    assert not isinstance(caught.value, DataError)
    for strength in (0, float("nan"), float("inf"), "1", None):
        with pytest.raises(DataError, match="strength: expected a number above 0"):
            FewShotRegressor(strength=strength).fit(x, y)
    with pytest.raises(DataError, match=r"encoder: expected a name .*got 5"):
        FewShotClassifier(encoder=5).fit(TEXTS, LABELS)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="expected a text"):
        FewShotClassifier(encoder="ngrams").fit(["..."], ["a"])


def test_sparse_is_dense() -> None:
    x, y = load_digits(return_X_y=True)
    dense, sparse = FewShotClassifier().fit(x[:50], y[:50]), FewShotClassifier().fit(csr_matrix(x[:50]), y[:50])
    np.testing.assert_array_equal(dense.predict_proba(x[50:60]), sparse.predict_proba(csr_matrix(x[50:60])))


def test_one_column_of_texts_is_texts() -> None:
    frame, labels = pd.DataFrame({"text": TEXTS}), np.array(LABELS)
    expected = FewShotClassifier(encoder="ngrams").fit(TEXTS, LABELS).predict(TEXTS).tolist()
    with pytest.warns(DataConversionWarning):
        column = FewShotClassifier(encoder="ngrams").fit(frame, labels[:, None])
    for x in (frame, frame["text"], frame.to_numpy(), np.array(TEXTS), TEXTS):
        assert column.predict(x).tolist() == expected
    for wrong in (frame.assign(more="x"), np.array(TEXTS).reshape(3, 2), np.array(TEXTS).reshape(6, 1, 1)):
        with pytest.raises(ShapeError, match="or one column, of texts"):
            column.predict(wrong)
    with pytest.raises(DataError, match="put it in a list"):
        column.predict("light")


def test_an_answer_for_each_row(tmp_path: Path) -> None:
    model = FewShotClassifier(encoder="ngrams").fit(TEXTS, LABELS)
    (tmp_path / "more.csv").write_text("text\nlight\nmusic\n")
    with pytest.raises(DataError, match="in each of 1 rows, got 2 in files"):
        model.predict([str(tmp_path / "more.csv")])


@pytest.mark.parametrize(("encoder", "x"), [("ngrams", TEXTS), (None, np.eye(6))])
def test_no_label(encoder: str | None, x: Any) -> None:
    with pytest.raises(DataError, match="expected a label for each example, got None"):
        FewShotClassifier(encoder=encoder).fit(x, [*LABELS[:5], None])


@pytest.mark.parametrize("model", [FewShotClassifier(), FewShotRegressor()])
@pytest.mark.parametrize(("dtype", "most"), [(np.float32, 1e20), (np.float64, 1e160)])
def test_values_too_large_to_compare(model: Any, dtype: type, most: float) -> None:
    x, y = np.array([[0, 1], [1, 0], [0.5, 1]], dtype), [0, 1, 0]
    with pytest.raises(DataError, match="too large to compare"):
        model.fit(x * dtype(most), y)
    with pytest.raises(DataError, match="too large to compare"):
        model.fit(x, y).predict(x * dtype(most))


def test_an_unreadable_picture_names_no_option_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"a\.png: not a picture .*convert or remove it$"):
        FewShotClassifier(encoder="gradients").fit([tmp_path / "a.png"] * 2, [0, 1])
