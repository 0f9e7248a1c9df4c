from __future__ import annotations

import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from handful import machine
from handful.machine import commit, describe_machine, tune_allocator, versions


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module as if it were installed in a folder of its own."""
    folder = tmp_path / "package"
    folder.mkdir()
    here = folder / "machine.py"
    shutil.copy(machine.__file__, here)
    monkeypatch.setattr(machine, "__file__", str(here))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return folder


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_a_checkout(elsewhere: Path) -> None:
    git(elsewhere.parent, "init", "--quiet")
    git(elsewhere.parent, "add", "package")
    git(elsewhere.parent, "commit", "--quiet", "--message", "one")
    head = git(elsewhere.parent, "rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", head)
    assert commit() == head
    (elsewhere.parent / "notes.txt").write_text("not a source")
    assert commit() == head
    (elsewhere / "machine.py").write_text("# changed\n")
    assert commit() == head + "+"
    git(elsewhere.parent, "commit", "--quiet", "--all", "--message", "two")
    assert commit() == git(elsewhere.parent, "rev-parse", "HEAD") != head


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_inside_of_a_foreign_checkout_there_is_no_commit(elsewhere: Path) -> None:
    """Installed into a virtual environment that lies in somebody's repository."""
    git(elsewhere.parent, "init", "--quiet")
    git(elsewhere.parent, "commit", "--quiet", "--allow-empty", "--message", "theirs")
    assert commit() is None


def test_outside_of_a_checkout_there_is_no_commit(elsewhere: Path) -> None:
    assert commit() is None


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None


def test_versions_are_those_installed() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    for name in ("handful", "torch", "numpy", "scikit-learn", "pillow"):
        assert found[name] == version(name)


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        if name == "pillow":
            raise machine.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(machine, "version", absent)
    assert set(versions()) == {"python", "handful", "torch", "numpy", "scikit-learn"}


def test_the_machine() -> None:
    about = describe_machine()
    assert set(about) == {"processor", "cores", "threads", "system"}
    assert about["threads"] == torch.get_num_threads()
    assert isinstance(about["cores"], int)
    assert about["cores"] >= 1
    assert about["processor"]
    assert describe_machine("mps")["accelerator"] == "mps"


def test_tuning_the_allocator_says_whether_it_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(tune_allocator(), bool)

    def none(name: None) -> None:
        raise OSError("no C library")

    monkeypatch.setattr(machine.ctypes, "CDLL", none)
    assert tune_allocator() is False
