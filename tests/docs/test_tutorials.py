"""The documents keep their word: tutorials run and print what they show, the example spec builds."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import re
import tomllib
from pathlib import Path

import pytest
import torch

from handful.data import DATASETS
from handful.encoders import ENCODERS, PRETRAINED
from handful.learners import LEARNERS
from handful.reproduce import Published, Recipe, Trials
from handful.selection import SELECTIONS
from handful.spec import Spec, Tasks, Training, Validation, build
from handful.training import SCHEDULES

ROOT = Path(__file__).parents[2]
DOCUMENTS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`(\w+)`")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def blocks(path: Path) -> list[tuple[str, str]]:
    """(language, content) of each fenced block, in order."""
    return BLOCK.findall(path.read_text(encoding="utf-8"))


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng([]):
        yield
    torch.set_num_threads(before)


PAGES = [ROOT / "README.md", *sorted((DOCUMENTS / "tutorials").glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_prints_what_it_shows(path, one_thread):
    namespace = {"__name__": "tutorial"}
    found = blocks(path)
    assert found
    for (language, content), (following, shown) in itertools.pairwise([*found, ("", "")]):
        if language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(content, path.name, "exec"), namespace)
        if printed.getvalue():
            assert following == "text", f"{path.name} does not show what it prints: {printed.getvalue()}"
            agrees(printed.getvalue(), shown)


def agrees(printed: str, shown: str) -> None:
    """The same words; figures within a point (of lines in percent or points) or a tenth."""
    for line, expected in zip(printed.splitlines(), shown.splitlines(), strict=True):
        assert NUMBER.sub("#", line) == NUMBER.sub("#", expected)
        point = 1.0 if "%" in line or "points" in line else 0.1
        for was, said in zip(NUMBER.findall(line), NUMBER.findall(expected), strict=True):
            assert float(was) == pytest.approx(float(said), rel=0.1, abs=point), line


def test_the_example_spec_is_valid_and_builds():
    (example,) = [content for language, content in blocks(DOCUMENTS / "specs.md") if language == "toml"]
    spec = Spec.of(tomllib.loads(example))
    assert Spec.of(spec.table()) == spec
    assert sum(p.numel() for p in build(spec).parameters()) > 0


def test_the_specs_of_your_own_data_have_something_to_learn():
    whole, *parts = [
        tomllib.loads(text) for language, text in blocks(DOCUMENTS / "data" / "own.md") if language == "toml"
    ]
    for table in (whole, *({**whole, **part} for part in parts)):
        assert any(p.requires_grad for p in build(Spec.of(table)).parameters())


@pytest.mark.parametrize("model", [Spec, Tasks, Training, Validation, Trials, Published, Recipe])
def test_every_key_is_in_the_reference(model):
    page = (DOCUMENTS / "specs.md").read_text(encoding="utf-8")
    hidden = {"name", "given", "spec"} if model is Recipe else set()  # the file's name and its own tables
    shown = {name for name in model.model_fields if f"`{name}`" in page or f"`[{name}]`" in page}
    assert set(model.model_fields) - shown <= hidden


@pytest.mark.parametrize(
    ("kind", "name", "target", "skip"),
    [
        *(("encoder", name, cls, 0) for name, cls in {**ENCODERS, **PRETRAINED}.items()),
        *(("data", name, entry.load, 0) for name, entry in DATASETS.items()),
        *(("schedule", name, schedule, 1) for name, schedule in SCHEDULES.items()),
        *(("selection", name, cls, 3) for name, cls in SELECTIONS.items()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_option_is_in_the_reference(kind, name, target, skip):
    page = (DOCUMENTS / "specs.md").read_text(encoding="utf-8")
    for option in [name, *list(inspect.signature(target).parameters)[skip:]]:
        assert f"`{option}`" in page, f"{kind} {name}: {option}"


def test_every_option_of_a_learner_is_in_its_rows():
    page = (DOCUMENTS / "specs.md").read_text(encoding="utf-8")
    section = page.split("### `[learner]`")[1].split("### `[encoder]`")[0]
    said = {name: set[str]() for name in LEARNERS}
    heading = "`maml`"
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4:  # the table of maml alone
            cells = ["`maml`", *cells]
        if len(cells) != 5:
            continue
        heading = cells[0] or heading
        named = set(CODE.findall(heading))
        for name in said.keys() - named if heading.startswith("all") else named & said.keys():
            said[name] |= set(CODE.findall(cells[1]))
    missing = {name: set(list(inspect.signature(cls).parameters)[1:]) - said[name] for name, cls in LEARNERS.items()}
    assert not {name: options for name, options in missing.items() if options}
