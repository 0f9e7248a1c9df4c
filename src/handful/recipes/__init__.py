"""One TOML file a published number. Finding them needs nothing but the standard library."""

from __future__ import annotations

from pathlib import Path

from ..errors import unknown_name

__all__ = ["base_path", "recipe_names", "recipe_path"]

_FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """All recipes. A file that only others extend has a name that begins with an underscore."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml") if not path.stem.startswith("_"))


def recipe_path(name: str) -> Path:
    """The file of a recipe by its name, or of a user's own by its path, which ends in .toml.

    Raises:
        UnknownNameError: no such recipe.
    """
    if name.endswith(".toml"):
        return Path(name)
    if name not in recipe_names():
        raise unknown_name("recipe", name, recipe_names())
    return _FOLDER / f"{name}.toml"


def base_path(name: str) -> Path:
    """The file of a recipe that others extend.

    Raises:
        UnknownNameError: no such base.
    """
    path = _FOLDER / f"_{name}.toml"
    if not path.is_file():
        raise unknown_name("base of recipes", name, (base.stem[1:] for base in _FOLDER.glob("_*.toml")))
    return path
