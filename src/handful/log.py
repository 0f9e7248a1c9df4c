"""The log of a run: a JSON line for each thing measured, and TensorBoard if asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .errors import MissingExtraError
from .files import storage_errors, write_file
from .tables import plain_numbers

__all__ = ["Board", "Log", "tensorboard_writer"]


class Board(Protocol):
    """What a TensorBoard writer does."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Show a value at a step."""

    def close(self) -> None:
        """Write what is left."""


class Log:
    """JSON lines, cut back to the step that a run goes on from. Without a folder nothing is written.

    Raises:
        StorageError: the folder is not writable.
    """

    def __init__(self, folder: Path | None, start: int, board: Callable[..., Board] | None) -> None:
        self.path = None if folder is None else folder / "log.jsonl"
        self.board: Board | None = None
        if folder is None or self.path is None:
            return
        kept = []
        if self.path.exists():
            for line in self.path.read_text(errors="replace").splitlines():
                try:
                    if json.loads(line)["step"] <= start:
                        kept.append(line + "\n")
                except (ValueError, KeyError, TypeError):
                    break  # a line cut short by a kill, and nothing after it
        write_file(self.path, "".join(kept))
        if board is not None:
            with storage_errors(folder):
                self.board = board(str(folder / "events"), purge_step=start + 1 if start else None)

    def close(self) -> None:
        """Write what TensorBoard has not written yet."""
        if self.board is not None:
            self.board.close()

    def write(self, step: int, **values: Any) -> None:
        """Add a line."""
        if self.path is None:
            return
        with storage_errors(self.path), open(self.path, "a") as file:
            file.write(json.dumps(plain_numbers({"step": step, **values})) + "\n")
        if self.board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self.board.add_scalar(name, value, step)


def tensorboard_writer() -> Callable[..., Board]:
    """What makes a TensorBoard writer.

    Raises:
        MissingExtraError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            'TensorBoard logs need the package tensorboard: pip install "handful[tensorboard]"'
        ) from error
    return SummaryWriter
