from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handful import FewShotClassifier
from handful.checkpoint import save_checkpoint
from handful.encoders.shipped import shipped_names
from handful.errors import CollectionError, DataError, UnknownNameError
from handful.recognizer import open_recognizer, teach
from handful.recognizer.embedders import default_encoder, embedder_for
from handful.recognizer.networks import has_sentences
from handful.spec import Spec, build

TEXTS = {"light": ["turn on the light", "light off"], "music": ["play a song", "play music", "stop the song"]}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Strokes that lie and that stand, dark on bright."""
    random = np.random.default_rng(0)
    for number in range(10):
        picture = random.integers(200, 255, (30, 30, 3)).astype(np.uint8)
        start = random.integers(5, 20)
        picture[start : start + 4, 4:26] = 20
        label = ("lying", "standing")[number % 2]
        (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
        turned = picture if number % 2 == 0 else picture.transpose(1, 0, 2)
        Image.fromarray(turned).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_encoders(photos: Path, tmp_path: Path, name: str) -> None:
    with teach(photos, tmp_path / "shop", encoder=name) as made:
        assert made.collection.encoder.name == name
        expected = made.recognize(photos / "lying" / "0.png")
    assert expected.label == "lying"
    with open_recognizer(tmp_path / "shop") as again:
        assert again.recognize(photos / "lying" / "0.png") == expected


def test_dark_strokes_are_made_bright() -> None:
    encoder = embedder_for("pictures", "characters", 0)
    picture = np.zeros((1, 28, 28), np.uint8)
    picture[:, 4:8, 3:12] = 255
    one, other = encoder.embed([picture, 255 - picture])
    np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore")  # of the libraries beneath
def test_pictures_by_a_model_of_the_hub(photos: Path, tmp_path: Path) -> None:
    from tiny_models import saved

    model = saved(tmp_path / "m", "dinov2")
    with teach(photos, tmp_path / "shop", encoder=f"hf:{model}") as made:
        expected = made.recognize(photos / "lying" / "0.png")
        assert made.collection.encoder.features == 16
    with open_recognizer(tmp_path / "shop") as again:
        assert again.recognize(photos / "lying" / "0.png") == expected
    estimator = FewShotClassifier(encoder=f"hf:{model}")
    paths = sorted(photos.rglob("*.png"))
    assert set(estimator.fit(paths, [path.parent.name for path in paths]).predict(paths[:2])) <= {"lying", "standing"}
    about = model / "preprocessor_config.json"
    about.write_text(about.read_text().replace("0.4", "0.3"))
    with pytest.raises(CollectionError, match="cannot be compared"):
        open_recognizer(tmp_path / "shop")


@pytest.mark.filterwarnings("ignore")
def test_texts_by_a_model_of_the_hub(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="needs the extra `text`")
    from tiny_models import saved

    name = f"hf:{saved(tmp_path / 'm', 'bert')}"
    made = teach(TEXTS, encoder=name)
    assert made.collection.encoder.features == 16
    assert np.allclose(np.linalg.norm(made.collection.read().vectors, axis=1), 1, atol=1e-5)
    assert FewShotClassifier(encoder=name).fit(TEXTS["light"] + TEXTS["music"], [0, 0, 1, 1, 1]).predict(
        ["play music"]
    ) in (0, 1)


@pytest.mark.filterwarnings("ignore")
def test_texts_by_a_transformer_that_was_trained_on(tmp_path: Path) -> None:
    from tiny_models import saved

    model = str(saved(tmp_path / "m", "bert"))
    spec = Spec.of(
        {
            "learner": {"name": "prototypical"},
            "encoder": {"name": f"hf_text:{model}", "shape": [12]},
            "data": {"name": "clinc150", "reading": "tokens", "model": model, "length": 12},
            "train": {"ways": 2, "steps": 1},
        }
    )
    learner = build(spec).eval()
    save_checkpoint(tmp_path / "trained", learner, spec, step=0)
    made = teach(TEXTS, encoder=str(tmp_path / "trained"))
    encoder = learner.encoder
    with torch.no_grad():
        expected = encoder(encoder.tokens(TEXTS["light"] + TEXTS["music"]))  # type: ignore[operator,union-attr]
    np.testing.assert_allclose(made.collection.read().vectors, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_minilm() -> None:
    if not has_sentences():
        pytest.skip("needs the extra `text`")
    assert default_encoder("texts") == "minilm"
    made = teach(TEXTS)
    assert made.collection.encoder.name == "minilm"
    assert made.recognize("louder tunes, please").label == "music"
    with pytest.raises(DataError, match="takes texts, and these are pictures"):
        embedder_for("pictures", "minilm", 0)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.recognizer.embedders.has_sentences", lambda: False)
    assert [default_encoder(kind) for kind in ("texts", "pictures", "molecules")] == ["ngrams", "photos", "morgan"]
    with pytest.raises(UnknownNameError, match=r"Valid: characters, .*hf:NAME, .*minilm, .*ngrams"):
        embedder_for("pictures", "dinov2", 0)
