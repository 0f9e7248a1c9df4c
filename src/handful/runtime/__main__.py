"""`python -m handful.runtime FOLDER new/*.jpg`: the JSON of `handful recognize --json`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from io import TextIOWrapper

from ..errors import HandfulError
from . import open_export

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Print answers; 0 done, 1 it could not be."""
    parser = argparse.ArgumentParser("python -m handful.runtime", description="Ask an exported recognizer.")
    parser.add_argument("folder", help="what handful export wrote")
    parser.add_argument("things", nargs="+", help="pictures or folders of them; texts, or tables of them; vectors.npz")
    parser.add_argument("--epsilon", type=float, help="how often may I wrongly refuse? As taught by default")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out pictures that cannot be read")
    parser.add_argument("--encoding", default="utf-8", help="of a table; cp1252 of many spreadsheets")
    given = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show "ß" shows "?"
    options = {"skip_unreadable": given.skip_unreadable, "encoding": given.encoding}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            answers = open_export(given.folder).recognize_many(given.things, epsilon=given.epsilon, **options)
        for one in caught:
            print(f"warning: {one.message}", file=sys.stderr)
        print(json.dumps([answer.table() for answer in answers], indent=2, ensure_ascii=False), flush=True)
    except BrokenPipeError:  # who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (HandfulError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
