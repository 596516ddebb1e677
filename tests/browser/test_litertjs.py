"""LiteRT.js in a real Chromium: right, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from haversack.convert import convert
from haversack.runtimes import EngineError, load
from haversack.runtimes.engines import Array, litert, open_engine
from haversack.runtimes.engines.browser import BrowserEngine, litertjs
from haversack.runtimes.engines.browser.vendored import is_here

DIGITS = Path(__file__).resolve().parents[2] / "demo" / "haversack" / "demo" / "digits"

pytestmark = pytest.mark.skipif(not is_here(litertjs.CORE), reason="LiteRT.js is not vendored here: make vendor")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The digits model as TFLite: float32, int8 inside, and int8 at the edges too."""
    folder = tmp_path_factory.mktemp("made")
    for name, more in {
        "fp32": {},
        "int8": {"compress": "int8", "calibration": str(DIGITS / "calibration.npz")},
        "io": {"compress": "int8", "calibration": str(DIGITS / "calibration.npz"), "io_dtype": "int8"},
    }.items():
        convert(DIGITS / "digits.onnx", to="tflite", output=folder / f"{name}.tflite", **more)  # type: ignore[arg-type]
    return {path.stem: path for path in folder.glob("*.tflite")}


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_what_it_gives_is_what_native_litert_gives(made: Mapping[str, Path], name: str) -> None:
    native = open_engine(made[name])
    with load(made[name], engine="litertjs") as model:
        for image in np.load(DIGITS / "evaluation.npz")["image"][:50]:
            wanted = native.run({"image": image[None]})["probabilities"]
            found = model({"image": image[None]})["probabilities"]
            assert np.abs(found - wanted).max() <= (1e-4 * np.abs(wanted).max() if name == "fp32" else 0)
        assert isinstance(model.engine, BrowserEngine)
        assert model.engine.version.startswith("LiteRT.js 2.5.3 in Chrome/")


def test_integers_at_the_edge_are_refused_before_anything_runs(made: Mapping[str, Path]) -> None:
    with pytest.raises(EngineError, match=r"^io\.tflite: image is int8, which a page cannot pass to .*--io-dtype"):
        open_engine(made["io"], engine="litertjs")


@pytest.mark.parametrize("wrong", ["garbage", "nan", "shape", "none", "a little"])
def test_a_model_that_it_computes_wrong_is_refused(
    made: Mapping[str, Path], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = BrowserEngine.run

    def run(self: BrowserEngine, feeds: Mapping[str, Array]) -> dict[str, Array]:
        value = right(self, feeds)["probabilities"]
        return {
            "garbage": {"probabilities": np.full_like(value, 1e-38)},
            "nan": {"probabilities": value * np.float32(np.nan)},
            "shape": {"probabilities": value[0]},
            "none": {},
            "a little": {"probabilities": value + np.float32(2e-4) * value.max()},
        }[wrong]

    monkeypatch.setattr(BrowserEngine, "run", run)
    with pytest.raises(EngineError, match=r"^fp32\.tflite: LiteRT\.js is not to be trusted with it: output probab"):
        open_engine(made["fp32"], engine="litertjs")


def test_a_file_that_is_no_model_is_refused() -> None:
    with pytest.raises(EngineError, match=r"^m\.tflite: LiteRT rejects it"):
        litertjs.open_artifact(b"no model", label="m.tflite")


def test_without_native_litert_it_runs_nothing(made: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, litert.__name__, None)
    with pytest.raises(EngineError, match="runs only what native LiteRT confirms"):
        open_engine(made["fp32"], engine="litertjs")


@pytest.mark.slow
def test_two_threads(made: Mapping[str, Path]) -> None:
    engine = open_engine(made["fp32"], engine="litertjs", threads=2)
    assert isinstance(engine, BrowserEngine)
    assert engine.facts.threads == 2
    assert engine.workers >= 1
