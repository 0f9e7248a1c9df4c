import errno
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from handful import files
from handful.errors import StorageError
from handful.files import alone, data_folder, expanded, new_folder, recover_folder, storage_errors, write_file


def test_threads_write_one_file_at_once(tmp_path: Path) -> None:
    contents = {bytes([65 + number]) * 100_000 for number in range(8)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_file(tmp_path / "file", content), list(contents) * 5))
    assert (tmp_path / "file").read_bytes() in contents
    assert os.listdir(tmp_path) == ["file"]


class Killed(BaseException):
    """What a kill looks like from inside: no handler, no cleaning up."""


def full(*arguments: Any, **options: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_at(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """The disk is full from this operation on."""
    if place == "write":

        class Full:
            def __init__(self, path: Path, mode: str) -> None:
                self.file = open(path, mode)  # noqa: SIM115

            def __enter__(self) -> "Full":
                return self

            def __exit__(self, *error: object) -> None:
                self.file.close()

            def write(self, data: bytes) -> None:
                self.file.write(data[:3])
                full()

        monkeypatch.setattr(files, "open", Full, raising=False)
    else:
        monkeypatch.setattr(os, place, full)


def fill(folder: Path, text: str) -> None:
    with new_folder(folder) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "file").write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("data", ["größe\n", b"\x00\xff"])
def test_a_file_is_written_and_replaced_whole(tmp_path: Path, data: str | bytes) -> None:
    path = tmp_path / "a" / "b.json"
    write_file(path, "old")
    write_file(str(path), data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert os.listdir(path.parent) == ["b.json"]


@pytest.mark.parametrize("place", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "file"
    write_file(path, "old")
    fail_at(monkeypatch, place)
    with pytest.raises(StorageError, match=rf"cannot write {path}: the disk is full: free some space"):
        write_file(path, "new content")
    assert content(tmp_path) == {"file": "old"}


def test_the_file_reaches_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real: dict[str, Callable[..., Any]] = {"fsync": os.fsync, "replace": os.replace}
    for name, function in real.items():

        def noted(*arguments: Any, name: str = name, function: Callable[..., Any] = function) -> Any:
            events.append(name)
            return function(*arguments)

        monkeypatch.setattr(os, name, noted)
    write_file(tmp_path / "file", "new")
    assert events == ["fsync", "replace", "fsync"]  # content, name, folder


def test_a_folder_is_written_and_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    fill(folder, "old")
    assert content(folder) == {"deep/file": "old"}
    with new_folder(folder) as temporary:
        assert content(folder) == {"deep/file": "old"}
        assert temporary.parent == folder.parent
        (temporary / "other").write_text("new")
    assert content(folder) == {"other": "new"}
    assert os.listdir(folder.parent) == ["run"]


def test_an_error_while_filling_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path / "run", "old")
    with pytest.raises(KeyError), new_folder(tmp_path / "run") as temporary:  # noqa: PT012
        (temporary / "half").write_text("half")
        raise KeyError
    assert content(tmp_path) == {"run/deep/file": "old"}


@pytest.mark.parametrize("place", ["fsync", "rename"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_full_disk_leaves_the_old_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, exists: bool
) -> None:
    folder = tmp_path / "run"
    if exists:
        fill(folder, "old")
    fail_at(monkeypatch, place)
    with pytest.raises(StorageError, match=rf"cannot write {folder}: the disk is full"):
        fill(folder, "new")
    assert content(tmp_path) == ({"run/deep/file": "old"} if exists else {})
    assert os.listdir(tmp_path) == (["run"] if exists else [])


def fail_second_rename(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    real, calls = os.rename, []

    def rename(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise error
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)


def test_a_full_disk_between_the_two_renames_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "run", "old")
    fail_second_rename(monkeypatch, OSError(errno.ENOSPC, "full"))
    with pytest.raises(StorageError, match="the disk is full"):
        fill(tmp_path / "run", "new")
    assert content(tmp_path) == {"run/deep/file": "old"}


def killed_between_renames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process killed between the two renames leaves: its cleaning up never runs."""
    with monkeypatch.context() as patch:
        fail_second_rename(patch, Killed())
        with pytest.raises(Killed), new_folder(folder) as temporary:  # noqa: PT012
            (temporary / "new").write_text("new")
            patch.setattr(files, "recover_folder", lambda path: None)
            patch.setattr(files.shutil, "rmtree", lambda path, ignore_errors=False: None)
    assert not folder.exists()


@pytest.mark.parametrize("again", [False, True])
def test_a_kill_between_the_two_renames_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    folder = tmp_path / "run"
    fill(folder, "old")
    killed_between_renames(folder, monkeypatch)
    if again:
        with pytest.raises(KeyError), new_folder(folder):
            raise KeyError  # mended at the start, so that a failure leaves the old
    else:
        recover_folder(folder)
    assert content(folder) == {"deep/file": "old"}
    files.sweep(tmp_path)
    fill(folder, "newest")
    assert content(tmp_path) == {"run/deep/file": "newest"}
    assert os.listdir(tmp_path) == ["run"]


def test_a_kill_after_the_second_rename_leaves_the_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fill(folder, "new")
    fill(tmp_path / ".run.old", "old")  # not yet removed
    recover_folder(folder)
    assert content(tmp_path) == {"run/deep/file": "new"}
    recover_folder(folder)  # and nothing is left to do
    assert content(tmp_path) == {"run/deep/file": "new"}


def test_a_file_in_the_place_of_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with (
        pytest.raises(StorageError, match="a file stands where a folder is needed"),
        new_folder(tmp_path / "thesis.txt"),
    ):
        pytest.fail("the block must not run")
    assert content(tmp_path) == {"thesis.txt": "precious"}


def test_a_path_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"a file stands where a folder is needed|a part of the path is a file"):
        write_file(tmp_path / "file" / "below", "y")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        write_file(tmp_path / "file" / "deep" / "below", "y")
    with pytest.raises(StorageError, match=r"file"), new_folder(tmp_path / "file" / "below"):
        pytest.fail("the block must not run")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "no permission: ask for the right to read it"),
        (errno.EPERM, "no permission: ask for the right to read it"),
        (errno.EROFS, "the file system is read-only"),
        (errno.ENOTDIR, "a part of the path is a file"),
        (errno.EEXIST, "a file stands where a folder is needed"),
        (errno.ENAMETOOLONG, "the name is too long"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_an_error_names_the_place_and_the_remedy(number: int, remedy: str) -> None:
    with pytest.raises(StorageError, match=f"cannot read here: {remedy}") as caught, storage_errors("here", "read"):
        raise OSError(number, os.strerror(number))
    assert isinstance(caught.value.__cause__, OSError)


def test_an_unwritable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*arguments: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(files, "open", denied, raising=False)
    with pytest.raises(StorageError, match=rf"cannot write {tmp_path}/file: no permission: choose a folder you may w"):
        write_file(tmp_path / "file", "x")
    monkeypatch.setattr(Path, "mkdir", denied)
    with (
        pytest.raises(StorageError, match=rf"cannot write {tmp_path}/run: no permission"),
        new_folder(tmp_path / "run"),
    ):
        pytest.fail("the block must not run")


def test_an_error_without_a_number_and_one_that_is_ours_already() -> None:
    with pytest.raises(StorageError, match="cannot write here: odd"), storage_errors("here"):
        raise OSError("odd")
    ours = StorageError("said already")
    with pytest.raises(StorageError) as caught, storage_errors("here"):
        raise ours
    assert caught.value is ours


def test_a_home_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HANDFUL_DATA", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", str)  # a user whom the system does not know, as in containers
    with pytest.raises(StorageError, match="no home folder for data; set HANDFUL_DATA"):
        data_folder()
    with pytest.raises(StorageError, match="~nobody/x: there is no such home folder; write the path out"):
        expanded("~nobody/x")
    monkeypatch.setenv("HANDFUL_DATA", "data")
    assert data_folder() == Path("data")


COUNT = """
import sys
from pathlib import Path
from handful.files import alone
count = Path(sys.argv[1])
for _ in range(300):
    with alone(count), alone(count):
        count.write_text(str(int(count.read_text() or 0) + 1))
"""


def test_processes_that_make_one_thing_wait_for_each_other(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.touch()
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(count)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert content(tmp_path) == {"count": "900"}, "every step counts, and no lock is left"


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    for name in (".run.123.tmp", ".run.123.tmp.kept", ".run.b.7.tmp"):
        fill(tmp_path / name, name)
    (tmp_path / ".run.lock").touch()
    with alone(tmp_path / "run"):
        assert sorted(os.listdir(tmp_path)) == [".run.123.tmp.kept", ".run.b.7.tmp", ".run.lock"]


def test_where_nobody_may_write_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with alone(tmp_path / "file" / "below"):
        assert os.listdir(tmp_path) == ["file"]


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    fill(tmp_path / "v1", "old")
    (tmp_path / "current").symlink_to("v1")
    fill(tmp_path / "current", "new")
    assert (tmp_path / "current").is_symlink()
    assert content(tmp_path / "v1") == {"deep/file": "new"}
    (tmp_path / "v1").rename(tmp_path / ".v1.old")  # as a kill leaves it
    recover_folder(tmp_path / "current")
    assert content(tmp_path / "current") == {"deep/file": "new"}
    assert sorted(os.listdir(tmp_path)) == ["current", "v1"]


def test_a_link_to_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    write_file(tmp_path / "link", "one")
    write_file(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "two"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        write_file(tmp_path / "pipe", "content")
        assert read.result(timeout=10) == "content"
    assert (tmp_path / "pipe").is_fifo()
