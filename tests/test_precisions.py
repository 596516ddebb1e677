"""What each target says it can hold, against what it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from mixed_weights import with_weights
from onnx import TensorProto, helper, numpy_helper

from haversack.convert.compress import compress
from haversack.convert.compress.mixed import apply_plan, observe_model
from haversack.convert.compress.plan import LayerPlan, Plan
from haversack.convert.compress.recipes import RECIPES, Recipe
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.targets import TARGETS, Options, open_target
from haversack.convert.targets.coreml.precisions import table as coreml
from haversack.convert.targets.ort.precisions import table as ort
from haversack.convert.targets.precisions import kind_of, latency_ratio
from haversack.convert.targets.tflite.precisions import table as tflite
from haversack.runtimes.engines import open_engine

TABLES = {"tflite": tflite, "onnx": ort, "coreml": coreml}
FEEDS = [{"x": np.random.default_rng(n).normal(size=(1, 32, 8, 8)).astype(np.float32)} for n in range(4)]

LAYERS = {
    "convolution": ("Conv", (64, 32, 3, 3), {"pads": [1, 1, 1, 1]}),
    "pointwise": ("Conv", (64, 32, 1, 1), {}),
    "grouped": ("Conv", (64, 16, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ("Conv", (64, 1, 3, 3), {"group": 32, "pads": [1, 1, 1, 1]}),
    "transposed": ("ConvTranspose", (32, 64, 2, 2), {"strides": [2, 2]}),
    "dense": ("MatMul", (8, 64), {}),
}


def model_of(kind: str) -> ir.Model:
    op, shape, attributes = LAYERS[kind]
    weights = np.random.default_rng(9).normal(size=shape).astype(np.float32) / 8
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], name="layer", **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 32, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))


def stored(model: ir.Model, precision: str) -> tuple[ir.Model, str]:
    """The layer in a precision, and the recipe that the target is told."""
    if precision == "int16":
        plan = Plan("int16", arithmetic="int16", default=LayerPlan(granularity="per-tensor"))
        return apply_plan(model, plan, observe_model(model, lambda: FEEDS))[0], "int16"
    if precision == "int8" or (precision.startswith("int8-") and precision not in RECIPES):
        made = compress(model, Recipe("int8", weights="per-channel"), FEEDS).model
        return with_weights(made, {"*": precision.removeprefix("int8-")}), "int8"
    recipe = {"float32": "fp32", "float16": "fp16"}.get(precision, precision)
    return compress(model, Recipe(recipe), FEEDS).model, recipe


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("target", TABLES)
def test_every_row_is_written_and_computes_what_the_hub_does(target: str, kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    node = next(iter(model.graph))
    assert kind_of(node) == kind
    held = open_target(target)
    assert held.precisions(node) == tuple(TABLES[target](kind_of(node)))
    for precision, row in TABLES[target](kind_of(node)).items():
        made, recipe = stored(model, precision)
        written = held.write(made, recipe, tmp_path / f"m{held.suffix}", Options(ort_format=False))
        expected = Evaluator(made).run(FEEDS[0])["y"]
        found = open_engine(written.path).run(FEEDS[0])["y"]
        most = float(np.abs(expected).max())
        # One LSB of 8 bits over the range of the result; float forms are exact but for float16 and sums.
        limit = most * (2.1 / 127 if recipe in ("int8", "int16") else 5e-3 if recipe == "fp16" else 1e-4)
        assert np.abs(found - expected).max() <= limit, precision
        assert not [note for note in written.notes if "runs in float32" in note], precision
        files = [written.path] if written.path.is_file() else [f for f in written.path.rglob("*") if f.is_file()]
        size = sum(file.stat().st_size for file in files)
        count = int(np.prod(LAYERS[kind][1]))
        if "block" not in precision and "group" not in precision and count >= 8192:
            overhead = 9000 if target == "coreml" else 3200  # graph, scales; an int64 bias
            assert size <= count * row.bits / 8 + overhead, f"{precision}: {size} bytes"


@pytest.mark.parametrize("target", TARGETS)
def test_a_node_without_weights_is_float(target: str) -> None:
    node = ir.node("Relu", [ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))])
    assert open_target(target).precisions(node) == ("float32",)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_browser_holds_what_its_engine_does(kind: str) -> None:
    node = next(iter(model_of(kind).graph))
    assert open_target("web").precisions(node) == open_target("onnx").precisions(node)


def test_what_was_measured_is_told() -> None:
    assert latency_ratio("tflite", "pointwise", "float32") == 1
    assert latency_ratio("onnx", "convolution", "int8-palette4") == latency_ratio("onnx", "convolution", "int8")
    slow = latency_ratio("tflite", "convolution", "int16")
    assert slow is not None
    assert slow > 2  # reference kernels
    assert latency_ratio("coreml", "convolution", "int8") is None
    for target in ("tflite", "onnx"):
        for kind in ("convolution", "pointwise", "depthwise", "dense"):
            known = {name for name in TABLES[target](kind) if latency_ratio(target, kind, name) is not None}
            assert {"float32", "int8", "int8-int4", "int16", "int4-weights"} <= known
