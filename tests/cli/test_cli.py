from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from handful import __version__
from handful.checkpoint import load_checkpoint, save_checkpoint
from handful.cli import main
from handful.cli.doctor import _extras
from handful.cli.evaluation import _show
from handful.data import DATASETS
from handful.distributed import Ranks
from handful.encoders import ENCODERS, PRETRAINED
from handful.evaluation import compare, evaluate
from handful.kernels import available, plain
from handful.learners import LEARNERS
from handful.recipes import recipe_names
from handful.recognizer.embedders import BUILT_IN
from handful.spec import Spec, Tasks, build, load_data

Table = dict[str, Any]


class Said(NamedTuple):
    code: int
    out: str
    error: str


Call = Callable[..., Said]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """`handful` with these arguments, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        code = end.value.code
        return Said(code if isinstance(code, int) else 0, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small runs of different seeds, made by the command itself: a/best, a/last, b/best, b/last."""
    folder = tmp_path_factory.mktemp("trained")
    for name, seed in (("a", 0), ("b", 1)):
        (folder / f"{name}.toml").write_text(spec(seed=seed))
        with pytest.raises(SystemExit) as end:
            main(["train", str(folder / f"{name}.toml"), "--to", str(folder / name)])
        assert end.value.code in (0, None)
    return folder


def spec(
    *,
    learner: str = 'name = "prototypical"',
    encoder: str = 'name = "mlp"\nshape = [1, 8, 8]\nhidden = [16]',
    data: str = 'name = "digits"',
    train: str = "ways = 5\nshots = 1\nqueries = 3\nsteps = 6\nrate = 0.01",
    validation: str = "ways = 5\nevery = 3\ntasks = 5\nbatch = 5",
    seed: int = 0,
) -> str:
    train = f"{train}\nseed = {seed}"
    tables = {"learner": learner, "encoder": encoder, "data": data, "train": train, "validation": validation}
    return "".join(f"[{name}]\n{content}\n" for name, content in tables.items())


RECIPE = f'title = "Small"\nmetric = "accuracy"\n{spec()}[evaluation]\nways = 5\ntasks = 20\nqueries = 5\n'


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


# What answers without a tensor library


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "nothing left"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "DefaultCPUAllocator: can't allocate"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore words"), "CUDA out of memory. Tried to"),
    ],
    ids=["python", "torch", "cuda"],
)
def test_no_memory_is_said_in_a_line(
    call: Call, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("handful.cli.training.run_train", full)
    Path("spec.toml").touch()
    code, _, said = call("train", "spec.toml", "--to", "run")
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(f"error: out of memory: {reason}")
    assert "fewer or smaller examples" in said


def test_other_errors_of_the_program_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("handful.cli.training.run_train", wrong)
    (tmp_path / "spec.toml").touch()
    with pytest.raises(RuntimeError, match="a defect"):
        main(["train", str(tmp_path / "spec.toml"), "--to", str(tmp_path / "run")])


def test_control_c_before_a_command_begins(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("handful.cli.app.app", stop)
    assert call("list", "data") == (130, "", "")


def light(*arguments: str) -> tuple[float, list[str], str]:
    """User seconds of a process, the heavy modules it imported, and all it said."""
    code = (
        "import atexit, os, sys\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'matplotlib', 'PIL'}\n"
        "atexit.register(lambda: os.write(2, f'\\n@{os.times().user} {sorted(heavy & set(sys.modules))}'.encode()))\n"
        "from handful.cli import main\n"
        f"main({list(arguments)!r})\n"
    )
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    said, _, about = done.stderr.rpartition("\n@")
    seconds, _, modules = about.partition(" ")
    return float(seconds), modules.strip("[]").split(", ") if modules != "[]" else [], done.stdout + said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "reproduce"),
        (["--version"], f"handful {__version__}"),
        (["train", "absent.toml"], "absent.toml"),
        (["reproduce", "omniglot-mml-5w1s"], "did you mean 'omniglot-maml-5w1s'"),
        (["compare", "omnigot"], "did you mean 'omniglot'"),
    ],
)
def test_answers_at_once(arguments: list[str], expected: str) -> None:
    tries = []
    for _ in range(3):
        seconds, modules, said = light(*arguments)
        assert modules == []
        assert expected in said
        tries.append(seconds)
        if seconds < 0.5:
            return
    pytest.fail(f"expected under 0.5 s of processor time, took {tries}")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-h"],
        ["train", "--help"],
        ["evaluate", "--help"],
        ["reproduce", "--help"],
        ["list", "--help"],
        ["data", "--help"],
        ["data", "add", "--help"],
        ["frobnicate"],
        ["train"],
        ["train", "--frobnicate"],
        ["evaluate", "absent"],
        ["evaluate", ".", "--tasks", "many"],
        ["evaluate", ".", "--ways", "0"],
        ["reproduce", "omniglot-maml-5w1s", "--seeds", "0"],
        ["reproduce", "omniglot-maml-5w1s", "--threads", "0"],
        ["list", "nonsense"],
        ["data", "add", "digits", "--from", "absent"],
    ],
)
def test_arguments_are_checked_without_torch(arguments: list[str]) -> None:
    """In one process: whichever of these imports torch is caught by the first after it."""
    code = (
        "import sys\nfrom handful.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit: pass\n"
        "print('@', 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rpartition("@")[2].strip() == "False"
    assert "Traceback" not in done.stderr


def test_help_names_every_command(call: Call) -> None:
    said = call("--help")
    assert said.code == 0
    for command in ("demo", "train", "evaluate", "reproduce", "compare", "list", "data"):
        assert f" {command} " in said.out
    assert call("-h").out == said.out


@pytest.mark.parametrize(
    ("typed", "expected"), [("handful te", ["teach"]), ("handful list ", ["learners", "encoders", "data", "recipes"])]
)
def test_the_shell_completes(call: Call, monkeypatch: pytest.MonkeyPatch, typed: str, expected: list[str]) -> None:
    monkeypatch.setenv("_HANDFUL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    assert call().out.split() == expected


@pytest.mark.parametrize("command", ["teach", "recognize", "add", "merge", "export", "train", "evaluate", "reproduce"])
def test_help_shows_an_example(call: Call, command: str) -> None:
    assert f"Example: handful {command} " in call(command, "--help").out


def test_no_arguments_show_the_help(call: Call) -> None:
    said = call()
    assert said.code in (0, 2)
    assert "Usage: handful" in said.out + said.error


def test_version(call: Call) -> None:
    assert call("--version") == Said(0, f"handful {__version__}\n", "")


# Catalogs


def test_own_data_are_looked_through(call: Call, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\nhello,a\nhello,b\nother,a\n")
    said = call("data", "check", "t.csv")
    assert (said.code, said.error) == (0, "")
    for part in ("3 texts, 2 classes", "duplicates: 1", "row 1 = row 2", "in different classes: 1"):
        assert part in said.out
    report = json.loads(call("data", "check", "t.csv", "--json").out)
    assert report["classes"] == {"a": 2, "b": 1}
    assert report["contradictions"] == [["row 1", "row 2"]]
    missing = call("data", "check", "t.csv", "--label", "kind")
    assert (missing.code, "Valid: label, text" in missing.error) == (1, True)
    (tmp_path / "r.csv").write_bytes("x,review,label\n1,schön,a\n2,gut,b\n".encode("cp1252"))
    assert "encoding" in call("data", "check", "r.csv").error
    texts = call("data", "check", "r.csv", "--encoding", "cp1252", "--text", "review")
    assert "2 texts, 2 classes\nexamples a class: a 1, b 1\n" in texts.out
    numbers = call("data", "check", "r.csv", "--encoding", "cp1252", "--features", "x")
    assert "2 numbers, 2 classes" in numbers.out
    (tmp_path / "many.csv").write_text("x,label\n" + "".join(f"{row},{row % 22:02}\n" for row in range(60)))
    many = call("data", "check", "many.csv")
    assert "examples a class: 2 to 3, median 3; fewest: 16 2, 17 2, 18 2, 19 2, 20 2 (--json" in many.out
    for name in ("in/a/1.png", "in/b/2.png"):
        (tmp_path / "own" / name).parent.mkdir(parents=True)
        Image.new("L", (40, 40)).save(tmp_path / "own" / name)
    (tmp_path / "own" / "notes.txt").write_text("")
    (tmp_path / "own" / "none").mkdir()
    said = call("data", "check", "own", "--nested")
    for part in ("a class: in/a 1, in/b 1\n", "passed over: 1 .txt\n", "folders without pictures: 1\n"):
        assert part in said.out
    own = call("data", "add", "folder")
    assert (own.code, "is your own: say path in [data]" in own.error) == (1, True)


@pytest.mark.parametrize(
    ("what", "names", "keys"),
    [
        ("learners", list(LEARNERS), {"name", "paper", "kind", "regression", "any_ways", "transductive"}),
        ("encoders", [*ENCODERS, *PRETRAINED, *BUILT_IN, "minilm", "intents"], {"name", "use", "summary", "options"}),
        ("data", list(DATASETS), {"name", "summary", "licence", "source", "options"}),
        ("recipes", recipe_names(), {"name", "title", "metric", "published", "source"}),
    ],
)
def test_catalogs(call: Call, what: str, names: list[str], keys: set[str]) -> None:
    said = call("list", what, "--json")
    assert (said.code, said.error) == (0, "")
    rows = json.loads(said.out)
    assert [row["name"] for row in rows] == names
    assert all(keys <= set(row) for row in rows)
    assert all(row[key] != "" for row in rows for key in keys)
    shown = call("list", what)
    assert (shown.code, shown.error) == (0, "")
    assert all(name in shown.out for name in names)


def test_what_a_learner_can_do(call: Call) -> None:
    rows = {row["name"]: row for row in json.loads(call("list", "learners", "--json").out)}
    assert [rows["maml"][key] for key in ("kind", "regression", "any_ways", "transductive")] == [
        "gradient", True, False, False
    ]  # fmt: skip
    assert [rows["prototypical"][key] for key in ("kind", "regression", "any_ways", "transductive")] == [
        "metric", False, True, False
    ]  # fmt: skip
    assert {"outputs", "inner_rate", "inner_steps"} <= set(rows["maml"]["options"])


def test_every_learner_is_listed_as_it_is(call: Call) -> None:
    """That these attributes are true of the learner is for the laws to say."""
    rows = json.loads(call("list", "learners", "--json").out)
    for row, (name, cls) in zip(rows, LEARNERS.items(), strict=True):
        about = {"paper": cls.paper, "kind": cls.kind, "regression": cls.regression, "any_ways": cls.any_ways}
        assert row == {"name": name, **about, "transductive": cls.uses_queries, "options": row["options"]}


def test_options_that_are_listed_are_options(call: Call) -> None:
    (mlp,) = [row for row in json.loads(call("list", "encoders", "--json").out) if row["name"] == "mlp"]
    assert mlp["options"][:2] == ["shape", "hidden"]


# Train, evaluate, reproduce


def test_train(call: Call, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(spec())
    said = call("train", "small.toml")
    assert (said.code, said.out) == (0, "")
    assert "Training finished after 6 steps" in said.error
    assert f"Next: handful evaluate {Path('runs/small/best')}" in said.error
    assert load_checkpoint(tmp_path / "runs" / "small" / "last").step == 6
    assert load_checkpoint(tmp_path / "runs" / "small" / "best").spec.train.steps == 6
    again = call("train", "small.toml")
    assert again.code == 1
    assert "--resume" in again.error
    resumed = call("train", "small.toml", "--resume")
    assert resumed.code == 0
    assert "finished after 6 steps" in resumed.error
    assert "Nothing to resume" not in resumed.error
    begun = call("train", "small.toml", "--to", "runs/nope", "--resume")  # as by a job that is started again
    assert begun.code == 0
    assert f"Nothing to resume in {Path('runs/nope')}: begins anew" in begun.error


def test_evaluate(call: Call, trained: Path) -> None:
    said = call("evaluate", trained / "a" / "best", "--tasks", 40)
    assert said.code == 0
    first, hardest = said.out.splitlines()
    assert first.startswith("prototypical, 5-way 1-shot, split test of digits: ")
    assert "(40 tasks, each query by itself)" in first
    assert "±" in first
    assert hardest.startswith("hardest classes: ")


def test_evaluate_tells_of_answers_that_are_not_finite(call: Call, trained: Path, tmp_path: Path) -> None:
    kept = load_checkpoint(trained / "a" / "best")
    next(kept.learner.parameters()).data.fill_(float("nan"))
    save_checkpoint(tmp_path / "nan", kept.learner, kept.spec, step=kept.step)
    said = call("evaluate", tmp_path / "nan", "--tasks", 4)
    assert "300 queries without a finite answer count as wrong" in said.out
    assert json.loads(call("evaluate", tmp_path / "nan", "--tasks", 4, "--json").out)["not_finite"] == 300


def test_evaluate_says_what_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    table = {"learner": "ridge", "data": "tox21", "value": 0.5, "ci95": 0.1, "tasks": 4, "not_finite": 2}
    table |= {"evaluation": {"ways": None, "shots": 5, "split": "test"}, "transductive": False, "strangers": {}}
    for metric, first, hardest in (
        ("auc", "ROC-AUC 0.500 ± 0.100  (4 tasks, each query by itself; 2 queries without a finite answer count as", 1),
        ("delta_auprc", "ΔAUPRC 0.500 ± 0.100  (", 1),
        ("mse", "MSE 0.500 ± 0.100  (4 tasks, each query by itself; 2 queries without a finite answer make the sc", 0),
    ):
        _show(table | {"metric": metric, "by_class": {"NR-AR": 0.45} if hardest else {}})
        said = capsys.readouterr().out
        assert said.startswith(f"ridge, 5-shot, split test of tox21: {first}")
        assert ("hardest assays: NR-AR " in said) == bool(hardest)
        assert "%" not in said
        assert "classes" not in said


def test_evaluate_as_json(call: Call, trained: Path) -> None:
    said = call("evaluate", trained / "a" / "best", "--tasks", 40, "--json")
    assert said.code == 0
    table = json.loads(said.out)  # one object and nothing else
    checkpoint = load_checkpoint(trained / "a" / "best")
    tasks = Tasks(split="test", ways=5, shots=1, queries=15, batch=20, seed=2)
    result = evaluate(checkpoint.learner, tasks.draw_from(load_data(checkpoint.spec)), tasks=40)
    assert (table["value"], table["ci95"], table["record"]) == (*result.mean, result.record)
    assert (table["metric"], table["tasks"], table["transductive"]) == ("accuracy", 40, False)
    assert (table["learner"], table["step"]) == ("prototypical", checkpoint.step)
    assert table["by_class"] == result.by_class
    assert list(table["by_class"].values()) == sorted(table["by_class"].values())
    assert table["evaluation"] == json.loads(tasks.model_dump_json())
    assert "against" not in table


def test_evaluate_on_pictures_of_a_data_set_named(call: Call, trained: Path) -> None:
    own, named = (
        json.loads(call("evaluate", trained / "a" / "best", "--tasks", 40, "--json", *data).out)
        for data in ((), ("--data", "digits"))
    )
    assert named["data"] == "digits"
    assert named["record"] == own["record"]


def test_options_choose_the_tasks(call: Call, trained: Path) -> None:
    options = ("--tasks", 40, "--split", "val", "--ways", 3, "--shots", 2, "--queries", 4, "--seed", 9)
    said = call("evaluate", trained / "a" / "best", *options, "--json")
    table = json.loads(said.out)["evaluation"]
    assert [table[key] for key in ("split", "ways", "shots", "queries", "seed")] == ["val", 3, 2, 4, 9]


def test_evaluate_against_another_on_the_same_tasks(call: Call, trained: Path) -> None:
    one, two = trained / "a" / "best", trained / "b" / "best"
    table = json.loads(call("evaluate", one, "--against", two, "--tasks", 40, "--json").out)
    data = load_data(load_checkpoint(one).spec)
    tasks = Tasks(split="test", ways=5, batch=20, seed=2)
    results = [evaluate(load_checkpoint(path).learner, tasks.draw_from(data), tasks=40) for path in (one, two)]
    difference = compare(*results)
    assert difference.value != 0
    assert table["value"] == results[0].mean.value
    value, ci95 = results[1].mean
    about = {"not_finite": 0, "transductive": False}
    assert table["against"] == {"checkpoint": str(two), "value": value, "ci95": ci95, **about}
    assert table["difference"] == {"value": difference.value, "ci95": difference.ci95}
    assert "paired difference: " in call("evaluate", one, "--against", two, "--tasks", 40).out


def test_options_at_their_defaults_are_the_same_data(call: Call, trained: Path, tmp_path: Path) -> None:
    kept = load_checkpoint(trained / "a" / "best")
    for symmetries in (False, True):
        spec = Spec.of(kept.spec.table() | {"data": {"name": "digits", "symmetries": symmetries}})
        save_checkpoint(tmp_path / "rival", build(spec), spec, step=0)
        said = call("evaluate", trained / "a" / "best", "--against", tmp_path / "rival", "--tasks", 4)
        assert (said.code, "are of different data" in said.error) == ((0, False) if symmetries else (1, True))


def test_a_rival_whose_queries_share_information_is_marked(call: Call, trained: Path, tmp_path: Path) -> None:
    kept = load_checkpoint(trained / "a" / "best")
    spec = Spec.of(kept.spec.table() | {"learner": {"name": "tim"}})
    save_checkpoint(tmp_path / "tim", build(spec), spec, step=0)
    options = (trained / "a" / "best", "--against", tmp_path / "tim", "--tasks", 4)
    line = next(line for line in call("evaluate", *options).out.splitlines() if line.startswith(str(tmp_path)))
    assert line.endswith("(transductive: queries share information)")
    assert json.loads(call("evaluate", *options, "--json").out)["against"]["transductive"] is True


def test_record_has_the_score_of_every_task(call: Call, trained: Path, tmp_path: Path) -> None:
    one, two = trained / "a" / "best", trained / "b" / "best"
    options = ("--tasks", 40, "--record", "scores/alone.csv", "--json")
    table = json.loads(call("evaluate", one, *options).out)
    rows = list(csv.DictReader((tmp_path / "scores" / "alone.csv").read_text().splitlines()))
    assert [row["task"] for row in rows] == [str(index) for index in range(40)]
    assert np.mean([float(row["accuracy"]) for row in rows]) == table["value"]
    table = json.loads(call("evaluate", one, "--against", two, *options).out)
    rows = list(csv.DictReader((tmp_path / "scores" / "alone.csv").read_text().splitlines()))
    assert np.mean([float(row["against"]) for row in rows]) == table["against"]["value"]


@pytest.mark.parametrize("place", ["file/alone.csv", "."])
def test_a_place_for_the_record_is_looked_at_first(
    call: Call, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.delattr("handful.cli.evaluation.evaluate")
    (tmp_path / "file").touch()
    said = call("evaluate", trained / "a" / "best", "--record", place)
    assert (said.code, said.out) == (1, "")
    assert said.error.startswith(f"error: cannot write {place}: ")


def test_reproduce(call: Call, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE + '[published]\nvalue = 0.5\nsource = "Nobody 2020"\n')
    said = call("reproduce", "tiny.toml")
    assert said.code == 0
    assert said.out.startswith("Small: ")
    assert "Published: 50.00 % (Nobody 2020)" in said.out
    written = json.loads((tmp_path / "results" / "tiny.json").read_text())
    again = call("reproduce", "tiny.toml", "--json")
    assert again.code == 0
    assert json.loads(again.out)["value"] == written["value"]


COMPARISON = """
title = "Small"
metric = "accuracy"
control = "prototypical"
data = { name = "digits" }
encoder = { name = "mlp", shape = [1, 8, 8], hidden = [8] }
train = { ways = 3, queries = 2 }
[tests]
"3-way" = { ways = 3, queries = 3, tasks = 10 }
[entries.prototypical]
title = "Prototypical network"
learner = { name = "prototypical" }
[entries.absent]
title = "Absent"
learner = { name = "of-tomorrow" }
"""


def test_compare(call: Call, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(COMPARISON)
    said = call("compare", "small.toml", "--minutes", 0.005, "--jobs", 2)
    assert (said.code, said.out) == (0, "")
    assert "no learner in this version for absent" in said.error
    result = json.loads((tmp_path / "results/comparison/small/prototypical.json").read_text())
    assert result["tests"]["3-way"]["tasks"] == 10
    page = (tmp_path / "docs/comparison.md").read_text()
    assert "| Prototypical network | " in page
    (tmp_path / "docs/comparison.md").write_text(page.replace("# Every", "Words.\n\n# Every"))
    assert call("compare", "small.toml", "--minutes", 0.005).code == 0  # at once
    assert "Words." in (tmp_path / "docs/comparison.md").read_text()
    assert "did you mean 'prototypical'" in call("compare", "small.toml", "--only", "prototypica").error


def test_a_comparison_is_not_shared_among_processes(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.cli.training.joined", lambda **_: nullcontext(Ranks(0, 2)))
    said = call("compare", "small.toml")
    assert (said.code, said.out) == (1, "")
    assert said.error == "error: a comparison starts processes of its own: use --jobs, and no torchrun\n"


def test_data_that_needs_no_files(call: Call) -> None:
    said = call("data", "add", "digits")
    assert (said.code, said.out) == (0, "")
    assert "digits is ready" in said.error


# Mistakes


def cut_in_half(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SINUSOID = spec(
    learner='name = "maml"\noutputs = 1',
    encoder='name = "mlp"\nshape = [1]',
    data='name = "sinusoid"',
    train="ways = 5\nsteps = 3",
    validation="every = 3",
)

MISTAKES: dict[str, tuple[list[str], str]] = {
    "unknown command": (["trian"], "trian"),
    "unknown option": (["train", "good.toml", "--resme"], "--resme"),
    "argument missing": (["train"], "argument 'spec'"),
    "wrong kind of option": (["evaluate", "a/best", "--tasks", "many"], "--tasks"),
    "too few tasks": (["evaluate", "a/best", "--tasks", "1"], "--tasks"),
    "no such spec": (["train", "absent.toml"], "absent.toml"),
    "directory as spec": (["train", "a"], "'a'"),
    "unreadable spec": (["train", "binary.toml"], "binary.toml: expected TOML"),
    "broken spec": (["train", "broken.toml"], "broken.toml: expected TOML"),
    "typo in spec": (["train", "typo.toml"], "unknown key 'train.setps'; did you mean 'train.steps'"),
    "typo in option": (["train", "option.toml"], "[train.optimizer] adam: unknown key 'bettas'"),
    "typo in name": (["train", "name.toml"], "unknown learner 'protypical'; did you mean 'prototypical'"),
    "value in spec": (["train", "value.toml"], "train.steps: input should be a valid integer"),
    "size in spec": (["train", "size.toml"], "expected sizes of at least 1"),
    "no shape": (["train", "shape.toml"], "set shape = [1, 8, 8] in [encoder]"),
    "ways of regression": (["train", "regression.toml"], "regression tasks have no `ways`"),
    "unknown split in spec": (["train", "split.toml"], "unknown split 'tain'"),
    "ways above the classes": (["train", "ways.toml"], "49 ways need as many classes, the pool has 48"),
    "too few examples": (["train", "shots.toml"], "200 shots + 15 queries need 215"),
    "folder under a file": (["train", "good.toml", "--to", "good.toml/run"], "good.toml/run"),
    "file as folder": (["train", "good.toml", "--to", "typo.toml"], "typo.toml"),
    "folder of other things": (["train", "good.toml", "--to", "photos"], "photos: expected a new or empty folder"),
    "folder with a run": (["train", "a.toml", "--to", "a"], "a: holds a run already"),
    "another run to resume": (["train", "good.toml", "--to", "a", "--resume"], "a: holds a run of another spec"),
    "unknown device in training": (["train", "good.toml", "--device", "gpu"], "device 'gpu' is not to be had"),
    "device that is not here": (["train", "good.toml", "--device", "hpu"], "device 'hpu' is not to be had"),
    "device without numbers": (["train", "good.toml", "--device", "meta"], "device 'meta' is not to be had"),
    "no such checkpoint": (["evaluate", "absent"], "absent"),
    "not a checkpoint": (["evaluate", "photos"], "photos: expected a checkpoint folder"),
    "a file as checkpoint": (["evaluate", "good.toml"], "good.toml: expected a checkpoint folder"),
    "run as checkpoint": (["evaluate", "a"], "it holds the checkpoints best, last: name one of them"),
    "half a checkpoint": (["evaluate", "half"], "weights.safetensors"),
    "half a checkpoint to resume": (["train", "a.toml", "--to", "cut", "--resume"], "optimizer.safetensors"),
    "ways above the classes in evaluation": (["evaluate", "a/best", "--ways", "17"], "17 ways need as many classes"),
    "too few examples in evaluation": (["evaluate", "a/best", "--shots", "200"], "200 shots + 15 queries need 215"),
    "unknown split": (["evaluate", "a/best", "--split", "tset"], "unknown split 'tset'; did you mean 'test'"),
    "unknown device": (["evaluate", "a/best", "--device", "gpu"], "device 'gpu' is not to be had"),
    "unknown data of evaluation": (["evaluate", "a/best", "--data", "omnigolt"], "did you mean 'omniglot'"),
    "own data in evaluation": (["evaluate", "a/best", "--data", "folder"], "data set 'folder' needs path"),
    "functions in evaluation": (["evaluate", "a/best", "--data", "line"], "'line' has no examples grouped by class"),
    "no such rival": (["evaluate", "a/best", "--against", "absent"], "absent"),
    "record under a file": (
        ["evaluate", "a/best", "--tasks", "5", "--record", "good.toml/x.csv"],
        "good.toml/x.csv",
    ),
    "record is a folder": (["evaluate", "a/best", "--tasks", "5", "--record", "photos"], "photos"),
    "unknown recipe": (["reproduce", "omniglot-mml-5w1s"], "did you mean 'omniglot-maml-5w1s'"),
    "no such recipe file": (["reproduce", "absent.toml"], "absent.toml"),
    "spec as recipe": (["reproduce", "good.toml"], "recipe good: missing key 'title'"),
    "results under a file": (["reproduce", "recipe.toml", "--to", "good.toml/results"], "good.toml/results"),
    "runs under a file": (["reproduce", "recipe.toml", "--to", "photos", "--runs", "good.toml/runs"], "good.toml/runs"),
    "device of a recipe": (["reproduce", "recipe.toml", "--device", "gpu"], "device 'gpu' is not to be had"),
    "unknown catalog": (["list", "lerners"], "lerners"),
    "unknown data set": (["data", "add", "omniglit"], "unknown data set 'omniglit'; did you mean 'omniglot'"),
    "folder of data missing": (["data", "add", "omniglot", "--from", "absent"], "absent"),
    "data that need no files": (["data", "add", "digits", "--from", "photos"], "'digits' needs no files"),
    "data of something else": (["data", "add", "omniglot", "--from", "photos"], "photos"),
}


@pytest.fixture(scope="module")
def mistaken(trained: Path) -> Path:
    """A folder with every kind of file that a mistake needs."""
    sources = {
        "good": spec(train="ways = 5\nsteps = 4"),
        "broken": "[learner\n",
        "typo": spec(train="ways = 5\nsteps = 4\nsetps = 5"),
        "option": spec(train='ways = 5\nsteps = 4\noptimizer = { name = "adam", bettas = [0, 1] }'),
        "name": spec(learner='name = "protypical"'),
        "value": spec(train='ways = 5\nsteps = "many"'),
        "size": spec(encoder='name = "mlp"\nshape = [1, 8, 8]\nhidden = [-3]'),
        "shape": spec(encoder='name = "mlp"'),
        "regression": SINUSOID,
        "split": spec(train='ways = 5\nsteps = 4\nsplit = "tain"'),
        "ways": spec(train="ways = 49\nsteps = 4"),
        "shots": spec(train="ways = 5\nshots = 200\nsteps = 4"),
        "recipe": RECIPE,
    }
    for name, content in sources.items():
        (trained / f"{name}.toml").write_text(content)
    (trained / "binary.toml").write_bytes(b"\xff\xfe\x00\x01")
    (trained / "photos").mkdir()
    (trained / "photos" / "cat.jpg").write_bytes(b"\xff\xd8")
    shutil.copytree(trained / "a" / "last", trained / "half")
    cut_in_half(trained / "half")
    shutil.copytree(trained / "a", trained / "cut")
    optimizer = trained / "cut" / "last" / "resume" / "optimizer.safetensors"
    optimizer.write_bytes(optimizer.read_bytes()[:100])
    return trained


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(call: Call, mistaken: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mistake: str) -> None:
    monkeypatch.chdir(mistaken)
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path / "cache"))
    arguments, expected = MISTAKES[mistake]
    before = tree(mistaken)
    said = call(*arguments)
    assert said.code in (1, 2)
    assert said.out == ""
    assert said.error.strip("\n") + "\n" == said.error  # no empty line of a bar that was not needed
    assert expected.casefold() in " ".join(said.error.split()).casefold()
    assert "Traceback" not in said.error
    assert tree(mistaken) == before


def test_ways_that_a_fixed_head_does_not_have(call: Call, tmp_path: Path) -> None:
    (tmp_path / "head.toml").write_text(spec(learner='name = "maml"\noutputs = 4'))
    said = call("train", "head.toml")
    assert said.code == 1
    assert "as many ways as outputs (outputs=5)" in said.error


def test_a_second_spec_may_use_the_folder_that_a_mistake_left(call: Call, tmp_path: Path) -> None:
    (tmp_path / "head.toml").write_text(spec(learner='name = "maml"\noutputs = 4'))
    assert call("train", "head.toml").code == 1
    (tmp_path / "head.toml").write_text(spec(learner='name = "maml"\noutputs = 5'))
    assert call("train", "head.toml").code == 0


@pytest.mark.parametrize("what", [["list", "learners"], ["--help"], ["--version"]])
def test_a_reader_that_goes_away(what: list[str]) -> None:
    """As in `handful list recipes | head -1`."""
    command = [sys.executable, "-c", "from handful.cli import main; main()", *what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert "Traceback" not in said
    assert "BrokenPipeError" not in said


def test_doctor(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    said = call("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(said.out)}
    names = ["program", "processor", "kernels", "memory", "speed", "accelerator", "extras", "data", "embeddings"]
    assert list(findings) == names
    assert findings["kernels"]["good"] == available()
    assert findings["speed"]["good"]
    assert "pictures" in call("doctor").out
    with plain():
        assert "PyTorch's own" in call("doctor").out


def test_doctor_counts_what_was_made_of_own_data(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("handful.cli.doctor._speed", _extras)
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path))
    for name in ("omniglot-28", "texts-0123456789abcdef", "folder-0123456789abcdef", "folder-abcdefabcdefabcd"):
        (tmp_path / name).mkdir()
    findings = {finding["name"]: finding for finding in json.loads(call("doctor", "--json").out)}
    said = "omniglot-28, 3 made of your own (folder-…, texts-…), which come again if deleted"
    assert findings["data"]["found"] == f"{tmp_path}: {said}"


def test_doctor_says_where_no_data_can_be(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("handful.cli.doctor._speed", _extras)
    (tmp_path / "file").touch()
    for place, said in ((tmp_path / "file" / "data", "nothing can be written there"), ("~no such/x", "write the path")):
        monkeypatch.setenv("HANDFUL_DATA", str(place))
        findings = {finding["name"]: finding for finding in json.loads(call("doctor", "--json").out)}
        assert not findings["data"]["good"]
        assert said in findings["data"]["found"] + findings["data"]["advice"]


def test_doctor_says_which_extras_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=1", "pytest>=8; extra == 'here'", "no-such-package>=2; extra == 'gone'", "pytest; extra == 'gone'"]
    monkeypatch.setattr("handful.cli.doctor.requires", lambda name: lines)
    found = _extras()
    assert (found.found, found.advice) == ("here", "pip install 'handful[gone]' adds one of gone")


def test_doctor_prints_brackets_as_they_are(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.cli.doctor.requires", lambda name: ["no-such-package>=2; extra == 'gone'"])
    assert "pip install 'handful[gone]'" in call("doctor").out


@pytest.mark.filterwarnings("always")
def test_a_warning_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_CACHE_MB", "lots")
    said = call("doctor")
    assert said.error == "warning: HANDFUL_CACHE_MB: expected a number of megabytes, got 'lots'\n"
