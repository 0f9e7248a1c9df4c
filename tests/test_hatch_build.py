from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

ROOT = Path(__file__).parents[1]
INTERFACE = "hatchling.builders.hooks.plugin.interface"


class Interface:
    """As much of hatchling's as the hook needs: it is there where a wheel is built, not where tests run."""

    def __init__(self, root: Path, app: Any) -> None:
        self.root, self.app = str(root), app

    def __class_getitem__(cls, _: Any) -> type:
        return cls


with mock.patch.dict(sys.modules, {INTERFACE: SimpleNamespace(BuildHookInterface=Interface)}):  # type: ignore[dict-item]
    HOOK: dict[str, Any] = runpy.run_path(str(ROOT / "hatch_build.py"))
pytestmark = pytest.mark.skipif(not HOOK["supported"](), reason="no kernels for this processor")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources of the kernels, a build of earlier ones, and a compiler that writes what it is asked for."""
    folder = tmp_path / HOOK["FOLDER"]
    folder.mkdir(parents=True)
    for source in (ROOT / HOOK["FOLDER"]).glob(HOOK["SOURCES"]):
        shutil.copy(source, folder)
    (folder / "block-avx2-0123456789ab.so").write_text("old")
    return folder


def build(tree: Path, compiler: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """(artifacts, warnings) of a build by a script of the shell, which is told last what to write."""
    script = tree.parent / "cc"
    script.write_text(f"#!/bin/sh\nfor last; do :; done\n{compiler}\n")
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    root, said = tree.parents[len(HOOK["FOLDER"].parts) - 1], list[str]()
    data: dict[str, list[str]] = {"artifacts": []}
    HOOK["BuildHook"](root, SimpleNamespace(display_warning=said.append)).initialize("standard", data)
    return data["artifacts"], said


def test_a_library_is_whole_or_not_there(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built, said = build(tree, 'echo new > "$last"', monkeypatch)
    assert (len(built), said) == (2, [])
    names = sorted(path.name for path in tree.glob("*.so"))
    assert names == sorted(Path(path).name for path in built)
    built, said = build(tree, 'printf ha > "$last"; exit 1', monkeypatch)
    assert (built, len(said)) == ([], 2)
    assert {path.name: path.read_text() for path in tree.glob("*.so")} == dict.fromkeys(names, "new\n")


def test_a_tree_that_nobody_may_write_into_builds_without_kernels(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    built, said = build(tree, "exit 1", monkeypatch)
    assert (built, len(said)) == ([], 2)
