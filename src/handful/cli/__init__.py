"""The command line. Nothing heavy is imported before a command needs it, so that `--help` answers at once."""

from __future__ import annotations

import sys
from io import TextIOWrapper

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 it could not be, 2 wrong arguments, 130 interrupted."""
    from ..errors import HandfulError
    from .app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show "±" shows "?"
    try:
        app(args=arguments, prog_name="handful")
    except (HandfulError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
