"""Tiny models with random weights in folders as the hub has them, made from a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs the extra `pretrained`")

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PICTURE = {"image_size": 32, "patch_size": 8}
TEXT = {"vocab_size": 50, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
COLORS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], "do_normalize": True, "do_rescale": True}
EXACT = {"do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2, **COLORS}
CROPPED = {
    "do_resize": True, "size": {"shortest_edge": 40}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": 32, "width": 32}, **COLORS,
}  # fmt: skip
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] turn on the light off play a song music stop".split()  # noqa: SIM905


def model_of(kind: str) -> Any:
    """Of one of the kinds, with weights of a fixed seed."""
    t = transformers
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        match kind:
            case "vit":
                return t.ViTModel(t.ViTConfig(**SMALL, **PICTURE))
            case "vit-classifier":
                return t.ViTForImageClassification(t.ViTConfig(**SMALL, **PICTURE))
            case "dinov2":
                return t.Dinov2Model(t.Dinov2Config(**SMALL, **PICTURE))
            case "siglip":
                return t.SiglipModel(t.SiglipConfig(vision_config={**SMALL, **PICTURE}, text_config={**SMALL, **TEXT}))
            case "clip":
                vision, text = {**SMALL, **PICTURE}, {**SMALL, **TEXT}
                return t.CLIPModel(t.CLIPConfig(vision_config=vision, text_config=text, projection_dim=8))
            case "convnext":
                return t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[4, 8, 8, 16], depths=[1] * 4, image_size=32))
            case "resnet":
                return t.ResNetModel(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))
            case "beit":
                return t.BeitModel(t.BeitConfig(**SMALL, **PICTURE))
            case "ijepa":
                return t.IJepaModel(t.IJepaConfig(**SMALL, **PICTURE))
            case "vitmae":
                return t.ViTMAEModel(t.ViTMAEConfig(**SMALL, **PICTURE))
            case "roberta":
                return t.RobertaModel(t.RobertaConfig(**SMALL, vocab_size=len(WORDS), max_position_embeddings=18))
            case "fnet":
                places = {"vocab_size": len(WORDS), "max_position_embeddings": 16, "type_vocab_size": 2}
                size = {name: value for name, value in SMALL.items() if name != "num_attention_heads"}
                return t.FNetModel(t.FNetConfig(**size, **places, pad_token_id=0))
            case "t5":
                return t.T5Model(t.T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
            case "t5-encoder":
                size = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
                return t.T5EncoderModel(t.T5Config(vocab_size=50, **size, is_encoder_decoder=False))
            case "vilt":
                return t.ViltModel(t.ViltConfig(**SMALL, **PICTURE, vocab_size=50))
            case "blip":
                vision, text = {**SMALL, **PICTURE}, {**SMALL, **TEXT, "encoder_hidden_size": 16}
                return t.BlipModel(t.BlipConfig(vision_config=vision, text_config=text))
            case "naflex":
                vision = {**SMALL, "patch_size": 8, "num_patches": 16}
                text = {**SMALL, **TEXT, "projection_size": 16}
                return t.Siglip2Model(t.Siglip2Config(vision_config=vision, text_config=text))
            case "bert":
                places = {"vocab_size": len(WORDS), "max_position_embeddings": 16}
                return t.BertModel(t.BertConfig(**SMALL, **places))
    raise KeyError(kind)


def saved(folder: Path, kind: str, preprocessing: dict[str, Any] | None = None) -> Path:
    """The folder of a tiny model; of pictures with their preprocessing, of texts with a tokenizer."""
    model_of(kind).eval().save_pretrained(folder)
    if kind in ("bert", "fnet"):
        transformers.BertTokenizerFast(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(
            folder
        )
    elif preprocessing is None and kind != "roberta":
        preprocessing = CROPPED if kind in ("dinov2", "clip") else EXACT
    if preprocessing is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder
