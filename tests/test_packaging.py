from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import pytest

import handful
from handful.recipes import recipe_names, recipe_path

ROOT = Path(__file__).parents[1]


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == handful.__version__ == version("handful")


def test_recipes_are_inside_the_package() -> None:
    folder = files("handful") / "recipes"
    assert len(recipe_names()) >= 7
    for name in recipe_names():
        assert folder.joinpath(f"{name}.toml").is_file()
        assert Path(handful.__file__).parent in recipe_path(name).parents


def test_names_and_modules_are_attributes() -> None:
    code = (
        "import handful; assert {*handful.__all__, 'data'} <= {*dir(handful)};"
        "[getattr(handful, name) for name in handful.__all__];"
        "parts = [handful.data, handful.ops, handful.rotations, handful.ENCODERS['mlp']];"
        "print(*(part.__name__ for part in parts))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["handful.data", "handful.ops", "rotations", "MLP"]
    for name in ("nothing", "_nothing"):
        with pytest.raises(AttributeError, match=f"module 'handful' has no attribute '{name}'"):
            getattr(handful, name)


def test_the_package_is_typed() -> None:
    assert (files("handful") / "py.typed").is_file()


def test_the_environment_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in lines


def test_the_command_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"handful": "handful.cli:main"}


@pytest.mark.parametrize("module", ["handful", "handful.errors", "handful.recipes", "handful.cli.app"])
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'numpy', 'scipy', 'sklearn'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
