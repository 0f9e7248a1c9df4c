import contextlib
import io
import random
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from handful.data.archives import members
from handful.errors import DataError, StorageError

DICE = random.Random(0)
FILES = {f"top/part{index}/{index}.bin": DICE.randbytes(500) for index in range(20)}
WANTED = re.compile(r"\.bin$")

Tree = Mapping[str, bytes]


def folder(home: Path, files: Tree = FILES) -> Path:
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    return home / "top"


def pack(home: Path, files: Tree = FILES) -> Path:
    with zipfile.ZipFile(home / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("top")
        for name, content in files.items():
            archive.writestr(name, content)
    return home / "all.zip"


def tape(home: Path, files: Tree = FILES) -> Path:
    with tarfile.open(home / "all.tar.xz", "w:xz", preset=0) as archive:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return home / "all.tar.xz"


FORMS = pytest.mark.parametrize("make", [folder, pack, tape])
ARCHIVES = pytest.mark.parametrize("make", [pack, tape])
Make = Callable[..., Path]


def read(path: Path) -> dict[str, bytes]:
    return {member.name: member.content for member in members(path, WANTED, largest=1000)}


@FORMS
def test_only_the_wanted_files_are_read(tmp_path: Path, make: Make) -> None:
    assert read(make(tmp_path, {**FILES, "top/.DS_Store": b"junk"})) == FILES


@ARCHIVES
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.98])
def test_an_archive_cut_short_is_named(tmp_path: Path, make: Make, part: float) -> None:
    path = make(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DataError, match="cut short or damaged") as caught:
        read(path)
    assert str(path) in str(caught.value)


@ARCHIVES
def test_a_damaged_byte_is_a_data_error_or_does_not_matter(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path)
    content = path.read_bytes()
    for _ in range(300):
        spoiled = bytearray(content)
        place = DICE.choice([DICE.randrange(len(content)), len(content) - 1 - DICE.randrange(400)])
        spoiled[place] ^= 1 << DICE.randrange(8)
        path.write_bytes(spoiled)
        with contextlib.suppress(DataError):
            assert set(read(path).values()) <= set(FILES.values())  # a name may change, no content


@ARCHIVES
@pytest.mark.parametrize("name", ["../a.bin", "/a.bin", "top/../../a.bin"])
def test_paths_that_lead_outside_are_refused(tmp_path: Path, make: Make, name: str) -> None:
    with pytest.raises(DataError, match="leads outside") as caught:
        read(make(tmp_path, {**FILES, name: b"x"}))
    assert name in str(caught.value)


@FORMS
def test_files_too_large_are_refused(tmp_path: Path, make: Make) -> None:
    with pytest.raises(DataError, match=r"large\.bin.*1001 bytes; expected files of at most 1000"):
        read(make(tmp_path, {**FILES, "top/large.bin": bytes(1001)}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        item = tarfile.TarInfo("top/a.bin")
        item.type, item.linkname = kind, "/etc/passwd"
        archive.addfile(item)
    with pytest.raises(DataError, match="it is a link"):
        read(tmp_path / "all.tar")


def test_what_is_not_wanted_is_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for name, size in [("link.txt", 0), ("large", 9999), ("a.bin", 1)]:
            item = tarfile.TarInfo(name)
            item.type, item.linkname = (tarfile.REGTYPE, "") if size else (tarfile.SYMTYPE, "/etc/passwd")
            item.size = size
            archive.addfile(item, io.BytesIO(bytes(size)))
    assert read(tmp_path / "all.tar") == {"a.bin": b"\0"}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as other:
        other.writestr("../large.txt", bytes(9999))
        other.writestr("a.bin", b"x")
    assert read(tmp_path / "all.zip") == {"a.bin": b"x"}


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nothing\.zip"):
        read(tmp_path / "nothing.zip")


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    top = folder(tmp_path / "real")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "top").symlink_to(top)
    found = {member.name: member.content for member in members(tmp_path / "linked", WANTED, largest=1000)}
    assert found == {f"linked/{name}": content for name, content in FILES.items()}
