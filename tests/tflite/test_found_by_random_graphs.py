"""What random graphs (`test_random_graphs.py`) found wrong, refused or crashing: one small graph each.

The reference is onnxruntime on the model as it is written, at its own opset, before any pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from haversack.convert.hub.load import to_hub
from haversack.convert.targets import Options
from haversack.convert.targets.tflite import TARGET

Array = np.ndarray[Any, np.dtype[Any]]
node = helper.make_node

X = np.array([[-2.0, 0.5, 3.0], [1.5, -0.25, 0.75]], np.float32)
INTS = np.array([[-4, 0, 3], [2, -1, 1]])
IMAGE = np.arange(1 * 2 * 5 * 7, dtype=np.float32).reshape(1, 2, 5, 7) / 8 - 4


@pytest.fixture
def agree(tmp_path: Path, run: Any) -> Any:
    """Assert that a model computes what onnxruntime does, after conversion, with and without XNNPACK."""

    def check(
        nodes: Sequence[onnx.NodeProto],
        feeds: Mapping[str, Array],
        outputs: Sequence[str] = ("y",),
        constants: Mapping[str, Any] | None = None,
        opset: int = 21,
    ) -> None:
        import onnxruntime as ort

        given = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in feeds.items()
        ]
        held = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
        graph = helper.make_graph(nodes, "found", given, [onnx.ValueInfoProto(name=n) for n in outputs], held)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        options = ort.SessionOptions()  # its optimisations believe the shapes that inference gets wrong
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        expected = dict(zip(outputs, session.run(list(outputs), dict(feeds)), strict=True))
        path = tmp_path / "m.tflite"
        TARGET.write(to_hub(ir.from_proto(model)), "fp32", path, Options())
        for xnnpack in (True, False):
            found = run(path.read_bytes(), feeds, xnnpack)
            for name, array in expected.items():
                assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
                # One kernel each: a few float32 roundings of numbers below 100.
                np.testing.assert_allclose(found[name], array, 1e-5, 1e-5, err_msg=f"{name}, XNNPACK {xnnpack}")

    return check


@pytest.mark.parametrize("wanted", [("a",), ("b",), ("c",), ("a", "c"), ("a", "b")])
def test_some_parts_of_a_split_are_not_read(agree: Any, wanted: tuple[str, ...]) -> None:
    agree([node("Split", ["x"], ["a", "b", "c"], axis=-1, num_outputs=3)], {"x": X}, wanted)


@pytest.mark.parametrize("wanted", [("a",), ("b",)])
def test_parts_of_given_sizes_that_are_not_read(agree: Any, wanted: tuple[str, ...]) -> None:
    sizes = {"sizes": np.array([1, 2])}
    agree([node("Split", ["x", "sizes"], ["a", "b"], axis=1)], {"x": X}, wanted, sizes)


@pytest.mark.parametrize(("opset", "given"), [(9, {}), (12, {"axis": 2}), (13, {"axis": 1})])
def test_hardmax_took_several_axes_as_one(agree: Any, opset: int, given: dict[str, int]) -> None:
    agree([node("Hardmax", ["x"], ["y"], **given)], {"x": IMAGE}, opset=opset)


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceSum", "ReduceMax"])
def test_a_reduction_of_no_axes_keeps_its_function(agree: Any, op: str) -> None:
    agree([node(op, ["x"], ["y"], noop_with_empty_axes=1)], {"x": X}, opset=18)


@pytest.mark.parametrize(
    ("start", "end", "step"), [(-9, -9, -1), (5, -9, -2), (-3, -9, -1), (2, 0, -1), (-9, 9, 2), (-9, -(2**31), -1)]
)
def test_a_start_before_the_first_element_is_clamped_to_it(agree: Any, start: int, end: int, step: int) -> None:
    bounds = {"b": np.array([start]), "e": np.array([end]), "a": np.array([1]), "s": np.array([step])}
    agree([node("Slice", ["x", "b", "e", "a", "s"], ["y"])], {"x": X}, constants=bounds)


@pytest.mark.parametrize("shape", [(), (2, 3), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("slope", ["constant", "fed"])
def test_prelu_of_one_slope_without_axes(agree: Any, shape: tuple[int, ...], slope: str) -> None:
    x = np.linspace(-2.5, 1.5, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    held = {"s": np.array(0.25, np.float32)}
    prelu = [node("PRelu", ["x", "s"], ["y"])]
    agree(prelu, {"x": x}, constants=held) if slope == "constant" else agree(prelu, {"x": x, **held})


@pytest.mark.parametrize("dtype", ["int32", "int64", "int8"])
def test_sign_of_integers(agree: Any, dtype: str) -> None:
    agree([node("Sign", ["x"], ["y"])], {"x": INTS.astype(dtype)})


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("shapes", [((2, 3), (3, 4)), ((3,), (3,)), ((2, 1, 2, 3), (5, 3, 1)), ((4, 2, 3), (3,))])
def test_matmul_of_integers(agree: Any, dtype: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    random = np.random.default_rng(0)
    x, z = (random.integers(-9, 9, shape).astype(dtype) for shape in shapes)
    agree([node("MatMul", ["x", "z"], ["y"])], {"x": x, "z": z})


def test_five_axes_above_a_threshold(agree: Any) -> None:
    agree([node("ThresholdedRelu", ["x"], ["y"], alpha=0.5)], {"x": IMAGE.reshape(1, 2, 5, 7, 1)})


def test_a_scatter_at_computed_places_of_five_axes(agree: Any) -> None:
    updates = np.ones((1, 2, 5, 7, 1), np.float32)
    feeds = {"x": IMAGE.reshape(1, 2, 5, 7, 1), "i": np.array([[0]]), "u": updates}
    agree([node("ScatterND", ["x", "i", "u"], ["y"])], feeds)


@pytest.mark.parametrize("axis", [None, 1, -2])
def test_compress_by_a_constant(agree: Any, axis: int | None) -> None:
    given = {} if axis is None else {"axis": axis}
    agree([node("Compress", ["x", "c"], ["y"], **given)], {"x": X}, constants={"c": np.array([True, False])})


def test_a_constant_that_is_quantized_at_run_time(agree: Any) -> None:
    held = {"c": X, "s": np.array(0.25, np.float32), "z": np.array(3, np.uint8)}
    nodes = [node("QuantizeLinear", ["c", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"])]
    agree([*nodes, node("Add", ["x", "d"], ["y"])], {"x": X}, constants=held)


def test_a_large_stored_constant_is_an_output(agree: Any) -> None:
    held = {"q": np.arange(256).astype(np.int8), "s": np.array(0.25, np.float32), "z": np.array(3, np.int8)}
    nodes = [node("DequantizeLinear", ["q", "s", "z"], ["d"]), node("Neg", ["x"], ["y"])]
    agree(nodes, {"x": X}, ("y", "d"), held)


@pytest.mark.parametrize("op", ["Softmax", "AveragePool", "Resize"])
def test_int8_does_not_round_a_result_that_is_not_quantized(agree: Any, op: str) -> None:
    held: dict[str, Any] = {"s": np.array(3 / 16, np.float32), "z": np.array(2, np.int8)}  # multiples of 1/8: no ties
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"])]
    if op == "Resize":
        held["f"] = np.array([1, 1, 2, 2], np.float32)
        last = node(op, ["d", "", "f"], ["y"], mode="linear")
    else:
        last = node(op, ["d"], ["y"], **({"kernel_shape": [2, 2]} if op == "AveragePool" else {"axis": -1}))
    agree([*nodes, last], {"x": IMAGE}, constants=held)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 6.0), (-0.7, 0.3), (-0.75, 1.5)])
def test_int8_does_not_move_the_bounds_of_a_clip(agree: Any, low: float, high: float) -> None:
    """At a scale of 3/16 the first three lie between two steps, the last do not."""
    quantized = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
    ]
    constants = {"scale": np.float32(0.1875), "zero": np.int8(0), "l": np.float32(low), "h": np.float32(high)}
    agree([*quantized, node("Clip", ["d", "l", "h"], ["y"])], {"x": X * 3}, constants=constants)


@pytest.mark.parametrize("reader", ["Cast", "Mod", "MatMulInteger", "Reshape"])
def test_quantized_integers_that_are_read_as_numbers(agree: Any, reader: str) -> None:
    held = {"s": np.array(0.25, np.float32), "z": np.array(2, np.int8), "m": np.array(3, np.int8)}
    held |= {"w": np.array([[1], [2], [3]], np.int8), "shape": np.array([3, 2])}
    reading = {
        "Cast": [node("Cast", ["q"], ["y"], to=onnx.TensorProto.FLOAT)],
        "Mod": [node("Mod", ["q", "m"], ["y"])],
        "MatMulInteger": [node("MatMulInteger", ["q", "w"], ["y"])],
        "Reshape": [node("Reshape", ["q", "shape"], ["r"]), node("Cast", ["r"], ["y"], to=onnx.TensorProto.INT32)],
    }
    agree([node("QuantizeLinear", ["x", "s", "z"], ["q"]), *reading[reader]], {"x": X}, constants=held)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [0, 0, 1, 1]])
def test_ceil_mode_leaves_out_windows_that_start_in_the_padding(agree: Any, op: str, pads: list[int]) -> None:
    # 5 rows and 7 columns (and one of padding) in steps of 2: a fourth row, a fifth column would hold padding alone.
    window = node(
        op, ["x"], ["y"], kernel_shape=[1, 1] if not any(pads) else [2, 2], strides=[2, 2], pads=pads, ceil_mode=1
    )
    agree([window], {"x": IMAGE}, opset=19)


@pytest.mark.parametrize("size", [2, 8, 16, 18])
def test_coordinates_of_given_sizes_that_fall_on_a_tie(agree: Any, size: int) -> None:
    resize = node(
        "Resize", ["x", "", "", "n"], ["y"], coordinate_transformation_mode="asymmetric",
        mode="nearest", nearest_mode="round_prefer_ceil",
    )  # fmt: skip
    agree([resize], {"x": IMAGE}, constants={"n": np.array([1, 2, 5, size])})


def test_sizes_behind_such_a_ceil_mode_are_not_folded_too_large(agree: Any) -> None:
    nodes = [
        node("MaxPool", ["x"], ["p"], kernel_shape=[1, 1], strides=[2, 2], ceil_mode=1),
        node("Shape", ["p"], ["s"]),
        node("Gather", ["s", "last"], ["w"]),
        node("Concat", ["rest", "w"], ["n"], axis=0),
        node("Reshape", ["p", "n"], ["y"]),
    ]
    agree(nodes, {"x": IMAGE[..., :6]}, constants={"last": np.array([3]), "rest": np.array([-1])}, opset=19)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_a_value_that_two_reshapes_lead_to_is_not_overwritten(agree: Any, dtype: str) -> None:
    """LiteRT writes the sum of a scatter over the flattened product, which is still to be read; XNNPACK or not."""
    feeds = {"x": INTS.astype(dtype), "w": np.arange(12).reshape(3, 4).astype(dtype), "u": np.full((1, 4), 9, dtype)}
    nodes = [
        node("MatMul", ["x", "w"], ["p"]),
        node("ScatterElements", ["p", "i", "u"], ["y"], reduction="add"),
        node("Max", ["p", "low"], ["kept"]),
    ]
    agree(nodes, feeds, ("y", "kept"), {"i": np.zeros((1, 4), np.int64), "low": np.array(-99, dtype)})


def test_a_value_that_two_reshapes_lead_to_is_not_overwritten_by_softmax(agree: Any) -> None:
    feeds = {"x": IMAGE.reshape(2, 1, 5, 7, 1), "w": np.full((1, 3), 0.5, np.float32)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Softmax", ["p"], ["y"]), node("Neg", ["p"], ["kept"])]
    agree(nodes, feeds, ("y", "kept"))


def test_a_sum_that_is_read_again_is_not_overwritten_through_a_view(agree: Any) -> None:
    """The memory of `b` is that of `a`, which is read once; so LiteRT takes that of `c`, a view of `b`, for free.

    (An output has memory of its own, so the sum is not one.)
    """
    nodes = [
        node("Add", ["x", "x"], ["a"]),
        node("Mul", ["a", "x"], ["b"]),
        node("Reshape", ["b", "n"], ["c"]),
        node("Add", ["c", "low"], ["d"]),
        node("Max", ["d", "low"], ["y"]),
        node("Max", ["b", "low"], ["kept"]),
    ]
    held = {"n": np.array([24]), "low": np.array(-99)}
    agree(nodes, {"x": np.tile(INTS, (2, 2))}, ("y", "kept"), held)
