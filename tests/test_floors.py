import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import handful

ROOT = Path(handful.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

FLOORS = {
    "": 0,  # handful/__init__.py: the version; its lazy names stand above everything
    "errors": 0,
    "files": 0,
    "machine": 0,
    "progress": 0,
    "recipes": 0,
    "stopping": 0,
    "version": 0,
    "molecules": 1,
    "pictures": 1,
    "rows": 1,
    "parts": 2,
    "tables": 1,
    "distributed": 1,
    "examples": 1,
    "episode": 1,
    "ops": 2,
    "kernels": 1,
    "encoders": 3,
    "learner": 4,
    "gradient_learner": 4,
    "pretrained_learner": 4,
    "adaptable": 4,
    "ensemble_learner": 4,
    "sequence_learner": 4,
    "zero_shot_learner": 4,
    "learners": 5,
    "data": 5,
    "training": 6,
    "scoring": 6,
    "evaluation": 6,
    "selection": 6,
    "verification": 6,
    "log": 7,
    "spec": 7,
    "checkpoint": 7,
    "generalized": 7,
    "kinds": 7,
    "resuming": 7,
    "run": 8,
    "transfer": 8,
    "collection": 8,
    "recognizer": 9,
    "estimator": 9,
    "reproduce": 9,
    "comparison": 9,
    "ledger": 9,
    "runtime": 10,
    "cli": 10,
    "__main__": 11,
}
SAME_FLOOR = {
    ("episode", "examples"),
    ("ensemble_learner", "gradient_learner"),
    ("gradient_learner", "learner"),
    ("pretrained_learner", "learner"),
    ("sequence_learner", "learner"),
    ("zero_shot_learner", "learner"),
    ("files", "errors"),
    ("recipes", "errors"),
    ("checkpoint", "spec"),
    ("spec", "kinds"),
    ("resuming", "spec"),
    ("selection", "scoring"),
    ("evaluation", "scoring"),
    ("comparison", "reproduce"),
    ("comparison", "ledger"),
    ("estimator", "recognizer"),
}
"""The only imports between two modules of one floor."""


def module_of(path: Path) -> tuple[str, ...]:
    """The dotted parts below `handful`; of a package, without `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """What a file imports from handful, as dotted parts below `handful`, wherever in the file it does."""
    module = module_of(path)
    package = module if path.name == "__init__.py" else module[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + tuple((node.module or "").split("."))
            base = tuple(part for part in base if part)
            for alias in node.names:
                deeper = ROOT.joinpath(*base, alias.name)
                is_module = deeper.with_suffix(".py").exists() or (deeper / "__init__.py").exists()
                yield (*base, alias.name) if is_module else base
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "handful":
            yield tuple((node.module or "").split(".")[1:])
        elif isinstance(node, ast.Import):
            yield from (tuple(a.name.split(".")[1:]) for a in node.names if a.name.split(".")[0] == "handful")


def top(module: tuple[str, ...]) -> str:
    return module[0] if module else ""


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_imports_only_from_lower_floors(path: Path) -> None:
    here = top(module_of(path))
    assert here in FLOORS, f"say on which floor handful.{here} stands"
    for imported in imports(path):
        there = top(imported)
        floor = FLOORS[here] if here else max(FLOORS.values()) + 1
        allowed = there == here or FLOORS[there] < floor or (here, there) in SAME_FLOOR
        assert allowed, f"{'.'.join(module_of(path))} (floor {FLOORS[here]}) imports {'.'.join(imported)}"


def test_the_rule_sees_the_imports_there_are() -> None:
    seen = {imported for path in FILES for imported in imports(path)}
    assert {("errors",), ("ops", "classes"), ("learners", "gradient", "maml"), ("spec",), ("version",)} <= seen


def test_the_pages_show_the_house_as_it_is() -> None:
    if not (ROOT.parents[1] / "ARCHITECTURE.md").exists():
        pytest.skip("an installed package has no pages")
    chart = (ROOT.parents[1] / "ARCHITECTURE.md").read_text()
    for module, floor in FLOORS.items():
        assert module in ("", "__main__") or re.search(rf'"{floor} · [^"]*\b{module}\b', chart), module
    house = (ROOT.parents[1] / "README.md").read_text().partition("## The house")[2]
    rooms = {path.name for path in ROOT.glob("*.py")} | {f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py")}
    modules = {path.name for path in (ROOT / "ops").glob("*.py")}
    learners = {path.stem for path in (ROOT / "learners").glob("*/*.py")}
    for name in (rooms | modules | learners) - {"__init__.py", "__main__.py", "__init__"}:
        assert name in house, f"{name} is not in the README's house"


def test_recipes_need_only_the_errors() -> None:
    for path in (ROOT / "recipes").glob("*.py"):
        assert set(imports(path)) <= {("errors",)}


@pytest.mark.parametrize("path", sorted((ROOT / "learners").glob("*/*.py")), ids=lambda path: path.stem)
def test_learners_never_import_each_other(path: Path) -> None:
    assert not [module for module in imports(path) if top(module) == "learners"]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    learner = path.parent.parent == ROOT / "learners"
    assert len(text.splitlines()) <= (220 if learner else 300)
    assert ast.get_docstring(ast.parse(text)), "a module begins with a docstring"


@pytest.mark.parametrize("module", ["handful", "handful.cli", "handful.cli.app"])
def test_nothing_heavy_is_imported_before_it_is_needed(module: str) -> None:
    code = f"import sys, {module}; sys.exit(', '.join({{'torch', 'numpy', 'scipy'}} & set(sys.modules)) or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, f"{module} imports {result.stderr}"
