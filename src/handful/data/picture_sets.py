"""tieredImageNet, CUB and ORL faces: pictures in a folder or an archive for each class."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..errors import DataError
from ..files import storage_errors
from ..pictures import Form, decode, in_parallel
from .archives import Member, members
from .cache import data_folder, load_or_make
from .download import download
from .pool import ClassPool
from .published import (
    LARGEST,
    add_pictures,
    class_table,
    classes_of,
    expect_counts,
    picture_names,
    store_classes,
    stored,
    with_splits,
)
from .splitting import Split, split_pool

__all__ = ["add_cub", "add_faces", "add_tiered_imagenet", "cub", "faces", "tiered_imagenet"]

CUB_URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
CUB_CHECKSUM = "md5:97eceeb196236b17998738112f37df78"
CUB_PICTURE = picture_names(r"(?:^|/)images/(?P<name>\d{3}\.[A-Za-z_]+)/(?P<key>[^/]+)")
CUB_PICTURES = 11_788
TIERED_PICTURES = 779_165
TIERED_PICTURE = picture_names(r"(?:^|/)(?P<key>[^/]+)")
FACE = picture_names(r"(?:^|/)(?P<name>s\d{1,2})/(?P<key>\d{1,2})")
FACE_SIZE = 112, 92


def tiered_imagenet() -> ClassPool:
    """tieredImageNet (Ren et al. 2018, arXiv:1803.00676) as [3, 84, 84] uint8: 351, 97 and 160 classes.

    Raises:
        DataError: not on this machine yet; says how to add it.
    """
    remedy = (
        "it is made from ImageNet (ILSVRC 2012), which its users get from image-net.org: run "
        "`handful data add tiered-imagenet --from FOLDER` on the training folder, or on the folder of its tars"
    )
    pool = stored("tiered-imagenet", "tieredImageNet", remedy)
    return with_splits(pool, class_table("tiered-imagenet"))


def add_tiered_imagenet(source: Path, pictures: int = TIERED_PICTURES) -> Path:
    """Store tieredImageNet from ImageNet's training pictures: 608 of the classes, shrunk to 84×84, one at a time.

    Departure: the authors' file holds pictures shrunk by another program.

    Args:
        source: a folder that holds a folder n01440764, or n01440764.tar, for each class; or the one above it, where
            they may also be spread over several folders (train, val, test); of a class found twice, train's counts.
        pictures: how many there must be.

    Returns:
        The folder of the stored pool, 16.5 GB.

    Raises:
        DataError: a class or pictures are missing, a picture is damaged.
        StorageError: full disk, no permission.
    """
    names = sorted(row["class"] for row in class_table("tiered-imagenet"))
    with storage_errors(source, "read"):
        inside = sorted(source.iterdir()) if source.is_dir() else []
    below = [path for path in inside if not re.match(r"n\d{8}", path.name)]
    found = {name: path for top in (*below, source / "train", source) for name, path in classes_of(top, names)}
    places = {name: found[name] for name in names if name in found}
    missing = [name for name in names if name not in places]
    if missing:
        raise DataError(
            f"{source}: {len(missing)} of {len(names)} classes are missing ({', '.join(missing[:5])} ...); expected a "
            "folder n01440764 or a file n01440764.tar for each class"
        )
    form = Form.of(84, 3, "stretch")
    counts = {name: sum(1 for _ in members(path, TIERED_PICTURE, largest=LARGEST)) for name, path in places.items()}
    if not all(counts.values()) or sum(counts.values()) != pictures:
        fewest = ", ".join(f"{name} {counts[name]}" for name in sorted(counts, key=lambda name: counts[name])[:5])
        raise DataError(
            f"{source}: expected {pictures} pictures in {len(names)} classes, found {sum(counts.values())} (fewest in "
            f"{fewest}); get these classes again"
        )

    def parts() -> Iterator[torch.Tensor]:
        for name, path in places.items():
            read = partial(_read, form=form)
            found = in_parallel(f"reading {name}", read, members(path, TIERED_PICTURE, largest=LARGEST), counts[name])
            yield torch.from_numpy(np.stack(list(found)))

    return store_classes("tiered-imagenet", parts(), counts, form.shape, source)


def cub() -> ClassPool:
    """Caltech-UCSD Birds 200-2011 as [3, 84, 84] uint8, the middle square of each picture: 100, 50 and 50 classes.

    The split is that of Hilliard et al. 2018 (arXiv:1802.04376) as torchmeta lists it. The first call downloads 1.1 GB.

    Raises:
        DownloadError: no network; the data can be added from files.
        StorageError: full disk, no permission.
    """

    def make() -> None:
        archive = data_folder() / "downloads" / "CUB_200_2011.tgz"
        download(CUB_URL, archive, checksum=CUB_CHECKSUM, offline="handful data add cub --from FOLDER")
        add_cub(archive)

    return with_splits(load_or_make(data_folder() / "cub", make), class_table("cub"))


def add_cub(source: Path, pictures: int = CUB_PICTURES) -> Path:
    """Store CUB from CUB_200_2011.tgz or what is in it; a DataError if there are not so many `pictures`."""
    classes = {row["class"] for row in class_table("cub")}

    def check(keys: dict[str, list[str]]) -> None:
        found = sum(map(len, keys.values()))
        if set(keys) != classes or found != pictures:
            raise DataError(
                f"{source}: expected {pictures} pictures of {len(classes)} classes, found {found} of {len(keys)}; "
                "get CUB_200_2011.tgz again"
            )

    expected = "CUB_200_2011.tgz, or its folder images"
    return add_pictures("cub", source, CUB_PICTURE, Form.of(84, 3, "crop"), check, expected)  # type: ignore[arg-type]


def faces(*, split: Split | None = None, within: bool = False, split_seed: int = 0) -> ClassPool:
    """The Database of Faces (ORL, AT&T Laboratories Cambridge): 40 people, 10 pictures each, [1, 112, 92] uint8.

    Args:
        split, within, split_seed: as `split_pool`: nobody published one. By default 24, 8 and 8 people.

    Raises:
        DataError: not on this machine yet; says how to add it.
    """
    remedy = "get the archive of the Database of Faces, then run `handful data add faces --from PATH`"
    return split_pool(stored("faces", "ORL", remedy), split, within=within, seed=split_seed)


def add_faces(source: Path) -> Path:
    """Store the faces from the archive or folder that holds s1/1.pgm to s40/10.pgm; a DataError if it does not."""
    check = expect_counts("ORL", source, {f"s{number}": 10 for number in range(1, 41)})
    form = Form(*FACE_SIZE, 1, "stretch")
    return add_pictures("faces", source, FACE, form, check, "s1/1.pgm to s40/10.pgm in a folder or an archive")


def _read(member: Member, form: Form) -> np.ndarray:
    return decode(member.content, member.place, form)
