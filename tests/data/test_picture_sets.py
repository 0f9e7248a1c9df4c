from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handful.data.cifar import add_cifar100, cifar_fs, fc100
from handful.data.mini_imagenet import add_mini_imagenet, mini_imagenet
from handful.data.picture_sets import add_cub, add_faces, add_tiered_imagenet, cub, faces, tiered_imagenet
from handful.data.published import class_table
from handful.errors import DataError, DownloadError

MINI = sys.modules["handful.data.mini_imagenet"]
CIFAR = sys.modules["handful.data.cifar"]
SETS = sys.modules["handful.data.picture_sets"]

Tree = dict[str, bytes]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and no network."""
    monkeypatch.setenv("HANDFUL_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(CIFAR, "URL", "http://127.0.0.1:9/cifar-100-binary.tar.gz")
    monkeypatch.setattr(SETS, "CUB_URL", "http://127.0.0.1:9/CUB_200_2011.tgz")
    return tmp_path / "home"


def picture(shade: int, kind: str = "PNG", size: tuple[int, int] = (4, 4), mode: str = "RGB") -> bytes:
    content = io.BytesIO()
    Image.new(mode, size, shade if mode == "L" else (shade,) * 3).save(content, kind)
    return content.getvalue()


def tree(top: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    return top


def tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return path


# mini-ImageNet


@pytest.fixture
def mini(monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Two pictures of each of the hundred classes, of a shade that is the class's number."""
    names = [row["class"] for row in class_table("mini-imagenet")]
    files = {
        f"images/{name}{number:08d}.jpg": picture(index, "JPEG")
        for index, name in enumerate(names)
        for number in (3, 1)
    }
    digest = hashlib.sha256("\n".join(sorted(path.partition("/")[2] for path in files)).encode()).hexdigest()
    monkeypatch.setattr(MINI, "EACH", 2)
    monkeypatch.setattr(MINI, "NAMES", digest)
    return files


def test_mini_imagenet_from_every_form(tmp_path: Path, mini: Tree) -> None:
    halves = [dict(list(mini.items())[part::2]) for part in range(2)]
    digests = []
    for form in ("folder", "archives", "zip", "by class"):
        source = tmp_path / form
        match form:
            case "folder":
                tree(source, {**mini, "train.csv": b"filename,label\n"})
            case "archives":
                for index, half in enumerate(halves):
                    tar(source / f"mini_{index}.tar.gz", half)
            case "zip":
                source.mkdir()
                with zipfile.ZipFile(source / "images.zip", "w") as archive:
                    archive.writestr("__MACOSX/images/._n0153282900000003.jpg", b"junk")
                    for name, content in mini.items():
                        archive.writestr(name, content)
            case "by class":
                tree(source, {f"train/{path[7:16]}/{path[7:]}": content for path, content in mini.items()})
        add_mini_imagenet(source)
        digests.append(mini_imagenet().digest)
    assert len(set(digests)) == 1


def test_mini_imagenet_has_the_published_split_and_names(tmp_path: Path, mini: Tree) -> None:
    add_mini_imagenet(tree(tmp_path / "source", mini))
    pool = mini_imagenet()
    assert pool.shape == (3, 84, 84)
    assert {split: len(classes) for split, classes in pool.splits.items()} == {"train": 64, "val": 16, "test": 20}
    assert pool.split("train").names[:2] == ("house finch", "robin")
    robin = pool.names.index("robin")
    assert pool.examples[int(pool.starts[robin]), 0, 0, 0] == 1


def test_mini_imagenet_beside_other_files(tmp_path: Path, mini: Tree) -> None:
    source = tree(tmp_path / "source", mini)
    tar(source / "csv.tar.gz", {"train.csv": b"filename,label\n"})
    add_mini_imagenet(source)
    assert mini_imagenet().classes == 100
    first = next(iter(mini))
    tree(source, {f"copy/{first}": mini[first]})
    add_mini_imagenet(source)
    tree(source, {f"copy/{first}": picture(250, "JPEG")})
    with pytest.raises(DataError, match=r"differs from another picture n0153282900000003 of class n01532829"):
        add_mini_imagenet(source)


def test_mini_imagenet_that_is_not_the_published_one(tmp_path: Path, mini: Tree) -> None:
    with pytest.raises(DataError, match=r"mini-ImageNet is not on this machine; .*add mini-imagenet --from PATH"):
        mini_imagenet()
    with pytest.raises(DataError, match="no pictures of mini-imagenet found; expected archives"):
        add_mini_imagenet(tree(tmp_path / "pickle", {"mini-imagenet-cache-train.pkl": b"pickled"}))
    files = dict(mini)
    files.pop(next(iter(files)))
    with pytest.raises(DataError, match="class n01532829: expected 2 pictures, found 1"):
        add_mini_imagenet(tree(tmp_path / "short", files))
    renamed = {name.replace("00000003", "00000004"): content for name, content in mini.items()}
    with pytest.raises(DataError, match="not those of the published split"):
        add_mini_imagenet(tree(tmp_path / "renamed", renamed))
    broken = {**mini, next(iter(mini)): b"no"}
    with pytest.raises(DataError, match=r"n0153282900000003\.jpg: not a picture"):
        add_mini_imagenet(tree(tmp_path / "broken", broken))


# CIFAR-100


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Three pictures of each class, in a mixed order, in the published binary form."""
    monkeypatch.setattr(CIFAR, "EACH", 3)
    random = np.random.default_rng(0)
    records = random.integers(0, 256, (300, 3074), dtype=np.uint8)
    records[:, 1] = random.permutation(np.arange(300) % 100)
    return records


def test_cifar_in_the_published_form(tmp_path: Path, few: np.ndarray) -> None:
    files = {"cifar-100-binary/train.bin": few[:250].tobytes(), "cifar-100-binary/test.bin": few[250:].tobytes()}
    add_cifar100(tar(tmp_path / "cifar-100-binary.tar.gz", files))
    pool = cifar_fs()
    assert pool.shape == (3, 32, 32)
    assert {split: len(classes) for split, classes in pool.splits.items()} == {"train": 64, "val": 16, "test": 20}
    beaver = few[few[:, 1] == sorted(pool.names).index("beaver")][:, 2:].reshape(3, 3, 32, 32)
    start = int(pool.starts[pool.names.index("beaver")])
    assert torch.equal(pool.examples[start : start + 3], torch.from_numpy(beaver))
    other = fc100()
    assert {split: len(classes) for split, classes in other.splits.items()} == {"train": 60, "val": 20, "test": 20}
    with pytest.raises(DataError, match="expected 922200 bytes"):
        add_cifar100(tree(tmp_path / "cut", {"train.bin": few[:9].tobytes()}))
    few[0, 1] = (few[0, 1] + 1) % 100
    with pytest.raises(DataError, match="3 pictures of each"):
        add_cifar100(tree(tmp_path / "other", {"train.bin": few.tobytes()}))


def test_cifar_as_pictures(tmp_path: Path, few: np.ndarray) -> None:
    names = sorted(row["class"] for row in class_table("cifar-fs"))
    published = ("manual-{}002", "{}_s_000027", "{}_s_000491")  # the two forms of names that there are
    files = {
        f"cifar100/data/{name}/{form.format(name)}.png": picture(index, size=(32, 32))
        for index, name in enumerate(names)
        for form in published
    }
    files["cifar100/plots/curve.png"] = picture(0)
    add_cifar100(tree(tmp_path / "pictures", files))
    pool = cifar_fs()
    assert pool.names == tuple(names)
    assert pool.examples[3 * 7].unique().tolist() == [7]
    files.pop(next(iter(files)))
    with pytest.raises(DataError, match="class apple: expected 3 pictures, found 2"):
        add_cifar100(tree(tmp_path / "fewer", files))


def test_some_classes_of_cifar_as_mosaics(tmp_path: Path) -> None:
    names = [row["class"] for row in class_table("cifar-fs") if row["split"] == "test"]
    tiles = np.arange(600, dtype=np.uint16).reshape(24, 1, 25, 1, 1) % 256
    mosaic = np.broadcast_to(tiles, (24, 32, 25, 32, 3)).reshape(768, 800, 3).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(mosaic).save(content, "WEBP", lossless=True)
    add_cifar100(tree(tmp_path / "mosaics", {f"test/{name}.webp": content.getvalue() for name in names}))
    pool = cifar_fs()
    assert set(pool.splits) == {"test"}
    assert set(pool.split("test").names) == set(names)
    assert pool.examples[:600, 0, 0, 0].tolist() == [index % 256 for index in range(600)]
    with pytest.raises(DataError, match=r"baby\.webp: expected a mosaic"):
        add_cifar100(tree(tmp_path / "small", {"baby.webp": picture(1, "WEBP")}))


def test_cifar_as_pickles_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no pictures of cifar100 found; .*pickles of cifar-100-python are not read"):
        add_cifar100(tree(tmp_path / "data", {"cifar-100-python/train": b"pickled"}))


def test_cifar_without_the_network() -> None:
    with pytest.raises(DownloadError, match=r"handful data add cifar-fs --from FOLDER.*cifar-100-binary\.tar\.gz, or"):
        cifar_fs()


# The others


def test_tiered_imagenet_from_folders_and_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = class_table("tiered-imagenet")[::200]
    assert len(class_table("tiered-imagenet")) == 608
    monkeypatch.setattr(SETS, "class_table", lambda name: rows)
    with pytest.raises(DataError, match=r"not on this machine.*image-net\.org"):
        tiered_imagenet()
    names = sorted(row["class"] for row in rows)
    top = tmp_path / "ILSVRC"
    for index, name in enumerate(names):
        pictures = {f"{name}_{number}.JPEG": picture(9 * index, "JPEG", (90, 120)) for number in range(index + 1)}
        if index % 2:
            tar(top / "train" / f"{name}.tar", pictures)
        else:
            tree(top / "train" / name, pictures)
    with pytest.raises(DataError, match=f"expected 779165 pictures in 4 classes, found 10 \\(fewest in {names[0]} 1,"):
        add_tiered_imagenet(top)
    add_tiered_imagenet(top, pictures=10)
    pool = tiered_imagenet()
    assert pool.names == tuple(names)
    assert pool.counts.tolist() == [1, 2, 3, 4]
    assert pool.shape == (3, 84, 84)
    assert [int(pool.examples[start, 0, 0, 0]) for start in pool.starts] == [0, 9, 18, 27]
    (top / "train" / f"{names[1]}.tar").unlink()
    with pytest.raises(DataError, match=f"1 of 4 classes are missing \\({names[1]}"):
        add_tiered_imagenet(top)


def test_tiered_imagenet_from_folders_of_its_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = class_table("tiered-imagenet")[::200]
    monkeypatch.setattr(SETS, "class_table", lambda name: rows)
    for index, row in enumerate(rows):
        tree(tmp_path / "tiered" / row["split"] / row["class"], {"1.jpg": picture(9 * index, "JPEG")})
    tree(tmp_path / "tiered" / "val" / rows[0]["class"], {f"{n}.jpg": picture(200) for n in range(3)})
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    add_tiered_imagenet(tmp_path / "tiered", pictures=4)
    pool = tiered_imagenet()
    assert sorted(pool.examples[:, 0, 0, 0].tolist()) == [0, 9, 18, 27], "pictures of validation are no training class"


def test_cub(tmp_path: Path) -> None:
    names = sorted(row["class"] for row in class_table("cub"))
    files = {f"CUB_200_2011/images/{name}/{name[4:]}_0001_1.jpg": picture(9, "JPEG", (9, 6)) for name in names}
    with pytest.raises(DownloadError, match="add cub"):
        cub()
    with pytest.raises(DataError, match="expected 11788 pictures of 200 classes, found 200 of 200"):
        add_cub(tree(tmp_path / "source", files))
    masks = {name.replace("images", "segmentations").replace("jpg", "png"): picture(0) for name in files}
    tar(tmp_path / "published" / "segmentations.tgz", masks)
    tar(tmp_path / "published" / "CUB_200_2011.tgz", files)
    add_cub(tmp_path / "published", pictures=200)
    pool = cub()
    assert pool.shape == (3, 84, 84)
    assert pool.examples.unique().tolist() == [9], "masks are no photographs"
    assert {split: len(classes) for split, classes in pool.splits.items()} == {"train": 100, "val": 50, "test": 50}


def test_faces(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="add faces --from PATH"):
        faces()
    files = {
        f"orl_faces/s{person}/{number}.pgm": picture(person, "PPM", (92, 112), "L")
        for person in range(1, 41)
        for number in range(1, 11)
    }
    add_faces(tar(tmp_path / "orl_faces.tar", {**files, "orl_faces/README": b"text"}))
    pool = faces()
    assert pool.shape == (1, 112, 92)
    assert {split: len(classes) for split, classes in pool.splits.items()} == {"train": 24, "val": 8, "test": 8}
    assert int(pool.examples[int(pool.starts[pool.names.index("s12")])].unique()) == 12
    assert faces(split={"test": pool.names}).split("test").classes == 40
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(DataError, match=r"notes\.txt: not a zip or tar, or cut short") as caught:
        add_faces(tmp_path / "notes.txt")
    assert "\n" not in str(caught.value)
