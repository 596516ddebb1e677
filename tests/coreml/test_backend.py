"""ONNX's own node tests as independent inputs: what the target accepts must be right, without exception.

Shapes, axes, scales and weights are initializers, as in real models ("baked"). A case may be refused (for Core ML's
reasons: scalars and empty tensors at the edges, narrow integer arithmetic, types it does not have) but never be wrong.
"""

from __future__ import annotations

import collections
import warnings

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from haversack.convert.errors import UnsupportedError
from haversack.convert.hub.load import to_hub
from haversack.convert.targets import Options
from haversack.convert.targets.coreml import TARGET
from haversack.convert.targets.coreml.ops import LOWERINGS
from haversack.runtimes.engines import open_engine

EVERYTHING_AFTER_THE_FIRST = (
    "BatchNormalization",
    "Clip",
    "Conv",
    "ConvTranspose",
    "CumSum",
    "DequantizeLinear",
    "Expand",
    "Gemm",
    "InstanceNormalization",
    "OneHot",
    "PRelu",
    "Pad",
    "QuantizeLinear",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "TopK",
    "Trilu",
    "Unsqueeze",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
"""Operators whose first input alone is an activation: the others are baked."""

RIGHT_WHEN_WRITTEN = 850
"""A little below the count when this was written (onnx 1.23): fewer means that something is refused anew."""

ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 5e-5}
"""Cases whose expectations are written down in four decimals, and half of the last one."""


def baked(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model with its parameters as initializers and static inputs, and what remains to be fed."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    constant = {
        name for node in model.graph.node if node.op_type in EVERYTHING_AFTER_THE_FIRST for name in node.input[1:]
    }
    kept = [value for value in model.graph.input if value.name not in constant]
    model.graph.initializer.extend(
        numpy_helper.from_array(feeds[value.name], value.name) for value in model.graph.input if value.name in constant
    )
    del model.graph.input[:]
    for value in kept:
        shape = feeds[value.name].shape
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))
        model.graph.input.append(value)
    return model, {value.name: feeds[value.name] for value in kept}


def cases():
    """The single-node cases whose operators the target lowers, as (name, model, feeds, expected outputs)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        tests = load_model_tests(kind="node")
    registry = LOWERINGS.load()
    for test in tests:
        model = test.model
        values = [*model.graph.input, *model.graph.output]
        known = all(node.op_type in registry and node.domain == "" for node in model.graph.node)
        if not known or not all(value.type.HasField("tensor_type") for value in values):
            continue
        inputs, outputs = test.data_sets[0]
        if len(inputs) == len(model.graph.input):
            feeds = {value.name: array for value, array in zip(model.graph.input, map(_array, inputs), strict=True)}
            yield test.name, model, feeds, [_array(output) for output in outputs]


def _array(value: object) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def close(actual: np.ndarray, wanted: np.ndarray, rounding: float = 0.0) -> bool:
    """The contract of fp32, and equality of what is not finite."""
    if actual.shape != wanted.shape:
        return False
    actual, wanted = actual.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(actual[~finite], wanted[~finite], equal_nan=True):
        return False
    if not finite.any():
        return True
    bound = rounding + 1e-4 * max(np.abs(wanted[finite]).max(), 1e-6)
    return bool(np.abs(actual[finite] - wanted[finite]).max() <= bound)


@pytest.mark.slow
def test_nothing_is_silently_wrong(tmp_path) -> None:
    counts: collections.Counter[str] = collections.Counter()
    wrong = []
    for name, original, all_feeds, outputs in cases():
        model, feeds = baked(original, all_feeds)
        if not feeds:
            counts["constant"] += 1
            continue
        path = tmp_path / "model.mlpackage"
        try:
            hub = to_hub(ir.from_proto(model))
            TARGET.write(hub, "fp32", path, Options(deployment_target="iOS17"))
        except UnsupportedError:
            counts["refused"] += 1
            continue
        engine = open_engine(path)
        inputs = {
            spec.name: feeds[value.name].astype(spec.dtype).reshape(spec.shape)
            for spec, value in zip(engine.inputs, hub.graph.inputs, strict=True)
        }
        results = engine.run(inputs)
        right = all(
            close(results[spec.name], output.reshape(output.shape or (1,)), ROUNDED.get(name, 0.0))
            for spec, output in zip(engine.outputs, outputs, strict=True)
        )
        counts["right" if right else "wrong"] += 1
        if not right:
            wrong.append(name)
    assert not wrong
    assert counts["right"] >= RIGHT_WHEN_WRITTEN, counts
