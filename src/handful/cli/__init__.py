"""The command line. Nothing heavy is imported before a command needs it, so that `--help` answers at once."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 it could not be, 2 wrong arguments, 130 interrupted."""
    from ..errors import HandfulError
    from .app import app

    try:
        app(args=arguments, prog_name="handful")
    except HandfulError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
