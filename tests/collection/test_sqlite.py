from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from handful.collection import EncoderIdentity, NewExample, collection_path, create_collection, open_collection
from handful.collection import database as database_module
from handful.collection.sqlite import SQLiteCollection
from handful.errors import CollectionError, DataError, StorageError

Within = Callable[[], AbstractContextManager[None]]
ENCODER = EncoderIdentity("tiny", "ab" * 32, 3)


@pytest.fixture
def full_disk() -> Within:
    """Within, no file of this process can grow."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def full() -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full


def example(label: str, number: float) -> NewExample:
    return NewExample(label, np.full(3, number, np.float32), "memory", "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_collection(tmp_path / "shop", ENCODER, {}, [example("a", 1), example("b", 2)]).close()
    return tmp_path / "shop.handful"


def test_what_a_process_leaves_another_finds(path: Path) -> None:
    with open_collection(path) as store:
        store.add([example("a", 3)])
        expected = store.read()
    for name in (path, path.with_suffix("")):
        with open_collection(name) as store:
            found = store.read()
            assert found.examples == expected.examples
            assert found.vectors.tobytes() == expected.vectors.tobytes()


def test_it_is_one_file_when_closed_and_synchronizes_fully(path: Path) -> None:
    assert [p.name for p in path.parent.iterdir()] == ["shop.handful"]
    with open_collection(path) as store:
        assert store._sql.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._sql.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_names() -> None:
    assert collection_path("shop") == Path("shop.handful")
    assert collection_path("a/shop.v2") == Path("a/shop.v2.handful")
    assert collection_path("shop.handful") == Path("shop.handful")
    for name in ("", ".", "..", "/", "a/.."):
        with pytest.raises(StorageError, match="expected the name of a collection"):
            collection_path(name)


def test_a_collection_is_not_made_twice(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError, match="there is a collection already"):
        create_collection(path, ENCODER, {}, [example("a", 1)])
    assert path.read_bytes() == before


def test_teaching_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        create_collection(tmp_path / "new", ENCODER, {}, [example("a", np.nan)])
    with pytest.raises(DataError):
        create_collection(tmp_path / "new", ENCODER, {}, [])
    assert list(tmp_path.iterdir()) == []


def test_no_such_collection_names_those_there_are(path: Path) -> None:
    with pytest.raises(CollectionError, match=r"no such collection.*There: shop.handful"):
        open_collection(path.parent / "shpo")


def test_a_place_under_a_file(path: Path) -> None:
    with pytest.raises(StorageError, match="a file stands"):
        create_collection(path / "inner", ENCODER, {}, [example("a", 1)])


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100, b"SQLite format 3\x00" + b"\x00" * 500])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.handful").write_bytes(content)
    with pytest.raises(CollectionError, match=r"not a collection|damaged"):
        open_collection(tmp_path / "x")
    assert (tmp_path / "x.handful").read_bytes() == content


def test_another_sqlite_file_is_refused(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "x.handful")
    other.execute("CREATE TABLE about (name, value)")
    other.close()
    with pytest.raises(CollectionError, match="not a collection"):
        open_collection(tmp_path / "x")


def test_a_newer_format_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "FORMAT", 0)
    with pytest.raises(CollectionError, match="upgrade Handful"):
        open_collection(path)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are texts elsewhere")
def test_names_of_any_bytes(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"d\xe9")
    folder.mkdir()
    for path in (folder / "shop", tmp_path / os.fsdecode(b"q\xe9")):
        create_collection(path, ENCODER, {}, [example("a", 1)]).close()
        with open_collection(path) as store:
            store.add([example("b", 7)])
            assert store.version == 2


def test_damage_is_seen_wherever_it_is(path: Path, tmp_path: Path) -> None:
    with open_collection(path) as store:
        store.add([example("a", number) for number in range(40)])
    sound, seen = path.read_bytes(), 0
    for start in range(0, len(sound), 499):
        broken = tmp_path / "broken.handful"
        broken.write_bytes(sound[:start] + bytes(64) + sound[start + 64 :])
        try:
            with open_collection(broken) as store:
                found = store.read()
                assert np.isfinite(found.vectors).all()
                store.history()
        except CollectionError:
            seen += 1
        for extra in ("-wal", "-shm"):
            Path(f"{broken}{extra}").unlink(missing_ok=True)
    assert seen > 5
    broken.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(CollectionError, match="damaged"), open_collection(broken) as store:
        store.read()


def test_a_changed_vector_is_seen(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("UPDATE examples SET vector = ? WHERE id = 2", (np.full(3, 7, "<f4").tobytes(),))
    other.commit()
    other.close()
    with open_collection(path) as store, pytest.raises(CollectionError, match="vector of example 2"):
        store.read()


def test_two_writers_take_turns(path: Path) -> None:
    with open_collection(path) as one, open_collection(path) as two:
        assert [one.add([example("a", 3)]), two.add([example("b", 4)]), one.undo()] == [2, 3, 4]
        assert one.read().vectors.tobytes() == two.read().vectors.tobytes()
        assert len(two.read().examples) == 3


def test_a_writer_that_does_not_let_go(path: Path) -> None:
    with open_collection(path) as store:
        store._sql.execute("PRAGMA busy_timeout = 10")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert len(store.read().examples) == 2  # readers go on
        with pytest.raises(StorageError, match="another process is changing it"):
            store.add([example("a", 3)])
        other.execute("ROLLBACK")
        other.close()
        assert store.add([example("a", 3)]) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_may_not_be_written(path: Path) -> None:
    path.chmod(0o444)
    with open_collection(path) as store, pytest.raises(StorageError, match="must be writable"):
        store.add([example("a", 3)])


def test_a_closed_collection(path: Path) -> None:
    store = open_collection(path)
    store.close()
    with pytest.raises(CollectionError, match="is closed"):
        store.read()


def test_a_copy_of_the_file_is_a_copy_of_the_collection(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.handful"))
    with open_collection(path.with_name("copy")) as store:
        assert len(store.read().examples) == 2


def test_fifty_kills(tmp_path: Path) -> None:
    """Kills, not power losses: what the system was given to write it still has."""
    command = [sys.executable, str(Path(__file__).with_name("killer.py")), str(tmp_path / "shop.handful"), "50"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    rounds, writing, version = map(int, done.stdout.split())
    assert rounds == 50
    assert writing > 30
    assert version > 30


@pytest.mark.parametrize("place", ["shop", ":memory:"])
def test_several_threads_are_one_after_the_other(tmp_path: Path, place: str) -> None:
    name = place if place == ":memory:" else tmp_path / place
    with create_collection(name, ENCODER, {}, [example("a", 1)]) as store:

        def add(number: int) -> int:
            store.add([example(f"b{number % 3}", float(number))])
            return len(store.read().examples)

        with ThreadPoolExecutor(4) as pool:
            seen = list(pool.map(add, range(2, 34)))
        assert max(seen) == len(store.read().examples) == 33
        assert store.version == 33
        assert {change.version for change in store.history()} == set(range(1, 34))


def test_teaching_that_was_killed_leaves_nothing_that_opens(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np, handful.collection.sqlite as sqlite, os, signal\n"
        "from handful.collection import EncoderIdentity, NewExample, create_collection\n"
        "def kill(self, *_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
        "sqlite.SQLiteCollection.add = kill\n"
        "one = NewExample('a', np.ones(3, np.float32), 'memory', '')\n"
        "create_collection(sys.argv[1], EncoderIdentity('tiny', 'ab' * 32, 3), {}, [one])\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "shop")], check=False)
    assert ended.returncode < 0
    with pytest.raises(CollectionError, match="no such collection"):
        open_collection(tmp_path / "shop")
    create_collection(tmp_path / "shop", ENCODER, {}, [example("a", 1)]).close()
    assert [p.name for p in tmp_path.iterdir()] == ["shop.handful"]


def test_a_new_name_is_flushed_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[Path, bool]]()
    monkeypatch.setattr(
        database_module, "flush", lambda folder: seen.append((folder, (folder / "shop.handful").exists()))
    )
    create_collection(tmp_path / "shop", ENCODER, {}, [example("a", 1)]).close()
    assert seen == [(tmp_path, True)]


def test_teaching_on_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: SQLiteCollection) -> None:
        raise StorageError("database or disk is full; free some space")

    monkeypatch.setattr(SQLiteCollection, "whole", full)
    with pytest.raises(StorageError, match="free some space"):
        create_collection(tmp_path / "shop", ENCODER, {}, [example("a", 1)])
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_never_taught_says_so(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("DELETE FROM changes")
    raw.close()
    with pytest.raises(CollectionError, match="teaching was interrupted; remove the file"):
        open_collection(path)


def test_ids_are_whole_numbers_and_labels_a_list(path: Path) -> None:
    with open_collection(path) as store:
        for wrong in (2**63, 10**20, -1):
            with pytest.raises(DataError, match=f"no example {wrong}"):
                store.remove([wrong])
        for text in ("3", ["3"], [1.5]):
            with pytest.raises(DataError, match="expected the ids of examples"):
                store.remove(text)  # type: ignore[arg-type]
        with pytest.raises(DataError, match="expected a list of classes"):
            store.merge("ab", "c")
        assert store.remove([np.int64(1)]) == 2  # type: ignore[list-item]


def test_of_two_that_add_one_content_at_the_same_time_one_is_told(path: Path) -> None:
    with open_collection(path) as one, open_collection(path) as two:
        start = threading.Barrier(2)

        def add(store: SQLiteCollection, label: str, content: str) -> bool:
            assert store.find(content) is None
            start.wait()
            try:
                store.add([example(label, 3)._replace(sha256=content)], new={content})
            except DataError:  # "is example 3 of a already"
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            for number in range(20):
                both = pool.map(add, (one, two), ("a", "b"), 2 * (f"content {number}",))
                assert sorted(both) == [False, True]
        assert len(one.read().examples) == 2 + 20


def test_where_nothing_may_be_written_one_reads_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module.os, "access", lambda *_: False)  # a folder of others, a read-only disk
    with open_collection(path) as store:
        assert [one.label for one in store.read().examples] == ["a", "b"]
        assert [one.name for one in path.parent.iterdir()] == ["shop.handful"]
        with pytest.raises(StorageError, match="must be writable"):
            store.add([example("a", 3)])
        assert len(store.read().examples) == 2
    monkeypatch.undo()
    with open_collection(path) as store:
        store.add([example("a", 3)])
        monkeypatch.setattr(database_module.os, "access", lambda *_: False)
        with open_collection(path) as other:  # while somebody has it open for writing
            assert len(other.read().examples) == 3


def test_on_a_full_disk_one_reads_all_the_same(path: Path, full_disk: Within) -> None:
    with full_disk():
        for _ in range(2):  # an empty log may be left by the first
            with open_collection(path) as store:
                assert [one.label for one in store.read().examples] == ["a", "b"]
                with pytest.raises(StorageError, match="the disk must have space"):
                    store.add([example("a", 3)])
    with open_collection(path) as store:
        assert store.add([example("a", 3)]) == 2


def test_what_only_the_log_holds_is_not_left_out_on_a_full_disk(path: Path, full_disk: Within) -> None:
    with open_collection(path) as store:
        store.add([example("a", 3)])
        logged = path.with_name("other.handful")
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", f"{logged}{end}")
    with full_disk(), pytest.raises(StorageError, match=r"cannot be opened .*space"):
        open_collection(logged)
    with open_collection(logged) as store:
        assert len(store.read().examples) == 3


FORKED = """
import os, sys, numpy as np
from handful.collection import EncoderIdentity, NewExample, create_collection
one = [NewExample('a', np.ones(3, np.float32), 'memory', '')]
tiny = EncoderIdentity('tiny', 'ab' * 32, 3)
stores = [create_collection(place, tiny, {}, one) for place in (sys.argv[1], ':memory:')]
if os.fork() == 0:
    try:
        stores[1].add(one)  # a copy of its own
        stores[0].add(one)
    except Exception as error:
        print(type(error).__name__, error, end='')
        sys.stdout.flush()
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes that are forked")
def test_what_a_fork_took_along_is_opened_anew(tmp_path: Path) -> None:
    """Its locks stay with the parent, whose closing would remove the log that the child writes to."""
    ended = subprocess.run([sys.executable, "-c", FORKED, str(tmp_path / "shop")], capture_output=True, check=True)
    said = ended.stdout.decode()
    assert said.startswith(f"CollectionError {tmp_path / 'shop.handful'}: was opened before this process was forked")
    assert "open_recognizer" in said


def test_a_disk_that_fails_is_not_a_damaged_file(path: Path) -> None:
    with open_collection(path) as store:
        broken = sqlite3.OperationalError("disk I/O error")
        broken.sqlite_errorcode = sqlite3.SQLITE_IOERR | (19 << 8)  # no room for the index of the log
        with pytest.raises(StorageError, match=r"cannot be read or written .*free some space"), store._errors():
            raise broken
