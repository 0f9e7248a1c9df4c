from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handful.cli import main
from handful.recognizer import teach
from handful.runtime.__main__ import main as runtime

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("torch", minversion="2.10")


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_export_and_ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(12, 4)) + np.repeat(np.eye(3, 4) * 3, 4, 0)
    teach((x, np.repeat(["a", "b", "c"], 4)), "shop").close()
    np.savez("new.npz", x=x[:3])
    code, out, error = call(capsys, "export", "shop", "--onnx")
    assert (code, error) == (0, "")
    assert out.startswith("shop-onnx: CARD.md, model.onnx, recognizer.json, supports.safetensors (")
    assert "python -m handful.runtime shop-onnx" in out
    assert runtime(["shop-onnx", "new.npz"]) == 0
    found = capsys.readouterr().out
    assert call(capsys, "recognize", "shop", "new.npz", "--json")[1] == found
    assert runtime(["shop-onnx", "new.npz", "--epsilon", "0.2"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["promise"].startswith("80%")
    code, out, card = *call(capsys, "report", "shop", "--card")[:2], (tmp_path / "shop-onnx" / "CARD.md").read_text()
    assert out == card
    code, out, error = call(capsys, "export", "shop")
    assert (code, out) == (1, "")
    assert "shop-onnx: is there already; --force replaces" in error
    assert call(capsys, "export", "absent")[0] == 1
    assert runtime(["absent", "x"]) == 1
    assert "no export there" in capsys.readouterr().err


def test_strangers_are_warned_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    teach({name: random.normal(size=(12, 4)) + 9 * place for place, name in enumerate("ab")}).export(tmp_path / "out")
    np.savez(tmp_path / "far.npz", x=random.normal(size=(8, 4)) + np.array([40, -40, 0, 0]))
    assert runtime([str(tmp_path / "out"), str(tmp_path / "far.npz")]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: 8 of 8 are unlike every example")
    assert all(answer["unknown"] for answer in json.loads(said.out))
