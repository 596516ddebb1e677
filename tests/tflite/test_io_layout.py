"""`--io-layout channels-last`: what moves, what stays, and that everything downstream of the artifact knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from haversack.convert import convert, pack
from haversack.convert.errors import UnsupportedError
from haversack.runtimes import load

FLOAT = TensorProto.FLOAT

TOLERANCE = 1e-5
"""Of the largest magnitude: at most 36 products a sum, 36 · 2⁻²⁴ = 2e-6, through three layers."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An image and a sequence of cubic shapes, so that no shape tells which axes moved; a map and scores come out."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["map"], "relu"),
        helper.make_node("MatMul", ["sequence", "dense"], ["scores"], "dense_layer"),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("image", FLOAT, [1, 4, 4, 4]),
         helper.make_tensor_value_info("sequence", FLOAT, [1, 4, 4])],
        [helper.make_tensor_value_info("scores", FLOAT, [1, 4, 4]),
         helper.make_tensor_value_info("map", FLOAT, [1, 4, 4, 4])],
        [weight("kernel", 4, 4, 3, 3), weight("dense", 4, 4)],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = tmp_path / "two.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture
def feeds() -> dict[str, Any]:
    random = np.random.default_rng(1)
    return {
        "image": random.standard_normal((1, 4, 4, 4)).astype(np.float32),
        "sequence": random.standard_normal((1, 4, 4)).astype(np.float32),
    }


def expected(model: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def assert_close(found: Any, wanted: Any) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def test_the_image_moves_and_the_sequence_stays(model: Path, feeds: dict[str, Any], tmp_path: Path) -> None:
    made = convert(model, output=tmp_path / "two.tflite", io_layout="channels-last")
    assert made.verified
    assert not made.variant.transposes
    moved = [(axes.kind, axes.name, axes.order) for axes in made.variant.moved]
    assert moved == [("input", "image", (0, 2, 3, 1)), ("output", "map", (0, 2, 3, 1))]
    artifact = load(tmp_path / "two.tflite")
    assert [spec.name for spec in artifact.inputs] == ["image", "sequence"]
    assert [spec.name for spec in artifact.outputs] == ["scores", "map"]
    found = artifact({"image": feeds["image"].transpose(0, 2, 3, 1), "sequence": feeds["sequence"]})
    wanted = expected(model, feeds)
    assert_close(found["map"], wanted["map"].transpose(0, 2, 3, 1))
    assert_close(found["scores"], wanted["scores"])


def test_kept_by_default_with_every_transpose_and_its_reason(
    model: Path, feeds: dict[str, Any], tmp_path: Path
) -> None:
    made = convert(model, output=tmp_path / "two.tflite")
    assert not made.variant.moved
    assert [(t.value, t.bytes) for t in made.variant.transposes] == [("image", 256), ("map", 256)]
    assert made.variant.transposes[0].reason == "input image keeps its order; conv (Conv) is channels-last"
    assert made.variant.transposes[1].reason == "conv (Conv) is channels-last; output map keeps its order"
    found = load(tmp_path / "two.tflite")(feeds)
    for name, wanted in expected(model, feeds).items():
        assert_close(found[name], wanted)


def test_a_bundle_says_both_layouts_and_its_golden_vectors_are_the_artifacts(
    model: Path, feeds: dict[str, Any], tmp_path: Path
) -> None:
    from haversack.runtimes.bundle import open_bundle

    path = tmp_path / "two.haversack"
    pack(model, to=["tflite", "onnx"], recipes=["fp32"], output=path, io_layout="channels-last")
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        variant = next(each for each in manifest.variants if each.target == "tflite")
        golden = bundle.golden(variant.id)
    assert [(t.name, t.layout) for t in (*manifest.inputs, *manifest.outputs)] == [
        ("image", "NCHW"), ("sequence", None), ("scores", None), ("map", "NCHW"),
    ]  # fmt: skip
    assert [(t.name, t.layout) for t in (*variant.inputs, *variant.outputs)] == [
        ("image", "NHWC"), ("sequence", None), ("scores", None), ("map", "NHWC"),
    ]  # fmt: skip
    assert golden
    for given, gives in golden:
        wanted = expected(model, {"image": given["image"].transpose(0, 3, 1, 2), "sequence": given["sequence"]})
        assert_close(gives["map"], wanted["map"].transpose(0, 2, 3, 1))
    for target, axes in (("tflite", (0, 2, 3, 1)), ("onnx", (0, 1, 2, 3))):
        found = load(path, variant=f"{target}-fp32")({**feeds, "image": feeds["image"].transpose(axes)})
        assert_close(found["map"], expected(model, feeds)["map"].transpose(axes))


def test_other_targets_refuse_it(model: Path, tmp_path: Path) -> None:
    for suffix in ("onnx", "mlpackage"):
        with pytest.raises(UnsupportedError, match="io-layout at keep"):
            convert(model, output=tmp_path / f"other.{suffix}", io_layout="channels-last")
        assert not (tmp_path / f"other.{suffix}").exists()
