"""Every deployment target, with the families of ops whose MIL definition changed between iOS 15 and iOS 18."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from haversack.runtimes.engines import open_engine

RNG = np.random.default_rng(15)
X = RNG.normal(size=(2, 4, 6, 5)).astype(np.float32)
ROWS = RNG.permutation(24).reshape(4, 6).astype(np.float32)  # no two alike, so that float16 keeps their order
TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
FP16 = 1e-2
"""The contract of fp16."""

I64 = np.int64


def _weights(*shape: int) -> np.ndarray:
    return RNG.normal(scale=0.3, size=shape).astype(np.float32)


FAMILIES: dict[str, tuple[list[onnx.NodeProto], np.ndarray, dict[str, np.ndarray]]] = {
    "conv": (
        [
            make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
            make_node("ConvTranspose", ["c", "t"], ["y"], strides=[2, 2]),
        ],
        X,
        {"w": _weights(3, 4, 3, 3), "b": _weights(3), "t": _weights(3, 2, 2, 2)},
    ),
    "linear": (
        [make_node("MatMul", ["x", "w"], ["m"]), make_node("Gemm", ["m", "v", "b"], ["y"], transB=1)],
        ROWS / 8,
        {"w": _weights(6, 3), "v": _weights(5, 3), "b": _weights(5)},
    ),
    "activations": (
        [
            make_node("Clip", ["x", "low", "high"], ["a"]),
            make_node("Elu", ["a"], ["b"], alpha=0.5),
            make_node("LeakyRelu", ["b"], ["c"], alpha=0.2),
            make_node("PRelu", ["c", "slope"], ["d"]),
            make_node("HardSigmoid", ["d"], ["y"]),
        ],
        X,
        {"low": np.float32(-1.5), "high": np.float32(2), "slope": _weights(4, 1, 1)},
    ),
    "logarithm": (
        [make_node("Abs", ["x"], ["a"]), make_node("Add", ["a", "one"], ["b"]), make_node("Log", ["b"], ["y"])],
        X,
        {"one": np.float32(1)},
    ),
    "normalization": (
        [
            make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["n"]),
            make_node("InstanceNormalization", ["n", "s", "b"], ["i"]),
            make_node("LayerNormalization", ["i", "g"], ["l"], axis=-1),
            make_node("LRN", ["l"], ["y"], size=3),
        ],
        X,
        {"s": _weights(4), "b": _weights(4), "m": _weights(4), "v": np.abs(_weights(4)) + 1, "g": _weights(5)},
    ),
    "arg": ([make_node("ArgMax", ["x"], ["y"], axis=1)], ROWS, {}),
    "topk": ([make_node("TopK", ["x", "k"], ["y", "i"], axis=1, sorted=0)], ROWS, {"k": np.array([3], I64)}),
    "gather": ([make_node("Gather", ["x", "i"], ["y"], axis=1)], ROWS, {"i": np.array([[0, -1], [3, 2]], I64)}),
    "gather elements": (
        [make_node("GatherElements", ["x", "i"], ["y"], axis=1)],
        ROWS,
        {"i": np.array([[0, 5, -1], [1, 1, 2], [0, 3, 4], [2, 1, 0]], I64)},
    ),
    "gather in a batch": (
        [make_node("GatherND", ["x", "i"], ["y"], batch_dims=1)],
        X[:, :, :, 0],
        {"i": np.array([[[0, 5], [1, 1]], [[3, 2], [-1, 0]]], I64)},
    ),
    "scatter": (
        [make_node("ScatterND", ["x", "i", "u"], ["y"])],
        ROWS,
        {"i": np.array([[0, 1], [3, 5]], I64), "u": _weights(2)},
    ),
    "scatter elements": (
        [make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=1)],
        ROWS,
        {"i": np.array([[0], [5], [2], [1]], I64), "u": _weights(4, 1)},
    ),
    "resize": (
        [make_node("Resize", ["x", "", "scales"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel")],
        X,
        {"scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    "sampling": (
        [make_node("GridSample", ["x", "grid"], ["y"], align_corners=1)],
        X,
        {"grid": RNG.uniform(-0.9, 0.9, size=(2, 3, 3, 2)).astype(np.float32)},
    ),
    "shapes": (
        [
            make_node("Slice", ["x", "begin", "end", "axes", "steps"], ["a"]),
            make_node("Reshape", ["a", "shape"], ["b"]),
            make_node("Transpose", ["b"], ["c"], perm=[1, 0, 2]),
            make_node("Unsqueeze", ["c", "one"], ["d"]),
            make_node("Squeeze", ["d", "one"], ["y"]),
        ],
        X,
        {
            "begin": np.array([5, 0], I64),
            "end": np.array([-9, 4], I64),
            "axes": np.array([2, 3], I64),
            "steps": np.array([-2, 1], I64),
            "shape": np.array([4, 4, -1], I64),
            "one": np.array([1], I64),
        },
    ),
    "recurrent": (
        [make_node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=3)],
        X[0, :, :2],
        {"w": _weights(1, 12, 5), "r": _weights(1, 12, 3)},
    ),
    "gru": (
        [make_node("GRU", ["x", "w", "r"], ["", "y"], hidden_size=3, linear_before_reset=1)],
        X[0, :, :2],
        {"w": _weights(1, 9, 5), "r": _weights(1, 9, 3)},
    ),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_target_computes_what_onnxruntime_does(bench: Any, family: str, target: str) -> None:
    nodes, x, constants = FAMILIES[family]
    outputs = ["y", "i"] if family == "topk" else ["y"]
    if family == "topk":  # in no particular order: which entries they are is what counts
        nodes = [*nodes, make_node("ReduceSum", ["y", "axes"], ["z"], keepdims=1)]
        constants, outputs = {**constants, "axes": np.array([1], I64)}, ["z"]
    bench.agree(nodes, {"x": x}, outputs, constants, deployment_target=target)
    bench.agree(nodes, {"x": x}, outputs, constants, deployment_target=target, recipe="fp16", tolerance=FP16)


def test_ios_15_has_float32_inputs_and_outputs(bench: Any, build: Any) -> None:
    """Float16 there came with iOS 16: the program casts, and the user is told."""
    model = build([make_node("Mul", ["x", "x"], ["y"])], {"x": ROWS.astype(np.float16)}, ["y"])
    for target, dtype in (("iOS15", "float32"), ("iOS16", "float16")):
        written = bench.write(model, "fp16", deployment_target=target)
        engine = open_engine(written.path)
        assert [spec.dtype for spec in (*engine.inputs, *engine.outputs)] == [dtype] * 2
        assert sum("float16 from iOS 16 on" in note for note in written.notes) == (2 if target == "iOS15" else 0)
        found = engine.run({"x": ROWS.astype(dtype)})["y"]
        np.testing.assert_array_equal(found, np.square(ROWS))  # integers up to 23 ** 2: exact in float16


def test_what_a_target_lacks_is_refused_with_the_lowest_that_has_it(bench: Any, build: Any) -> None:
    nodes = [make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0), make_node("MatMul", ["x", "w"], ["y"])]
    constants = {"q": RNG.integers(-127, 127, size=(6, 40)).astype(np.int8), "s": np.full(6, 0.01, np.float32)}
    model = build(nodes, {"x": ROWS}, ["y"], constants)
    (blocker,) = bench.blockers(model, "int8-weights", deployment_target="iOS15")
    assert (
        "`constexpr_affine_dequantize` is there from iOS 16 on, the deployment target is iOS 15; use iOS16" in blocker
    )
    assert bench.blockers(model, "int8-weights", deployment_target="iOS16") == []
