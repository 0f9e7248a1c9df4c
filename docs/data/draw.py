"""The drawings of these pages, none of which shows a picture of a data set: python docs/data/draw.py"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw

from handful.data.augmentation import Augmentation
from handful.data.published import class_table
from handful.ops.seeds import generator

FOLDER = Path(__file__).parent
LARGE = 336
SPLITS = {"train": "#3b6ea5", "val": "#8aa9c8", "test": "#d98b3a"}


class Sheet(NamedTuple):
    """What the drawing of a data set shows."""

    drawing: str
    size: tuple[int, int]  # width, height
    classes: dict[str, int] | None = None  # None: as the published table says


SETS = {
    "omniglot": Sheet("character", (28, 28), {"train": 4112, "val": 688, "test": 1692}),
    "mini-imagenet": Sheet("scene", (84, 84)),
    "tiered-imagenet": Sheet("scene", (84, 84)),
    "cifar-fs": Sheet("scene", (32, 32)),
    "fc100": Sheet("scene", (32, 32)),
    "cub": Sheet("bird", (84, 84)),
    "faces": Sheet("face", (92, 112), {"train": 24, "val": 8, "test": 8}),
}


def main() -> None:
    """Draw everything."""
    for name, sheet in SETS.items():
        counts = sheet.classes or Counter(row["split"] for row in class_table(name))
        save(data_set(sheet, counts), name)
    save(augmentations(), "augmentation")


def save(picture: Image.Image, name: str) -> None:
    """As a small file."""
    picture.quantize(128).save(FOLDER / f"{name}.png", optimize=True)


def scene() -> Image.Image:
    """A house under the sun, that has a left and a right side."""
    picture = Image.new("RGB", (LARGE, LARGE), "#a9d3ec")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 230, LARGE, LARGE), fill="#7fb069")
    draw.ellipse((30, 25, 95, 90), fill="#f4d35e")
    draw.rectangle((110, 150, 250, 280), fill="#d1603d")
    draw.polygon([(95, 150), (180, 75), (265, 150)], fill="#5c3d2e")
    draw.rectangle((130, 210, 165, 280), fill="#3a2a20")
    draw.rectangle((190, 175, 230, 210), fill="#f7f3e3")
    draw.rectangle((290, 190, 302, 280), fill="#6b4a2f")
    draw.ellipse((262, 110, 330, 210), fill="#35682d")
    return picture


def bird() -> Image.Image:
    """A bird on a branch."""
    picture = Image.new("RGB", (LARGE, LARGE), "#cfe3d4")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 250, LARGE, 268), fill="#6b4a2f")
    draw.ellipse((100, 120, 230, 250), fill="#8c6bb1")
    draw.ellipse((190, 75, 265, 150), fill="#6a51a3")
    draw.polygon([(262, 105), (300, 118), (262, 128)], fill="#e6a817")
    draw.ellipse((232, 96, 246, 110), fill="black")
    draw.polygon([(110, 190), (30, 150), (60, 215)], fill="#54278f")
    draw.line((160, 248, 160, 275), fill="#e6a817", width=6)
    draw.line((180, 248, 180, 275), fill="#e6a817", width=6)
    return picture


def character() -> Image.Image:
    """A letter of no alphabet, white on black as the loader has them."""
    picture = Image.new("L", (LARGE, LARGE))
    draw = ImageDraw.Draw(picture)
    draw.arc((70, 60, 220, 210), 120, 400, fill=255, width=16)
    draw.line((215, 90, 175, 290), fill=255, width=16)
    draw.line((90, 255, 270, 235), fill=255, width=16)
    return picture.convert("RGB")


def face() -> Image.Image:
    """Nobody's face."""
    picture = Image.new("L", (LARGE, LARGE), 70)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((75, 35, 261, 301), fill=190)
    draw.pieslice((70, 20, 266, 200), 180, 360, fill=40)
    for left in (115, 190):
        draw.ellipse((left, 145, left + 32, 165), fill=245)
        draw.ellipse((left + 10, 147, left + 24, 163), fill=30)
    draw.line((168, 165, 160, 212, 174, 214), fill=120, width=5)
    draw.arc((125, 205, 211, 260), 20, 160, fill=90, width=7)
    return picture.convert("RGB")


DRAWINGS = {"scene": scene, "bird": bird, "character": character, "face": face}


def data_set(sheet: Sheet, counts: dict[str, int]) -> Image.Image:
    """A drawing at the size of the set's pictures, pixel by pixel, and how many classes each split has."""
    size = sheet.size
    small = DRAWINGS[sheet.drawing]().resize(size, Image.Resampling.BILINEAR)
    shown = small.resize(
        (LARGE // 2 * size[0] // max(size), LARGE // 2 * size[1] // max(size)), Image.Resampling.NEAREST
    )
    page = Image.new("RGB", (620, 200), "white")
    page.paste(shown, (16, 16))
    draw = ImageDraw.Draw(page)
    total, left = sum(counts.values()), 210
    draw.text((left, 20), f"{size[0]} by {size[1]} pixels", fill="black", font_size=15)
    for split, color in SPLITS.items():
        width = round(390 * counts[split] / total)
        draw.rectangle((left, 70, left + width - 2, 110), fill=color)
        left += width
    for index, (split, color) in enumerate(SPLITS.items()):
        top = 126 + 20 * index
        draw.rectangle((210, top + 3, 222, top + 15), fill=color)
        draw.text((230, top), f"{split}: {counts[split]:,} classes", fill="black", font_size=15)
    return page


def augmentations() -> Image.Image:
    """Each kind of augmentation, six times."""
    pixels = torch.from_numpy(np.array(scene().resize((84, 84), Image.Resampling.BILINEAR))).permute(2, 0, 1) / 255
    other = torch.from_numpy(np.array(bird().resize((84, 84), Image.Resampling.BILINEAR))).permute(2, 0, 1) / 255
    six = pixels.expand(1, 6, -1, -1, -1)
    kinds = {
        "as it is": Augmentation(),
        "zoom = 0.2": Augmentation(zoom=0.2),
        "crop = 12": Augmentation(crop=12),
        "flip": Augmentation(flip=True),
        "color = 0.4": Augmentation(color=0.4),
        "cutout = 24": Augmentation(cutout=24),
        "rotation (a class each)": Augmentation(rotation=True),
        "mixup = 8 (two of a class)": Augmentation(mixup=8.0),
    }
    page = Image.new("RGB", (190 + 6 * 90, len(kinds) * 90), "white")
    draw = ImageDraw.Draw(page)
    for row, (title, augmentation) in enumerate(kinds.items()):
        x = torch.stack([pixels, other] * 3).unsqueeze(0) if augmentation.mixup else six
        y = torch.arange(6).unsqueeze(0) if augmentation.rotation else torch.zeros(1, 6).long()
        turns = torch.arange(6).unsqueeze(0) % 4
        made = augmentation.vary(x, y, turns, generator("drawing", row, 5))[0]
        draw.text((8, 90 * row + 34), title, fill="black", font_size=14)
        for column, picture in enumerate(made):
            shown = (255 * picture).round().byte().permute(1, 2, 0).numpy()
            page.paste(Image.fromarray(shown), (190 + 90 * column, 90 * row + 3))
    return page


if __name__ == "__main__":
    main()
