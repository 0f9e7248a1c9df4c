"""The commands around a recognizer, their arguments and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["EXAMPLE", "add_commands"]

EXAMPLE = "Example: "
EXAMPLES = {
    "teach": "handful teach photos/ --to shop",
    "recognize": "handful recognize shop new/*.jpg",
    "add": "handful add shop mug new-mug.jpg",
    "suggest": "handful suggest shop unlabeled/ --count 5",
    "remove": "handful remove shop 12 17",
    "rename": "handful rename shop mug cup",
    "merge": "handful merge shop mug glass --into cup",
    "export": "handful export shop, then: python -m handful.runtime shop-onnx new/*.jpg",
}

Place = Annotated[Path, typer.Argument(help="A collection: NAME, or NAME.handful.")]
Encoder = Annotated[str | None, typer.Option("--with", help="Encoder: a name, or the folder of a checkpoint.")]
Epsilon = Annotated[
    float | None, typer.Option(min=0.001, max=0.5, help="How often may I wrongly refuse? As taught by default (0.1).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
Skip = Annotated[bool, typer.Option("--skip-unreadable", help="Leave out pictures that cannot be read, and name them.")]
Encoding = Annotated[str, typer.Option(help="Of a CSV, TSV, JSONL or text file; cp1252 of many spreadsheets.")]


def teach(
    source: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            help="A folder PATH/CLASS/*.jpg; a table (.csv, .tsv, .jsonl, .parquet) of text or smiles, and label; or "
            "vectors.npz (x, y).",
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="The collection to make; named as the source by default.")] = None,
    encoder: Encoder = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="What answers: squared, cosine, ridge, auto (the best of these), or a learner of the catalog without "
            "weights. By default a checkpoint's own learner, or auto."
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes",
            exists=True,
            help="Names of classes, a line each (a description after a tab), or a table label, description: a first "
            "recognizer without examples, or besides them, where the encoder knows words.",
        ),
    ] = None,
    epsilon: Epsilon = None,
    json: Json = False,
    skip_unreadable: Skip = False,
    nested: Annotated[
        bool, typer.Option("--nested", help="Classes are the innermost folders of pictures, not the outermost.")
    ] = False,
    encoding: Encoding = "utf-8",
) -> None:
    """Teach a recognizer from a handful of examples of each class. Seconds, no training."""
    from .recognizing import run_teach

    named = source or classes
    if named is None:
        raise typer.BadParameter("expected something to teach from: SOURCE, or --classes names.txt")
    resolved = named.resolve()
    place = to or Path(resolved.name if resolved.is_dir() else resolved.stem)
    run_teach(source, place, encoder, head, classes, epsilon, json, skip_unreadable, nested, encoding)


def recognize(
    collection: Place,
    things: Annotated[
        list[str], typer.Argument(help="Pictures or folders of them; texts or SMILES, or tables of them; vectors.npz.")
    ],
    epsilon: Epsilon = None,
    encoder: Encoder = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    skip_unreadable: Skip = False,
    encoding: Encoding = "utf-8",
) -> None:
    """Say what each thing is, how sure that is, or that it is unlike anything taught."""
    from .recognizing import run_recognize

    run_recognize(collection, things, epsilon, encoder, json, csv, skip_unreadable, encoding)


def add(
    collection: Place,
    label: Annotated[str, typer.Argument(help="The class, known or new.")],
    things: Annotated[list[str], typer.Argument(help="Examples of it.")],
    encoder: Encoder = None,
    skip_unreadable: Skip = False,
    encoding: Encoding = "utf-8",
) -> None:
    """Add examples to a class, or a new class. At once, no training."""
    from .recognizing import run_add

    run_add(collection, label, things, encoder, skip_unreadable, encoding)


def suggest(
    collection: Place,
    things: Annotated[list[str], typer.Argument(help="A folder of pictures, a table of texts, or vectors.npz.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    encoder: Encoder = None,
    json: Json = False,
    skip_unreadable: Skip = False,
    encoding: Encoding = "utf-8",
) -> None:
    """Say which of many things without labels to label next: those that would teach the most."""
    from .suggesting import run_suggest

    run_suggest(collection, things, count, encoder, json, skip_unreadable, encoding)


def remove(
    collection: Place,
    ids: Annotated[list[int], typer.Argument(help="Numbers of examples, as recognize and report give them.")],
) -> None:
    """Remove examples: as if they had never been there."""
    from .recognizing import run_change

    run_change(collection, lambda store: store.remove(ids))


def rename(
    collection: Place,
    label: Annotated[str, typer.Argument(help="The class.")],
    new: Annotated[str, typer.Argument(help="Its new name.")],
) -> None:
    """Rename a class."""
    from .recognizing import run_change

    run_change(collection, lambda store: store.rename(label, new))


def merge(
    collection: Place,
    labels: Annotated[list[str], typer.Argument(help="The classes.")],
    into: Annotated[str, typer.Option("--into", help="The class that they become.")],
) -> None:
    """Make one class of several."""
    from .recognizing import run_change

    run_change(collection, lambda store: store.merge(labels, into))


def undo(collection: Place) -> None:
    """Take back the newest change; again: the one before."""
    from .recognizing import run_change

    run_change(collection, lambda store: store.undo())


def history(collection: Place, json: Json = False) -> None:
    """Show every change, who made it and when."""
    from .recognizing import run_history

    run_history(collection, json)


def report(
    collection: Place,
    epsilon: Epsilon = None,
    encoder: Encoder = None,
    json: Json = False,
    card: Annotated[bool, typer.Option("--card", help="Print a model card, in Markdown.")] = False,
) -> None:
    """Say what can be promised and what not, likely mistakes in the examples, and what to add next."""
    if card:
        from .exporting import run_card

        return run_card(collection, epsilon, encoder)
    from .recognizing import run_report

    run_report(collection, epsilon, encoder, json)


def export(
    collection: Place,
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX, which is the only way there is.")] = True,
    to: Annotated[Path | None, typer.Option(help="The folder to make; COLLECTION-onnx by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an older export.")] = False,
    encoder: Encoder = None,
) -> None:
    """Write a folder that python -m handful.runtime answers from, by onnxruntime alone, and a model card."""
    from .exporting import run_export

    run_export(collection, to, encoder, force)


def add_commands(app: typer.Typer) -> None:
    """Give an application these commands."""
    for command in (teach, recognize, add, suggest, remove, rename, merge, undo, history, report, export):
        example = EXAMPLES.get(command.__name__)
        app.command(epilog=EXAMPLE + example if example else None)(command)
