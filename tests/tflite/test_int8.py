"""int8 files against the compressed hub graph: each layer, fed the hub's own integers, within 1 LSB.

2 LSB for table look-ups and means (DESIGN, the contract of int8).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

Random = np.random.Generator
TABLE = 2


def floats(random: Random, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def batches(random: Random, *shape: int) -> list[dict[str, np.ndarray]]:
    return [{"x": floats(random, *shape)} for _ in range(4)]


def islands(written: Any) -> list[str]:
    return [note for note in written.notes if "runs in float32" in note]


CONVOLUTIONS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "plain": ("Conv", {}, (8, 8, 3, 3)),
    "same, strided": ("Conv", {"pads": [0, 0, 1, 1], "strides": [2, 2]}, (8, 8, 3, 3)),
    "padded with zeros": ("Conv", {"pads": [1, 1, 1, 1], "strides": [2, 2]}, (8, 8, 3, 3)),
    "dilated": ("Conv", {"dilations": [2, 2]}, (8, 8, 3, 3)),
    "grouped": ("Conv", {"group": 2}, (8, 4, 5, 5)),
    "depthwise": ("Conv", {"group": 8, "pads": [1, 1, 1, 1]}, (16, 1, 3, 3)),
    "transposed": ("ConvTranspose", {"strides": [2, 2], "pads": [0, 0, 1, 1]}, (8, 6, 3, 3)),
    "transposed, cropped": (
        "ConvTranspose",
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        (8, 6, 3, 3),
    ),
    "transposed, grouped": ("ConvTranspose", {"group": 2, "strides": [2, 2]}, (8, 4, 3, 3)),
}


@pytest.mark.parametrize("weights", ["per-channel", "per-tensor"])
@pytest.mark.parametrize("activation", [None, "Relu", "Clip"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name: str, activation: str | None, weights: str, bench: Any, random: Random) -> None:
    op, given, shape = CONVOLUTIONS[name]
    filters = shape[0] if op == "Conv" else shape[1] * given.get("group", 1)
    constants = {"w": floats(random, *shape), "b": floats(random, filters)}
    constants |= {"low": np.float32(0), "high": np.float32(6)} if activation == "Clip" else {}
    nodes = [make_node(op, ["x", "w", "b"], ["c" if activation else "y"], **given)]
    if activation:
        nodes.append(make_node(activation, ["c", "low", "high"] if activation == "Clip" else ["c"], ["y"]))
    feeds = batches(random, 1, 8, 9, 10)
    written = bench.layers_agree(bench.quantized(nodes, feeds, constants=constants, weights=weights), feeds[0])
    assert not islands(written)


def test_one_axis(bench: Any, random: Random) -> None:
    feeds = batches(random, 1, 8, 16)
    node = make_node("Conv", ["x", "w"], ["y"], pads=[1, 1])
    model = bench.quantized([node], feeds, constants={"w": floats(random, 8, 8, 3)})
    assert not islands(bench.layers_agree(model, feeds[0]))


@pytest.mark.parametrize("weights", ["per-channel", "per-tensor"])
@pytest.mark.parametrize("op", ["Gemm", "MatMul", "batched MatMul"])
def test_dense(op: str, weights: str, bench: Any, random: Random) -> None:
    feeds = batches(random, *((2, 5, 32) if op == "batched MatMul" else (3, 32)))
    constants = {"w": floats(random, *((16, 32) if op == "Gemm" else (32, 16))), "b": floats(random, 16)}
    if op == "Gemm":
        nodes = [make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    else:
        nodes = [make_node("MatMul", ["x", "w"], ["y"])]
        del constants["b"]
    written = bench.layers_agree(bench.quantized(nodes, feeds, constants=constants, weights=weights), feeds[0])
    assert not islands(written)
    assert any(layer.op == "FULLY_CONNECTED" for layer in written.layers)


UNARY: list[tuple[str, dict[str, Any], int]] = [
    ("Relu", {}, 1),
    ("LeakyRelu", {"alpha": 0.2}, 1),
    ("Sigmoid", {}, 1),
    ("Tanh", {}, 1),
    ("Elu", {}, TABLE),
    ("Gelu", {}, TABLE),
    ("HardSwish", {}, TABLE),
    ("Exp", {}, TABLE),
    ("Abs", {}, 1),
    ("Softmax", {"axis": -1}, 1),
    ("LogSoftmax", {"axis": -1}, 1),
    ("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}, 1),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2]}, 1),
    ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}, 1),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, 1),
    ("GlobalAveragePool", {}, TABLE),
    ("GlobalMaxPool", {}, 1),
    ("Transpose", {"perm": [0, 3, 1, 2]}, 1),
    ("Flatten", {}, 1),
    ("DepthToSpace", {"blocksize": 2}, 1),
    ("SpaceToDepth", {"blocksize": 2}, 1),
    ("ArgMax", {"axis": 1}, 1),
]


@pytest.mark.parametrize(("op", "given", "lsb"), UNARY, ids=str)
def test_unary(op: str, given: dict[str, Any], lsb: int, bench: Any, random: Random) -> None:
    feeds = batches(random, 1, 8, 6, 8)
    # In front of it a convolution, so that there is something to quantize for.
    nodes = [make_node("Conv", ["x", "w"], ["c"]), make_node(op, ["c"], ["y"], **given)]
    model = bench.quantized(nodes, feeds, constants={"w": floats(random, 8, 8, 1, 1) / 2})
    assert not islands(bench.layers_agree(model, feeds[0], lsb=lsb))


@pytest.mark.parametrize("activation", [None, "Relu"])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Max", "Min", "Concat"])
def test_binary(op: str, activation: str | None, bench: Any, random: Random) -> None:
    feeds = batches(random, 1, 8, 6, 8)
    given = {"axis": 1} if op == "Concat" else {}
    nodes = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("Conv", ["x", "v"], ["d"]),
        make_node(op, ["c", "d"], ["s" if activation else "y"], **given),
    ]
    if activation:
        nodes.append(make_node(activation, ["s"], ["y"]))
    constants = {"w": floats(random, 8, 8, 1, 1), "v": floats(random, 8, 8, 1, 1) * 3}
    written = bench.layers_agree(bench.quantized(nodes, feeds, constants=constants), feeds[0])
    assert not islands(written)


@pytest.mark.parametrize("op", ["Add", "Mul", "PRelu"])
def test_constant_operand(op: str, bench: Any, random: Random) -> None:
    feeds = batches(random, 1, 8, 6, 8)
    nodes = [make_node("Conv", ["x", "w"], ["c"]), make_node(op, ["c", "k"], ["y"])]
    constants = {"w": floats(random, 8, 8, 1, 1), "k": np.abs(floats(random, 8, 1, 1))}
    written = bench.layers_agree(bench.quantized(nodes, feeds, constants=constants), feeds[0])
    assert not islands(written)


@pytest.mark.parametrize(
    ("op", "lsb"), [("ReduceMean", TABLE), ("ReduceSum", TABLE), ("ReduceMax", 1), ("ReduceMin", 1)]
)
@pytest.mark.parametrize("axes", [[2, 3], [1]], ids=str)
def test_reduction(axes: list[int], op: str, lsb: int, bench: Any, random: Random) -> None:
    feeds = batches(random, 1, 8, 6, 8)
    nodes = [make_node("Conv", ["x", "w"], ["c"]), make_node(op, ["c", "a"], ["y"])]
    constants = {"w": floats(random, 8, 8, 1, 1), "a": np.array(axes)}
    assert not islands(bench.layers_agree(bench.quantized(nodes, feeds, constants=constants), feeds[0], lsb=lsb))


MOVES: dict[str, tuple[Any, dict[str, Any]]] = {
    "Pad": (make_node("Pad", ["c", "k"], ["y"]), {"k": np.array([0, 0, 1, 2, 0, 0, 0, 1])}),
    "Pad with a value": (
        make_node("Pad", ["c", "k", "v"], ["y"]),
        {"k": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "v": np.float32(1.25)},
    ),
    "Reshape": (make_node("Reshape", ["c", "k"], ["y"]), {"k": np.array([8, -1])}),
    "Slice": (
        make_node("Slice", ["c", "k", "e", "a"], ["y"]),
        {"k": np.array([1]), "e": np.array([5]), "a": np.array([1])},
    ),
    "Gather": (make_node("Gather", ["c", "k"], ["y"], axis=1), {"k": np.array([3, 0, -1])}),
    "Resize nearest": (make_node("Resize", ["c", "", "k"], ["y"]), {"k": np.array([1, 1, 2, 2], np.float32)}),
    "Resize linear": (
        make_node("Resize", ["c", "", "k"], ["y"], mode="linear"),
        {"k": np.array([1, 1, 2, 2], np.float32)},
    ),
    "Clip": (make_node("Clip", ["c", "k", "v"], ["y"]), {"k": np.float32(-0.7), "v": np.float32(1.1)}),
}


@pytest.mark.parametrize("name", MOVES)
def test_move(name: str, bench: Any, random: Random) -> None:
    node, constants = MOVES[name]
    feeds = batches(random, 1, 8, 6, 8)
    nodes = [make_node("Conv", ["x", "w"], ["c"]), node]
    model = bench.quantized(nodes, feeds, constants={"w": floats(random, 8, 8, 1, 1), **constants})
    assert not islands(bench.layers_agree(model, feeds[0]))


def test_what_has_no_int8_kernel_is_a_float_island_and_said_so(bench: Any, random: Random) -> None:
    feeds = batches(random, 1, 8, 6, 8)
    nodes = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("Softplus", ["c"], ["p"]),
        make_node("Conv", ["p", "w"], ["y"]),
    ]
    model = bench.quantized(nodes, feeds, constants={"w": floats(random, 8, 8, 1, 1)})
    written = bench.layers_agree(model, feeds[0])
    assert any("Softplus" in note for note in islands(written))
    assert {"DEQUANTIZE", "QUANTIZE"} <= {layer.op for layer in written.layers}


def test_io_dtype(bench: Any, random: Random, run: Any) -> None:
    feeds = batches(random, 1, 8, 6, 8)
    model = bench.quantized([make_node("Conv", ["x", "w"], ["y"])], feeds, constants={"w": floats(random, 8, 8, 1, 1)})
    written = bench.write(model, "int8", io_dtype="int8")
    assert not {"QUANTIZE", "DEQUANTIZE"} & {layer.op for layer in written.layers}
    found = run(bench.data, {"x": np.zeros((1, 8, 6, 8), np.int8)})
    assert found["y"].dtype == np.int8
    edges = bench.write(model, "int8").layers
    assert [edges[0].op, edges[-1].op] == ["QUANTIZE", "DEQUANTIZE"]
