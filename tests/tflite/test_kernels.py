"""Every row of the kernel table, by values: each element type at each rank, with and without XNNPACK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernel_cases import FAMILIES, Cell, cells

from haversack.convert.targets.tflite.graph import Graph, Operator, Quantization, Tensor, per_tensor
from haversack.convert.targets.tflite.kernels import KERNELS
from haversack.convert.targets.tflite.schema import TENSOR_TYPES
from haversack.convert.targets.tflite.write import serialize

Array = np.ndarray[Any, Any]
Run = Callable[..., dict[str, Array]]
CONVERSIONS = ("CAST", "QUANTIZE", "DEQUANTIZE")


def faults(code: str, dtype: str, xnnpack: bool, run: Run) -> dict[str, str]:
    """The cells of a row that LiteRT does not compute, or not right."""
    found = {}
    for cell in cells(code, dtype):
        try:
            fault = cell.fault(run(cell.data, cell.feeds, xnnpack))
        except (RuntimeError, ValueError) as error:
            fault = str(error)
        if fault is not None:
            found[cell.name] = fault
    return found


def test_every_kernel_has_cases() -> None:
    assert set(FAMILIES) | set(CONVERSIONS) == set(KERNELS)


def test_every_rank_of_a_row_has_cells() -> None:
    """A row that claims more axes than its cells reach would not be proven."""
    for code, (ranks, _) in FAMILIES.items():
        assert max(ranks) >= (KERNELS[code].max_rank or 8) or max(ranks) in (1, 4, 5), code
        for rank in (rank for rank in ranks if rank <= (KERNELS[code].max_rank or 8)):
            assert list(cells(code, min(KERNELS[code].plain), [rank])), f"{code} rank {rank}"


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("code", FAMILIES)
def test_plain(code: str, xnnpack: bool, run: Run) -> None:
    found = {dtype: faults(code, dtype, xnnpack, run) for dtype in sorted(KERNELS[code].plain)}
    assert {dtype: row for dtype, row in found.items() if row} == {}


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("code", [code for code in FAMILIES if KERNELS[code].int8 is not None])
def test_int8(code: str, xnnpack: bool, run: Run) -> None:
    """Integers in and out: the kernel gives what float arithmetic on the dequantized inputs rounds to."""
    assert faults(code, "quantized", xnnpack, run) == {}


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("code", [code for code in FAMILIES if KERNELS[code].int4])
def test_int4_weights(code: str, xnnpack: bool, run: Run) -> None:
    """Weights of four bits, two a byte, under int8 data."""
    assert faults(code, "int4", xnnpack, run) == {}


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("code", [code for code in FAMILIES if KERNELS[code].int16 is not None])
def test_int16(code: str, xnnpack: bool, run: Run) -> None:
    """int16 data, int8 weights, an int64 bias."""
    assert faults(code, "quantized int16", xnnpack, run) == {}


def test_a_wrong_value_is_a_fault(run: Run) -> None:
    """The comparison is not blind: one element off by one is told, in every kind of output."""
    for code, dtype in (("ADD", "int32"), ("ADD", "float32"), ("EQUAL", "float32"), ("RELU", "quantized")):
        cell: Cell = next(cell for cell in cells(code, dtype) if cell.expected[0].size > 2)
        found = run(cell.data, cell.feeds)
        assert cell.fault(found) is None
        spoilt = found["out0"].copy()
        spoilt.flat[-1] = spoilt.flat[-1] == 0 if spoilt.dtype == bool else spoilt.flat[-1] // 2 + 9
        assert cell.fault({"out0": spoilt}) is not None


CASTS = sorted(KERNELS["CAST"].plain)


def convert(code: str, inner: Tensor, outer: Tensor, options: dict[str, Any] | None = None) -> bytes:
    return serialize(Graph([("x", inner)], [("y", outer)], [Operator(code, [inner], [outer], options or {}, "n")]))[0]


@pytest.mark.parametrize("target", CASTS)
@pytest.mark.parametrize("source", CASTS)
def test_cast(source: str, target: str, run: Run) -> None:
    x = np.array([0, 1, 3, 2, 0, 5]).astype(source)
    options = {"in_data_type": TENSOR_TYPES[source], "out_data_type": TENSOR_TYPES[target]}
    found = run(convert("CAST", Tensor((6,), source), Tensor((6,), target), options), {"x": x})["y"]
    assert found.dtype == np.dtype(target)
    np.testing.assert_array_equal(found, x.astype(target))


QUANTIZED = {"int8": per_tensor(0.25, -3), "uint8": per_tensor(0.25, 100), "int16": per_tensor(0.25, 0)}


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("rank", [0, 1, 4, 6, 8])
@pytest.mark.parametrize("dtype", QUANTIZED)
def test_quantize_and_dequantize(dtype: str, rank: int, xnnpack: bool, run: Run) -> None:
    """Steps of a quarter: every value and both conversions are exact."""
    shape, q = (2, 3, 1, 2, 1, 2, 1, 2)[:rank], QUANTIZED[dtype]
    integers = np.random.default_rng(0).integers(90, 120, shape).astype(dtype)
    real = ((integers.astype(np.float32) - q.zero_point[0]) * q.scale[0]).astype(np.float32)
    stored = Tensor(shape, dtype, quantization=q)
    found = run(convert("QUANTIZE", Tensor(shape, "float32"), stored), {"x": real}, xnnpack)["y"]
    np.testing.assert_array_equal(found, integers)
    found = run(convert("DEQUANTIZE", stored, Tensor(shape, "float32")), {"x": integers}, xnnpack)["y"]
    np.testing.assert_array_equal(found, real)


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("kind", ["float16", "per channel", "int4", "int4 per channel"])
def test_dequantized_constants(kind: str, xnnpack: bool, run: Run) -> None:
    """Weights that are kept small: a constant, widened at start, and added."""
    if kind == "float16":
        stored = Tensor((2, 3), "float16", np.arange(6, dtype=np.float16).reshape(2, 3), widened=True)
    elif kind.startswith("int4"):
        scale = np.array([0.5, 0.25, 2] if "per channel" in kind else [0.5], np.float32)
        q = Quantization(scale, np.zeros(scale.size, np.int64), 1)
        stored = Tensor((3, 3), "int4", np.arange(-5, 4).reshape(3, 3).astype(ml_dtypes.int4), q)
    else:
        q = Quantization(np.array([0.5, 0.25, 2], np.float32), np.zeros(3, np.int64), 1)
        stored = Tensor((2, 3), "int8", np.arange(-3, 3, dtype=np.int8).reshape(2, 3), q)
    x, wide, y = (Tensor(stored.shape, "float32") for _ in range(3))
    operators = [Operator("DEQUANTIZE", [stored], [wide], {}, "w"), Operator("ADD", [x, wide], [y], {}, "n")]
    data = serialize(Graph([("x", x)], [("y", y)], operators))[0]
    given = np.full(stored.shape, 0.5, np.float32)
    np.testing.assert_array_equal(run(data, {"x": given}, xnnpack)["y"], given + stored.value())
