from __future__ import annotations

from pathlib import Path

import pytest

from handful.encoders.hub import digest_of, model_folder
from handful.errors import DataError, DownloadError

pytest.importorskip("huggingface_hub", reason="needs the extra `pretrained`")


def test_what_is_not_here_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"'someone/absent' is not on this machine, and HF_HUB_OFFLINE .* hf:PATH"):
        model_folder("someone/absent")


def test_what_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str], local_files_only: bool) -> str:
        assert (name, revision) == ("someone/absent", "main")
        assert not any(pattern.endswith((".bin", ".pt", ".py")) for pattern in allow_patterns)
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(DownloadError, match=r"cannot be fetched \(no route\).*hf auth login"):
        model_folder("someone/absent@main")


def test_what_was_fetched_before_is_used_without_asking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def snapshot_download(name: str, *, local_files_only: bool, **_: object) -> str:
        asked.append(local_files_only)
        if not local_files_only:
            (tmp_path / "model.safetensors").write_bytes(b"x")
            (tmp_path / "preprocessor_config.json").write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert model_folder("someone/model") == tmp_path  # begun before, without weights
    assert model_folder("someone/model") == tmp_path
    assert asked == [True, False, True]


def test_weights_that_another_program_fetched_are_completed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Or else a model of pictures would be none, and one of sentences would be pooled in another way."""
    asked = []

    def snapshot_download(name: str, *, local_files_only: bool, **_: object) -> str:
        asked.append(local_files_only)
        if not local_files_only:
            raise OSError("no route to host")
        return str(tmp_path)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / "config.json").write_text("{}")
    assert model_folder("someone/model") == tmp_path, "what there is, where no more can be had"
    assert asked == [True, False]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert model_folder("someone/model") == tmp_path
    assert asked == [True, False, True]


@pytest.mark.parametrize("name", ["./absent", "/absent", "~/absent", "a/b/c", "", "x y"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(DataError, match="folder"):
        model_folder(name)


def test_the_identity_is_the_weights_and_their_preparation(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / "config.json").write_text("{}")
    one = digest_of(tmp_path)
    (tmp_path / "README.md").write_text("words")
    assert digest_of(tmp_path) == one
    (tmp_path / "preprocessor_config.json").write_text("{}")
    other = digest_of(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"yy")
    assert len({one, other, digest_of(tmp_path)}) == 3


@pytest.mark.parametrize(
    "name", ["1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json", "vocab.txt"]
)
def test_the_identity_of_a_sentence_encoder_is_how_it_pools_too(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    found = set()
    for content in ('{"mean": true}', '{"mean": false}'):
        (tmp_path / name).write_text(content)
        found.add(digest_of(tmp_path))
    assert len(found) == 2
