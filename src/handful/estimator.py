"""Handful for scikit-learn: a classifier with candidate sets, a regressor with intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .errors import CheckpointError, DataError, unknown_name
from .files import new_folder, storage_errors
from .ops.conformal import candidates, p_values
from .ops.head_choice import fit_best
from .ops.heads import HEADS, fit_head, strangeness
from .ops.jackknife import fit_ridge, jackknife_interval, ridge_values
from .ops.temperature import probabilities
from .recognizer.embedders import embedded, embedder_for
from .recognizer.fitting import AUTO
from .recognizer.in_memory import column
from .recognizer.inputs import asked

__all__ = ["FewShotClassifier", "FewShotRegressor"]

FORMAT = 1
Floats = NDArray[np.floating[Any]]


class _Saved(BaseEstimator):  # type: ignore[misc]
    """Fitting is a pure function of the examples, so that these are what is saved."""

    def save(self, folder: str | Path) -> None:
        """Write `estimator.json` and `examples.safetensors`; no pickle.

        Raises:
            StorageError: full disk, no permission; what was there before is still there.
            DataError: a parameter or a class is not a JSON value.
        """
        check_is_fitted(self)
        arrays = {name: np.ascontiguousarray(value) for name, value in self._examples.items() if value is not None}
        names = getattr(self, "feature_names_in_", None)
        about = {"format": FORMAT, "kind": type(self).__name__, "parameters": self.get_params(deep=False)}
        about |= {"features": None if names is None else names.tolist(), "width": self.n_features_in_, **self._more()}
        try:
            document = json.dumps(about, indent=2)
        except TypeError as error:
            raise DataError(f"save: expected parameters and classes that JSON can hold ({error})") from None
        with new_folder(folder) as temporary:
            (temporary / "estimator.json").write_text(document)
            (temporary / "examples.safetensors").write_bytes(save_arrays(arrays))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, and fit it again: the same answers.

        Raises:
            CheckpointError: nothing there, broken, or of another kind.
        """
        folder = Path(folder)
        try:
            with storage_errors(folder, "read"):
                about = json.loads((folder / "estimator.json").read_text())
                arrays = load_arrays((folder / "examples.safetensors").read_bytes())
            if about["kind"] != cls.__name__ or about["format"] > FORMAT:
                raise CheckpointError(
                    f"{folder}: holds a {about['kind']} in format {about['format']}; expected a {cls.__name__} in "
                    f"format {FORMAT} or before"
                )
            made = cls(**about["parameters"])
            if about["features"] is not None:
                made.feature_names_in_ = np.array(about["features"], dtype=object)
            made.n_features_in_ = about["width"]
            made._restore(about)
            made._learn(arrays["x"], arrays["y"], arrays.get("weight"))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder}: broken, or not written by Handful ({error})") from None
        return made

    def _more(self) -> dict[str, Any]:
        """What else to save, besides examples and parameters."""
        return {}

    def _restore(self, about: dict[str, Any]) -> None:
        """Take what `_more` gave."""

    def _learn(self, x: Floats, y: NDArray[Any], weight: Floats | None) -> None:
        """Fit numbers."""
        raise NotImplementedError

    def _promised(self, what: str, epsilon: Any) -> float:
        """ε of a promise, of the range that a recognizer takes.

        Raises:
            DataError: another one; or examples have weights.
        """
        if self._examples["weight"] is not None:
            raise DataError(f"{what}: a promise counts each example once; fit without sample_weight")
        epsilon = self.epsilon if epsilon is None else epsilon
        if not isinstance(epsilon, float | int | np.number) or not 0.001 <= epsilon <= 0.5:
            raise DataError(f"{what}: expected epsilon from 0.001 to 0.5, got {epsilon!r}")
        return float(epsilon)


class FewShotClassifier(ClassifierMixin, _Saved):  # type: ignore[misc]
    """Classes from a handful of examples each, with calibrated probabilities and candidate sets.

    Args:
        encoder: None for vectors; for texts "minilm", "intents" or "ngrams", for pictures' paths "characters", "photos"
            or "gradients"; "hf:NAME", or a checkpoint's folder, for what that takes. See docs/encoders.md.
        head: squared, cosine, ridge; or auto, the one of them that is best for the examples, which takes longer.
        epsilon: ε from 0.001 to 0.5, how often the true class may be missing in `predict_set`.
    """

    def __init__(self, encoder: str | None = None, head: str = "squared", epsilon: float = 0.1) -> None:
        self.encoder = encoder
        self.head = head
        self.epsilon = epsilon

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Learn from examples.

        Args:
            X: [n, features], dense, sparse or a DataFrame; with an encoder, texts or paths, in a list or one column.
            y: n labels.
            sample_weight: n numbers, as if an example were there so often.
        """
        if self.head not in (*HEADS, AUTO):
            raise unknown_name("head", self.head, [*HEADS, AUTO])
        if self.encoder is None:
            try:
                x, y = validate_data(self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32])
            except ValueError as error:
                if not _are_texts(X):
                    raise
                raise DataError(
                    "fit: expected numbers [n, features], got texts; set encoder='ngrams' or 'minilm' (of pictures' "
                    "paths 'photos')"
                ) from error
            x = _dense(x)
        else:
            check_consistent_length(X, y)
            y = column_or_1d(y, warn=True)
            x = self._embedded(X)
            self.n_features_in_ = x.shape[1]
        if any(label is None for label in np.asarray(y, dtype=object)):
            raise DataError(
                "fit: expected a label for each example, got None; leave out those whose class is not known"
            )
        check_classification_targets(y)
        x, y, weight = _counted(x, y, sample_weight)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._learn(x, labels, weight)
        return self

    def decision_function(self, X: ArrayLike) -> Floats:  # noqa: N803
        """Minus the distance to each class, [n, K]; of two classes how much nearer the second is, [n]."""
        z = self._checked(X)
        near = -strangeness(self._head, z)
        return near[:, 1] - near[:, 0] if len(self.classes_) == 2 else near

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """The nearest class of each."""
        z = self._checked(X)
        found: NDArray[Any] = self.classes_[strangeness(self._head, z).argmin(1)]
        return found

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """[n, K], calibrated on the examples, each judged without itself."""
        z = self._checked(X)
        return probabilities(strangeness(self._head, z), self.calibration_.temperature)

    def predict_set(self, X: ArrayLike, epsilon: float | None = None) -> NDArray[np.bool_]:  # noqa: N803
        """Candidates, [n, K] in the order of `classes_`: the true class is missing at most ε of the time.

        A row without a candidate is unlike every example. What this rests on: docs/guarantee.md.

        Raises:
            DataError: it was fitted with weights, for which nothing can be promised; ε is not from 0.001 to 0.5.
        """
        z = self._checked(X)
        share = self._promised("predict_set", epsilon)
        return candidates(p_values(self._head, z), np.bincount(self._head.y), share)

    def _learn(self, x: Floats, y: NDArray[np.int64], weight: Floats | None) -> None:
        self._examples = {"x": x, "y": y.astype(np.int64), "weight": weight}
        ways = len(self.classes_)
        if self.head == AUTO:
            self._head, self.calibration_ = fit_best(x, y, ways, weight)
        else:
            self._head, self.calibration_ = fit_head(self.head, x, y, ways, weight)

    def _checked(self, X: ArrayLike) -> Floats:  # noqa: N803
        check_is_fitted(self)
        if self.encoder is not None:
            return self._embedded(X)
        return _dense(validate_data(self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32]))

    def _embedded(self, X: Any) -> Floats:  # noqa: N803
        embedder = embedder_for(None, self.encoder, 0)
        given = X if embedder.kind == "vectors" else column(X)
        items = asked(embedder.kind, given)
        if len(items) != len(given):
            raise DataError(f"expected one of {embedder.kind} in each of {len(given)} rows, got {len(items)} in files")
        return np.stack([one.vector for one in embedded(embedder, items, self.head, skippable=False)])

    def _more(self) -> dict[str, Any]:
        return {"classes": self.classes_.tolist(), "dtype": self.classes_.dtype.str}

    def _restore(self, about: dict[str, Any]) -> None:
        self.classes_ = np.array(about["classes"], dtype=about["dtype"])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.encoder is None
        tags.input_tags.string = self.encoder is not None
        return tags


class FewShotRegressor(RegressorMixin, _Saved):  # type: ignore[misc]
    """Ridge regression from a handful of examples, with intervals for single values.

    Args:
        strength: λ > 0, the penalty on the weights.
        epsilon: ε of `predict_interval`, from 0.001 to 0.5.
    """

    def __init__(self, strength: float = 1.0, epsilon: float = 0.1) -> None:
        self.strength = strength
        self.epsilon = epsilon

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Learn from examples: X [n, features], dense, sparse or a DataFrame; y [n] numbers; weights as copies."""
        if not isinstance(self.strength, float | int | np.number) or not 0 < self.strength < np.inf:
            raise DataError(f"strength: expected a number above 0, got {self.strength!r}")
        x, y = validate_data(self, X, y, accept_sparse="csr", y_numeric=True, dtype=[np.float64, np.float32])
        x, y, weight = _counted(_dense(x), y, sample_weight)
        self._learn(x, np.asarray(y, np.float64), weight)
        return self

    def predict(self, X: ArrayLike) -> Floats:  # noqa: N803
        """[n] values."""
        z = self._checked(X)
        return ridge_values(self._fit, z)

    def predict_interval(self, X: ArrayLike, epsilon: float | None = None) -> tuple[Floats, Floats]:  # noqa: N803
        """Lower and upper ends, which hold the true value at least 1 − 2ε of the time, and usually about 1 − ε.

        Raises:
            DataError: it was fitted with weights, for which nothing can be promised; ε is not from 0.001 to 0.5.
        """
        z = self._checked(X)
        return jackknife_interval(self._fit, z, self._promised("predict_interval", epsilon))

    def _learn(self, x: Floats, y: Floats, weight: Floats | None) -> None:
        self._examples = {"x": x, "y": y, "weight": weight}
        self._fit = fit_ridge(x, y, self.strength, weight)

    def _checked(self, X: ArrayLike) -> Floats:  # noqa: N803
        check_is_fitted(self)
        return _dense(validate_data(self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32]))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _are_texts(x: Any) -> bool:
    """Whether it is a plain sequence of texts."""
    values = np.asarray(x, dtype=object)
    return values.ndim == 1 and all(isinstance(value, str) for value in values)


def _dense(x: Any) -> Floats:
    """As a dense array. Raises DataError if distances between such examples were infinite."""
    found: Floats = x.toarray() if hasattr(x, "toarray") else x
    with np.errstate(over="ignore"):
        longest = np.einsum("nf,nf->n", found, found).max(initial=0)
    if longest > np.finfo(found.dtype).max / 32:
        raise DataError(f"expected smaller values: of {found.dtype} these are too large to compare; scale them down")
    return found


def _counted(x: Floats, y: Any, sample_weight: ArrayLike | None) -> tuple[Floats, Any, Floats | None]:
    """Examples with their weights, if there are any; those of weight zero count as not there."""
    if sample_weight is None:
        return x, y, None
    weight = _check_sample_weight(sample_weight, x, ensure_non_negative=True)
    there = weight > 0
    return x[there], np.asarray(y)[there], weight[there]
