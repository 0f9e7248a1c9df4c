"""The command line. Nothing heavy is imported before a command needs it, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
import time
import warnings
from io import TextIOWrapper
from typing import Any, NoReturn

__all__ = ["main"]

PATIENCE = 10.0
"""Seconds for the process that tells of wrong arguments, after which those that keep silent end by themselves."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 it could not be, 2 wrong arguments, 130 interrupted.

    Of processes that torchrun started, which have the same arguments, one on each machine says what is wrong with them.
    """
    silent = os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("LOCAL_RANK", "0") != "0"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show "±" shows "?"
    from ..errors import HandfulError

    with warnings.catch_warnings():
        warnings.showwarning = _show
        try:
            from .app import app

            run = _run_silently if silent else app
            run(args=arguments, prog_name="handful")
        except KeyboardInterrupt:  # before a command began; Typer says those that come later
            sys.exit(130)
        except (HandfulError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except (MemoryError, RuntimeError) as error:
            if not _of_memory(error):
                raise
            reason = (str(error).strip() or "nothing left").splitlines()[0][:200]
            print(f"error: out of memory: {reason}; take fewer or smaller examples at once", file=sys.stderr)
            sys.exit(1)


def _run_silently(**arguments: Any) -> NoReturn:
    """As the app, but another process says what is wrong with the arguments."""
    from ..errors import HandfulError
    from .app import app

    try:
        sys.exit(app(**arguments, standalone_mode=False))
    except Exception as error:
        if not isinstance(error, HandfulError | OSError) and not hasattr(error, "exit_code"):  # as Typer's errors have
            raise
    time.sleep(PATIENCE)  # torchrun ends all when one has ended, and that is to be the one that spoke
    sys.exit(1)


def _of_memory(error: Exception) -> bool:
    """Whether there was no memory: Python's, NumPy's or a kernel's error, or torch's, of a processor or a GPU."""
    words = str(error)
    return isinstance(error, MemoryError) or "out of memory" in words or "allocate memory" in words


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning in one line, as errors are said."""
    print(f"warning: {message}", file=sys.stderr)
