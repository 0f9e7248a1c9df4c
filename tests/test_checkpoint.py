from __future__ import annotations

import ast
import errno
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import handful
from handful.checkpoint import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from handful.errors import CheckpointError, DataError, StorageError
from handful.learner import Learner
from handful.spec import Spec, build, load_data, make_optimizer, make_schedule
from handful.training import OPTIMIZERS, train

FILES = ["spec.json", "weights.safetensors", "resume/optimizer.safetensors"]


@pytest.fixture
def spec(digits_table: Callable[..., dict[str, Any]]) -> Spec:
    return Spec.of(digits_table(steps=6, schedule={"name": "cosine"}))


def trained(spec: Spec, steps: int) -> tuple[Learner, torch.optim.Optimizer]:
    learner = build(spec)
    optimizer = make_optimizer(spec, learner)
    run(spec, learner, optimizer, 0, steps)
    return learner, optimizer


def run(spec: Spec, learner: Learner, optimizer: torch.optim.Optimizer, start: int, stop: int) -> list[float]:
    episodes, schedule = spec.train.draw_from(load_data(spec)), make_schedule(spec)
    steps = train(learner, episodes, optimizer, steps=stop, start=start, schedule=schedule)
    return [float(step.loss) for step in steps]


@pytest.fixture
def saved(spec: Spec, tmp_path: Path) -> Path:
    learner, optimizer = trained(spec, 3)
    save_checkpoint(tmp_path / "saved", learner, spec, step=3, notes={"score": 0.5}, optimizer=optimizer)
    return tmp_path / "saved"


def same(a: Learner, b: Learner) -> None:
    one, two = a.state_dict(), b.state_dict()
    assert list(one) == list(two)
    for name, value in one.items():
        assert value.dtype == two[name].dtype, name
        assert torch.equal(value, two[name]), name


def broken(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    return str(caught.value)


def edited(folder: Path, **values: object) -> None:
    about = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps(about | values))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_exact_round_trip(digits_table: Callable[..., dict[str, Any]], tmp_path: Path, name: str) -> None:
    options = {"momentum": 0.9} if name == "sgd" else {"amsgrad": True}
    spec = Spec.of(digits_table(optimizer={"name": name, **options}))
    learner, optimizer = trained(spec, 3)
    assert any("running_mean" in key for key in learner.state_dict())
    notes = {"score": 0.1 + 0.2, "progress": {"best": None}, "name": "é"}
    save_checkpoint(tmp_path / "a", learner, spec, step=3, notes=notes, optimizer=optimizer)
    loaded = load_checkpoint(tmp_path / "a")
    assert (loaded.spec, loaded.step, loaded.notes) == (spec, 3, notes)
    same(loaded.learner, learner)
    assert loaded.optimizer is not None
    state = optimizer.state_dict()["state"]
    expected = {(number, key): value for number, entry in state.items() for key, value in entry.items()}
    assert set(loaded.optimizer) == set(expected)
    assert all(isinstance(value, Tensor) for value in expected.values())
    assert all(torch.equal(loaded.optimizer[key], value) for key, value in expected.items())
    assert all(loaded.optimizer[key].dtype == value.dtype for key, value in expected.items())


def test_training_continues_bit_for_bit(spec: Spec, saved: Path) -> None:
    whole, optimizer = trained(spec, 3)
    expected = run(spec, whole, optimizer, 3, 6)
    loaded = load_checkpoint(saved)
    later = make_optimizer(spec, loaded.learner)
    loaded.resume_optimizer(later)
    assert run(spec, loaded.learner, later, loaded.step, 6) == expected
    same(loaded.learner, whole)


def test_saving_twice_writes_the_same_bytes(spec: Spec, saved: Path, tmp_path: Path) -> None:
    learner, optimizer = trained(spec, 3)
    save_checkpoint(tmp_path / "again", learner, spec, step=3, notes={"score": 0.5}, optimizer=optimizer)
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_without_an_optimizer_there_is_nothing_to_resume(spec: Spec, tmp_path: Path) -> None:
    learner, _ = trained(spec, 1)
    save_checkpoint(tmp_path / "best", learner, spec, step=1)
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["spec.json", "weights.safetensors"]
    loaded = load_checkpoint(tmp_path / "best")
    assert loaded.optimizer is None
    with pytest.raises(CheckpointError, match="no optimizer state"):
        loaded.resume_optimizer(make_optimizer(spec, loaded.learner))


def test_a_new_checkpoint_takes_the_place_of_the_old(spec: Spec, saved: Path) -> None:
    learner, _ = trained(spec, 4)
    save_checkpoint(saved, learner, spec, step=4)
    assert load_checkpoint(saved).step == 4
    assert not (saved / "resume").exists()
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_no_file_is_a_pickle(saved: Path) -> None:
    files = sorted(str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file())
    assert files == sorted(FILES)
    json.loads((saved / "spec.json").read_text())
    for name in FILES[1:]:
        content = (saved / name).read_bytes()
        assert not content.startswith(b"\x80")
        assert not zipfile.is_zipfile(saved / name)
        size = int.from_bytes(content[:8], "little")  # safetensors: the length of a JSON header, then numbers
        header = json.loads(content[8 : 8 + size])
        end = max(entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__")
        assert len(content) == 8 + size + end


def test_the_sources_know_no_pickle() -> None:
    root = Path(handful.__file__).parent
    sources = sorted(root.rglob("*.py"))
    assert len(sources) > 30
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names += [node.module or ""]
                assert node.module != "torch" or not {"save", "load"} & set(names), where
            modules = {name.split(".")[0] for name in names}
            assert not modules & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, where
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
                assert node.attr not in ("save", "load"), where
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), where
                assert node.value.value is False, where


@pytest.mark.parametrize("name", FILES)
def test_files_cut_short(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    for length in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 2):
        (saved / name).write_bytes(whole[:length])
        assert str(saved / name) in broken(saved), length
    (saved / name).write_bytes(whole)
    load_checkpoint(saved)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_changed_byte_is_noticed(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    for place in (0, 20, len(whole) // 2, len(whole) - 1):
        content = bytearray(whole)
        content[place] ^= 1
        (saved / name).write_bytes(content)
        said = broken(saved)
        assert str(saved / name) in said
        assert "cut short or changed" in said


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    assert f"{saved / name}: missing" in broken(saved)


def test_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "file").write_text("no folder")
    for name in ("photos", "file", "absent"):
        assert f"{tmp_path / name}: expected a checkpoint folder" in broken(tmp_path / name)


def test_the_folder_of_a_run_lists_its_checkpoints(saved: Path) -> None:
    shutil.copytree(saved, saved.parent / "other")
    assert "it holds the checkpoints other, saved: name one of them" in broken(saved.parent)


@pytest.mark.parametrize(
    "content", ["", "null", "[]", "3", '"x"', "{}", '{"format": 1}', "{not json", '{"format": "1", "sha256": {}}']
)
def test_foreign_json(saved: Path, content: str) -> None:
    (saved / "spec.json").write_text(content)
    assert f"{saved / 'spec.json'}: broken, or not written by Handful" in broken(saved)


@pytest.mark.parametrize(
    "values",
    [
        {"step": "three"},
        {"spec": None},
        {"notes": []},
        {"sha256": {}},
        {"sha256": "abc"},
        {"sha256": {"weights.safetensors": 3}},
        {"format": "1"},
        {"format": None},
    ],
)
def test_json_with_a_wrong_part(saved: Path, values: dict[str, object]) -> None:
    edited(saved, **values)
    assert str(saved / "spec.json") in broken(saved)


def test_binary_json(saved: Path) -> None:
    (saved / "spec.json").write_bytes(b"\xff\xfe\x00\x01")
    assert "broken, or not written by Handful" in broken(saved)


def test_a_newer_format_asks_for_an_upgrade(saved: Path) -> None:
    edited(saved, format=FORMAT + 1, handful="9.9.9")
    said = broken(saved)
    assert str(saved) in said
    assert f"format {FORMAT + 1} by Handful 9.9.9" in said
    assert "upgrade Handful" in said


def test_a_wrong_digest(saved: Path) -> None:
    about = json.loads((saved / "spec.json").read_text())
    edited(saved, sha256=about["sha256"] | {"weights.safetensors": "0" * 64})
    assert str(saved / "weights.safetensors") in broken(saved)


def test_right_digest_of_something_else(saved: Path) -> None:
    """Whoever edits a file and its digest too still gets a clear word."""
    content = b"not tensors at all"
    (saved / "weights.safetensors").write_bytes(content)
    about = json.loads((saved / "spec.json").read_text())
    edited(saved, sha256=about["sha256"] | {"weights.safetensors": hashlib.sha256(content).hexdigest()})
    said = broken(saved)
    assert str(saved) in said
    assert "safetensors" in said


@pytest.mark.parametrize(
    ("key", "value"), [("hidden", [17]), ("hidden", [16, 16]), ("normalization", "none"), ("normalization", "batch")]
)
def test_weights_of_another_architecture(spec: Spec, saved: Path, key: str, value: object) -> None:
    table = spec.table()
    table["encoder"][key] = value
    edited(saved, spec=table)
    said = broken(saved)
    assert f"{saved}: spec and weights do not make a learner of this version" in said
    assert "encoder.layers" in said


def test_a_spec_of_a_learner_that_is_not_here(spec: Spec, saved: Path) -> None:
    edited(saved, spec=spec.table() | {"learner": {"name": "tomorrow"}})
    said = broken(saved)
    assert str(saved) in said
    assert "unknown learner 'tomorrow'" in said


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("where", ["fsync", "write", "half"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_checkpoint(
    spec: Spec, saved: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: int
) -> None:
    before = tree(saved.parent)
    learner, optimizer = trained(spec, 4)
    write = Path.write_bytes

    def full(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    def half(path: Path, content: bytes) -> None:
        write(path, content[: len(content) // 2])
        full()

    with monkeypatch.context() as patch:
        if where == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            patch.setattr(Path, "write_bytes", full if where == "write" else half)
        with pytest.raises(StorageError) as caught:
            save_checkpoint(saved, learner, spec, step=4, optimizer=optimizer)
    assert str(saved) in str(caught.value)
    assert ("disk is full" if code == errno.ENOSPC else "quota is used up") in str(caught.value)
    assert tree(saved.parent) == before
    assert load_checkpoint(saved).step == 3


def test_a_full_disk_leaves_nothing_where_nothing_was(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, _ = trained(spec, 1)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="disk is full"):
            save_checkpoint(tmp_path / "new", learner, spec, step=1)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(spec: Spec, tmp_path: Path) -> None:
    learner, _ = trained(spec, 1)
    (tmp_path / "file").write_text("kept")
    for place in (tmp_path / "file" / "run", tmp_path / "file"):
        with pytest.raises(StorageError) as caught:
            save_checkpoint(place, learner, spec, step=1)
        assert str(place) in str(caught.value)
        assert tree(tmp_path) == {"file": b"kept"}


def killed_at(number: int, saved: Path, spec: Spec) -> None:
    """A process that is killed right before its rename of this number, while it saves step 4."""
    learner, optimizer = trained(spec, 4)
    child = os.fork()
    if child == 0:
        renames = [0]
        rename = os.rename

        def counted(*arguments: Any, **options: Any) -> None:
            if renames[0] == number:
                os._exit(9)
            renames[0] += 1
            rename(*arguments, **options)

        os.rename = counted
        try:
            save_checkpoint(saved, learner, spec, step=4, optimizer=optimizer)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("number", [0, 1])
def test_a_kill_between_the_renames_is_mended(spec: Spec, saved: Path, number: int) -> None:
    before = tree(saved)
    killed_at(number, saved, spec)
    assert saved.exists() is (number == 0)
    loaded = load_checkpoint(saved)
    assert loaded.step == 3
    assert saved.exists() is (number == 0)  # reading moves nothing: somebody may be writing there
    assert tree(saved if number == 0 else saved.with_name(".saved.old")) == before
    save_checkpoint(saved, loaded.learner, spec, step=5)
    assert load_checkpoint(saved).step == 5


def test_a_kill_after_the_renames_leaves_the_new(spec: Spec, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(BaseException):
        pass

    def kill(path: Path, **options: object) -> None:
        if Path(path).name == ".saved.old":
            raise KilledError

    learner, optimizer = trained(spec, 4)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", kill)
        with pytest.raises(KilledError):
            save_checkpoint(saved, learner, spec, step=4, optimizer=optimizer)
    assert (saved.parent / ".saved.old").exists()
    assert load_checkpoint(saved).step == 4
    save_checkpoint(saved, learner, spec, step=5, optimizer=optimizer)
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_reading_while_another_process_saves(spec: Spec, saved: Path) -> None:
    """Every read gets one whole checkpoint, whichever; none fails, and none disturbs the writer."""
    learner, optimizer = trained(spec, 4)
    child = os.fork()
    if child == 0:
        try:
            for step in range(4, 64):
                save_checkpoint(saved, learner, spec, step=step, optimizer=optimizer)
            os._exit(0)
        finally:
            os._exit(1)
    ended, steps = 0, set()
    while not ended:
        steps.add(load_checkpoint(saved).step)
        ended, status = os.waitpid(child, os.WNOHANG)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(steps) > 1
    assert load_checkpoint(saved).step == 63


def test_a_checkpoint_is_a_value() -> None:
    assert Checkpoint.__dataclass_params__.frozen  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_a_learner_of_another_precision_survives(spec: Spec, tmp_path: Path, kind: torch.dtype) -> None:
    learner = trained(spec, 1)[0].to(kind)
    save_checkpoint(tmp_path / "cast", learner, spec, step=1)
    loaded = load_checkpoint(tmp_path / "cast").learner
    assert {p.dtype for p in loaded.parameters()} == {kind}
    same(loaded, learner)


def test_numbers_of_numpy_in_notes(spec: Spec, tmp_path: Path) -> None:
    notes = {"score": np.float32(0.5), "best": {"step": np.int64(3), "better": np.bool_(True)}}
    save_checkpoint(tmp_path / "a", build(spec), spec, step=3, notes=notes)
    assert load_checkpoint(tmp_path / "a").notes == {"score": 0.5, "best": {"step": 3, "better": True}}


def test_notes_that_are_not_json(spec: Spec, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected notes of JSON values, got tensor\(1.\) of type Tensor"):
        save_checkpoint(tmp_path / "a", build(spec), spec, step=3, notes={"score": torch.ones(())})
    assert list(tmp_path.iterdir()) == []
