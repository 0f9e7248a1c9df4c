"""What an export holds, as a collection that cannot be changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from ..collection import Change, Collection, EncoderIdentity, Example, NewExample, Snapshot
from ..errors import CollectionError, DataError, StorageError
from ..files import alone, kept_folder, recover_folder, storage_errors
from ..ops.heads import HEADS
from ..ops.temperature import Calibration
from ..recognizer import Recognizer
from ..recognizer.about import About
from ..recognizer.descriptions import NAMES
from ..recognizer.fitting import AUTO
from .encoders import encoder_of

__all__ = ["FORMAT", "ExportedCollection", "open_export"]

FORMAT = 1
"""The newest layout that is understood."""


def open_export(folder: str | Path) -> Recognizer:
    """The recognizer that `handful export` wrote into a folder.

    Raises:
        CollectionError: no export there, damaged, or of a newer format.
        MissingExtraError: onnxruntime or tokenizers is not installed.
        StorageError: cannot be read.
    """
    folder = Path(folder)
    while True:
        before = _stamp(folder)
        try:
            found = _opened(folder)
        except (CollectionError, StorageError):
            if _stamp(folder) == before:
                raise
        else:
            if _stamp(folder) == before:  # or else another export took its place meanwhile
                return found


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Which export lies in a folder now."""
    try:
        about = (folder / "recognizer.json").stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns


def _opened(folder: Path) -> Recognizer:
    if not folder.is_dir() and kept_folder(folder).exists():  # being replaced, or left so
        with alone(folder):
            recover_folder(folder)
    about = _document(folder)
    try:
        for name, digest in about["files"].items():
            if Path(name).name != name or _digest(folder / name) != digest:
                raise CollectionError(f"{folder}: {name} is not what was exported; export it again")
        with storage_errors(folder, "read"):
            arrays = load_arrays((folder / "supports.safetensors").read_bytes())
        store = ExportedCollection(folder, about, arrays["vectors"], arrays["labels"])
        numbers: dict[str, Any] = {
            name: float("nan") if value is None else value for name, value in about["calibration"].items()
        }
        told = About(**about["encoder"]["about"])
        encoder = encoder_of(folder, about["preparation"], store.encoder, about["inputs"], told)
        return Recognizer(store, encoder, calibration=Calibration(**numbers))
    except (SafetensorError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise CollectionError(
            f"{folder}: recognizer.json does not say what it should ({error!r}); export again"
        ) from None


@final
class ExportedCollection(Collection):
    """One version of a collection, to be read only."""

    def __init__(
        self, folder: Path, about: Mapping[str, Any], vectors: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> None:
        self._folder, self._settings = folder, dict(about["settings"])
        if self._settings["head"] not in (*HEADS, AUTO, NAMES) or not 0 < self._settings["epsilon"] < 1:
            raise ValueError("head or epsilon")
        identity = about["encoder"]
        self._encoder = EncoderIdentity(identity["name"], identity["sha256"], identity["features"])
        examples = [
            Example(one["id"], about["classes"][label], one["source"], one["sha256"], one["added"], "")
            for one, label in zip(about["examples"], labels, strict=True)
        ]
        if vectors.shape != (len(examples), self._encoder.features):
            raise ValueError(f"vectors of shape {vectors.shape}")
        self._snapshot = Snapshot(int(about["version"]), tuple(examples), vectors)
        self._texts = {one["id"]: one.get("text") for one in about["examples"]}

    @property
    def place(self) -> str:
        """As `Collection.place`."""
        return str(self._folder)

    @property
    def encoder(self) -> EncoderIdentity:
        """As `Collection.encoder`."""
        return self._encoder

    @property
    def settings(self) -> Mapping[str, Any]:
        """As `Collection.settings`."""
        return dict(self._settings)

    @property
    def version(self) -> int:
        """As `Collection.version`."""
        return self._snapshot.version

    @property
    def labels(self) -> tuple[str, ...]:
        """As `Collection.labels`."""
        return self._snapshot.labels

    def find(self, sha256: str) -> Example | None:
        """As `Collection.find`."""
        return next((one for one in self._snapshot.examples if one.sha256 == sha256), None)

    def read(self, version: int | None = None, *, known: Snapshot | None = None) -> Snapshot:
        """As `Collection.read`; there is one version."""
        if version not in (None, self.version):
            raise DataError(f"{self.place}: an export holds one version, {self.version}; got {version}")
        return self._snapshot

    def preview(self, example: int) -> str | None:
        """As `Collection.preview`."""
        found: str | None = self._texts.get(example)
        return found

    def add(self, examples: Sequence[NewExample], *, action: str = "add", new: Container[str] = ()) -> int:
        """Refused, as every change is."""
        self._refuse()

    def remove(self, examples: Sequence[int]) -> int:
        """Refused."""
        self._refuse()

    def rename(self, label: str, new: str) -> int:
        """Refused."""
        self._refuse()

    def merge(self, labels: Sequence[str], into: str) -> int:
        """Refused."""
        self._refuse()

    def undo(self) -> int:
        """Refused."""
        self._refuse()

    def history(self) -> list[Change]:
        """None is kept."""
        return []

    def close(self) -> None:
        """There is nothing to let go of."""

    def _refuse(self) -> NoReturn:
        raise CollectionError(
            f"{self.place}: an export is read only; change the collection that it is of, and export again"
        )


def _document(folder: Path) -> dict[str, Any]:
    path = folder / "recognizer.json"
    with storage_errors(path, "read"):
        if not path.is_file():
            raise CollectionError(
                f"{folder}: no export there; handful export COLLECTION --onnx --to {folder} makes one"
            )
        content = path.read_bytes()
    try:
        found = json.loads(content)
        form = found["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CollectionError(f"{path}: damaged, or not written by Handful ({error}); export again") from None
    if not isinstance(form, int) or form > FORMAT:
        raise CollectionError(f"{path}: has format {form}, expected {FORMAT} or before; use a newer Handful")
    return dict(found)


def _digest(path: Path) -> str:
    with storage_errors(path, "read"), open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
