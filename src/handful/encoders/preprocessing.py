"""What a pretrained picture encoder expects of a picture, as its own files say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DataError
from ..pictures import Resample

__all__ = ["Preprocessing", "of_hub", "of_timm", "standardized"]

RESAMPLING: tuple[Resample, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's numbers."""
KNOWN_STEPS = (
    *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"),
    *("do_reduce_labels", "do_convert_annotations"),  # what is done to labels only
)
TOO_MUCH = ("keep_aspect_ratio", "size_divisor", "max_num_patches")
"""Steps by other names that would make pictures of no fixed size."""


class Preprocessing(NamedTuple):
    """From a picture of any size to the numbers that a network takes.

    Attributes:
        height, width: of what the network takes.
        resize: what comes first: a number of pixels for the shorter side, or (height, width); then the middle is cut
            out.
        resample: how pixels are interpolated.
        mean, std: of red, green and blue, in units of full brightness.
    """

    height: int
    width: int
    resize: int | tuple[int, int]
    resample: Resample
    mean: tuple[float, ...]
    std: tuple[float, ...]


def of_hub(about: Mapping[str, Any], place: str) -> Preprocessing:
    """From a preprocessor_config.json.

    Raises:
        DataError: no fixed size comes of it, or a step that is not known here.
    """
    try:
        strange = [key for key, value in about.items() if value and (key in TOO_MUCH or _is_step(key))]
        if strange:
            raise DataError(f"{place}: {strange[0]!r} is a step that is not known here; make the vectors yourself")
        cut = bool(about.get("do_center_crop"))
        kind = str(about.get("image_processor_type") or about.get("feature_extractor_type"))
        crop = _sides(about["crop_size"], square=True) if cut else None
        convnext = "crop_pct" in about or kind.startswith("ConvNext")
        size = _sides(about["size"], square=not (cut or convnext) or kind.startswith(("DeiT", "Beit")))
        if convnext and isinstance(size, int):  # small ones are cut out of larger ones
            crop = size, size
            size = int(size / about.get("crop_pct", 224 / 256)) if size < 384 else crop
        if kind.startswith("Levit") and isinstance(size, int):
            size = int(256 / 224 * size)
        final = size if crop is None else crop
        if not isinstance(final, tuple) or not about.get("do_resize", True):
            raise DataError(f"{place}: gives pictures of no fixed size, which an encoder needs (size {about['size']})")
        factor = 255 * float(about.get("rescale_factor", 1 / 255)) if about.get("do_rescale", True) else 255.0
        mean, std = [0.0] * 3, [1.0] * 3
        if about.get("do_normalize", True):
            mean, std = ([float(value) for value in about[key]] for key in ("image_mean", "image_std"))
        if len(mean) != 3 or len(std) != 3 or min(*std, factor) <= 0:
            raise DataError(f"{place}: expected a mean and a deviation above 0 for each of three colors")
        if about.get("rescale_offset"):  # from −1 on
            mean = [m + 1 for m in mean]
        if about.get("include_top") and kind.startswith("EfficientNet"):  # divided by the deviation once more
            std = [s**2 for s in std]
        resample = RESAMPLING[int(about.get("resample", 2))]
        return Preprocessing(*final, size, resample, tuple(m / factor for m in mean), tuple(s / factor for s in std))
    except (TypeError, ValueError, KeyError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{place}: expected size, resample, image_mean and image_std, as for pictures of one size ({error!r})"
        ) from error


def _is_step(key: str) -> bool:
    return key.startswith("do_") and key not in KNOWN_STEPS


def _sides(size: Any, *, square: bool) -> int | tuple[int, int]:
    """(height, width), or the shorter side."""
    if isinstance(size, int):
        return (size, size) if square else size
    return int(size["shortest_edge"]) if "shortest_edge" in size else (int(size["height"]), int(size["width"]))


def of_timm(about: Mapping[str, Any], place: str) -> Preprocessing:
    """From the `pretrained_cfg` of a timm model.

    Raises:
        DataError: something is missing, or not known here.
    """
    try:
        _, height, width = about["input_size"]
        share, mode = float(about.get("crop_pct") or 0.875), about.get("crop_mode") or "center"
        resample = about.get("interpolation") or "bicubic"
        if mode not in ("center", "squash") or resample not in RESAMPLING:
            raise DataError(f"{place}: crop mode {mode!r} or interpolation {resample!r} is not known here")
        scaled = int(height / share), int(width / share)
        resize: int | tuple[int, int] = scaled if mode == "squash" or height != width else scaled[0]
        mean, std = (tuple(map(float, about[key])) for key in ("mean", "std"))
        return Preprocessing(height, width, resize, resample, mean, std)
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{place}: expected input_size, mean and std as timm has them ({error})") from error


def standardized(x: Tensor, form: Preprocessing) -> Tensor:
    """[n, 1 or 3, h, w] in [0, 1] -> [n, 3, height, width] as the network takes them.

    Pictures of another size are stretched, smoothly; gray ones get three equal colors.
    """
    if x.shape[1] == 1:
        x = x.expand(-1, 3, -1, -1)
    if x.shape[-2:] != (form.height, form.width):
        mode = "bicubic" if form.resample in ("bicubic", "lanczos") else "bilinear"
        size = form.height, form.width  # in single precision at least: torch resizes no halves smoothly on a CPU
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        x = F.interpolate(wide, size, mode=mode, antialias=True, align_corners=False).clamp(0, 1).to(x.dtype)
    mean, std = (torch.tensor(values, dtype=x.dtype, device=x.device).view(3, 1, 1) for values in form[-2:])
    return (x - mean) / std
