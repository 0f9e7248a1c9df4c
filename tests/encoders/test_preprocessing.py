"""Pictures are prepared as the model's own processor does it, which needs transformers alone to compare with."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handful.encoders.preprocessing import of_hub, of_timm, standardized
from handful.errors import DataError
from handful.pictures import Form, decode

transformers = pytest.importorskip("transformers", reason="needs the extra `pretrained`")
OPTIONS = {
    "ViT": {"size": {"height": 30, "width": 30}},
    "Siglip": {"size": {"height": 30, "width": 30}},
    "CLIP": {"size": {"shortest_edge": 30}, "crop_size": {"height": 30, "width": 30}},
    "Bit": {"size": {"shortest_edge": 36}, "crop_size": {"height": 30, "width": 30}},
    "ConvNext": {"size": {"shortest_edge": 30}},
    "Beit": {"size": {"height": 36, "width": 36}, "crop_size": {"height": 30, "width": 30}, "do_center_crop": True},
    "Levit": {"size": {"shortest_edge": 35}, "crop_size": {"height": 30, "width": 30}},
    "EfficientNet": {"size": {"height": 30, "width": 30}, "image_mean": [0.4] * 3, "image_std": [0.5] * 3},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("size", [(50, 41), (33, 80), (20, 24)])
def test_pictures_are_prepared_as_by_the_models_processor(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    cls = getattr(transformers, f"{kind}ImageProcessorPil", None)
    if cls is None:
        pytest.skip("this version of transformers has no processor without torchvision to compare with")
    processor = cls(**OPTIONS[kind])
    processor.save_pretrained(tmp_path)
    about = json.loads((tmp_path / "preprocessor_config.json").read_text())
    width, height = size
    random = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(random.integers(0, 255, (6, 5, 3)).astype(np.uint8)).resize(size))
    assert smooth.shape == (height, width, 3)
    expected = processor(Image.fromarray(smooth), return_tensors="pt")["pixel_values"]
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, "PNG")
    form = of_hub(about, "here")
    if kind == "ConvNext":
        assert of_hub({**about, "size": 30}, "here") == form  # as older versions wrote it
    pixels = decode(file.getvalue(), "here", Form(form.height, form.width, 3, "crop", form.resample, form.resize))
    found = standardized(torch.from_numpy(pixels)[None] / 255, form)
    assert found.shape == expected.shape == (1, 3, 30, 30)
    assert (found - expected).abs().max() < 0.02  # a level of brightness is at most 1 / 255 / 0.225


def test_older_files() -> None:
    colors = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    clip = of_hub({"size": 32, "do_center_crop": True, "crop_size": 30, **colors}, "here")
    assert (clip.resize, clip.height, clip.width, clip.resample) == (32, 30, 30, "bicubic")
    deit = {"size": 32, "do_center_crop": True, "crop_size": 30, "feature_extractor_type": "DeiTFeatureExtractor"}
    assert of_hub({**deit, **colors}, "here").resize == (32, 32)
    assert of_hub({"size": 32, "do_center_crop": False, **colors}, "here").resize == (32, 32)
    convnext = {"size": 28, "feature_extractor_type": "ConvNextFeatureExtractor", **colors}
    for about in ({**convnext, "crop_pct": 0.875}, convnext, {**convnext, "size": {"shortest_edge": 28}}):
        form = of_hub(about, "here")
        assert (form.resize, form.height, form.width) == (32, 28, 28)
    assert of_hub({**convnext, "size": 384, "crop_pct": 0.875}, "here").resize == (384, 384)


def test_numbers_in_other_units() -> None:
    plain = {"size": 8, "do_normalize": False}
    x = torch.rand(1, 3, 8, 8)
    assert torch.allclose(standardized(x, of_hub(plain, "")), x)
    assert torch.allclose(standardized(x, of_hub({**plain, "do_rescale": False}, "")), 255 * x)
    offset = {**plain, "rescale_factor": 2 / 255, "rescale_offset": True}
    assert torch.allclose(standardized(x, of_hub(offset, "")), 2 * x - 1, atol=1e-6)
    half = {**plain, "rescale_factor": 2 / 255, "do_normalize": True, "image_mean": [1.0] * 3, "image_std": [0.5] * 3}
    assert torch.allclose(standardized(x, of_hub(half, "")), (2 * x - 1) / 0.5, atol=1e-6)


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"size": {"longest_edge": 30}},
        {"size": {"shortest_edge": 30}, "do_normalize": False},
        {"size": 30, "do_resize": False, "do_normalize": False},
        {"size": 30, "image_mean": [0.5], "image_std": [0.5]},
        {"size": 30, "image_mean": [0.5] * 3, "image_std": [0.0] * 3},
        {"size": 30, "resample": 9, "do_normalize": False},
        {"size": 30, "do_normalize": False, "do_flip_channel_order": True},
        {"size": 30, "do_normalize": False, "do_pad": True},
        {"size": 30, "do_normalize": False, "keep_aspect_ratio": True},
        {"size": 30, "do_normalize": False, "max_num_patches": 256},
    ],
)
def test_what_is_no_preprocessing(about: dict[str, object]) -> None:
    with pytest.raises(DataError, match="place"):
        of_hub(about, "place")


def test_of_timm() -> None:
    colors = {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert of_timm({"input_size": [3, 30, 30], "crop_pct": 0.75, **colors}, "").resize == 40
    squashed = of_timm({"input_size": [3, 30, 30], "crop_pct": 1.0, "crop_mode": "squash", **colors}, "")
    assert squashed.resize == (30, 30)
    with pytest.raises(DataError, match="place"):
        of_timm({"mean": [0.5] * 3}, "place")
