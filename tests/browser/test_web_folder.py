"""A `.web` folder in a real Chromium, run by the script that it ships."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from haversack.convert import convert
from haversack.runtimes import EngineError, load
from haversack.runtimes.engines import open_engine

DIGITS = Path(__file__).resolve().parents[2] / "demo" / "haversack" / "demo" / "digits"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "digits.web"
    convert(DIGITS / "digits.onnx", to="web", output=path)
    return path


def test_it_gives_what_its_model_gives_natively(folder: Path) -> None:
    native = open_engine(folder)
    images = np.load(DIGITS / "evaluation.npz")["image"][:40]
    with load(folder, engine="browser") as model:
        assert model.inputs == native.inputs
        found = model.run_many([{"image": image[None]} for image in images])
    for image, one in zip(images, found, strict=True):
        wanted = native.run({"image": image[None]})["probabilities"]
        assert np.abs(one["probabilities"] - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_its_own_script_runs_it(folder: Path, tmp_path: Path) -> None:
    """A folder whose script is changed gives something else: nothing of ours stands in for it."""
    changed = Path(shutil.copytree(folder, tmp_path / "changed.web"))
    script = changed / "haversack.js"
    text = script.read_text(encoding="utf-8")
    assert text.count("data: tensor.data,") == 1
    script.write_text(text.replace("data: tensor.data,", "data: tensor.data.map((one) => 2 * one),"), encoding="utf-8")
    image = {"image": np.load(DIGITS / "evaluation.npz")["image"][:1]}
    with load(folder, engine="browser") as one, load(changed, engine="browser") as two:
        np.testing.assert_array_equal(2 * one(image)["probabilities"], two(image)["probabilities"])


def test_a_damaged_folder_is_refused_in_its_own_words(folder: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(folder, tmp_path / "m.web"))
    content = (damaged / "model.onnx").read_bytes()
    (damaged / "model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(EngineError, match=r"^m\.web: "):
        load(damaged, engine="browser")
    (damaged / "manifest.json").unlink()
    with pytest.raises(EngineError, match=r"manifest\.json is not in it"):
        load(damaged, engine="browser")


def test_what_it_says_of_itself_is_what_runs(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    with load(folder, engine="browser") as model:
        engine = manifest["engine"]
        assert model.engine.version.startswith(f"{engine['name']} {engine['version']} in Chrome/")
