"""Every learner on the same tasks, data, encoder and budget: one table, made by one command.

A plan is a TOML file in `plans/`. Finding them needs nothing but the standard library.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import unknown_name

__all__ = ["plan_names", "plan_path"]

_FOLDER = Path(__file__).parent / "plans"


def plan_names() -> list[str]:
    """All plans."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def plan_path(name: str) -> Path:
    """The file of a plan by its name, or of a user's own by its path, which ends in .toml.

    Raises:
        UnknownNameError: no such plan.
    """
    if name.endswith(".toml"):
        return Path(name)
    if name not in plan_names():
        raise unknown_name("comparison", name, plan_names())
    return _FOLDER / f"{name}.toml"
