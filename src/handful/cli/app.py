"""Every command, its arguments and its help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .recognizing_app import EXAMPLE, add_commands

__all__ = ["app"]

app = typer.Typer(
    help="Learn from a handful of examples: meta-train, evaluate, reproduce; teach, recognize.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Bring data sets to this machine; look through your own.", no_args_is_help=True)
app.add_typer(data_app, name="data")
add_commands(app)


class Catalog(StrEnum):
    """What can be listed."""

    learners = "learners"
    encoders = "encoders"
    data = "data"
    recipes = "recipes"


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps ...")]
Threads = Annotated[int, typer.Option(min=1, max=1024, help="Threads for tensors; small networks are fastest on one.")]
Runs = Annotated[Path, typer.Option(help="Folder of training runs.")]


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context, show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Learn from a handful of examples: meta-train, evaluate, reproduce; teach, recognize."""
    if show:
        from ..version import __version__

        print(f"handful {__version__}")
        raise typer.Exit


@app.command()
def demo(
    to: Annotated[Path, typer.Option(help="Folder for the checkpoints and the picture.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Another seed is another training and other tasks.")] = 0,
    quick: Annotated[bool, typer.Option(help="A few steps only, to see that everything works.")] = False,
) -> None:
    """Meta-train two learners on real handwriting and test them on digits never seen. A minute or two, no download."""
    from .demo import run_demo

    run_demo(to, seed=seed, quick=quick)


@app.command(epilog=EXAMPLE + "handful train spec.toml, then: handful evaluate runs/spec/last")
def train(
    spec: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A TOML or JSON file.")],
    to: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME of the spec by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that the folder holds.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard events too.")] = False,
    device: Device = "cpu",
    threads: Threads = 1,
) -> None:
    """Meta-train what a spec describes. Ctrl-C leaves a run that --resume goes on with, bit for bit."""
    from .training import run_train

    run_train(spec, to or Path("runs") / spec.stem, resume, tensorboard, device, threads)


@app.command(epilog=EXAMPLE + "handful evaluate runs/spec/best --shots 5 --tasks 1000")
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(exists=True, help="A checkpoint folder, such as runs/NAME/best.")],
    data: Annotated[
        str | None, typer.Option(help="Pictures of another data set, fitted to the encoder (see `handful list data`).")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the data to draw tasks from.")] = "test",
    ways: Annotated[
        int | None, typer.Option(min=1, help="Classes a task; as in validation, or else training, by default.")
    ] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="Support examples a class; likewise.")] = None,
    queries: Annotated[int, typer.Option(min=1, help="Queries a class.")] = 15,
    strangers: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of what is asked that is of none of a task's classes.")
    ] = 0.0,
    tasks: Annotated[int, typer.Option(min=2, help="Number of tasks.")] = 1000,
    seed: Annotated[int, typer.Option(help="Which tasks: the same seed is the same tasks.")] = 2,
    against: Annotated[Path | None, typer.Option(exists=True, help="Another checkpoint, on the same tasks.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write the score of every task to this CSV file.")] = None,
    device: Device = "cpu",
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Test a trained learner on classes it has never seen: mean, 95% interval, accuracy by class."""
    from .evaluation import run_evaluate

    tasks_of = {"split": split, "ways": ways, "shots": shots, "queries": queries, "strangers": strangers, "seed": seed}
    run_evaluate(checkpoint, data, against, record, tasks_of, tasks, device, threads, json)


@app.command(epilog=EXAMPLE + "handful reproduce sinusoid-maml-5shot")
def reproduce(
    name: Annotated[str, typer.Argument(help="A recipe (see `handful list recipes`), or a TOML file like one.")],
    to: Annotated[Path, typer.Option(help="Folder of the ledger: NAME.json is written there.")] = Path("results"),
    runs: Runs = Path("runs"),
    seeds: Annotated[int, typer.Option(min=1, help="Training runs; the interval is then over runs.")] = 1,
    device: Device = "cpu",
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Reproduce a published number: train, evaluate, and write it to the ledger. Goes on where it stopped."""
    from ..recipes import recipe_path

    recipe_path(name)  # a wrong name is answered before anything heavy is imported
    from .training import run_reproduce

    run_reproduce(name, to, runs, seeds, device, threads, json)


@app.command()
def compare(
    plans: Annotated[
        list[str] | None, typer.Argument(help="Comparisons, or TOML files like them; all of them by default.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.001, help="Training time of each learner.")] = 5,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Learners at a time, one process and thread each.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Only this entry (again for more), and what it needs.")] = None,
    to: Annotated[Path, typer.Option(help="Folder of the results, one file a learner.")] = Path("results/comparison"),
    runs: Runs = Path("runs"),
    document: Annotated[Path, typer.Option(help="The page whose tables are made anew.")] = Path("docs/comparison.md"),
    device: Device = "cpu",
) -> None:
    """Train and test every learner alike, and write the tables. Goes on where it stopped."""
    from ..comparison import plan_path

    for name in plans or []:
        plan_path(name)  # a wrong name is answered before anything heavy is imported
    from .comparison import run_compare

    run_compare(plans or [], minutes, jobs, only or [], to, runs, document, device)


@app.command()
def doctor(json: Json = False) -> None:
    """Look at this machine: what handful uses of it, and what would help."""
    from .doctor import run_doctor

    run_doctor(json)


@app.command("list")
def list_(
    what: Annotated[Catalog, typer.Argument(help="What to list.")],
    json: Json = False,
) -> None:
    """List learners, encoders, data sets or recipes."""
    from .listing import run_list

    run_list(what.value, json)


@data_app.command("add", epilog=EXAMPLE + "handful data add omniglot --from DOWNLOADS")
def add(
    name: Annotated[str, typer.Argument(help="A data set (see `handful list data`).")],
    source: Annotated[
        Path | None, typer.Option("--from", exists=True, help="Folder or archive that you have; downloaded without it.")
    ] = None,
) -> None:
    """Prepare a data set: from files you have, or by a download. Later loads are instant."""
    from .listing import run_add

    run_add(name, source)


@data_app.command("check", epilog=EXAMPLE + "handful data check photos/")
def check(
    path: Annotated[
        Path, typer.Argument(help="A folder of class folders of pictures, or a CSV, TSV, JSONL, Parquet file.")
    ],
    label: Annotated[str, typer.Option(help="Column of a table that holds the classes.")] = "label",
    text: Annotated[str | None, typer.Option(help="Column that holds texts; 'text' if there is one.")] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="A column of numbers, or of lists of them; all others by default. Repeatable."),
    ] = None,
    assay: Annotated[
        str | None, typer.Option(help="Of molecules: column that says the assay; 'assay' or 'task' if there is one.")
    ] = None,
    task: Annotated[str, typer.Option(help="Of regression tasks in one table: column that says the task.")] = "task",
    targets: Annotated[
        list[str] | None,
        typer.Option(help="Of regression tasks: a column of numbers to be told; y, target or value. Repeatable."),
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of a CSV, TSV or JSONL file; cp1252 of many spreadsheets.")] = "utf-8",
    nested: Annotated[bool, typer.Option("--nested", help="Classes are the innermost folders.")] = False,
    json: Json = False,
) -> None:
    """Look through your own data: counts, duplicates, broken files, and what it is good for. Changes nothing."""
    from .checking import run_check

    columns = {"label": label, "text": text, "features": features or None, "assay": assay}
    run_check(path, columns | {"task": task, "targets": targets or None}, encoding, nested, json)
