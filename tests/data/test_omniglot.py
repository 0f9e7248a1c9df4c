import errno
import functools
import hashlib
import io
import os
import shutil
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handful.data.cache import load_pool
from handful.data.omniglot import PUBLISHED, SPLITS, Published, add_omniglot, omniglot
from handful.errors import DataError, DownloadError, ShapeError, StorageError, UnknownNameError

MODULE = sys.modules["handful.data.omniglot"]
PARTS = {"images_background": {"Greek": 2, "Hebrew": 1}, "images_evaluation": {"Tengwar": 2}}
DRAWINGS = 3


def png(bits: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(bits == 0).save(file, "PNG")
    return file.getvalue()


def miniature() -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """The files of a made-up Omniglot by path, and their ink by the same path."""
    draw = np.random.default_rng(0)
    ink = {
        f"{part}/{alphabet}/character{character:02d}/{7 + character:04d}_{drawing:02d}.png": (
            draw.random((105, 105)) < 0.1
        )
        for part, alphabets in PARTS.items()
        for alphabet, characters in alphabets.items()
        for character in range(1, characters + 1)
        for drawing in range(1, DRAWINGS + 1)
    }
    return {path: png(bits) for path, bits in ink.items()}, ink


FILES, INK = miniature()
ORDER = sorted(FILES, key=lambda path: path.split("/")[1:])
DIGEST = hashlib.sha256(b"".join(np.packbits(INK[path]).tobytes() for path in ORDER)).hexdigest()
MINI = Published({"Greek": 2, "Hebrew": 1, "Tengwar": 2}, DRAWINGS, DIGEST)
FIRST = "images_background/Greek/character01/0008_01.png"

Tree = Mapping[str, bytes]


def folders(top: Path, files: Tree = FILES) -> Path:
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    return top


def zips(top: Path, files: Tree = FILES) -> Path:
    top.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        with zipfile.ZipFile(top / f"{part}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir(part)
            archive.writestr(f"__MACOSX/{part}/._.DS_Store", b"junk")
            for name, content in files.items():
                if part in name:
                    archive.writestr(name, content)
    return top


def tape(top: Path, files: Tree = FILES) -> Path:
    top.mkdir(parents=True, exist_ok=True)
    with tarfile.open(top / "omniglot_images_png.tar.xz", "w:xz", preset=0) as archive:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return top


def mixed(top: Path) -> Path:
    folders(zips(top))
    shutil.rmtree(top / "images_background")
    (top / "images_evaluation.zip").unlink()
    return top


SOURCES: dict[str, Callable[[Path], Path]] = {
    "folders": folders,
    "zips": zips,
    "a folder and a zip": mixed,
    "tar.xz": tape,
    "folders one level down": lambda top: folders(top / "python").parent,
    "zips one level down": lambda top: zips(top / "omniglot").parent,
    "tar.xz one level down": lambda top: tape(top / "omniglot").parent,
    "the tar.xz itself": lambda top: tape(top) / "omniglot_images_png.tar.xz",
    "one of the zips itself": lambda top: zips(top) / "images_evaluation.zip",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and no network."""
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(MODULE, "SITE", "http://127.0.0.1:9")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return tmp_path / "home"


@pytest.mark.parametrize("form", SOURCES)
def test_every_form_of_the_data_gives_the_same_pool(tmp_path: Path, form: str) -> None:
    add_omniglot(SOURCES[form](tmp_path / "source"), MINI)
    pool = omniglot(side=105, rotations=False)
    assert pool.names == tuple(MINI.characters)
    assert pool.counts.tolist() == [DRAWINGS] * 5
    expected = np.stack([INK[path] for path in ORDER])[:, None] * np.uint8(255)
    assert torch.equal(pool.examples, torch.from_numpy(expected))


def test_pictures_are_shrunk_in_gray_with_ink_white(tmp_path: Path) -> None:
    add_omniglot(folders(tmp_path / "source"), MINI)
    pool = omniglot(rotations=False)
    assert pool.shape == (1, 28, 28)
    assert pool.examples.dtype == torch.uint8
    picture = Image.fromarray(INK[ORDER[4]] * np.uint8(255)).resize((28, 28), Image.Resampling.LANCZOS)
    assert torch.equal(pool.examples[4, 0], torch.from_numpy(np.array(picture)))


def test_rotations_are_classes_of_one_family(tmp_path: Path) -> None:
    add_omniglot(folders(tmp_path / "source"), MINI)
    pool = omniglot()
    assert pool.classes == 20
    assert {split: len(members) for split, members in pool.splits.items()} == {
        "train": 8,
        "val": 4,
        "test": 8,
    }
    upright, turned = (pool.names.index(f"Greek/character02/rot{angle}") for angle in ("000", "090"))
    assert pool.families[upright] == pool.families[turned]
    first = pool.examples[pool.starts[upright]]
    assert torch.equal(pool.examples[pool.starts[turned]], torch.rot90(first, 1, (-2, -1)))


def test_another_size_needs_no_source(tmp_path: Path) -> None:
    add_omniglot(folders(tmp_path / "source"), MINI)
    shutil.rmtree(tmp_path / "source")
    assert omniglot(side=28).shape == (1, 28, 28)
    assert omniglot(side=20).shape == (1, 20, 20)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The miniature published on a local server."""
    top = zips(tmp_path / "site")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=top)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        digests = {part: hashlib.md5((top / f"{part}.zip").read_bytes()).hexdigest() for part in PARTS}
        monkeypatch.setattr(MODULE, "SITE", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(MODULE, "PARTS", {part: f"md5:{digest}" for part, digest in digests.items()})
        monkeypatch.setattr(MODULE, "add_omniglot", lambda source: add_omniglot(source, MINI))
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("site")
def test_the_first_call_downloads(home: Path) -> None:
    assert omniglot().names[0] == "Greek/character01/rot000"
    assert {path.name for path in home.iterdir()} == {"downloads", "omniglot", "omniglot-28"}


def halve(folder: Path) -> None:
    path = folder / "examples.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_broken_size_is_made_again(tmp_path: Path, home: Path) -> None:
    add_omniglot(folders(tmp_path / "source"), MINI)
    before = omniglot().examples.clone()
    halve(home / "omniglot-28")
    assert torch.equal(omniglot().examples, before)
    assert load_pool(home / "omniglot-28").classes == 5


@pytest.mark.usefixtures("site")
def test_broken_pictures_are_read_again_from_the_download(home: Path) -> None:
    before = omniglot().examples.clone()
    halve(home / "omniglot-28")
    halve(home / "omniglot")
    assert torch.equal(omniglot().examples, before)


def test_broken_pictures_without_source_or_network_say_what_to_do(tmp_path: Path, home: Path) -> None:
    add_omniglot(folders(tmp_path / "source"), MINI)
    halve(home / "omniglot")
    with pytest.raises(DownloadError, match="handful data add omniglot --from FOLDER"):
        omniglot()


def failure(source: Path) -> str:
    with pytest.raises(DataError) as caught:
        add_omniglot(source, MINI)
    return str(caught.value)


def test_nothing_to_read(tmp_path: Path) -> None:
    assert "no such file or folder" in failure(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "expected images_background and images_evaluation" in failure(tmp_path / "empty")
    (zips(tmp_path / "half") / "images_evaluation.zip").unlink()
    assert "found images_background.zip" in failure(tmp_path / "half")
    (tmp_path / "note.txt").write_text("not an archive")
    assert "cut short or damaged" in failure(tmp_path / "note.txt")


@pytest.mark.parametrize("make", [folders, zips, tape])
@pytest.mark.parametrize("content", [b"", b"GIF89a", FILES[FIRST][:40], FILES[FIRST][:-30]])
def test_an_unreadable_picture_is_named(tmp_path: Path, make: Callable[[Path, Tree], Path], content: bytes) -> None:
    message = failure(make(tmp_path / "source", {**FILES, FIRST: content}))
    assert "not a readable PNG" in message
    assert FIRST in message


def test_other_pictures_are_told(tmp_path: Path) -> None:
    small = {**FILES, FIRST: png(np.ones((28, 105), bool))}
    message = failure(folders(tmp_path / "small", small))
    assert "expected 105×105 pixels, got 105×28" in message
    assert FIRST in message
    other = {**FILES, FIRST: png(np.ones((105, 105), bool))}
    assert f"expected digest {DIGEST}" in failure(folders(tmp_path / "other", other))


def test_what_is_missing_or_too_much_is_told(tmp_path: Path) -> None:
    def without(part: str) -> Tree:
        return {name: content for name, content in FILES.items() if part not in name}

    message = failure(tape(tmp_path / "alphabet", without("Hebrew")))
    assert "alphabet Hebrew: expected 1 characters, found 0" in message
    message = failure(tape(tmp_path / "character", without("Greek/character02")))
    assert "alphabet Greek: expected 2 characters, found 1" in message
    message = failure(tape(tmp_path / "drawing", without("Tengwar/character02/0009_03")))
    assert "Tengwar/character02: expected 3 drawings, found 2" in message
    more = {**FILES, FIRST.replace("Greek", "Klingon"): FILES[FIRST]}
    assert "Klingon/character01: not a published character" in failure(tape(tmp_path / "more", more))


def test_a_full_disk_is_told(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = folders(tmp_path / "source")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        add_omniglot(source, MINI)
    assert list(home.iterdir()) == []


def test_a_data_folder_that_cannot_be_written(tmp_path: Path, home: Path) -> None:
    home.touch()
    with pytest.raises(StorageError, match="choose another place"):
        add_omniglot(folders(tmp_path / "source"), MINI)
    with pytest.raises(StorageError, match="HANDFUL_DATA"):
        omniglot()


def test_unknown_split_or_side() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'vinyals'"):
        omniglot(split="vinyal")
    for side in (0, 106):
        with pytest.raises(ShapeError, match="1 to 105"):
            omniglot(side=side)


def test_published_splits() -> None:
    characters = PUBLISHED.characters
    assert len(characters) == 1623
    for split, sizes in {"vinyals": [1028, 172, 423], "maml": [1100, 100, 423]}.items():
        parts = SPLITS[split](characters)
        assert [len(parts[name]) for name in ("train", "val", "test")] == sizes
        assert sorted(name for members in parts.values() for name in members) == characters
    assert SPLITS["maml"](characters)["train"][:2] == ["Gurmukhi/character23", "Malayalam/character36"]


@pytest.fixture
def real() -> Path:
    chosen = os.environ.get("HANDFUL_TEST_DATA")
    top = Path(chosen) if chosen else Path(__file__).parents[3] / "shared" / "data"
    if not (top / "omniglot").is_dir():
        pytest.skip("needs the real Omniglot: set HANDFUL_TEST_DATA to a folder that holds omniglot/")
    return top / "omniglot"


def test_the_real_data(real: Path) -> None:
    add_omniglot(real)
    omniglot()
    pool = omniglot()
    assert pool.examples.shape == (4 * 32460, 1, 28, 28)
    assert [len(pool.splits[split]) for split in ("train", "val", "test")] == [4112, 688, 1692]
    for split in ("train", "val", "test"):
        listed = (real / "splits_vinyals" / f"{split}.txt").read_text().split()
        assert {pool.names[index] for index in pool.splits[split]} == set(listed)
