"""Quantized hub graphs: QDQ activations, int8 weights, and what iOS versions hold."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx.helper import make_node

from haversack.convert.targets import Options
from haversack.convert.targets.coreml import TARGET
from haversack.runtimes.engines import open_engine

RNG = np.random.default_rng(10)
X = RNG.normal(size=(1, 3, 6, 6)).astype(np.float32)


def qdq(name: str, scale: str, zero: str) -> list:
    """QuantizeLinear and DequantizeLinear around the value `name`, as compression leaves them."""
    return [
        make_node("QuantizeLinear", [name, scale, zero], [name + "_quantized"]),
        make_node("DequantizeLinear", [name + "_quantized", scale, zero], [name + "_dequantized"]),
    ]


def quantized_network() -> tuple[list, dict]:
    """x → Conv → Relu → MaxPool → y in int8, per-channel weights, int32 bias."""
    weights = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    weight_scale = RNG.uniform(1e-3, 5e-3, 4).astype(np.float32)
    x_scale, y_scale = np.float32(0.02), np.float32(0.015)
    constants = {
        "x_scale": x_scale,
        "x_zero": np.int8(5),
        "y_scale": y_scale,
        "y_zero": np.int8(-128),
        "w_quantized": weights,
        "w_scale": weight_scale,
        "w_zero": np.zeros(4, np.int8),
        "b_quantized": RNG.integers(-2000, 2000, 4).astype(np.int32),
        "b_scale": x_scale * weight_scale,
    }
    nodes = [
        *qdq("x", "x_scale", "x_zero"),
        make_node("DequantizeLinear", ["w_quantized", "w_scale", "w_zero"], ["w"], axis=0),
        make_node("DequantizeLinear", ["b_quantized", "b_scale"], ["b"], axis=0),
        make_node("Conv", ["x_dequantized", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        make_node("Relu", ["c"], ["r"]),
        *qdq("r", "y_scale", "y_zero"),
        make_node("MaxPool", ["r_dequantized"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        make_node("QuantizeLinear", ["p", "y_scale", "y_zero"], ["p_quantized"]),
        make_node("DequantizeLinear", ["p_quantized", "y_scale", "y_zero"], ["y"]),
    ]
    return nodes, constants


def test_quantized_activations_are_exact(bench, ops_of) -> None:
    """Both sides round at the same places; half an LSB of the output scale would be far above the tolerance."""
    nodes, constants = quantized_network()
    written = bench.agree(nodes, {"x": X}, constants=constants, recipe="int8", tolerance=1e-6)
    assert written.min_runtime == "iOS17"
    pairs = 3 * ["quantize", "dequantize"]
    assert sorted(ops_of(written.path)) == sorted(["constexpr_affine_dequantize", "conv", "relu", "max_pool", *pairs])


def test_a_quantized_layer_goes_from_int8_to_int8(bench) -> None:
    nodes, constants = quantized_network()
    written = bench.agree(nodes, {"x": X}, constants=constants, recipe="int8", tolerance=1e-6)
    layers = {layer.op: layer for layer in written.layers}
    assert [tap.value for tap in layers["conv"].inputs] == ["x_quantized"]
    assert [tap.value for tap in layers["conv"].outputs] == ["r_quantized"]
    assert [tap.value for tap in layers["max_pool"].inputs] == ["r_quantized"]
    assert [tap.value for tap in layers["max_pool"].outputs] == ["p_quantized"]
    assert [tap.value for tap in layers["dequantize"].outputs] == ["y"]


def test_every_tap_holds_the_hubs_value(bench, build) -> None:
    """The variables named in the layers, observed while the package runs, against onnxruntime's intermediate values."""
    from haversack.convert.hub.evaluate import Evaluator

    nodes, constants = quantized_network()
    model = build(nodes, {"x": X}, ["y"], constants)
    written = bench.write(model, "int8")
    taps = {tap.tensor: tap.value for layer in written.layers for tap in layer.outputs}
    seen: dict[str, np.ndarray] = {}

    def observe(operation, inputs, results):  # noqa: ARG001
        seen.update({name: value for name, value in results.items() if name in taps})

    open_engine(written.path).evaluator.run({"x": X}, hook=observe)
    hub = Evaluator(ir.from_proto(model), list(taps.values())).run({"x": X})
    assert set(seen) == set(taps)
    for tensor, value in taps.items():
        np.testing.assert_allclose(seen[tensor], hub[value], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("granularity", ["per-channel", "per-tensor"])
@pytest.mark.parametrize("target", ["iOS16", "iOS17", "iOS18"])
@pytest.mark.parametrize(
    ("op", "shape", "weight", "axis", "attributes"),
    [
        ("Conv", (1, 3, 6, 6), (4, 3, 3, 3), 0, {"kernel_shape": [3, 3]}),
        ("ConvTranspose", (1, 3, 6, 6), (3, 4, 3, 3), 1, {"kernel_shape": [3, 3]}),
        ("Gemm", (2, 5), (7, 5), 0, {"transB": 1}),
        ("MatMul", (2, 5), (5, 7), 1, {}),
    ],
)
def test_int8_weights(bench, ops_of, granularity, target, op, shape, weight, axis, attributes) -> None:
    size = weight[axis] if granularity == "per-channel" else ()
    constants = {
        "w_quantized": RNG.integers(-127, 128, weight).astype(np.int8),
        "scale": np.asarray(RNG.uniform(1e-3, 1e-2, size), np.float32),
        "zero": np.zeros(size, np.int8),
    }
    nodes = [
        make_node("DequantizeLinear", ["w_quantized", "scale", "zero"], ["w"], axis=axis),
        make_node(op, ["x", "w"], ["y"], **attributes),
    ]
    inputs = {"x": RNG.normal(size=shape).astype(np.float32)}
    written = bench.agree(nodes, inputs, constants=constants, recipe="int8-weights", deployment_target=target)
    assert "constexpr_affine_dequantize" in ops_of(written.path)
    weights = b"".join(file.read_bytes() for file in written.path.rglob("*") if file.is_file())
    assert constants["w_quantized"].tobytes() in weights


def test_int8_below_ios_17_is_refused(bench, build) -> None:
    nodes, constants = quantized_network()
    (blocker,) = bench.blockers(build(nodes, {"x": X}, ["y"], constants), "int8", deployment_target="iOS16")
    assert "iOS 17" in blocker
    assert "int8-weights" in blocker


def test_int8_dynamic_is_refused(build) -> None:
    assert "int8-dynamic" not in TARGET.recipes
    model = build([make_node("Relu", ["x"], ["y"])], {"x": X}, ["y"])
    (blocker,) = TARGET.preflight(ir.from_proto(model), "int8-dynamic", Options())
    assert "int8-weights" in str(blocker)


@pytest.mark.parametrize("axis", [0, 1])
def test_quantized_inputs_and_outputs_are_int32(bench, axis) -> None:
    """Per-channel parameters on an activation, and model edges of int8: Core ML has int32 there."""
    x = RNG.integers(-128, 128, (3, 4)).astype(np.int8)
    size = x.shape[axis]
    constants = {
        "scale": RNG.uniform(0.01, 0.1, size).astype(np.float32),
        "zero": RNG.integers(-9, 9, size).astype(np.int8),
    }
    nodes = [
        make_node("DequantizeLinear", ["x", "scale", "zero"], ["f"], axis=axis),
        make_node("Relu", ["f"], ["r"]),
        make_node("QuantizeLinear", ["r", "scale", "zero"], ["y"], axis=axis),
    ]
    written = bench.agree(nodes, {"x": x}, constants=constants, tolerance=0)
    assert {spec.dtype for spec in open_engine(written.path).outputs} == {"int32"}
    assert len(written.notes) == 2


def test_blocks_that_do_not_divide_the_channels_are_refused(bench, build) -> None:
    constants = {"scale": np.float32(RNG.uniform(1, 2, (3, 3))), "w": np.ones((3, 8), np.int8)}
    nodes = [
        make_node("DequantizeLinear", ["w", "scale"], ["v"], axis=1, block_size=3),
        make_node("Add", ["x", "v"], ["y"]),
    ]
    (blocked,) = bench.blockers(build(nodes, {"x": np.zeros((3, 8), np.float32)}, ["y"], constants))
    assert "blocks that divide" in blocked


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_blocks_of_8_bits(bench, dtype) -> None:
    """Scales and zero points of their own for each 4 of 8 columns."""
    limits = np.iinfo(dtype)
    constants = {
        "w": RNG.integers(limits.min, limits.max + 1, (3, 8)).astype(dtype),
        "scale": RNG.uniform(0.01, 0.1, (3, 2)).astype(np.float32),
        "zero": RNG.integers(0, 9, (3, 2)).astype(dtype),
    }
    nodes = [
        make_node("DequantizeLinear", ["w", "scale", "zero"], ["v"], axis=1, block_size=4),
        make_node("Add", ["x", "v"], ["y"]),
    ]
    inputs = {"x": np.zeros((3, 8), np.float32)}
    bench.agree(nodes, inputs, constants=constants, tolerance=1e-6)


@pytest.mark.parametrize(
    ("dtype", "computed"),
    [("int8", True), ("uint8", True), ("int16", True), ("uint16", True), ("int16", False), ("uint16", False)],
)
def test_quantization_written_out(bench, dtype: str, computed: bool) -> None:
    """16 bits, and scales computed at run time, have no op in MIL."""
    x = np.linspace(-9, 9, 24, dtype=np.float32).reshape(3, 8)
    scale, zero = np.array([0.001, 0.05, 2], np.float32), np.array([3, 0, 7], dtype)
    nodes = [
        make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=0),
        make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=0),
    ]
    fed = {"x": x, "scale": scale} if computed else {"x": x}
    constants = {"zero": zero} if computed else {"zero": zero, "scale": scale}
    bench.agree(nodes, fed, ["q", "y"], constants, tolerance=1e-6)


def test_dynamic_quantization(bench) -> None:
    x = np.float32([[-1.7, 0.2, 3.9], [2.5, -0.01, 1]])
    bench.agree([make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])], {"x": x}, ["y", "scale", "zero"])


def test_a_quantized_scalar_constant(bench) -> None:
    constants = {"c_quantized": np.int8(-7), "scale": np.float32(0.03), "zero": np.int8(4)}
    nodes = [
        make_node("DequantizeLinear", ["c_quantized", "scale", "zero"], ["c"]),
        make_node("Add", ["x", "c"], ["y"]),
    ]
    bench.agree(nodes, {"x": X}, constants=constants)
