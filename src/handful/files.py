"""Files that are there whole or not at all.

Everything is written under a temporary name beside its place, flushed to the disk, and then renamed.
A process killed at any moment leaves the old content or the new, never half of one.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from .errors import StorageError

__all__ = [
    "alone",
    "data_folder",
    "expanded",
    "files_in",
    "flush",
    "kept_folder",
    "locked",
    "new_folder",
    "recover_folder",
    "storage_errors",
    "sweep",
    "temporary_beside",
    "walk",
    "write_file",
]

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another folder",
    errno.EACCES: "no permission: choose a folder you may write to",
    errno.EPERM: "no permission: choose a folder you may write to",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another place",
    errno.EEXIST: "a file stands where a folder is needed: remove it or choose another place",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
}
_UNREADABLE = "no permission: ask for the right to read it, or choose another place"
_READING = {errno.EACCES: _UNREADABLE, errno.EPERM: _UNREADABLE}
"""What helps where something else than writing failed."""


def data_folder() -> Path:
    """The folder for data, perhaps not there yet: `HANDFUL_DATA`, or `handful` in the user's cache folder.

    Raises:
        StorageError: the user has no home folder, and `HANDFUL_DATA` says no other.
    """
    chosen = os.environ.get("HANDFUL_DATA")
    if chosen:
        return expanded(chosen)
    try:
        return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "handful"
    except StorageError:
        raise StorageError("this user has no home folder for data; set HANDFUL_DATA to a folder for them") from None


def expanded(path: str | Path) -> Path:
    """A path with the home folder in place of `~`. Raises StorageError where there is none, as in many containers."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise StorageError(f"{path}: there is no such home folder; write the path out") from None


@contextmanager
def storage_errors(path: str | Path, doing: str = "write") -> Iterator[None]:
    """Turn an operating system's error into a `StorageError` that names the place and the remedy."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        known = _REMEDIES if doing == "write" else _REMEDIES | _READING
        remedy = known.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(f"cannot {doing} {path}: {remedy}") from error


def walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[tuple[Path, list[str]]]:
    """Every folder with its files, hidden ones left out. Links are followed, but not back to a folder they lie in.

    Raises:
        StorageError: no such folder, no permission.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    with storage_errors(folder, "read"), os.scandir(folder) as found:
        shown = (entry for entry in found if not entry.name.startswith((".", "__MACOSX")))
        # a link to itself is no folder to Path, and an error to an entry
        entries = sorted((entry.name, (Path(entry) if entry.is_symlink() else entry).is_dir()) for entry in shown)
    yield folder, [name for name, is_folder in entries if not is_folder]
    for name, is_folder in entries:
        if is_folder:
            yield from walk(folder / name, above | {real})


def files_in(folder: Path) -> list[Path]:
    """All files of a folder and of those in it, in the order of their paths; as `walk`."""
    return sorted(place / name for place, names in walk(folder) for name in names)


def write_file(path: str | Path, content: str | bytes) -> None:
    """Write a file at once: whole, or not at all. What is no file (`/dev/stdout`, a pipe) is written to as it is.

    Raises:
        StorageError: full disk, no permission. What was there before is still there.
    """
    data = content.encode() if isinstance(content, str) else content
    with storage_errors(path):
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            with open(path, "wb") as file:
                file.write(data)
            return
        path = Path(os.path.realpath(path))  # a link stays one, and leads to the new content
        temporary = temporary_beside(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        flush(path.parent)


def temporary_beside(path: Path) -> Path:
    """A name for what becomes `path` when it is whole, which nobody else writes to, on another machine neither."""
    return path.with_name(f".{path.name}.{secrets.randbelow(10**12)}.tmp")


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder to fill, which takes the place of `path`, whole, when the block ends without an error.

    Raises:
        StorageError: full disk, no permission. What was there before is still there.
    """
    path = Path(os.path.realpath(path))  # a link stays one, and leads to the new folder
    temporary = temporary_beside(path)
    old = kept_folder(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        recover_folder(path)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                flush(file)
            flush(temporary)
            if path.exists():
                os.rename(path, old)  # a kill between these two lines is mended by recover_folder
            os.rename(temporary, path)
            flush(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            recover_folder(path)


@contextmanager
def locked(path: str | Path, refusal: str) -> Iterator[None]:
    """Hold the lock of a file, made if need be, while the block runs.

    The operating system lets go of it when the process ends, however that comes about. The file stays: removing it
    could take it from another process. Where there are no such locks (Windows, some network folders), none is held.

    Raises:
        StorageError: `refusal`, at once, if somebody holds it; or the file cannot be made.
    """
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(refusal) from None
        except (ImportError, OSError):
            pass
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Be the only process, and the only thread, that makes `path`, a file or folder others make too; wait for them.

    Blocks may be nested, for one path as well. What `new_folder` left of processes that were killed is swept. Where
    there are no locks, or `path` lies where nobody may write, nobody waits.
    """
    path = Path(path).absolute()
    held = _HELD.get()
    lock = path.with_name(f".{path.name}.lock")
    descriptor = None if path in held else _acquired(lock)
    if descriptor is None:
        yield
        return
    token = _HELD.set(held | {path})
    try:
        _sweep(path)
        yield
    finally:
        _HELD.reset(token)
        with suppress(OSError):
            lock.unlink()  # before others get it: they then see that theirs has lost its name
        os.close(descriptor)


_HELD: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())
"""What the block is alone with."""


def _acquired(lock: Path) -> int | None:
    """The open file of a lock that is held now; None where there are no locks, or nobody may write."""
    try:
        import fcntl

        lock.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(descriptor), lock.stat()):
                    return descriptor
            except FileNotFoundError:  # removed between the two looks
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
    except (ImportError, OSError):  # who then writes says it better
        return None


def _sweep(path: Path) -> None:
    left = re.compile(rf"\.{re.escape(path.name)}\.\d+\.tmp")
    with suppress(OSError):
        for other in path.parent.iterdir():
            if left.fullmatch(other.name):
                shutil.rmtree(other, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a process left in a folder that was killed while it wrote."""
    for stale in folder.glob(".*.tmp"):
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


def recover_folder(path: str | Path) -> None:
    """Mend what a process killed inside `new_folder` left: put the old folder back if the new one is not there."""
    path, old = Path(os.path.realpath(path)), kept_folder(Path(path))
    with storage_errors(path):
        if not old.exists():
            return
    with storage_errors(path):
        if path.exists():
            shutil.rmtree(old)
        else:
            os.rename(old, path)


def kept_folder(path: Path) -> Path:
    """Where `new_folder` keeps the old folder for the moment between its two renames."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.old")


def flush(path: Path) -> None:
    """Have a file's content, or a folder's list of names, on the disk when this returns. Raises OSError."""
    if os.name == "nt" and path.is_dir():  # Windows flushes no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
