"""Conversion runs the folder in Chromium before it delivers it, and delivers none that computes something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from haversack.convert import convert
from haversack.convert.errors import VerificationError
from haversack.convert.verify.in_chromium import execute
from haversack.runtimes.engines import open_engine
from haversack.runtimes.engines.browser.chromium import find_chromium
from haversack.runtimes.errors import EngineError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _chromium(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAVERSACK_CHROMIUM")
    try:
        find_chromium()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture
def images(digits: Path) -> list[dict[str, Any]]:
    return [{"image": image[None]} for image in np.load(digits / "evaluation.npz")["image"][:8]]


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


@pytest.mark.parametrize("name", ["digits.web", "site", "digits.html"])
@pytest.mark.usefixtures("folder")
def test_conversion_says_where_it_ran(name: str, digits: Path, tmp_path: Path) -> None:
    made = convert(
        digits / "digits.onnx", to="web", output=tmp_path / name, inputs=str(digits / "evaluation.npz"), isolate=True
    )
    proof = made.variant.verification
    assert " and onnxruntime-web 1.30.0 in Chrome/" in proof.by
    assert any(note.startswith("In Chrome/") and "isolated" in note for note in proof.notes)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.usefixtures("folder")
def test_without_chromium_it_says_so(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAVERSACK_CHROMIUM", "/nowhere/chromium")
    proof = convert(digits / "digits.onnx", to="web", output=tmp_path / "digits.web").variant.verification
    assert proof.verified
    assert "Chrome" not in proof.by
    assert "It was not executed in a browser: no Chromium: /nowhere/chromium is no executable file." in proof.notes


def test_another_model_is_found_out(folder: Path, tmp_path: Path, images: list[dict[str, Any]]) -> None:
    """A model with larger weights in one layer."""
    model = onnx.load(folder / "model.onnx")
    weights = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    larger = onnx.numpy_helper.to_array(weights) * np.float32(1.2)
    weights.CopyFrom(onnx.numpy_helper.from_array(larger, weights.name))
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(VerificationError, match="differs from onnxruntime"):
        execute(folder, open_engine(tmp_path / "other.onnx"), images)
    found = execute(folder, open_engine(folder), images)
    assert not isinstance(found, str)
    assert max(each.max_relative for each in found.outputs) <= 1e-4
    assert found.isolated


@pytest.mark.parametrize(("file", "old", "new", "said"), [
    ("haversack.js", "{ data: tensor.data,", "{ data: tensor.data.reverse(),", "differs"),
    ("haversack.js", "const results = await", 'console.error("odd"); const results = await', "odd"),
    ("haversack.js", "export async function load", "export async function unload", "in Chromium"),
    ("manifest.json", '"sha256": {', '"sha_256": {', "in Chromium"),
    ("engine/ort.wasm.min.mjs", "var ", "vor ", "in Chromium"),
])  # fmt: skip
def test_a_broken_folder_is_found_out(
    file: str, old: str, new: str, said: str, folder: Path, tmp_path: Path, images: list[dict[str, Any]]
) -> None:
    broken = copied(folder, tmp_path / "broken.web")
    text = (broken / file).read_text(encoding="utf-8")
    assert old in text
    (broken / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(VerificationError, match=said):
        execute(broken, open_engine(folder), images)


def test_a_manifest_that_names_another_model_is_found_out(
    folder: Path, tmp_path: Path, images: list[dict[str, Any]]
) -> None:
    broken = copied(folder, tmp_path / "broken.web")
    manifest = json.loads((broken / "manifest.json").read_text(encoding="utf-8"))
    manifest["sha256"]["model.onnx"] = "0" * 64
    (broken / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(VerificationError, match=r"model\.onnx is not the file that manifest\.json names"):
        execute(broken, open_engine(folder), images)
