"""Every row of the kernel table, by values: each element type of each builtin, with and without XNNPACK.

The cases below build one operator and say in NumPy what it computes. Data holds small integers, so that every type can
hold it and float32 results are exact but for a few ulp.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from haversack.convert.targets.tflite.graph import Graph, Operator, Tensor, per_tensor
from haversack.convert.targets.tflite.kernels import FIXED_SCALES, KERNELS
from haversack.convert.targets.tflite.schema import TENSOR_TYPES, VALID
from haversack.convert.targets.tflite.write import serialize

Array = np.ndarray[Any, Any]
SHAPE = (1, 4, 6, 3)
TABLES = ("ELU", "EXP", "GELU", "HARD_SWISH", "LOGISTIC", "LOG_SOFTMAX", "MEAN", "SOFTMAX", "SUM", "TANH")
"""Kernels that look up tables or divide sums: 2 LSB (DESIGN, the contract of int8)."""


@dataclass
class Case:
    """One operator.

    Attributes:
        data: Shapes of its data inputs.
        reference: What it computes from them.
        options: Fields of its options table.
        control: Its other inputs by position.
        low, high, divisor: Range of the data, and what it is divided by to get fractions.
    """

    data: Sequence[tuple[int, ...]]
    reference: Callable[..., Array | tuple[Array, ...]]
    options: dict[str, Any] = field(default_factory=dict)
    control: dict[int, Array] = field(default_factory=dict)
    low: int = -4
    high: int = 5
    divisor: int = 1


def i32(*values: int) -> Array:
    return np.array(values, np.int32)


def broadcast(rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes of `rank` axes, each broadcast along some."""
    sizes = (2, 3, 2, 3, 2, 3, 2, 3)[:rank]
    return sizes, tuple(1 if n % 2 else size for n, size in enumerate(sizes))


def two(code: str, function: Callable[..., Array], **more: Any) -> Case:
    return Case(broadcast(KERNELS[code].max_rank or 4), function, **more)


def one(function: Callable[[Array], Array], **more: Any) -> Case:
    return Case([SHAPE], function, **more)


def softmax(x: Array) -> Array:
    grown = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(grown / grown.sum(-1, keepdims=True))


def erf(x: Array) -> Array:
    import math

    return np.vectorize(math.erf)(x).astype(x.dtype)


def pool(function: Callable[..., Array]) -> Callable[[Array], Array]:
    return lambda x: function(x.reshape(1, 2, 2, 3, 2, 3), axis=(2, 4))


WINDOW = {"filter_height": 2, "filter_width": 2, "stride_h": 2, "stride_w": 2, "padding": VALID}
CONV = {"stride_h": 1, "stride_w": 1, "padding": VALID}
MEMBERS = np.stack([np.arange(4) % 2, np.arange(4)], -1).astype(np.int32)

CASES: dict[str, Case] = {
    "ADD": two("ADD", np.add),
    "SUB": two("SUB", np.subtract),
    "MUL": two("MUL", np.multiply),
    "DIV": two("DIV", lambda x, y: x / y if x.dtype.kind == "f" else (x // y), low=1),
    "FLOOR_DIV": two("FLOOR_DIV", lambda x, y: x // y, low=1),
    "FLOOR_MOD": two("FLOOR_MOD", lambda x, y: np.mod(x, y), low=1),
    "POW": two("POW", np.power, low=1, high=4),
    "MAXIMUM": two("MAXIMUM", np.maximum),
    "MINIMUM": two("MINIMUM", np.minimum),
    "SQUARED_DIFFERENCE": two("SQUARED_DIFFERENCE", lambda x, y: (x - y) ** 2),
    "ABS": one(np.abs),
    "NEG": one(np.negative),
    "EXP": one(np.exp),
    "LOG": one(np.log, low=1),
    "SQRT": one(np.sqrt, low=1),
    "RSQRT": one(lambda x: 1 / np.sqrt(x), low=1),
    "SQUARE": one(np.square),
    "SIN": one(np.sin),
    "COS": one(np.cos),
    "FLOOR": one(np.floor, low=-20, high=21, divisor=4),
    "CEIL": one(np.ceil, low=-20, high=21, divisor=4),
    "ROUND": one(np.rint, low=-20, high=21, divisor=4),
    "SIGN": one(np.sign),
    "ATAN2": Case([SHAPE, SHAPE], np.arctan2, low=1),
    "CUMSUM": one(lambda x: np.cumsum(x, 2, dtype=x.dtype), control={1: np.array(2, np.int32)}),
    "EQUAL": two("EQUAL", np.equal),
    "NOT_EQUAL": two("NOT_EQUAL", np.not_equal),
    "GREATER": two("GREATER", np.greater),
    "GREATER_EQUAL": two("GREATER_EQUAL", np.greater_equal),
    "LESS": two("LESS", np.less),
    "LESS_EQUAL": two("LESS_EQUAL", np.less_equal),
    "LOGICAL_AND": two("LOGICAL_AND", np.logical_and),
    "LOGICAL_OR": two("LOGICAL_OR", np.logical_or),
    "LOGICAL_NOT": one(np.logical_not),
    "SELECT_V2": Case(
        [(2, 3, 1, 3, 2), (3, 2, 1, 2)],
        lambda x, y: np.where(np.array([[True], [False], [True]]), x, y),
        control={0: np.array([[True], [False], [True]])},
    ),
    "RELU": one(lambda x: np.maximum(x, 0)),
    "RELU6": one(lambda x: np.clip(x, 0, 6)),
    "RELU_N1_TO_1": one(lambda x: np.clip(x, -1, 1)),
    "RELU_0_TO_1": one(lambda x: np.clip(x, 0, 1)),
    "LEAKY_RELU": one(lambda x: np.where(x < 0, x * 0.25, x), options={"alpha": 0.25}),
    "PRELU": Case([SHAPE, (1, 1, 3)], lambda x, a: np.where(x < 0, x * a, x)),
    "ELU": one(lambda x: np.where(x < 0, np.expm1(x), x)),
    "GELU": one(lambda x: x * 0.5 * (1 + erf(x / x.dtype.type(np.sqrt(2))))),
    "HARD_SWISH": one(lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "LOGISTIC": one(lambda x: 1 / (1 + np.exp(-x))),
    "TANH": one(np.tanh),
    "SOFTMAX": one(softmax, options={"beta": 1.0}),
    "LOG_SOFTMAX": one(lambda x: np.log(softmax(x))),
    "CONV_2D": Case(
        [SHAPE, (5, 1, 1, 3), (5,)], lambda x, w, c: np.einsum("nhwi,oi->nhwo", x, w[:, 0, 0]) + c, options=CONV
    ),
    "DEPTHWISE_CONV_2D": Case(
        [SHAPE, (1, 1, 1, 3), (3,)], lambda x, w, c: x * w + c, options={**CONV, "depth_multiplier": 1}
    ),
    "TRANSPOSE_CONV": Case(
        [(5, 1, 1, 3), SHAPE, (5,)],
        lambda w, x, c: np.einsum("nhwi,oi->nhwo", x, w[:, 0, 0]) + c,
        options=CONV,
        control={0: i32(1, 4, 6, 5)},
    ),
    "CONV_3D": Case(
        [(1, 2, 4, 6, 3), (1, 1, 1, 3, 5), (5,)],
        lambda x, w, c: x @ w[0, 0, 0] + c,
        options={"stride_d": 1, **CONV},
    ),
    "FULLY_CONNECTED": Case([(4, 6), (5, 6), (5,)], lambda x, w, c: x @ w.T + c),
    "BATCH_MATMUL": Case([(2, 1, 2, 4, 6), (1, 3, 2, 6, 5)], np.matmul),
    "AVERAGE_POOL_2D": one(pool(np.mean), options=WINDOW),
    "MAX_POOL_2D": one(pool(np.max), options=WINDOW),
    "L2_POOL_2D": one(lambda x: np.sqrt(pool(np.mean)(x**2)), options=WINDOW),
    "L2_NORMALIZATION": one(lambda x: x / np.sqrt((x**2).sum(-1, keepdims=True)), low=1),
    "LOCAL_RESPONSE_NORMALIZATION": one(
        lambda x: x / np.sqrt(1 + 0.5 * (x**2).sum(-1, keepdims=True)),
        options={"radius": 3, "bias": 1.0, "alpha": 0.5, "beta": 0.5},
    ),
    "MEAN": one(
        lambda x: x.mean((1, 2)) if x.dtype.kind == "f" else np.trunc(x.mean((1, 2))).astype(x.dtype),
        control={1: i32(1, 2)},
    ),
    "SUM": one(lambda x: x.sum((1, 2), dtype=x.dtype), control={1: i32(1, 2)}),
    "REDUCE_MAX": one(lambda x: x.max((1, 2)), control={1: i32(1, 2)}),
    "REDUCE_MIN": one(lambda x: x.min((1, 2)), control={1: i32(1, 2)}),
    "REDUCE_PROD": one(lambda x: x.prod(1, dtype=x.dtype), control={1: i32(1)}),
    "ARG_MAX": one(lambda x: x.argmax(2), options={"output_type": TENSOR_TYPES["int64"]}, control={1: i32(2)}),
    "ARG_MIN": one(lambda x: x.argmin(2), options={"output_type": TENSOR_TYPES["int64"]}, control={1: i32(2)}),
    "TOPK_V2": one(
        lambda x: (
            np.take_along_axis(x, order := np.argsort(-x.astype(np.float64), -1, kind="stable")[..., :2], -1),
            order.astype(np.int32),
        ),
        control={1: np.array(2, np.int32)},
    ),
    "RESHAPE": one(lambda x: x.reshape(2, 36), options={"new_shape": (2, 36)}),
    "TRANSPOSE": Case(
        [(2, 1, 3, 2, 3, 2)], lambda x: x.transpose(5, 3, 0, 4, 1, 2), control={1: i32(5, 3, 0, 4, 1, 2)}
    ),
    "CONCATENATION": Case([SHAPE, SHAPE], lambda x, y: np.concatenate([x, y], 2), options={"axis": 2}),
    "SPLIT": one(lambda x: tuple(np.split(x, 3, 2)), options={"num_splits": 3}, control={0: np.array(2, np.int32)}),
    "SPLIT_V": one(
        lambda x: tuple(np.split(x, [1, 4], 2)),
        options={"num_splits": 3},
        control={1: i32(1, 3, 2), 2: np.array(2, np.int32)},
    ),
    "SLICE": Case(
        [(2, 3, 4, 6, 3)],
        lambda x: x[:, 1:3, 2:4, :5, 1:],
        control={1: i32(0, 1, 2, 0, 1), 2: i32(2, 2, 2, 5, 2)},
    ),
    "STRIDED_SLICE": Case(
        [(2, 3, 4, 6, 3)],
        lambda x: x[:, 1:3, ::2, 1:6:2, :],
        control={1: i32(0, 1, 0, 1, 0), 2: i32(2, 3, 4, 6, 3), 3: i32(1, 1, 2, 2, 1)},
    ),
    "REVERSE_V2": one(lambda x: x[:, ::-1, ::-1], control={1: i32(1, 2)}),
    "PAD": Case(
        [(2, 1, 3, 2, 3)],
        lambda x: np.pad(x, PADS),
        control={1: (PADS := i32(1, 0, 0, 1, 2, 1, 0, 0, 1, 1).reshape(5, 2))},
    ),
    "PADV2": Case([(2, 1, 3, 2, 3), ()], lambda x, v: np.pad(x, PADS, constant_values=v), control={1: PADS}),
    "MIRROR_PAD": one(
        lambda x: np.pad(x, [(0, 0), (1, 2), (2, 0), (1, 1)], mode="reflect"),
        control={1: i32(0, 0, 1, 2, 2, 0, 1, 1).reshape(4, 2)},
    ),
    "TILE": one(lambda x: np.tile(x, (2, 1, 1, 3)), control={1: i32(2, 1, 1, 3)}),
    "BROADCAST_TO": Case(
        [(2, 1, 3, 1, 1)],
        lambda x: np.broadcast_to(x, (2, 1, 2, 2, 3, 2, 2)),
        control={1: i32(2, 1, 2, 2, 3, 2, 2)},
    ),
    "DYNAMIC_UPDATE_SLICE": Case([(4, 3, 2), (2, 3, 1)], lambda x, u: updated(x, u), control={2: i32(1, 0, 1)}),
    "GATHER": one(lambda x: x[:, :, [5, 0, 2]], options={"axis": 2}, control={1: i32(5, 0, 2)}),
    "GATHER_ND": Case([(2, 4, 3)], lambda x: x[MEMBERS[:, 0], MEMBERS[:, 1]], control={1: MEMBERS}),
    "SCATTER_ND": Case([(4, 3)], lambda u: scattered(u), control={0: MEMBERS, 2: i32(2, 4, 3)}),
    "ONE_HOT": Case(
        [(), ()],
        lambda on, off: np.where(np.eye(4, dtype=bool)[[2, 0, 3]], on, off),
        control={0: i32(2, 0, 3), 1: np.array(4, np.int32)},
        options={"axis": 1},
    ),
    "REVERSE_SEQUENCE": one(
        lambda x: np.stack([np.concatenate([r[:n][::-1], r[n:]]) for r, n in zip(x[0], (6, 1, 3, 4), strict=True)])[
            None
        ],
        options={"seq_dim": 2, "batch_dim": 1},
        control={1: i32(6, 1, 3, 4)},
    ),
    "WHERE": one(lambda x: np.argwhere(x)),
    "NON_MAX_SUPPRESSION_V4": Case(
        [(4,)],
        lambda s: (np.argsort(-s, kind="stable")[:3].astype(np.int32), np.array(3, np.int32)),
        control={
            0: np.array([[n, n, n + 0.5, n + 0.5] for n in range(4)], np.float32),  # apart from each other
            2: np.array(3, np.int32),
            3: np.array(0.5, np.float32),
            4: np.array(-9, np.float32),
        },
    ),
    "BITCAST": one(lambda x: x),
    "BITWISE_XOR": two("BITWISE_XOR", np.bitwise_xor),
    "RIGHT_SHIFT": two("RIGHT_SHIFT", np.right_shift, low=0),
    "DEPTH_TO_SPACE": Case(
        [(1, 2, 3, 8)],
        lambda x: x.reshape(1, 2, 3, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(1, 4, 6, 2),
        options={"block_size": 2},
    ),
    "SPACE_TO_DEPTH": one(
        lambda x: x.reshape(1, 2, 2, 3, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(1, 2, 3, 12),
        options={"block_size": 2},
    ),
    "RESIZE_BILINEAR": one(
        lambda x: np.asarray(
            x[:, :, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]] * 0.5 + x[:, :, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5]] * 0.5
        ),
        control={1: i32(4, 12)},
    ),
    "RESIZE_NEAREST_NEIGHBOR": one(lambda x: x.repeat(2, 1).repeat(2, 2), control={1: i32(8, 12)}),
}


def scattered(updates: Array) -> Array:
    result = np.zeros((2, 4, 3), updates.dtype)
    result[MEMBERS[:, 0], MEMBERS[:, 1]] = updates
    return result


CONVERSIONS = ("CAST", "QUANTIZE", "DEQUANTIZE")


def values(case: Case, dtype: str) -> list[Array]:
    random = np.random.default_rng(len(case.data))
    low = max(case.low, 0) if dtype.startswith("u") else case.low
    if dtype == "bool":
        return [random.integers(0, 2, shape).astype(bool) for shape in case.data]
    return [(random.integers(low, case.high, shape) / case.divisor).astype(dtype) for shape in case.data]


def updated(x: Array, update: Array) -> Array:
    result = x.copy()
    result[1:3, :, 1:2] = update
    return result


def build(code: str, case: Case, inputs: list[Tensor], outputs: list[Tensor]) -> tuple[bytes, Mapping[str, Array]]:
    """One operator. Data that is no constant is fed as `in<number>`; where all data is, the first control input is."""
    fed = [(f"in{n}", t) for n, t in enumerate(inputs) if t.data is None]
    feeds = {}
    row: list[Tensor | None] = [None] * (len(inputs) + len(case.control))
    for place, tensor in zip([n for n in range(len(row)) if n not in case.control], inputs, strict=True):
        row[place] = tensor
    for place, array in case.control.items():
        row[place] = Tensor(array.shape, array.dtype.name, array)
        if not fed:
            row[place] = Tensor(array.shape, array.dtype.name)
            fed, feeds = [("control", row[place])], {"control": array}
    named = [(f"out{n}", t) for n, t in enumerate(outputs)]
    return serialize(Graph(fed, named, [Operator(code, row, outputs, case.options, "node")]))[0], feeds


def tupled(result: Array | tuple[Array, ...]) -> tuple[Array, ...]:
    return result if isinstance(result, tuple) else (result,)


def constant_from(code: str) -> int:
    """The first data input that is a constant: weights and padding values are, two addends are both fed."""
    if code in ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D", "FULLY_CONNECTED", "PRELU", "PADV2"):
        return 1
    return 0 if code in ("ONE_HOT",) else 9


def tensors(code: str, arrays: Sequence[Array], **more: Any) -> list[Tensor]:
    constants = {0, 2} if code == "TRANSPOSE_CONV" else set(range(constant_from(code), 9))
    return [Tensor(a.shape, a.dtype.name, a if n in constants else None, **more) for n, a in enumerate(arrays)]


def test_every_kernel_has_a_case() -> None:
    assert set(CASES) | set(CONVERSIONS) == set(KERNELS)


PLAIN = [(code, dtype) for code in CASES for dtype in sorted(KERNELS[code].plain)]


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize(("code", "dtype"), PLAIN, ids=lambda value: str(value))
def test_plain(code: str, dtype: str, xnnpack: bool, run: Callable[..., dict[str, Array]]) -> None:
    case = CASES[code]
    arrays = values(case, dtype)
    expected = tupled(case.reference(*arrays))
    inputs = tensors(code, arrays)
    outputs = [Tensor(e.shape, e.dtype.name) for e in expected]
    data, feeds = build(code, case, inputs, outputs)
    found = run(data, {**feeds, **{f"in{n}": a for n, a in enumerate(arrays) if inputs[n].data is None}}, xnnpack)
    for n, array in enumerate(expected):
        result = found[f"out{n}"]
        assert result.dtype == array.dtype
        if array.dtype.kind == "f" and array.dtype != np.float16:
            # 2e-6: a dozen float32 roundings, and XNNPACK's polynomials of exp and log (4 ulp).
            np.testing.assert_allclose(result, array, rtol=2e-6, atol=2e-6 * max(1.0, float(np.abs(array).max())))
        else:
            np.testing.assert_array_equal(result, array)


QUANTIZED = [code for code in CASES if KERNELS[code].int8 is not None]


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("code", QUANTIZED)
def test_int8(code: str, xnnpack: bool, run: Callable[..., dict[str, Array]]) -> None:
    """Integers in and out: the kernel gives what float arithmetic on the dequantized inputs rounds to."""
    case, kernel = CASES[code], KERNELS[code]
    random = np.random.default_rng(1)
    same = kernel.int8 == "same"
    scales = [0.05 if same else 0.05 * (n + 1) for n in range(len(case.data))]
    zeros = [7 if same else (7, -20, 0)[n] for n in range(len(case.data))]
    for n in kernel.weights:
        place = [p for p in range(8) if p not in case.control].index(n)
        zeros[place] = 0
    bias = len(case.data) == 3
    if bias:  # int32, scale = input × weights
        scales[2] = scales[0] * scales[1]
    lowest = -100 if case.low < 1 else max(zeros) + 5
    arrays = [random.integers(lowest, 120, shape).astype(np.int8) for shape in case.data]
    if bias:
        arrays[2] = random.integers(-2000, 2000, case.data[2]).astype(np.int32)
    reals = [((a.astype(np.float64) - z) * s).astype(np.float32) for a, s, z in zip(arrays, scales, zeros, strict=True)]
    expected = tupled(case.reference(*reals))
    inputs = tensors(code, arrays)
    for tensor, scale, zero in zip(inputs, scales, zeros, strict=True):
        tensor.quantization = per_tensor(scale, zero)
    span = float(expected[0].max() - expected[0].min()) or 1.0
    own = per_tensor(span / 255, int(np.clip(-128 - np.rint(expected[0].min() * 255 / span), -128, 127)))
    quantization = inputs[0].quantization if same else FIXED_SCALES.get(code, own)
    assert quantization is not None
    outputs = [
        Tensor(e.shape, "int8", quantization=quantization) if e.dtype.kind == "f" else Tensor(e.shape, e.dtype.name)
        for e in expected
    ]
    data, feeds = build(code, case, inputs, outputs)
    found = run(data, {**feeds, **{f"in{n}": a for n, a in enumerate(arrays) if inputs[n].data is None}}, xnnpack)
    for n, array in enumerate(expected):
        result = found[f"out{n}"]
        if array.dtype.kind != "f":
            np.testing.assert_array_equal(result, array)
            continue
        rounded = np.rint(array / quantization.scale[0]) + quantization.zero_point[0]
        difference = np.abs(np.clip(rounded, -128, 127) - result.astype(np.float64)).max()
        assert difference <= (2 if code in TABLES else 1), f"{difference} LSB"


CASTS = sorted(KERNELS["CAST"].plain)


@pytest.mark.parametrize("target", CASTS)
@pytest.mark.parametrize("source", CASTS)
def test_cast(source: str, target: str, run: Callable[..., dict[str, Array]]) -> None:
    x = np.array([0, 1, 3, 2, 0, 5]).astype(source)
    inner, outer = Tensor((6,), source), Tensor((6,), target)
    options = {"in_data_type": TENSOR_TYPES[source], "out_data_type": TENSOR_TYPES[target]}
    data, _ = serialize(Graph([("x", inner)], [("y", outer)], [Operator("CAST", [inner], [outer], options, "node")]))
    found = run(data, {"x": x})["y"]
    assert found.dtype == np.dtype(target)
    np.testing.assert_array_equal(found, x.astype(target))
