"""Inputs that are images in the package: what is described, what the program makes of pixels, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from haversack.convert.errors import UsageError, VerificationError
from haversack.convert.pipeline import convert
from haversack.runtimes.engines import open_engine
from haversack.runtimes.engines.coreml import read_package

RNG = np.random.default_rng(9)
PIXELS = RNG.integers(0, 256, size=(1, 3, 8, 6)).astype(np.float32)


def _model(shape: str, channels: int = 3) -> onnx.ModelProto:
    """A convolution; channels-last inputs are transposed first, as TensorFlow's exports are."""
    last = shape.endswith(f",{channels}")
    conv = f"{'t = Transpose<perm=[0,3,1,2]>(x)' if last else ''} c = Conv({'t' if last else 'x'}, w) y = Relu(c)"
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21]> g (float[{shape}] x) => (float[1,4,6,4] y) {{ {conv} }}'
    )
    w = RNG.normal(size=(4, channels, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(w, "w"))
    return model


def _expected(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize(
    ("spec", "scale", "bias", "space"),
    [
        ("x", (1.0,), (0.0,), "RGB"),
        ("x=bgr,scale=0.0078125,bias=-1", (1 / 128,), (-1.0,), "BGR"),
        ("x=rgb,scale=0.017/0.0175/0.0174,bias=-2.1/-2/-1.8", (0.017, 0.0175, 0.0174), (-2.1, -2.0, -1.8), "RGB"),
    ],
)
@pytest.mark.parametrize(("recipe", "limit"), [("fp32", 1e-4), ("fp16", 1e-2)])
@pytest.mark.parametrize("shape", ["1,3,8,6", "1,8,6,3"])
def test_pixels_give_what_the_model_gives_for_its_input(
    tmp_path: Path, shape: str, recipe: str, limit: float, spec: str, scale: Any, bias: Any, space: str
) -> None:
    model = _model(shape)
    onnx.save(model, tmp_path / "model.onnx")
    made = convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", image_inputs=[spec], compress=recipe)
    assert made.variant.verification.verified
    assert any(note.startswith(f"input 'x' is a {space.lower()} image") for note in made.variant.notes)
    (feature,) = read_package(tmp_path / "m.mlpackage").inputs
    assert (feature.kind, feature.color_space, feature.shape) == ("image", space, (8, 6))
    x = PIXELS * np.array(scale, np.float32).reshape(1, -1, 1, 1) + np.array(bias, np.float32).reshape(1, -1, 1, 1)
    wanted = _expected(model, x if shape == "1,3,8,6" else np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    engine = open_engine(tmp_path / "m.mlpackage")
    (found,) = engine.run({"x": PIXELS}).values()
    assert np.abs(found - wanted).max() <= limit * np.abs(wanted).max()


def test_the_preprocessing_says_scale_and_bias(tmp_path: Path) -> None:
    """(v * scale - mean) / std of --preprocess; the data is prepared by it, and its pixels are found again."""
    model = _model("1,3,8,6")
    onnx.save(model, tmp_path / "model.onnx")
    images = RNG.integers(0, 256, size=(5, 8, 6, 3)).astype(np.uint8)
    made = convert(
        tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", image_inputs=["x"], inputs={"x": images},
        preprocess="imagenet,size=8x6",
    )  # fmt: skip
    assert "prepared from images" in made.variant.verification.inputs
    found = open_engine(tmp_path / "m.mlpackage").run({"x": images[:1].transpose(0, 3, 1, 2).astype(np.float32)})["y"]
    mean, std = (np.array(each).reshape(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = ((images[0].transpose(2, 0, 1) / 255 - mean) / std)[None].astype(np.float32)
    wanted = _expected(model, x)
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_grayscale(tmp_path: Path) -> None:
    onnx.save(_model("1,1,8,6", 1), tmp_path / "model.onnx")
    convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", image_inputs=["x=grayscale,scale=0.003921569"])
    (feature,) = read_package(tmp_path / "m.mlpackage").inputs
    assert feature.color_space == "GRAYSCALE"


def test_data_of_another_scale_is_told_apart(tmp_path: Path) -> None:
    onnx.save(_model("1,3,8,6"), tmp_path / "model.onnx")
    with pytest.raises(VerificationError, match="its scale and bias are others"):
        convert(
            tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", image_inputs=["x=rgb,scale=0.0078125,bias=-1"],
            inputs={"x": PIXELS / 255},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "spec", "message"),
    [
        ("1,3,8,6", "z=rgb", "no such input; it has x"),
        ("1,3,8,6", "x=cmyk", "write it as NAME=rgb"),
        ("1,3,8,6", "x=rgb,scale=much", "scale and bias are numbers"),
        ("1,3,8,6", "x=rgb,scale=1/2", "one number or 3"),
        ("1,3,8,6", "x=grayscale", r"grayscale image is float32 \[1, 1, H, W\]"),
    ],
)
def test_what_cannot_be_an_image_is_refused(tmp_path: Path, shape: str, spec: str, message: str) -> None:
    onnx.save(_model(shape), tmp_path / "model.onnx")
    with pytest.raises(UsageError, match=message):
        convert(tmp_path / "model.onnx", output=tmp_path / "m.mlpackage", image_inputs=[spec])


def test_images_are_for_core_ml(tmp_path: Path) -> None:
    onnx.save(_model("1,3,8,6"), tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="tflite and images do not go together"):
        convert(tmp_path / "model.onnx", output=tmp_path / "m.tflite", image_inputs=["x"])
