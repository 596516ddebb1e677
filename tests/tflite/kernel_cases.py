"""Every cell of the kernel table: `cells` makes of each case a file, what to feed and what must come out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import kernel_moves as moves
import kernel_windows as windows
import ml_dtypes
import numpy as np
from kernel_case import (
    MOST_AXES,
    SHAPE,
    Array,
    Case,
    Family,
    along,
    arg,
    c_division,
    erf,
    mean,
    one,
    reduction,
    scalar,
    shape_of,
    softmax,
    tanh_gelu,
    topk,
    two,
)

from haversack.convert.targets.tflite.graph import Graph, Operator, Quantization, Tensor, per_tensor
from haversack.convert.targets.tflite.kernels import FIXED_SCALES, FIXED_SCALES_16, KERNELS
from haversack.convert.targets.tflite.schema import TENSOR_TYPES
from haversack.convert.targets.tflite.write import serialize

TABLES = ("ELU", "EXP", "GELU", "HARD_SWISH", "LOGISTIC", "LOG_SOFTMAX", "MEAN", "SOFTMAX", "SUM", "TANH")
"""Kernels that look up tables or divide sums: 2 LSB (DESIGN, the contract of int8)."""


@dataclass
class Cell:
    """A file of one operator, and what it must give.

    Attributes:
        name: Operator, element type, rank and form.
        graph: What the file holds.
        feeds: Inputs by name.
        expected: Outputs in order; those of int8 kernels before they are rounded.
        quantization: Of int8 outputs.
        lsb: How far int8 outputs may be off.
    """

    name: str
    graph: Graph
    feeds: Mapping[str, Array]
    expected: tuple[Array, ...]
    quantization: Quantization | None = None
    lsb: int = 0

    @property
    def data(self) -> bytes:
        """The file."""
        return serialize(self.graph)[0]

    def fault(self, found: Mapping[str, Array]) -> str | None:
        """What is wrong with the outputs, None if nothing is."""
        for n, expected in enumerate(self.expected):
            result = found[f"out{n}"]
            if result.shape != expected.shape:
                return f"shape {result.shape}, not {expected.shape}"
            if self.quantization is not None and expected.dtype.kind == "f":
                rounded = np.rint(expected / self.quantization.scale[0]) + self.quantization.zero_point[0]
                limits = np.iinfo(result.dtype)
                off = np.abs(np.clip(rounded, limits.min, limits.max) - result.astype(np.float64)).max(initial=0)
                if off > self.lsb:
                    return f"{off:.0f} LSB"
            elif result.dtype != expected.dtype:
                return f"{result.dtype}, not {expected.dtype}"
            elif expected.dtype in (np.float32, np.float64):
                # 2e-6: a dozen float32 roundings, and XNNPACK's polynomials of exp and log (4 ulp).
                limit = 2e-6 * max(1.0, float(np.abs(expected).max(initial=0)))
                if not np.allclose(result, expected, rtol=2e-6, atol=limit):
                    return f"off by {np.abs(result - expected).max():.1e}"
            elif not np.array_equal(result, expected):
                return "other values"
        return None


FAMILIES: dict[str, tuple[range | tuple[int, ...], Family]] = {
    code: (range(0, MOST_AXES + 1), family)
    for code, family in {
        "ADD": two(np.add, wide=(0, 1)),
        "SUB": two(np.subtract, wide=(0, 1)),
        "MUL": two(np.multiply, wide=(0,)),
        "DIV": two(c_division, nonzero=(1,), wide=(0,)),
        "FLOOR_DIV": two(lambda x, y: x // y, nonzero=(1,), wide=(0,)),
        "FLOOR_MOD": two(np.mod, nonzero=(1,), wide=(0,)),
        "POW": two(np.power, low=1, high=4),
        "MAXIMUM": two(np.maximum, wide=(0, 1)),
        "MINIMUM": two(np.minimum, wide=(0, 1)),
        "SQUARED_DIFFERENCE": two(lambda x, y: (x - y) ** 2),
        "ATAN2": lambda rank: [Case([shape_of(rank)] * 2, np.arctan2, low=1)],
        "EQUAL": two(np.equal, wide=(0, 1)),
        "NOT_EQUAL": two(np.not_equal, wide=(0, 1)),
        "GREATER": two(np.greater, wide=(0, 1)),
        "GREATER_EQUAL": two(np.greater_equal, wide=(0, 1)),
        "LESS": two(np.less, wide=(0, 1)),
        "LESS_EQUAL": two(np.less_equal, wide=(0, 1)),
        "LOGICAL_AND": two(np.logical_and),
        "LOGICAL_OR": two(np.logical_or),
        "BITWISE_XOR": two(np.bitwise_xor, wide=(0, 1)),
        "RIGHT_SHIFT": two(np.right_shift, low=0, wide=(0,)),
        "SELECT_V2": moves.selection,
        "ABS": one(np.abs, wide=(0,)),
        "NEG": one(np.negative, wide=(0,)),
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
        "SIGN": one(np.sign, wide=(0,)),
        "LOGICAL_NOT": one(np.logical_not),
        "RELU": one(lambda x: np.maximum(x, 0)),
        "RELU6": one(lambda x: np.clip(x, 0, 6), high=9),
        "RELU_N1_TO_1": one(lambda x: np.clip(x, -1, 1)),
        "RELU_0_TO_1": one(lambda x: np.clip(x, 0, 1)),
        "LEAKY_RELU": one(lambda x: np.where(x < 0, x * x.dtype.type(0.25), x), options={"alpha": 0.25}),
        "ELU": one(lambda x: np.where(x < 0, np.expm1(x), x)),
        "GELU": lambda rank: [
            Case([shape_of(rank)], lambda x: x * 0.5 * (1 + erf(x / x.dtype.type(np.sqrt(2)))), form="erf"),
            Case([shape_of(rank)], tanh_gelu, {"approximate": True}, form="tanh"),
        ],
        "HARD_SWISH": one(lambda x: x * np.clip(x + 3, 0, 6) / 6),
        "LOGISTIC": one(lambda x: 1 / (1 + np.exp(-x))),
        "TANH": one(np.tanh),
        "BITCAST": one(lambda x: x, wide=(0,)),
        "RESHAPE": moves.reshape,
    }.items()
} | {
    code: (range(1, MOST_AXES + 1), family)
    for code, family in {
        "CUMSUM": along(lambda x, a: np.cumsum(x, a, dtype=x.dtype), 1, wide=(0,)),
        "PRELU": lambda rank: [
            Case([shape_of(rank), slope], lambda x, a: np.where(x < 0, x * a, x), constants=frozenset({1}), form=form)
            for form, slope in {"channels": shape_of(rank)[-1:], "each": shape_of(rank)[1:]}.items()
        ],
        "SOFTMAX": one(softmax, options={"beta": 1.0}),
        "LOG_SOFTMAX": one(lambda x: np.log(softmax(x))),
        "L2_NORMALIZATION": one(windows.norm, low=1),
        "MEAN": reduction(mean),
        "SUM": reduction(lambda x, a, k: x.sum(a, dtype=x.dtype, keepdims=k), wide=(0,)),
        "REDUCE_MAX": reduction(lambda x, a, k: x.max(a, keepdims=k), wide=(0,)),
        "REDUCE_MIN": reduction(lambda x, a, k: x.min(a, keepdims=k), wide=(0,)),
        "REDUCE_PROD": reduction(lambda x, a, k: x.prod(a, dtype=x.dtype, keepdims=k), low=1, high=2),
        "ARG_MAX": arg(lambda x, a: x.argmax(a)),
        "ARG_MIN": arg(lambda x, a: x.argmin(a)),
        "TOPK_V2": one(topk, control={1: scalar(2)}, wide=(0,)),
        "TRANSPOSE": moves.transpose,
        "CONCATENATION": moves.concatenation,
        "SPLIT": moves.split,
        "SPLIT_V": moves.split_v,
        "SLICE": moves.block,
        "STRIDED_SLICE": moves.strided,
        "REVERSE_V2": moves.reverse,
        "PAD": moves.pad,
        "PADV2": moves.pad_value,
        "MIRROR_PAD": moves.mirror,
        "TILE": moves.tile,
        "BROADCAST_TO": moves.broadcast,
        "GATHER": moves.gather,
        "GATHER_ND": moves.gather_nd,
        "SCATTER_ND": moves.scatter_nd,
        "ONE_HOT": moves.one_hot,
        "DYNAMIC_UPDATE_SLICE": moves.update,
        "WHERE": one(lambda x: np.argwhere(x)),
        "SHAPE": one(lambda x: np.array(x.shape, np.int32), options={"out_type": TENSOR_TYPES["int32"]}),
    }.items()
} | {
    "REVERSE_SEQUENCE": (range(2, MOST_AXES + 1), moves.reverse_sequence),
    "FULLY_CONNECTED": (range(2, MOST_AXES + 1), windows.fully_connected),
    "BATCH_MATMUL": (range(2, MOST_AXES + 1), windows.matmul),
    "CONV_2D": ((4,), windows.conv_2d),
    "DEPTHWISE_CONV_2D": ((4,), windows.depthwise),
    "TRANSPOSE_CONV": ((4,), windows.transpose_conv),
    "CONV_3D": ((5,), windows.conv_3d),
    "AVERAGE_POOL_2D": ((4,), windows.pool(np.mean)),
    "MAX_POOL_2D": ((4,), windows.pool(np.max)),
    "L2_POOL_2D": ((4,), windows.pool(lambda x, axis: np.sqrt(np.mean(x**2, axis=axis)))),
    "LOCAL_RESPONSE_NORMALIZATION": (
        (4,),
        lambda _: [Case([SHAPE], lambda x: x / np.sqrt(1 + 0.5 * (x**2).sum(-1, keepdims=True)), windows.LRN)],
    ),
    "DEPTH_TO_SPACE": ((4,), windows.blocks("DEPTH_TO_SPACE")),
    "SPACE_TO_DEPTH": ((4,), windows.blocks("SPACE_TO_DEPTH")),
    "RESIZE_BILINEAR": ((4,), windows.bilinear),
    "RESIZE_NEAREST_NEIGHBOR": ((4,), windows.nearest),
    "NON_MAX_SUPPRESSION_V4": ((1,), windows.suppression),
}  # fmt: skip
"""Ranks at which each kernel could be asked, and its cases at one."""


def cells(code: str, dtype: str, ranks: Sequence[int] | None = None) -> Iterator[Cell]:
    """The cells of one row: `dtype` taken as numbers, or `quantized` int8, with `int4` weights or without.

    Ranks are those that the row claims unless given.
    """
    possible, family = FAMILIES[code]
    limit = KERNELS[code].max_rank or MOST_AXES
    for rank in possible if ranks is None else ranks:
        if ranks is None and rank > limit:
            continue
        for case in family(rank):
            name = f"{code} {dtype} rank {rank} {case.form}"
            if dtype not in ("quantized", "int4", "quantized int16"):
                yield _plain(name, code, case, dtype)
                continue
            weights = any(n in KERNELS[code].weights for n in range(3))
            for per_channel in (False, True)[: 1 + weights]:
                called = f"{name} per channel" if per_channel else name
                if dtype == "quantized int16":
                    yield _quantized_16(called, code, case, per_channel)
                else:
                    yield _quantized(called, code, case, per_channel, int4=dtype == "int4")


def _values(case: Case, dtype: str) -> list[Array]:
    random = np.random.default_rng(len(case.data))
    low = max(case.low, 0) if dtype.startswith("u") else case.low
    found = []
    for n, shape in enumerate(case.data):
        if dtype == "bool":
            found.append(random.integers(0, 2, shape).astype(bool))
            continue
        array = np.asarray(random.integers(low, case.high, shape) / case.divisor).astype(dtype)
        if n in case.nonzero:
            array[array == 0] = 2
        if n in case.wide and dtype in ("int32", "int64"):
            array = array * np.array((1 << 20) + 1 if dtype == "int32" else (1 << 40) + 1, dtype)
        found.append(np.asarray(array))
    return found


def _plain(name: str, code: str, case: Case, dtype: str) -> Cell:
    arrays = _values(case, dtype)
    with np.errstate(all="ignore"):
        expected = _tupled(case.reference(*arrays))
    inputs = [Tensor(a.shape, a.dtype.name, a if n in case.constants else None) for n, a in enumerate(arrays)]
    return _cell(name, code, case, arrays, inputs, [Tensor(e.shape, e.dtype.name) for e in expected], expected)


def _quantized(name: str, code: str, case: Case, per_channel: bool, int4: bool = False) -> Cell:
    """Integers in and out: the kernel gives what float arithmetic on the dequantized inputs rounds to."""
    kernel = KERNELS[code]
    random = np.random.default_rng(1)
    places = [p for p in range(8) if p not in case.control]
    same, lowest = kernel.int8 == "same", -100 if case.low < 1 else 0
    arrays: list[Array] = []
    quantizations: list[Quantization] = []
    for n, shape in enumerate(case.data):
        weights = places[n] in kernel.weights
        if weights and len(shape) == 1:  # the bias: int32, scale = input × weights
            arrays.append(random.integers(-2000, 2000, shape).astype(np.int32))
            scale = quantizations[0].scale * quantizations[1].scale
            quantizations.append(Quantization(scale, np.zeros(scale.size, np.int64)))
            continue
        zero = 0 if weights else 7 if same else (7, -20)[n]
        if weights and int4:
            arrays.append(random.integers(-8, 8, shape).astype(ml_dtypes.int4))
        else:
            low = max(lowest, zero + 5) if case.low > 0 else lowest
            arrays.append(random.integers(low, 120, shape).astype(np.int8))
        axis = len(shape) - 1 if code == "DEPTHWISE_CONV_2D" else 0
        if weights and per_channel:
            scale = np.linspace(0.05, 0.15, shape[axis], dtype=np.float32)
            quantizations.append(Quantization(scale, np.zeros(scale.size, np.int64), axis))
        else:
            quantizations.append(per_tensor(0.05 if same else 0.05 * (n + 1), zero))
    inputs = [
        Tensor(a.shape, a.dtype.name, a if n in case.constants else None, q)
        for n, (a, q) in enumerate(zip(arrays, quantizations, strict=True))
    ]
    reals = [Tensor(t.shape, t.dtype, a, t.quantization).value() for t, a in zip(inputs, arrays, strict=True)]
    expected = _tupled(case.reference(*reals))
    span = float(expected[0].max() - expected[0].min()) or 1.0
    own = per_tensor(span / 255, int(np.clip(-128 - np.rint(expected[0].min() * 255 / span), -128, 127)))
    quantization = quantizations[0] if same else FIXED_SCALES.get(code, own)
    outputs = [
        Tensor(e.shape, "int8", quantization=quantization) if e.dtype.kind == "f" else Tensor(e.shape, e.dtype.name)
        for e in expected
    ]
    cell = _cell(name, code, case, arrays, inputs, outputs, expected)
    cell.quantization, cell.lsb = quantization, 2 if code in TABLES else 1
    return cell


def _quantized_16(name: str, code: str, case: Case, per_channel: bool) -> Cell:
    """The same of 16 bits: symmetric, int8 weights, and an int64 bias."""
    kernel = KERNELS[code]
    random = np.random.default_rng(2)
    places = [p for p in range(8) if p not in case.control]
    same = kernel.int16 == "same"
    arrays: list[Array] = []
    quantizations: list[Quantization] = []
    for n, shape in enumerate(case.data):
        if places[n] in kernel.weights and len(shape) == 1:
            arrays.append(random.integers(-200_000, 200_000, shape).astype(np.int64))
            scale = quantizations[0].scale * quantizations[1].scale
            quantizations.append(Quantization(scale, np.zeros(scale.size, np.int64)))
        elif places[n] in kernel.weights:
            arrays.append(random.integers(-127, 128, shape).astype(np.int8))
            axis = len(shape) - 1 if code == "DEPTHWISE_CONV_2D" else 0
            count = shape[axis] if per_channel else 1
            scale = np.linspace(0.05, 0.15, count, dtype=np.float32)
            quantizations.append(Quantization(scale, np.zeros(count, np.int64), axis if per_channel else 0))
        else:
            low = 3000 if case.low > 0 else -30_000
            arrays.append(random.integers(low, 30_000, shape).astype(np.int16))
            quantizations.append(per_tensor(0.0002 if same else 0.0002 * (n + 1)))
    inputs = [
        Tensor(a.shape, a.dtype.name, a if n in case.constants else None, q)
        for n, (a, q) in enumerate(zip(arrays, quantizations, strict=True))
    ]
    reals = [Tensor(t.shape, t.dtype, a, t.quantization).value() for t, a in zip(inputs, arrays, strict=True)]
    expected = _tupled(case.reference(*reals))
    most = float(np.abs(expected[0]).max()) or 1.0
    quantization = quantizations[0] if same else FIXED_SCALES_16.get(code, per_tensor(most / 32767))
    outputs = [
        Tensor(e.shape, "int16", quantization=quantization) if e.dtype.kind == "f" else Tensor(e.shape, e.dtype.name)
        for e in expected
    ]
    given = {**case.options, "pot_scale_int16": False} if code in ("ADD", "SUB") else case.options
    cell = _cell(name, code, dataclasses.replace(case, options=given), arrays, inputs, outputs, expected)
    cell.quantization, cell.lsb = quantization, 2 if code in TABLES else 1
    return cell


def _tupled(result: Array | tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(map(np.asarray, result)) if isinstance(result, tuple) else (np.asarray(result),)


def _cell(
    name: str,
    code: str,
    case: Case,
    arrays: list[Array],
    inputs: list[Tensor],
    outputs: list[Tensor],
    expected: tuple[Array, ...],
) -> Cell:
    """Data that is no constant is fed as `in<number>`; where all data is, the first control input is."""
    fed = [(f"in{n}", tensor) for n, tensor in enumerate(inputs) if tensor.data is None]
    feeds = {key: arrays[int(key[2:])] for key, _ in fed}
    row: list[Tensor | None] = [None] * (len(inputs) + len(case.control))
    for place, tensor in zip([n for n in range(len(row)) if n not in case.control], inputs, strict=True):
        row[place] = tensor
    for place, array in case.control.items():
        tensor = Tensor(array.shape, array.dtype.name, array)
        if not fed:
            tensor.data, feeds = None, {"control": array}
            fed = [("control", tensor)]
        row[place] = tensor
    named = [(f"out{n}", tensor) for n, tensor in enumerate(outputs)]
    return Cell(name, Graph(fed, named, [Operator(code, row, outputs, case.options, "node")]), feeds, expected)
