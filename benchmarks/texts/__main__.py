"""Figures on real texts, into results/texts and docs/texts-figures.md.

    python -m benchmarks.texts intents
    python -m benchmarks.texts setfit --seconds 1500
    python -m benchmarks.texts page

Every question writes a row as soon as it knows it, and leaves alone what it has already; `--anew` begins again. The
page is made from all rows at the end of each.
"""

from __future__ import annotations

import argparse
import importlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from handful.files import write_file
from handful.machine import commit, describe_machine, versions

from . import page

ROOT = Path(__file__).parents[2]
RESULTS, PAGE = ROOT / "results" / "texts", ROOT / "docs" / "texts-figures.md"


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.what != "page":
        measure(options)
    write_file(PAGE, page.page(page.read(RESULTS)))


def measure(options: argparse.Namespace) -> None:
    """Write the rows of a question that are not there yet."""
    path = RESULTS / f"{options.what}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() and not options.anew else []
    module = importlib.import_module(f"benchmarks.texts.{options.what.replace('-', '_')}")
    origin = {"commit": commit(), "machine": describe_machine(), "versions": versions()}
    given = [options.checkpoint] if options.checkpoint is not None else []
    for number, row in enumerate(module.run(list(rows), options.seconds, *given), 1):
        print(row if len(str(row)) < 400 else {key: row[key] for key in list(row)[:6]}, flush=True)
        rows.append(row | {"date": datetime.now(UTC).date().isoformat()} | origin)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(rows, indent=1) + "\n")
        if number == options.rows:
            return


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.texts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*page.QUESTIONS, "page"])
    parser.add_argument("--rows", type=int, default=0, help="stop after so many new ones")
    parser.add_argument("--seconds", type=float, default=1500.0, help="setfit: processor time that it may have in all")
    parser.add_argument("--checkpoint", type=Path, help="pictures-by-name: of an encoder of mini-ImageNet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--anew", action="store_true", help="forget the rows of this question")
    options = parser.parse_args()
    if (options.what == "pictures-by-name") != (options.checkpoint is not None):
        parser.error("--checkpoint, a folder of `handful train`, is for pictures-by-name and needed there")
    return options


if __name__ == "__main__":
    main()
