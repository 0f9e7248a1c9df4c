"""A recognizer in a folder of its own, for `handful.runtime`: no torch, no pickle, nothing to install but onnxruntime.

model.onnx            inputs -> features, probabilities
recognizer.json       all else: encoder, preparation, classes, ε, head, calibration, examples
supports.safetensors  the examples' vectors
CARD.md               the model card
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import nn

from ..collection import Collection
from ..errors import DataError, StorageError
from ..files import alone, new_folder, storage_errors
from ..ops.choosing import Chosen
from ..ops.heads import Linear, as_linear
from ..ops.nearest_mean import NearestMean
from ..ops.ridge_margin import RidgeMargin
from ..version import __version__
from .about import about
from .descriptions import NAMES
from .embedders import BUILT_IN, Embedder
from .fitting import closed_form
from .learned import Learned
from .portable import INPUTS, Portable, write_graph

__all__ = ["FORMAT", "export"]

FORMAT = 1
"""Version of the layout. A reader refuses a newer one."""


def export(
    learned: Learned, collection: Collection, embedder: Embedder, card: Callable[[], str], folder: Path, *, force: bool
) -> Path:
    """Write the folder, whole or not at all; see `Recognizer.export`."""
    if not isinstance(learned.head, NearestMean | RidgeMargin | Chosen):
        raise DataError(
            f"export: head {collection.settings['head']!r} adapts to the examples by torch, which an export does "
            "without; the heads auto, squared, cosine and ridge can be exported: "
            "handful teach SOURCE --to ANOTHER --with ENCODER --head squared"
        )
    portable, place = _portable(embedder), Path(os.path.realpath(folder))
    linear = as_linear(learned.head, learned.calibration.temperature)
    head = NAMES if collection.settings["head"] == NAMES else closed_form(learned.head)
    _check_place(place, folder, force)
    with alone(place):
        _check_place(place, folder, force)  # another process may have exported meanwhile
        with new_folder(place) as temporary:
            _fill(temporary, learned, linear, head, collection, embedder, portable, card)
    return folder


def _fill(
    folder: Path,
    learned: Learned,
    linear: Linear,
    head: str,
    collection: Collection,
    embedder: Embedder,
    portable: Portable,
    card: Callable[[], str],
) -> None:
    built_in = embedder.identity.name if embedder.identity.name in BUILT_IN else None
    kind, name = "vectors" if built_in else embedder.kind, _name(embedder)
    write_graph(kind, portable, linear, folder / "model.onnx")
    whole = collection.read(learned.snapshot.version)  # with what describes classes
    examples = whole.examples
    number = {label: index for index, label in enumerate(learned.names)}
    labels = np.array([number[one.label] for one in examples], np.int64)
    vectors = np.ascontiguousarray(whole.vectors)
    (folder / "supports.safetensors").write_bytes(save({"vectors": vectors, "labels": labels}))
    (folder / "CARD.md").write_text(card(), encoding="utf-8")
    for file, content in portable.files.items():
        (folder / file).write_bytes(content)
    document = {
        "format": FORMAT,
        "handful": __version__,
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": learned.snapshot.version,
        "encoder": {
            "name": name,
            "sha256": embedder.identity.sha256,
            "features": embedder.identity.features,
            "about": about(embedder)._asdict(),
        },
        "settings": dict(collection.settings) | {"encoder": name, "head": head},
        "preparation": {"kind": embedder.kind, "built_in": built_in, **portable.preparation},
        "inputs": list(INPUTS[kind]),
        "classes": list(learned.names),
        "calibration": _without_nan(learned.calibration._asdict()),
        "examples": [_example(collection, one) for one in examples],
        "files": {path.name: _digest(path) for path in sorted(folder.iterdir())},
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "recognizer.json").write_text(text, encoding="utf-8")


def _portable(embedder: Embedder) -> Portable:
    """Raises DataError if the encoder cannot be exported."""
    if embedder.identity.name in BUILT_IN or embedder.identity.name == "vectors":
        sample = torch.randn(2, embedder.identity.features, generator=torch.Generator().manual_seed(0))
        return Portable(nn.Identity(), (sample,), {"form": embedder.form} if embedder.form else {})
    made = getattr(embedder, "portable", None)
    if made is None:
        raise DataError(
            f"export: encoder {embedder.identity.name!r} cannot be exported; expected a checkpoint's encoder, "
            f"{', '.join(BUILT_IN)}, or given vectors"
        )
    found: Portable = made()
    return found


def _name(embedder: Embedder) -> str:
    """Of the encoder, without the folders above it; a checkpoint that is called as a built-in encoder is ./NAME."""
    whole = embedder.identity.name
    name = Path(whole).name
    return f"./{name}" if name != whole and name in ("vectors", *BUILT_IN) else name


def _check_place(place: Path, folder: Path, force: bool) -> None:
    """Raises StorageError unless an export may be written to a place, which is called `folder`."""
    with storage_errors(folder, "read"):
        there = place.exists()
        others = [] if not there else _others(place) if place.is_dir() else [place.name]
    if others:
        named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise StorageError(
            f"{folder}: holds other things ({named}), which an export would replace; name another folder: --to"
        )
    if there and not force:
        raise StorageError(f"{folder}: is there already; --force replaces an older export, --to names another folder")


def _others(place: Path) -> list[str]:
    """What a folder holds that no export wrote."""
    names = sorted(path.name for path in place.iterdir())
    try:
        about = json.loads((place / "recognizer.json").read_bytes())
        ours = {"recognizer.json", *about["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return names
    return [name for name in names if name not in ours]


def _example(collection: Collection, one: Any) -> dict[str, Any]:
    text = collection.preview(one.id)
    shown = {"id": one.id, "source": one.source, "sha256": one.sha256, "added": one.added}
    return shown | ({"text": text} if isinstance(text, str) else {})


def _without_nan(numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in numbers.items()}


def _digest(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
