"""Mixed precision in one package: what it computes, how weights are stored, and how few bytes say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from mixed_weights import with_weights
from onnx.helper import make_node

from haversack.convert.compress import compress
from haversack.convert.compress.editing import Editor
from haversack.convert.compress.operators import constant
from haversack.convert.compress.recipes import STORAGES, Recipe
from haversack.convert.compress.storage import layout, store
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.targets import Options, Written
from haversack.convert.targets.coreml import TARGET
from haversack.runtimes.engines import open_engine

RNG = np.random.default_rng(4)
FEEDS = [{"x": RNG.normal(size=(1, 8, 8, 8)).astype(np.float32)} for _ in range(6)]
SHAPES = {"w1": (32, 8, 3, 3), "w2": (32, 1, 3, 3), "w3": (64, 32, 1, 1), "w4": (10, 64), "b1": (32,), "b2": (10,)}
LAYERS = ("first", "depthwise", "pointwise", "dense")


@pytest.fixture
def floats(build: Any) -> ir.Model:
    arrays = {name: (RNG.normal(size=shape) / 4).astype(np.float32) for name, shape in SHAPES.items()}
    nodes = [
        make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], name="first"),
        make_node("Relu", ["c1"], ["r1"], name="relu"),
        make_node("Conv", ["r1", "w2", "b1"], ["c2"], pads=[1, 1, 1, 1], group=32, name="depthwise"),
        make_node("Conv", ["c2", "w3"], ["c3"], name="pointwise"),
        make_node("GlobalAveragePool", ["c3"], ["g"], name="pool"),
        make_node("Flatten", ["g"], ["f"], name="flatten"),
        make_node("Gemm", ["f", "w4", "b2"], ["y"], transB=1, name="dense"),
    ]
    return ir.from_proto(build(nodes, FEEDS[0], ["y"], arrays))


@pytest.fixture(params=["per-channel", "per-tensor"])
def hub(request: pytest.FixtureRequest, floats: ir.Model) -> ir.Model:
    return compress(floats, Recipe("int8", weights=request.param), FEEDS).model


def agrees(model: ir.Model, folder: Path, tolerance: float) -> Written:
    """Write the graph and compare the saved package with onnxruntime on the hub graph."""
    written = TARGET.write(model, "int8", folder / "m.mlpackage", Options())
    engine, run = open_engine(written.path), Evaluator(model)
    for feeds in FEEDS:
        assert np.abs(engine.run(feeds)["y"] - run.run(feeds)["y"]).max() <= tolerance
    return written


def step(model: ir.Model) -> float:
    """One LSB of the output."""
    scale = constant(model.graph.outputs[0].producer().inputs[1])  # type: ignore[union-attr]
    assert scale is not None
    return float(scale) * 1.01


FORMS = {
    "int4": {"constexpr_blockwise_shift_scale"},
    "palette2": {"constexpr_lut_to_dense"},
    "palette4": {"constexpr_lut_to_dense"},
    "palette6": {"constexpr_lut_to_dense"},
}


@pytest.mark.parametrize("form", FORMS)
def test_small_weights_under_quantized_activations(
    form: str, hub: ir.Model, tmp_path: Path, ops_of: Any, decompressed: Any
) -> None:
    """What coremltools' own decompressors make of the package is what the hub has."""
    model = with_weights(hub, {"first": form, "pointwise": form})
    written = agrees(model, tmp_path, step(model))
    stored = ops_of(written.path)
    assert FORMS[form] <= set(stored)
    assert stored.count("quantize") == stored.count("dequantize")
    per_channel = len(model.graph.initializers["w1_scale"].shape or ()) if "w1_scale" in model.graph.initializers else 1
    if form.startswith("palette"):
        assert written.min_runtime == ("iOS18" if per_channel else "iOS17")
    found = decompressed(written.path)
    for layer in ("first", "pointwise"):
        weights = next(node for node in model.graph if node.name == layer).inputs[1]
        wanted = Evaluator(model, [str(weights.name)]).run(FEEDS[0])[str(weights.name)]  # type: ignore[union-attr]
        scaled = found[wanted.shape].reshape(len(wanted), -1).astype(np.float64)
        exact = wanted.reshape(len(wanted), -1).astype(np.float64)
        # The package may measure activations in another unit: one factor a layer.
        ratio = (scaled * exact).sum() / (exact**2).sum()
        np.testing.assert_allclose(scaled, exact * ratio, rtol=2e-6)


def test_one_layer_of_each(hub: ir.Model, tmp_path: Path, ops_of: Any) -> None:
    forms = dict(zip(LAYERS, ("palette4", "int8", "int4", "palette2"), strict=True))
    model = with_weights(hub, forms)
    written = agrees(model, tmp_path, step(model))
    assert {"constexpr_lut_to_dense", "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"} <= set(
        ops_of(written.path)
    )
    assert written.min_runtime == "iOS18"


def test_integers_of_few_values_are_a_palette(floats: ir.Model, tmp_path: Path, ops_of: Any) -> None:
    """Low bits in an int8 container take low bits here, without being asked for."""
    model = compress(floats, Recipe("int8", weights="per-tensor"), FEEDS).model
    sizes = {}
    for coarse in (False, True):
        for node in model.graph:
            held = constant(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
            if coarse and held is not None and held.dtype == np.int8 and held.ndim > 1:
                node.inputs[0].const_value = ir.Tensor(held // 32 * 32, name=node.inputs[0].name)  # type: ignore[union-attr]
        written = agrees(model, tmp_path, step(model))
        sizes[coarse] = sum(file.stat().st_size for file in written.path.rglob("*") if file.is_file())
        assert ("constexpr_lut_to_dense" in ops_of(written.path)) == coarse
    assert written.min_runtime == "iOS17"
    assert sizes[False] - sizes[True] > (32 * 72 + 64 * 32) // 2 - 900


def test_layers_of_float_arithmetic_mix_too(floats: ir.Model, tmp_path: Path, ops_of: Any) -> None:
    model = floats.clone()
    editor = Editor(model.graph)
    for name, form in {"w1": "palette4", "w3": "int4-weights", "w4": "palette6"}.items():
        value = model.graph.initializers[name]
        axes = layout(value)
        assert axes is not None
        assert store(editor, value, axes, STORAGES[form]) == "stored"
    written = TARGET.write(model, "palette4", tmp_path / "m.mlpackage", Options())
    engine, run = open_engine(written.path), Evaluator(model)
    expected = run.run(FEEDS[0])["y"]
    assert np.abs(engine.run(FEEDS[0])["y"] - expected).max() <= 1e-5 * np.abs(expected).max()
    stored = [kind for kind in ops_of(written.path) if kind.startswith("constexpr")]
    assert sorted(stored) == ["constexpr_blockwise_shift_scale", "constexpr_lut_to_dense", "constexpr_lut_to_dense"]
    assert written.min_runtime == "iOS18"


def test_small_constants_are_immediate(hub: ir.Model, tmp_path: Path, decompressed: Any) -> None:
    """What is left in `weight.bin` are the large weights, each once, behind records that coremltools reads."""
    written = agrees(hub, tmp_path, step(hub))
    held = (written.path / "Data/com.apple.CoreML/weights/weight.bin").read_bytes()
    count = int.from_bytes(held[:4], "little")
    sizes = (32 * 8 * 9, 64 * 32)
    assert count == len(sizes)
    assert len(held) == 64 + sum(64 + size + -size % 64 for size in sizes)
    shapes = set(decompressed(written.path))
    assert {(32, 8, 3, 3), (64, 32, 1, 1), (10, 64)} <= shapes
