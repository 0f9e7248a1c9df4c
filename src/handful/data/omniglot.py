"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn once by 20 people.

Source: Lake, Salakhutdinov & Tenenbaum 2015, Science 350:1332; github.com/brendenlake/omniglot, MIT.

The published pictures are 105×105 pixels of one bit. They are kept so, packed, in one stored pool of 45 MB
('omniglot'), checked against a digest whatever form they came in. Each size asked for is made from it once
('omniglot-28', 25 MB), so another size needs neither the network nor the archives again.

Departure: pictures are shrunk in gray by the Lanczos filter. The MAML authors' script names that filter too,
but for pictures of one bit Pillow takes the nearest pixel, so theirs stayed black and white.
"""

from __future__ import annotations

import io
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from ..errors import DataError, ShapeError, unknown_name
from ..files import storage_errors
from ..progress import progress
from . import pool as _pool
from .archives import Member, members
from .cache import checksum, data_folder, load_or_make, load_pool, store_pool
from .download import download
from .pool import ClassPool

__all__ = ["PUBLISHED", "Published", "add_omniglot", "omniglot"]

T = TypeVar("T")

SIDE = 105  # pixels
SITE = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
OFFLINE = "handful data add omniglot --from FOLDER"
PARTS = {
    "images_background": "md5:68d2efa1b9178cc56df9314c21c6e718",  # of the zip
    "images_evaluation": "md5:6b91aef0f799c5bb55b94e3f2daec811",
}
ARCHIVE = "omniglot_images_png.tar.xz"
PICTURE = re.compile(r"(?:^|/)images_(?:background|evaluation)/([^/]+/character\d\d)/(\d{4}_\d\d)\.png$")
LARGEST = 1 << 16  # bytes of one picture's file; the published ones have up to 522


@dataclass(frozen=True)
class Published:
    """What a publication of drawn characters holds.

    Attributes:
        alphabets: the number of characters of each alphabet.
        drawings: the number of drawings of each character.
        digest: SHA-256 of all the pictures in the order of their names, ink 1, rows packed to bytes.
    """

    alphabets: Mapping[str, int]
    drawings: int
    digest: str

    @property
    def characters(self) -> list[str]:
        """The characters' names, 'Alphabet/character01', in order."""
        return sorted(
            f"{alphabet}/character{number:02d}"
            for alphabet, count in self.alphabets.items()
            for number in range(1, count + 1)
        )


# fmt: off
ALPHABETS = {
    "Alphabet_of_the_Magi": 20, "Angelic": 20, "Anglo-Saxon_Futhorc": 29, "Arcadian": 26, "Armenian": 41,
    "Asomtavruli_(Georgian)": 40, "Atemayar_Qelisayer": 26, "Atlantean": 26, "Aurek-Besh": 26, "Avesta": 26,
    "Balinese": 24, "Bengali": 46, "Blackfoot_(Canadian_Aboriginal_Syllabics)": 14, "Braille": 26,
    "Burmese_(Myanmar)": 34, "Cyrillic": 33, "Early_Aramaic": 22, "Futurama": 26, "Ge_ez": 26,
    "Glagolitic": 45, "Grantha": 43, "Greek": 24, "Gujarati": 48, "Gurmukhi": 45, "Hebrew": 22,
    "Inuktitut_(Canadian_Aboriginal_Syllabics)": 16, "Japanese_(hiragana)": 52, "Japanese_(katakana)": 47,
    "Kannada": 41, "Keble": 26, "Korean": 40, "Latin": 26, "Malay_(Jawi_-_Arabic)": 40, "Malayalam": 47,
    "Manipuri": 40, "Mkhedruli_(Georgian)": 41, "Mongolian": 30, "N_Ko": 33,
    "Ojibwe_(Canadian_Aboriginal_Syllabics)": 14, "Old_Church_Slavonic_(Cyrillic)": 45, "Oriya": 46,
    "Sanskrit": 42, "Sylheti": 28, "Syriac_(Estrangelo)": 23, "Syriac_(Serto)": 23, "Tagalog": 17,
    "Tengwar": 25, "Tibetan": 42, "Tifinagh": 55, "ULOG": 26,
}
# fmt: on
PUBLISHED = Published(ALPHABETS, 20, "332e01800b5d7621857e04db2da729fc6721ee13b67b566c7a958be333dc5e9c")


def omniglot(*, split: str = "vinyals", side: int = 28, rotations: bool = True) -> ClassPool:
    """Omniglot as [1, side, side] uint8 pictures, ink 255 on 0, with splits train, val and test.

    The first call downloads some 16 MB; later ones take well under a second.

    Args:
        split: 'vinyals', 1028, 172 and 423 characters, as Snell et al. 2017 published it; or 'maml', 1100,
            100 and 423 shuffled by seed 1. Departure: Finn et al. 2017 shuffled the folders in the order in
            which one file system listed them, which nobody can repeat; here they are sorted first. The sizes
            agree, the members do not.
        side: pixels, 1 to 105.
        rotations: four classes a character, turned by 0, 90, 180, 270 degrees: 'Greek/character01/rot090'.

    Raises:
        UnknownNameError, ShapeError: no such split, no such side.
        DownloadError: no network; the data can be added from files, see `add_omniglot`.
        StorageError: full disk, no permission.
    """
    if split not in SPLITS:
        raise unknown_name("Omniglot split", split, SPLITS)
    if not 1 <= side <= SIDE:
        raise ShapeError(f"Omniglot: expected a side of 1 to {SIDE} pixels, got {side}")
    folder = data_folder() / f"omniglot-{side}"

    def make() -> None:
        store_pool(folder, _shrunk(_published(), side), {"made from": "omniglot", "side": side})

    pool = load_or_make(folder, make)
    splits = SPLITS[split](pool.names)
    pool = ClassPool.grouped(pool.examples, pool.counts.tolist(), pool.names, splits=splits)
    return _pool.rotations(pool) if rotations else pool


def add_omniglot(source: Path, published: Published = PUBLISHED) -> Path:
    """Store Omniglot from files at hand, for `omniglot` to find. Nothing is unpacked to disk.

    Args:
        source: a folder, or the one above it, with images_background and images_evaluation, each a folder or
            a zip; or with omniglot_images_png.tar.xz, which holds both; or such a file itself.
        published: what must be found.

    Returns:
        The folder of the stored pool, of [1379] packed bytes a picture.

    Raises:
        DataError: missing, unreadable, or not what was published.
        StorageError: full disk, no permission.
    """
    folder = data_folder() / "omniglot"
    x = torch.from_numpy(_read(source, published))
    names = published.characters
    pool = ClassPool.grouped(x, [published.drawings] * len(names), names)
    store_pool(folder, pool, {"source": source.name})
    return folder


def _published() -> ClassPool:
    """The pictures as published, packed: stored, or else downloaded."""
    folder, downloads = data_folder() / "omniglot", data_folder() / "downloads"
    try:
        return load_pool(folder)
    except DataError:
        for part, md5 in PARTS.items():
            download(f"{SITE}/{part}.zip", downloads / f"{part}.zip", checksum=md5, offline=OFFLINE)
        return load_pool(add_omniglot(downloads))


def _vinyals(characters: Sequence[str]) -> dict[str, list[str]]:
    """Whole alphabets, but for the last four characters of Gurmukhi."""
    val = {"Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)"}
    test = {"Kannada", "Keble", "Malayalam", "Manipuri", "Mongolian", "Old_Church_Slavonic_(Cyrillic)"}
    test |= {"Oriya", "Sylheti", "Syriac_(Serto)", "Tengwar", "Tibetan", "ULOG"}
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name in characters:
        alphabet = name.partition("/")[0]
        late = alphabet == "Gurmukhi" and name >= "Gurmukhi/character42"
        splits["test" if late or alphabet in test else "val" if alphabet in val else "train"].append(name)
    return splits


def _maml(characters: Sequence[str]) -> dict[str, list[str]]:
    order = sorted(characters)
    random.Random(1).shuffle(order)
    return {"train": order[:1100], "val": order[1100:1200], "test": order[1200:]}


SPLITS: dict[str, Callable[[Sequence[str]], dict[str, list[str]]]] = {"vinyals": _vinyals, "maml": _maml}


def _shrunk(pool: ClassPool, side: int) -> ClassPool:
    """Packed pictures as [1, side, side] uint8."""

    def shrink(packed: np.ndarray) -> np.ndarray:
        ink = np.unpackbits(packed, count=SIDE * SIDE).reshape(SIDE, SIDE) * np.uint8(255)
        return np.asarray(Image.fromarray(ink).resize((side, side), Image.Resampling.LANCZOS))

    x = _map(f"shrinking Omniglot to {side}×{side}", shrink, list(pool.examples.numpy()))
    return ClassPool.grouped(torch.from_numpy(x[:, None]), pool.counts.tolist(), pool.names)


def _read(source: Path, published: Published) -> np.ndarray:
    """[M, 1379] all pictures, packed, in the order of their names. Only the published ones pass."""
    files: dict[tuple[str, str], Member] = {}  # by character and drawing
    for path in _find(source):
        for file in members(path, PICTURE, largest=LARGEST):
            character, drawing = PICTURE.findall(file.name)[0]
            files[character, drawing] = file
    _check(source, files, published)
    x = _map("reading Omniglot", _packed, [files[key] for key in sorted(files)])
    digest = checksum(torch.from_numpy(x))
    if digest != published.digest:
        raise DataError(
            f"{source}: all pictures are there but some differ from the published ones (expected digest "
            f"{published.digest}, got {digest}); fetch them again from {SITE}"
        )
    return x


def _find(source: Path) -> list[Path]:
    """The archives and folders that hold the data."""
    expected = f"expected {' and '.join(PARTS)}, folders or zips from {SITE}, or {ARCHIVE}"
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; {expected}")
    with storage_errors(source, "read"):
        if source.is_file() and source.suffix != ".zip":
            return [source]
        top = source.parent if source.is_file() else source
        found: set[str] = set()
        for folder in [top, *sorted(path for path in top.iterdir() if path.is_dir())]:
            forms = [[p for p in (folder / f"{part}.zip", folder / part) if p.exists()] for part in PARTS]
            if all(forms):
                return [paths[0] for paths in forms]
            if (folder / ARCHIVE).is_file():
                return [folder / ARCHIVE]
            found |= {path.name for paths in forms for path in paths}
    raise DataError(f"{source}: {expected}; found {', '.join(sorted(found)) or 'neither'}")


def _check(source: Path, files: Mapping[tuple[str, str], object], published: Published) -> None:
    """Say what is missing or too much, if anything is."""
    drawings = Counter(character for character, _ in files)
    characters = Counter(character.partition("/")[0] for character in drawings)
    problems = [
        f"alphabet {alphabet}: expected {count} characters, found {characters[alphabet]}"
        for alphabet, count in published.alphabets.items()
        if characters[alphabet] != count
    ]
    problems += [
        f"{character}: expected {published.drawings} drawings, found {count}"
        for character, count in drawings.items()
        if count != published.drawings
    ]
    unknown = drawings.keys() - set(published.characters)
    problems += [f"{character}: not a published character" for character in sorted(unknown)]
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise DataError(f"{source}: {'; '.join(problems[:5])}{more}. Fetch the data again from {SITE}")


def _packed(file: Member) -> np.ndarray:
    """[1379] one picture's ink, eight pixels to a byte."""
    try:
        with Image.open(io.BytesIO(file.content), formats=["PNG"]) as image:
            if image.size != (SIDE, SIDE):
                width, height = image.size
                raise DataError(f"{file.place}: expected {SIDE}×{SIDE} pixels, got {width}×{height}")
            return np.packbits(np.asarray(image.convert("L")) < 128)
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{file.place}: not a readable PNG ({error}); get it again from {SITE}") from error


def _map(doing: str, function: Callable[[T], np.ndarray], items: Sequence[T]) -> np.ndarray:
    """The function's answers for all items, stacked. One thread: two are slower on pictures so small."""
    answers = []
    with progress(doing, len(items)) as advance:
        for start in range(0, len(items), 500):
            answers += [function(item) for item in items[start : start + 500]]
            advance(500)
    return np.stack(answers)
