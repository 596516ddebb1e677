"""Convolutions of all kinds against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


CONVOLUTIONS = {
    "1d": ((2, 3, 12), (4, 3, 3), {"pads": [1, 1]}),
    "1d strided": ((1, 4, 13), (4, 4, 5), {"strides": [2]}),
    "2d": ((1, 3, 8, 9), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    "pointwise": ((1, 3, 4, 5), (6, 3, 1, 1), {}),
    "asymmetric pads": ((1, 3, 8, 8), (4, 3, 3, 3), {"pads": [0, 1, 2, 3], "strides": [2, 2]}),
    "dilated": ((1, 2, 10, 11), (3, 2, 3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    "grouped": ((1, 6, 7, 7), (4, 3, 3, 3), {"group": 2}),
    "depthwise": ((1, 6, 7, 7), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    "depthwise with a multiplier": ((1, 3, 7, 7), (6, 1, 3, 3), {"group": 3}),
    "kernel of two sizes": ((1, 2, 9, 9), (3, 2, 1, 5), {"strides": [1, 2]}),
    "3d": ((1, 2, 5, 6, 7), (3, 2, 2, 3, 3), {"pads": [1, 0, 1, 0, 1, 1], "strides": [1, 2, 1]}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_conv(bench, ops_of, case, bias) -> None:
    x, weight, attributes = CONVOLUTIONS[case]
    constants = {"w": normal(*weight)} | ({"b": normal(weight[0])} if bias else {})
    node = make_node("Conv", ["x", *constants], ["y"], kernel_shape=weight[2:], **attributes)
    written = bench.agree([node], {"x": normal(*x)}, constants=constants)
    assert ops_of(written.path) == ["conv"]


TRANSPOSED = {
    "1d": ((1, 3, 6), (3, 2, 3), {"strides": [2]}),
    "2d": ((1, 3, 4, 5), (3, 2, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "grouped": ((1, 4, 4, 5), (4, 3, 3, 3), {"group": 2, "strides": [1, 2]}),
    "dilated": ((1, 2, 4, 4), (2, 2, 3, 3), {"dilations": [2, 2]}),
    "asymmetric pads": ((1, 2, 4, 4), (2, 3, 3, 3), {"pads": [0, 1, 2, 1], "strides": [2, 2]}),
    "output padding inside": (
        (1, 2, 4, 4),
        (2, 3, 3, 3),
        {"pads": [1, 1, 1, 1], "strides": [2, 2], "output_padding": [1, 1]},
    ),
    "output padding beyond": ((1, 2, 4, 4), (2, 3, 3, 3), {"strides": [3, 3], "output_padding": [2, 1]}),
    "output shape": ((1, 2, 4, 4), (2, 3, 3, 3), {"strides": [3, 2], "output_shape": [10, 8]}),
    "larger output shape": ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": [3, 2], "output_shape": [10, 8]}),
    "3d": ((1, 2, 3, 4, 3), (2, 2, 2, 3, 2), {"strides": [2, 1, 2]}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
@pytest.mark.parametrize("bias", [True, False])
def test_conv_transpose(bench, ops_of, case, bias) -> None:
    x, weight, attributes = TRANSPOSED[case]
    out = weight[1] * attributes.get("group", 1)
    constants = {"w": normal(*weight)} | ({"b": normal(out)} if bias else {})
    node = make_node("ConvTranspose", ["x", *constants], ["y"], kernel_shape=weight[2:], **attributes)
    written = bench.agree([node], {"x": normal(*x)}, constants=constants)
    assert ops_of(written.path)[0] == "conv_transpose"


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_weights_and_bias_computed_at_run_time(bench, op) -> None:
    feeds = {"x": normal(1, 2, 6, 5), "w": normal(2, 2, 3, 3), "b": normal(2)}
    node = make_node(op, list(feeds), ["y"], kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 1, 1])
    bench.agree([node], feeds, deployment_target="iOS17")


def test_what_a_convolution_cannot_have_is_refused_with_every_reason(bench, build) -> None:
    x, w = normal(1, 2, 3, 3, 3, 3), normal(2, 2, 1, 1, 1, 1)
    small, weight = normal(1, 2, 6, 6), normal(2, 2, 3, 3)
    nodes = [
        make_node("Conv", ["x", "w"], ["wide"], kernel_shape=[1] * 4),
        make_node("Conv", ["s", "computed"], ["y"], kernel_shape=[3, 3], dilations=[2, 2]),
    ]
    # Its rank is refused at the input already; the second convolution reads its weights from another input.
    model = build(nodes, {"x": x, "s": small, "computed": weight}, ["wide", "y"], {"w": w})
    assert [line.split(" ")[0] for line in bench.blockers(model)][:2] == ["x", "wide"]
    model = build([*nodes[1:], make_node("Det", ["s"], ["d"])], {"s": small, "computed": weight}, ["y", "d"])
    weights, unknown = bench.blockers(model)
    assert "dilates constant weights only" in weights
    assert "Det" in unknown
    transposed = make_node("ConvTranspose", ["s", "computed"], ["y"], kernel_shape=[3, 3])
    (blocker,) = bench.blockers(build([transposed], {"s": small, "computed": weight}, ["y"]))
    assert "need iOS 17" in blocker
