"""Checkpoints: a folder of `spec.json`, `weights.safetensors` and, to go on training, `resume/`. No pickle.

Written whole or not at all (see `handful.files`), and read with every claim verified.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from .distributed import ALONE, Ranks
from .errors import CheckpointError, DataError, HandfulError, StorageError
from .files import kept_folder, new_folder, storage_errors
from .learner import Learner
from .spec import Spec, build
from .version import __version__

__all__ = ["FORMAT", "Checkpoint", "load_checkpoint", "save_checkpoint"]

FORMAT = 1
"""Version of the layout. A reader refuses a newer one."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained learner and where it comes from.

    Attributes:
        spec: what it was trained by.
        learner: the learner, with the saved weights.
        step: steps done.
        notes: JSON values kept with it (validation score, training seconds).
        optimizer: the optimizer's tensors as (parameter number, name), if saved to resume.
        selection: the state of the selection of tasks by name, if saved to resume.
    """

    spec: Spec
    learner: Learner
    step: int
    notes: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[tuple[int, str], Tensor] | None = None
    selection: Mapping[str, Tensor] | None = None

    def resume_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Give a fresh optimizer the saved state.

        Raises:
            CheckpointError: the checkpoint has none.
        """
        if self.optimizer is None:
            raise CheckpointError("this checkpoint holds no optimizer state, so training cannot go on from it")
        state: dict[int, dict[str, Tensor]] = {}
        for (number, name), tensor in self.optimizer.items():
            state.setdefault(number, {})[name] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_checkpoint(
    folder: str | Path,
    learner: Learner,
    spec: Spec,
    *,
    step: int,
    notes: Mapping[str, Any] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    selection: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint in place of what `folder` holds; with `optimizer` (and `selection`), one to resume from.

    Args:
        folder: made if need be, and replaced whole.
        learner: whose weights and buffers are kept.
        spec: what it was trained by, and is made again from.
        step: steps done.
        notes: JSON values to keep with it.
        optimizer: whose tensors are kept; None where nobody will go on from here.
        selection: the state of the selection of tasks, by name.

    Raises:
        StorageError: full disk, no permission; the old checkpoint is still there.
        DataError: the notes are not JSON values.
    """
    files = {"weights.safetensors": _packed(dict(learner.state_dict()))}
    if optimizer is not None:
        state = optimizer.state_dict()["state"]
        tensors = {f"{i}.{name}": value for i, entry in state.items() for name, value in entry.items()}
        files["resume/optimizer.safetensors"] = _packed(tensors)
    if selection is not None:
        files["resume/selection.safetensors"] = _packed(selection)
    about = {
        "format": FORMAT,
        "handful": __version__,
        "step": step,
        "notes": dict(notes or {}),
        "spec": spec.table(),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    try:
        document = json.dumps(about, indent=2, default=_plain) + "\n"
    except (TypeError, ValueError) as error:
        raise DataError(f"checkpoint: expected notes of JSON values, got {error}; convert them or leave out") from error
    with new_folder(folder) as temporary:
        for name, content in files.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_bytes(content)
        (temporary / "spec.json").write_text(document)


def load_checkpoint(folder: str | Path, *, ranks: Ranks = ALONE) -> Checkpoint:
    """Read a checkpoint; of many processes the first reads, and the others get it from there.

    Raises:
        CheckpointError: not a checkpoint, broken or cut short, or made by a newer Handful.
        StorageError: no permission to read.
    """
    folder = Path(folder)
    return _made(folder, ranks.send(_newest(folder) if ranks.first else []))


def _newest(folder: Path) -> list[bytes]:
    while True:
        before = _stamp(folder)
        try:
            return _read(folder if folder.exists() or before is None else kept_folder(folder))
        except (CheckpointError, StorageError):
            if _stamp(folder) == before:
                raise
            # a training run has replaced it meanwhile: read the new one


def _stamp(folder: Path) -> tuple[int, int] | None:
    """What changes when another checkpoint takes this place."""
    for place in (folder, kept_folder(folder)):
        try:
            about = place.stat()
        except OSError:
            continue
        return about.st_ino, about.st_mtime_ns
    return None


def _read(folder: Path) -> list[bytes]:
    """What is in it: first what it says of itself, then the files, in the order that this names them."""
    about = _about(folder)
    return [json.dumps(about).encode(), *(_verified(folder / name, digest) for name, digest in about["sha256"].items())]


def _made(folder: Path, content: list[bytes]) -> Checkpoint:
    about = json.loads(content[0])
    files = dict(zip(about["sha256"], content[1:], strict=True))
    try:
        spec = Spec.of(about["spec"])
        learner = build(spec)
        weights = _unpacked(folder, files["weights.safetensors"])
        kinds = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
        if len(kinds) == 1:  # a learner that was cast as a whole: `.double()`
            learner.to(kinds.pop())
        learner.load_state_dict(weights)
    except (HandfulError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{folder}: spec and weights do not make a learner of this version: {error}") from error
    optimizer = None
    if "resume/optimizer.safetensors" in files:
        tensors = _unpacked(folder, files["resume/optimizer.safetensors"])
        keys = {name: name.split(".", 1) for name in tensors}
        optimizer = {(int(number), key): tensors[name] for name, (number, key) in keys.items()}
    chosen = files.get("resume/selection.safetensors")
    selection = None if chosen is None else _unpacked(folder, chosen)
    return Checkpoint(spec, learner, about["step"], about["notes"], optimizer, selection)


def _about(folder: Path) -> dict[str, Any]:
    if not (folder / "spec.json").is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/spec.json")) if folder.is_dir() else []
        hint = f"; it holds the checkpoints {', '.join(inside)}: name one of them" if inside else ""
        raise CheckpointError(f"{folder}: expected a checkpoint folder with spec.json and weights.safetensors{hint}")
    try:
        with storage_errors(folder, "read"):
            about = json.loads((folder / "spec.json").read_text())
        version = about["format"]
        known = isinstance(about["sha256"]["weights.safetensors"], str) and isinstance(about["step"], int)
        known = known and isinstance(about["spec"], dict) and isinstance(about["notes"], dict)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError, RecursionError):
        raise CheckpointError(f"{folder / 'spec.json'}: broken, or not written by Handful") from None
    if not isinstance(version, int) or not known:
        raise CheckpointError(f"{folder / 'spec.json'}: broken, or not written by Handful")
    if version > FORMAT:
        raise CheckpointError(
            f"{folder}: written in format {version} by Handful {about.get('handful')}; "
            f"this is {__version__}, which reads up to format {FORMAT}: upgrade Handful"
        )
    return about  # type: ignore[no-any-return]


def _verified(path: Path, digest: str) -> bytes:
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; the checkpoint is incomplete: use another one")
    with storage_errors(path, "read"):
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(
            f"{path}: its {len(content)} bytes are not those that were written (cut short or changed): "
            "use another checkpoint, or train again"
        )
    return content


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):  # a number of NumPy
        return value.item()
    raise TypeError(f"{value!r} of type {type(value).__name__}")


def _packed(tensors: Mapping[str, Tensor]) -> bytes:
    return save_tensors({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})


def _unpacked(folder: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return load_tensors(content)
    except SafetensorError as error:
        raise CheckpointError(f"{folder}: a tensor file is not in the safetensors format: {error}") from error
