"""Encoders as graphs that onnxruntime runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from ..collection import EncoderIdentity
from ..errors import CollectionError, MissingExtraError, ShapeError
from ..pictures import Form
from ..recognizer.about import About
from ..recognizer.built_in import GivenVectors
from ..recognizer.embedders import BUILT_IN, Embedder
from ..recognizer.molecules import TrainedMolecules

__all__ = ["encoder_of"]

Vectors = NDArray[np.float32]
BATCH = 64


def encoder_of(
    folder: Path,
    preparation: Mapping[str, Any],
    identity: EncoderIdentity,
    inputs: Sequence[str],
    about: About | None = None,
) -> Embedder:
    """The encoder of an export, which knows what it was trained on.

    Raises:
        CollectionError: made by another version of a built-in encoder; a graph that cannot be read.
        MissingExtraError: onnxruntime or tokenizers is not installed.
    """
    if identity.name == "vectors":
        return GivenVectors(identity.features)
    name = preparation["built_in"]
    if name is not None:
        found = BUILT_IN[name]()
        identity.refuse(found.identity, str(folder))
        return found
    if preparation["kind"] == "texts":
        return TextGraph(folder, preparation, identity, inputs, about)
    graph = Graph(folder, preparation, identity, inputs, about)
    if graph.kind == "molecules":
        return TrainedMolecules(graph, preparation["features"], preparation["atoms"], identity)
    return graph


def _session(folder: Path) -> Any:
    if find_spec("onnxruntime") is None:
        raise MissingExtraError("an export needs onnxruntime: pip install 'handful[runtime]'")
    import onnxruntime

    path = folder / "model.onnx"
    try:
        model = str(path) if str(path).isprintable() else path.read_bytes()  # a name may be no UTF-8
        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:  # of classes that onnxruntime does not name
        raise CollectionError(f"{folder}: onnxruntime cannot run model.onnx ({str(error)[:300]})") from error


class _Exported:
    """A graph from inputs of its kind to vectors [n, F]; arguments as `encoder_of`."""

    exported = True  # keeps no vectors in the cache

    def __init__(
        self,
        folder: Path,
        preparation: Mapping[str, Any],
        identity: EncoderIdentity,
        inputs: Sequence[str],
        about: About | None,
    ) -> None:
        self.kind, self.identity, self.about = str(preparation["kind"]), identity, about
        self.form = _form(preparation)
        self._session, self._inputs = _session(folder), tuple(inputs)

    def _run(self, *values: NDArray[Any]) -> Vectors:
        given = dict(zip(self._inputs, values, strict=True))
        vectors: Vectors = self._session.run(["features"], given)[0]
        return vectors


@final
class Graph(_Exported):
    """Of pictures, of vectors that become others, or of features of molecules."""

    def embed(self, contents: Sequence[NDArray[Any]]) -> Vectors:
        """[n, F], of pictures of its form or vectors of its length."""
        shape = tuple(self._session.get_inputs()[0].shape[1:])
        found = []
        for start in range(0, len(contents), BATCH):
            x = np.stack(contents[start : start + BATCH])
            if x.shape[1:] != shape:
                raise ShapeError(f"encoder: expected examples of shape {shape}, got {x.shape[1:]}")
            found.append(self._run(x))
        return np.concatenate(found)


@final
class TextGraph(_Exported):
    """Of texts, whose word pieces a recorded tokenizer numbers."""

    def __init__(self, folder: Path, preparation: Mapping[str, Any], *others: Any) -> None:
        if find_spec("tokenizers") is None:
            raise MissingExtraError("an export of texts needs tokenizers: pip install 'handful[runtime]'")
        from tokenizers import Tokenizer

        super().__init__(folder, preparation, *others)
        self._before, self._lower = str(preparation["before"]), bool(preparation["lower"])
        self._tokenizer = Tokenizer.from_buffer((folder / "tokenizer.json").read_bytes())
        self._tokenizer.enable_truncation(int(preparation["longest"]), direction=str(preparation.get("cut", "right")))
        self._tokenizer.enable_padding(pad_id=int(preparation["pad"]), pad_token=str(preparation["pad_token"]))

    def embed(self, contents: Sequence[str]) -> Vectors:
        """[n, F]."""
        order = sorted(range(len(contents)), key=lambda row: len(contents[row]))  # of like length together
        vectors = np.empty((len(contents), self.identity.features), np.float32)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            texts = [self._before + contents[row] for row in rows]
            coded = self._tokenizer.encode_batch([text.lower() for text in texts] if self._lower else texts)
            ids = np.array([one.ids for one in coded], np.int64)
            vectors[rows] = self._run(ids, np.array([one.attention_mask for one in coded], np.int64))
        return vectors


def _form(preparation: Mapping[str, Any]) -> tuple[int, int, int] | Form | None:
    """Of pictures, as `Embedder.form`."""
    fit, form = preparation.get("fit"), preparation.get("form")
    if isinstance(fit, list):  # what a pretrained encoder wants, exactly
        height, width, channels, way, resample, resize = fit
        return Form(height, width, channels, way, resample, tuple(resize) if isinstance(resize, list) else resize)
    return None if form is None else (int(form[0]), int(form[1]), int(form[2]))
