"""Convolutions and pools, against onnxruntime on the same parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

RNG = np.random.default_rng(7)


def onnx_node(op: str, inputs: dict[str, np.ndarray], **attributes: Any) -> np.ndarray:
    """Run one ONNX node in onnxruntime with optimisations off."""
    node = helper.make_node(op, list(inputs), ["y"], **attributes)
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    graph = helper.make_graph([node], "g", values, [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(["y"], inputs)[0]
    return result


def interleaved(pads: list[int]) -> list[int]:
    """ONNX's pads (all begins, then all ends) in MIL's order (begin and end of each dimension)."""
    half = len(pads) // 2
    return [value for pair in zip(pads[:half], pads[half:], strict=True) for value in pair]


CONVS = [
    # spatial, kernel, strides, dilations, groups, pads
    ((9,), (3,), (1,), (1,), 1, [1, 1]),
    ((10,), (3,), (2,), (2,), 2, [0, 3]),
    ((8, 9), (3, 3), (1, 1), (1, 1), 1, [1, 1, 1, 1]),
    ((8, 9), (3, 2), (2, 3), (1, 1), 1, [0, 1, 2, 0]),
    ((9, 9), (3, 3), (1, 1), (2, 3), 1, [2, 3, 2, 3]),
    ((8, 8), (1, 1), (1, 1), (1, 1), 1, [0, 0, 0, 0]),
    ((8, 8), (3, 3), (1, 1), (1, 1), 2, [1, 1, 1, 1]),
    ((8, 8), (3, 3), (2, 2), (1, 1), 4, [1, 1, 1, 1]),
    ((5, 6, 4), (2, 3, 2), (1, 2, 1), (1, 1, 1), 1, [0, 1, 0, 1, 1, 1]),
]


@pytest.mark.parametrize(("spatial", "kernel", "strides", "dilations", "groups", "pads"), CONVS)
@pytest.mark.parametrize("multiplier", [1, 2])
def test_conv(
    evaluate: Any, spatial: Any, kernel: Any, strides: Any, dilations: Any, groups: int, pads: Any, multiplier: int
) -> None:
    x = RNG.standard_normal((2, 4, *spatial)).astype(np.float32)
    weight = RNG.standard_normal((4 * multiplier, 4 // groups, *kernel)).astype(np.float32)
    bias = RNG.standard_normal(4 * multiplier).astype(np.float32)
    (found,) = evaluate(
        lambda mb, x: mb.conv(
            x=x, weight=weight, bias=bias, strides=list(strides), dilations=list(dilations), groups=groups,
            pad_type="custom", pad=interleaved(pads), name="y",
        ),
        {"x": x},
    )  # fmt: skip
    wanted = onnx_node(
        "Conv", {"x": x, "w": weight, "b": bias}, strides=strides, dilations=dilations, group=groups, pads=pads
    )
    # Sums of at most 48 products of unit normals, in two orders: 48 roundings of about 10 are 6e-5 at the very worst.
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("pad_type", "auto_pad"), [("same", "SAME_UPPER"), ("same_lower", "SAME_LOWER")])
@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_conv_same(evaluate: Any, pad_type: str, auto_pad: str, size: int, stride: int) -> None:
    x = RNG.standard_normal((1, 2, size, size + 1)).astype(np.float32)
    weight = RNG.standard_normal((3, 2, 4, 3)).astype(np.float32)
    (found,) = evaluate(
        lambda mb, x: mb.conv(x=x, weight=weight, strides=[stride, stride], pad_type=pad_type, name="y"), {"x": x}
    )
    wanted = onnx_node("Conv", {"x": x, "w": weight}, strides=[stride, stride], auto_pad=auto_pad)
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("spatial", "kernel", "strides", "dilations", "groups", "pads", "extra"),
    [
        ((6,), (3,), (2,), (1,), 1, [1, 1], [0]),
        ((5, 6), (3, 3), (2, 2), (1, 1), 1, [1, 1, 1, 1], [1, 1]),
        ((5, 6), (3, 2), (1, 3), (2, 1), 2, [0, 1, 1, 0], [0, 0]),
        ((5, 6), (2, 2), (3, 3), (1, 1), 4, [0, 0, 0, 0], [0, 0]),
        ((3, 4, 3), (2, 3, 2), (2, 1, 2), (1, 1, 1), 1, [0, 1, 0, 0, 1, 0], [0, 0, 0]),
    ],
)
def test_conv_transpose(
    evaluate: Any, spatial: Any, kernel: Any, strides: Any, dilations: Any, groups: int, pads: Any, extra: Any
) -> None:
    x = RNG.standard_normal((2, 4, *spatial)).astype(np.float32)
    weight = RNG.standard_normal((4, 3, *kernel)).astype(np.float32)
    bias = RNG.standard_normal(3 * groups).astype(np.float32)
    wanted = onnx_node(
        "ConvTranspose", {"x": x, "w": weight, "b": bias}, strides=strides, dilations=dilations, group=groups,
        pads=pads, output_padding=extra,
    )  # fmt: skip
    shape = list(wanted.shape) if any(extra) else None
    (found,) = evaluate(
        lambda mb, x: mb.conv_transpose(
            x=x, weight=weight, bias=bias, strides=list(strides), dilations=list(dilations), groups=groups,
            pad_type="custom", pad=interleaved(pads), output_shape=shape, name="y",
        ),
        {"x": x},
    )  # fmt: skip
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=0)


POOLS = [
    ((9,), (3,), (2,), [1, 1]),
    ((8, 9), (3, 2), (2, 2), [0, 0, 0, 0]),
    ((8, 9), (3, 3), (2, 2), [1, 1, 1, 1]),
    ((7, 7), (2, 2), (3, 3), [0, 0, 0, 0]),
    ((6, 6), (6, 6), (1, 1), [0, 0, 0, 0]),
]


@pytest.mark.parametrize(("spatial", "kernel", "strides", "pads"), POOLS)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("kind", ["max", "average", "average with padding"])
def test_pool(evaluate: Any, spatial: Any, kernel: Any, strides: Any, pads: Any, ceil_mode: bool, kind: str) -> None:
    x = (RNG.standard_normal((2, 3, *spatial)) - 2).astype(np.float32)  # mostly negative: zeros must not win
    common = {"strides": list(strides), "pad_type": "custom", "pad": interleaved(pads), "ceil_mode": ceil_mode}
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": int(ceil_mode)}

    def body(mb: Any, x: Any) -> Any:
        if kind == "max":
            return mb.max_pool(x=x, kernel_sizes=list(kernel), name="y", **common)
        exclude = kind == "average"
        return mb.avg_pool(x=x, kernel_sizes=list(kernel), exclude_padding_from_average=exclude, name="y", **common)

    (found,) = evaluate(body, {"x": x})
    if kind == "max":
        wanted = onnx_node("MaxPool", {"x": x}, **attributes)
    else:
        wanted = onnx_node("AveragePool", {"x": x}, count_include_pad=int(kind != "average"), **attributes)
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)  # means of at most 36 values of about 5


def test_l2_pool(evaluate: Any) -> None:
    x = RNG.standard_normal((1, 2, 6, 6)).astype(np.float32)
    (found,) = evaluate(
        lambda mb, x: mb.l2_pool(x=x, kernel_sizes=[2, 3], strides=[2, 3], pad_type="valid", name="y"), {"x": x}
    )
    wanted = onnx_node("LpPool", {"x": x}, kernel_shape=[2, 3], strides=[2, 3], p=2)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
