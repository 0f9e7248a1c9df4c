"""The command line. Nothing heavy is imported before a command needs it, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit status: 0 done, 1 it could not be, 2 wrong arguments, 130 interrupted."""
    import click

    from ..errors import HandfulError
    from .app import app

    try:
        status = app(args=arguments, prog_name="handful", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except HandfulError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of our output has gone; say nothing more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    if arguments is None:
        sys.exit(status or 0)
    return int(status or 0)
