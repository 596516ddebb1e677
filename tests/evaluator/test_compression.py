"""Quantized activations and compressed constants, against ONNX's definition and coremltools' own decompression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

RNG = np.random.default_rng(5)


def onnx_reference(op: str, inputs: dict[str, np.ndarray], output: int, **attributes: Any) -> np.ndarray:
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in inputs.items()
    ]
    node = helper.make_node(op, list(inputs), ["y"], **attributes)
    graph = helper.make_graph([node], "g", values, [helper.make_tensor_value_info("y", output, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    result: np.ndarray = ReferenceEvaluator(model).run(None, inputs)[0]
    return result


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_quantize_and_dequantize_are_exact(evaluate: Any, dtype: str, axis: int | None) -> None:
    x = RNG.normal(0, 2, (3, 4, 5)).astype(np.float32)
    x[0, 0] = [0.125, 0.375, -0.125, 100, -100]  # halves of the scale 0.25, and values beyond the range
    count = () if axis is None else (x.shape[axis],)
    limits = np.iinfo(dtype)
    scale = np.full(count, 0.25, np.float32) if axis is None else RNG.uniform(0.01, 0.5, count).astype(np.float32)
    zero = RNG.integers(limits.min, limits.max + 1, count).astype(dtype)

    def body(mb: Any, x: Any) -> Any:
        q = mb.quantize(input=x, scale=scale, zero_point=zero, output_dtype=dtype, axis=axis)
        return mb.cast(x=q, dtype="int32", name="q"), mb.dequantize(
            input=q, scale=scale, zero_point=zero, axis=axis, name="y"
        )

    quantized, back = evaluate(body, {"x": x})
    number = TensorProto.INT8 if dtype == "int8" else TensorProto.UINT8
    attributes = {} if axis is None else {"axis": axis}
    wanted = onnx_reference("QuantizeLinear", {"x": x, "s": scale, "z": zero}, number, **attributes)
    np.testing.assert_array_equal(quantized, wanted)
    wanted = onnx_reference("DequantizeLinear", {"q": wanted, "s": scale, "z": zero}, TensorProto.FLOAT, **attributes)
    np.testing.assert_array_equal(back, wanted)


def check(evaluate: Any, make: Any, target: str) -> None:
    """Compare a compressed constant, as decompressed from the package, with coremltools' own value of the op."""
    wanted: list[np.ndarray] = []

    def body(mb: Any, x: Any) -> Any:
        constant = make(mb)
        wanted.append(np.asarray(constant.op.materialized_val_inference()))
        return mb.add(x=x, y=constant, name="y")

    probe = np.zeros(1, np.float32)
    (found,) = evaluate(body, {"x": probe}, target)
    assert found.dtype == np.float32
    # One multiplication, rounded once on both sides.
    np.testing.assert_allclose(found, wanted[0], rtol=2**-23, atol=0)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_affine(evaluate: Any, dtype: str, axis: int) -> None:
    limits = np.iinfo(dtype)
    data = RNG.integers(limits.min, limits.max + 1, (6, 5, 4)).astype(dtype)
    count = data.shape[axis]
    scale, zero = RNG.uniform(0.01, 1, count).astype(np.float32), RNG.integers(0, 100, count).astype(dtype)
    check(
        evaluate,
        lambda mb: mb.constexpr_affine_dequantize(quantized_data=data, zero_point=zero, scale=scale, axis=axis),
        "iOS16",
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_packed_palette(evaluate: Any, bits: int) -> None:
    shape = (5, 3, 7)
    lut = RNG.standard_normal(2**bits).astype(np.float32)
    indices = RNG.integers(0, 2**bits, np.prod(shape), dtype=np.uint8)
    flat = np.unpackbits(indices[:, None], axis=1, bitorder="little")[:, :bits]
    packed = np.packbits(flat.reshape(-1), bitorder="little")
    wanted = np.uint32(shape)
    check(evaluate, lambda mb: mb.constexpr_lut_to_dense(indices=packed, lut=lut, shape=wanted), "iOS16")


def test_packed_mask(evaluate: Any) -> None:
    mask = RNG.random((5, 7)) < 0.3
    values = RNG.standard_normal(int(mask.sum())).astype(np.float32)
    packed = np.packbits(mask.reshape(-1), bitorder="little")
    check(
        evaluate,
        lambda mb: mb.constexpr_sparse_to_dense(nonzero_data=values, mask=packed, shape=np.uint32(mask.shape)),
        "iOS16",
    )


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int8", "uint8"])
@pytest.mark.parametrize("blocks", [(1, 1), (8, 1), (8, 4), (2, 6)])
def test_blockwise(evaluate: Any, dtype: str, blocks: tuple[int, int]) -> None:
    from coremltools.converters.mil.mil import types

    form = types.nptype_from_builtin(types.string_to_builtin(dtype))
    low, high = (-8, 8) if dtype == "int4" else (0, 16)
    data = RNG.integers(low, high, (8, 12)).astype(form)
    scale = RNG.uniform(0.01, 1, blocks).astype(np.float32)
    offset = RNG.integers(low, high, blocks).astype(form)
    check(evaluate, lambda mb: mb.constexpr_blockwise_shift_scale(data=data, scale=scale, offset=offset), "iOS18")


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("vector_axis", [None, 0, 1])
def test_grouped_and_vector_palettes(evaluate: Any, bits: int, vector_axis: int | None) -> None:
    from coremltools.converters.mil.mil import types

    form = types.nptype_from_builtin(types.string_to_builtin(f"uint{bits}"))
    indices = RNG.integers(0, 2**bits, (8, 6)).astype(form)
    lut = RNG.standard_normal((4, 1, 2**bits, 1 if vector_axis is None else 2)).astype(np.float32)
    check(evaluate, lambda mb: mb.constexpr_lut_to_dense(indices=indices, lut=lut, vector_axis=vector_axis), "iOS18")


def test_sparse_palette_and_sparse_scales(evaluate: Any) -> None:
    from coremltools.converters.mil.mil import types

    bit, four = types.np_uint1_dtype, types.nptype_from_builtin(types.string_to_builtin("int4"))
    mask = (RNG.random((4, 6)) < 0.5).astype(bit)
    count = int(mask.sum())

    def palette(mb: Any) -> Any:
        indices = RNG.integers(0, 2, count).astype(bit)
        lut = RNG.standard_normal((1, 1, 2, 1)).astype(np.float32)
        found, values = mb.constexpr_lut_to_sparse(indices_mask=mask, indices_nonzero_data=indices, lut=lut)
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=found)

    def scales(mb: Any) -> Any:
        data = RNG.integers(-8, 8, count).astype(four)
        scale = RNG.uniform(0.1, 1, (4, 1)).astype(np.float32)
        found, values = mb.constexpr_sparse_blockwise_shift_scale(data_mask=mask, nonzero_data=data, scale=scale)
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=found)

    check(evaluate, palette, "iOS18")
    check(evaluate, scales, "iOS18")
