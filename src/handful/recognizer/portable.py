"""What can leave: an encoder as a graph that onnxruntime runs, with what must be done before it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from ..errors import DataError, MissingExtraError
from ..ops.heads import Linear

__all__ = ["INPUTS", "Portable", "write_graph"]

LARGEST = 1_500_000_000
"""Bytes of weights that one ONNX file holds; beyond that they stand beside it."""
CLOSE = 1e-4
LEAST_TORCH = (2, 10)
"""Exporters before made graphs of fixed sizes, or none, of some encoders."""

Axes = Mapping[int, str]
INPUTS: dict[str, dict[str, Axes]] = {
    "pictures": {"pictures": {0: "n"}},
    "vectors": {"vectors": {0: "n"}},
    "molecules": {"molecules": {0: "n"}},
    "texts": {"input_ids": {0: "n", 1: "length"}, "attention_mask": {0: "n", 1: "length"}},
}
"""Of each kind of examples the graph's inputs, and which of their axes may be of any length."""


class Portable(NamedTuple):
    """An encoder that can be exported.

    Attributes:
        module: from the inputs of its kind (`INPUTS`) to vectors [n, F].
        samples: inputs to trace and to check it with, two examples or more.
        preparation: JSON values: what makes these inputs from an example.
        files: what that needs besides, by name.
    """

    module: nn.Module
    samples: tuple[Tensor, ...]
    preparation: Mapping[str, Any]
    files: Mapping[str, bytes] = {}


@final
class _Answering(nn.Module):
    """An encoder and a head; that in double precision, since its sums cancel."""

    w: Tensor
    b: Tensor
    center: Tensor

    def __init__(self, encoder: nn.Module, head: Linear) -> None:
        super().__init__()
        self.encoder, self.unit = encoder, head.unit
        for name in ("w", "b", "center"):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(getattr(head, name), np.float64)))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [n, F] and probabilities [n, K]."""
        vectors = self.encoder(*inputs).clone()  # an input that is an output as well would take its name
        return vectors, self.answered(vectors)

    def answered(self, vectors: Tensor) -> Tensor:
        """Probabilities [n, K] of vectors [n, F]."""
        z = F.normalize(vectors.double()) if self.unit else vectors.double()
        return ((z - self.center) @ self.w + self.b).softmax(1).float()


def write_graph(kind: str, portable: Portable, head: Linear, path: Path) -> None:
    """An ONNX file: inputs of the kind -> features [n, F], probabilities [n, K].

    Raises:
        MissingExtraError: the extra `onnx` is not installed, or torch is older than 2.10.
        DataError: torch cannot export the encoder, or the graph does not do what it does.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"export needs {', '.join(missing)}: pip install 'handful[onnx]'")
    if tuple(map(int, torch.__version__.split(".")[:2])) < LEAST_TORCH:
        raise MissingExtraError(f"export needs torch 2.10, this is {torch.__version__}: pip install --upgrade torch")
    module = _Answering(portable.module, head).eval()
    inputs = INPUTS[kind]
    names = {name for axes in inputs.values() for name in axes.values()}
    free = {
        name: Dim(name, max=int(portable.preparation.get("longest", 1 << 20))) if name != "n" else Dim(name)
        for name in names
    }
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module,
                portable.samples,
                dynamo=True,
                input_names=list(inputs),
                output_names=["features", "probabilities"],
                dynamic_shapes=(tuple({at: free[name] for at, name in axes.items()} for axes in inputs.values()),),
                verbose=False,
            )
    except Exception as error:  # whatever stops torch's exporter
        raise DataError(f"export: torch cannot make a graph of this encoder ({_first_line(error)})") from error
    assert program is not None
    bytes_of = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    program.save(str(path), external_data=bytes_of > LARGEST)
    _check(module, portable.samples, list(inputs), path)


def _check(module: _Answering, samples: tuple[Tensor, ...], names: list[str], path: Path) -> None:
    """That the graph does the same, for one example, too."""
    import onnxruntime

    model = str(path) if str(path).isprintable() else path.read_bytes()  # a name may be no UTF-8
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for count in (len(samples[0]), 1):
        some = [sample[:count] for sample in samples]
        found = session.run(None, dict(zip(names, (value.numpy() for value in some), strict=True)))
        with torch.no_grad():  # probabilities of the graph's own vectors: a steep head would enlarge their rounding
            expected = [module.encoder(*some).numpy(), module.answered(torch.from_numpy(found[0])).numpy()]
        for one, other in zip(expected, found, strict=True):
            apart = float(np.abs(one - other).max() / max(1.0, float(np.abs(one).max())))
            if not apart <= CLOSE:
                raise DataError(f"export: the graph gives other numbers than the encoder, {apart:.1e} apart")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says to its developers."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _first_line(error: BaseException) -> str:
    """The reason below what torch's exporter wraps around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error) or type(error).__name__).splitlines()[0][:300]
