"""Builds the compiled kernels into the package, where they can be built; without them everything works in PyTorch.

The compiler is `CC`, or the system's, or else the one in the package `ziglang`, which pip fetches for the build alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/handful/kernels")
SOURCES = "*.[ch]"
VARIANTS = {
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx2": ["-march=x86-64-v3"],
}
FLAGS = ["-O3", "-g0", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]


class BuildHook(BuildHookInterface[Any]):
    """Compiles block.c for each variant of the processor."""

    def dependencies(self) -> list[str]:
        """What the build needs from the package registry."""
        return ["ziglang>=0.13"] if supported() and system_compiler() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, or say why not."""
        folder = Path(self.root) / FOLDER
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob(SOURCES)))).hexdigest()[:12]
        for old in folder.glob("block-*.so"):
            if digest not in old.name:
                with suppress(OSError):  # a tree that nobody may write into
                    old.unlink()
        if not supported():
            return
        compiler = system_compiler() or [sys.executable, "-m", "ziglang", "cc"]
        for variant, flags in VARIANTS.items():
            built = folder / f"block-{variant}-{digest}.so"
            part = folder / f"part-{variant}-{os.getpid()}.so"  # a program may have the other loaded
            if "ziglang" in compiler:
                flags = [flag.replace("x86-64-", "x86_64_") for flag in flags]
            command = [*compiler, *FLAGS, *flags, str(folder / "block.c"), "-o", str(part)]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
                part.replace(built)
            except (OSError, subprocess.CalledProcessError) as error:
                reason = getattr(error, "stderr", None) or error
                self.app.display_warning(f"kernels for {variant} were not built, PyTorch's are used: {reason}")
                with suppress(OSError):
                    part.unlink()
                continue
            build_data["artifacts"].append(f"{FOLDER.as_posix()}/{built.name}")
        if build_data["artifacts"]:
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


def supported() -> bool:
    """Whether there are kernels for this processor and system."""
    return platform.machine() in ("x86_64", "AMD64") and sys.platform in ("linux", "darwin")


def system_compiler() -> list[str] | None:
    """The compiler in `CC`, or the first of the usual ones."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    return None if found is None else [found]
