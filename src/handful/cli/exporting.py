"""`handful export`, `handful report --card`."""

from __future__ import annotations

from pathlib import Path

from ..collection import collection_path
from ..recognizer import open_recognizer

__all__ = ["run_card", "run_export"]


def run_export(place: Path, to: Path | None, encoder: str | None, force: bool) -> None:
    """Write an export, and say how to run it."""
    folder = to or collection_path(place).with_suffix("").with_name(f"{collection_path(place).stem}-onnx")
    with open_recognizer(place, encoder=encoder) as recognizer:
        recognizer.export(folder, force=force)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {', '.join(sorted(file.name for file in folder.iterdir()))} ({size / 1e6:.1f} MB)")
    print(f"Next: python -m handful.runtime {folder} THINGS")


def run_card(place: Path, epsilon: float | None, encoder: str | None) -> None:
    """Print the model card."""
    with open_recognizer(place, encoder=encoder) as recognizer:
        print(recognizer.card(epsilon=epsilon), end="")
