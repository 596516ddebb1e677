"""Mixed precision: layers of int4, palettes and floats in one int8 file, against the hub graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from mixed_weights import with_weights
from onnx.helper import make_node

from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.targets.tflite import extract

Random = np.random.Generator


@pytest.fixture(params=["per-channel", "per-tensor"])
def hub(request: Any, bench: Any, random: Random) -> tuple[ir.Model, list[dict[str, np.ndarray]]]:
    """Every kind of layer in int8."""

    def floats(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) / 4).astype(np.float32)

    nodes = [
        make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], name="full"),
        make_node("Relu", ["c1"], ["r1"], name="relu"),
        make_node("Conv", ["r1", "w2", "b1"], ["c2"], pads=[1, 1, 1, 1], group=16, name="depthwise"),
        make_node("Conv", ["c2", "w3", "b1"], ["c3"], name="pointwise"),
        make_node("Conv", ["c3", "w4", "b1"], ["c4"], strides=[2, 2], name="strided"),
        make_node("GlobalAveragePool", ["c4"], ["g"], name="pool"),
        make_node("Flatten", ["g"], ["f"], name="flatten"),
        make_node("Gemm", ["f", "w5", "b2"], ["y"], transB=1, name="dense"),
    ]
    constants = {
        "w1": floats(16, 4, 3, 3), "w2": floats(16, 1, 3, 3), "w3": floats(16, 16, 1, 1), "w4": floats(16, 16, 1, 1),
        "w5": floats(5, 16), "b1": floats(16), "b2": floats(5),
    }  # fmt: skip
    feeds = [{"x": random.standard_normal((1, 4, 8, 10)).astype(np.float32)} for _ in range(4)]
    return bench.quantized(nodes, feeds, constants=constants, weights=request.param), feeds


def stored(data: bytes) -> dict[str, list[str]]:
    """Element types of each operator's weights."""
    found: dict[str, list[str]] = {}
    for operator in extract.read(data)[0].operators:
        if operator.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and operator.inputs[1] is not None:
            found.setdefault(operator.code, []).append(operator.inputs[1].dtype)
    return found


CONTAINERS = {
    "int4": {"CONV_2D": ["int4", "int4"], "DEPTHWISE_CONV_2D": ["int4"], "FULLY_CONNECTED": ["int4", "int4"]},
    "fast": {"CONV_2D": ["int8", "int8"], "DEPTHWISE_CONV_2D": ["int8"], "FULLY_CONNECTED": ["int4", "int4"]},
    "int8": {"CONV_2D": ["int8", "int8", "int8"], "DEPTHWISE_CONV_2D": ["int8"], "FULLY_CONNECTED": ["int8"]},
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_int4_weights_under_int8(container: str, hub: Any, bench: Any) -> None:
    model = with_weights(hub[0], {"*": "int4"})
    written = bench.layers_agree(model, hub[1][0], lsb=2, int4_container=container)  # 2: the pool is a mean
    assert stored(bench.data) == CONTAINERS[container]
    assert written.min_runtime is not None
    assert not [note for note in written.notes if "float32" in note]


def test_one_layer_of_each(hub: Any, bench: Any) -> None:
    forms = {"full": "palette4", "depthwise": "int8", "pointwise": "int4", "strided": "float", "dense": "palette2"}
    model = with_weights(hub[0], forms)
    written = bench.layers_agree(model, hub[1][0], lsb=2)
    found = stored(bench.data)
    assert found["CONV_2D"] == ["int8", "float32"]
    assert sorted(found["FULLY_CONNECTED"]) == ["int4", "int8"]
    assert any("2 palettes are written out to 656 bytes" in note for note in written.notes)
    palette = [t for t in extract.read(bench.data)[1] if t.data is not None and t.shape == (5, 16)]
    assert len(np.unique(palette[0].data)) <= 4


def test_blocks_have_no_int8_kernel(hub: Any, bench: Any) -> None:
    model = with_weights(hub[0], {"pointwise": "int4-block2"})
    expected = [Evaluator(model).run(each)["y"] for each in hub[1]]
    written = bench.layers_agree(model, hub[1][0], lsb=2)
    assert len(expected) == 4
    assert any("1 weights in blocks are written out to 1,024 bytes" in note for note in written.notes)


def test_int4_is_packed_two_a_byte(hub: Any, bench: Any) -> None:
    sizes = {}
    for form in ("int8", "int4"):
        bench.write(with_weights(hub[0], {"pointwise": form}), "int8")
        sizes[form] = len(bench.data)
    assert sizes["int8"] - sizes["int4"] >= 16 * 16 // 2 - 64  # the FULLY_CONNECTED takes an operator code more


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_int16_activations(form: str, bench: Any, random: Random, run: Any) -> None:
    """int16 between all layers: to the last of 16 bits what the hub computes."""

    def floats(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) / 4).astype(np.float32)

    nodes = [
        make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], name="full"),
        make_node("Relu", ["c1"], ["r1"], name="relu"),
        make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=16, name="depthwise"),
        make_node("Add", ["r1", "c2"], ["a"], name="add"),
        make_node("MaxPool", ["a"], ["m"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], name="pool"),
        make_node("Concat", ["m", "m"], ["n"], axis=1, name="concat"),
        make_node("GlobalAveragePool", ["n"], ["g"], name="mean"),
        make_node("Flatten", ["g"], ["f"], name="flatten"),
        make_node("Gemm", ["f", "w3", "b2"], ["d"], transB=1, name="dense"),
        make_node("Softmax", ["d"], ["y"], axis=1, name="softmax"),
    ]
    constants = {
        "w1": floats(16, 4, 3, 3), "w2": floats(16, 1, 3, 3), "w3": floats(5, 32), "b1": floats(16), "b2": floats(5),
    }  # fmt: skip
    feeds = [{"x": random.standard_normal((1, 4, 8, 10)).astype(np.float32)} for _ in range(4)]
    model = with_weights(bench.int16(nodes, feeds, constants), {"*": form})
    written = bench.write(model, "int16")
    assert not [note for note in written.notes if "float32" in note]
    expected = [Evaluator(model).run(each)["y"] for each in feeds]
    for xnnpack in (True, False):
        for each, wanted in zip(feeds, expected, strict=True):
            # Steps of 1/32768 at ten places in a row, and the softmax's table: some LSB of 16 bits.
            assert np.abs(run(bench.data, each, xnnpack)["y"] - wanted).max() <= 16 / 32768
    assert {"int8"} == set(stored(bench.data)["CONV_2D"])  # LiteRT's int4 kernels give garbage on int16
    assert written.min_runtime is not None
