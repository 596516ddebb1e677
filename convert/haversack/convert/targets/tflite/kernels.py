"""Which element types LiteRT's builtin kernels take, and the lowest operator version that has each.

A row says what the kernel computes *right*, which is less than what it loads: `tests/tflite/test_kernels.py` runs every
row, every element type of it, with and without XNNPACK, and compares values. An int8 or uint8 tensor without
quantization is never given to an arithmetic kernel (it would be taken for a quantized one), so `plain` lists those
types only for kernels that move data.

Versions are those under which the kernels were published (`op_version.cc` and `runtime_version.cc` of TensorFlow Lite).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from haversack.convert.targets.tflite.graph import Operator, Quantization, per_tensor

Int8 = Literal["same", "free", "fixed"]

F32 = frozenset({"float32"})
F32_I32 = F32 | {"int32"}
F32_I = F32 | {"int32", "int64"}
MOVES = frozenset({"float32", "int32", "int64", "uint8", "int8", "int16", "bool"})
BOOL = frozenset({"bool"})
BYTES = frozenset({"int8", "uint8"})
WORDS = frozenset({"int8", "uint8", "int16", "uint16", "int32", "uint32"})


@dataclass(frozen=True)
class Kernel:
    """What one builtin operator takes.

    Attributes:
        plain: Element types of its data inputs, taken as the numbers they are.
        int8: How it runs on quantized int8: `same`, input and output share one scale; `free`, the output has its own;
            `fixed`, the output has that of `FIXED_SCALES`; None, not at all (or not right).
        int16: The same on quantized int16, whose zero point is 0, with int8 weights and an int64 bias.
        data: Positions of its data inputs (the others are shapes, axes, indices, conditions); None means all.
        weights: Positions that may be quantized per channel, or be an int32 bias.
        max_rank: The most axes any input may have, None for no limit below 8.
        int4: Whether constant weights under int8 data may be int4.
    """

    plain: frozenset[str]
    int8: Int8 | None = None
    data: tuple[int, ...] | None = None
    weights: tuple[int, ...] = ()
    max_rank: int | None = None
    int4: bool = False
    int16: Int8 | None = None

    def data_inputs(self, count: int) -> tuple[int, ...]:
        """Positions of the data inputs among `count` inputs."""
        return tuple(range(count)) if self.data is None else tuple(n for n in self.data if n < count)


FIXED_SCALES: Final[dict[str, Quantization]] = {
    "SOFTMAX": per_tensor(1 / 256, -128),
    "LOGISTIC": per_tensor(1 / 256, -128),
    "TANH": per_tensor(1 / 128, 0),
    "LOG_SOFTMAX": per_tensor(16 / 256, 127),
    "L2_NORMALIZATION": per_tensor(1 / 128, 0),
}
"""Output scale and zero point that the TFLite 8-bit specification fixes."""

FIXED_SCALES_16: Final[dict[str, Quantization]] = dict.fromkeys(
    ("SOFTMAX", "LOGISTIC", "TANH"), per_tensor(1 / 32768, 0)
)
"""The same of 16 bits."""

PROMOTIONS: Final[dict[str, tuple[str, ...]]] = {
    "bool": ("int32", "float32"),
    "int8": ("int32", "int64", "float32"),
    "uint8": ("int32", "int64", "float32"),
    "int16": ("int32", "int64", "float32"),
    "uint16": ("int32", "int64", "float32"),
    "uint32": ("int64",),
    "int32": ("int64",),
    "int64": ("int32",),
    "float16": ("float32",),
    "float64": ("float32",),
}
"""What to cast to where a kernel lacks a type: first choice first. The narrowing ones are noted for the user."""

KERNELS: Final[dict[str, Kernel]] = {
    # arithmetic
    "ADD": Kernel(F32_I, "free", max_rank=6, int16="free"),
    "SUB": Kernel(F32_I, "free", max_rank=5, int16="free"),
    "MUL": Kernel(F32_I, "free", max_rank=6, int16="free"),
    "DIV": Kernel(F32_I32, max_rank=5),
    "FLOOR_DIV": Kernel(F32_I32, max_rank=4),
    "FLOOR_MOD": Kernel(F32_I, max_rank=4),
    "POW": Kernel(F32_I32, max_rank=4),
    "MAXIMUM": Kernel(F32_I | BYTES | {"int16"}, "same", max_rank=5, int16="same"),
    "MINIMUM": Kernel(F32_I | BYTES | {"int16"}, "same", max_rank=5, int16="same"),
    "SQUARED_DIFFERENCE": Kernel(F32_I32, "free", max_rank=4),
    "ABS": Kernel(F32_I32 | {"int16"}, "free", int16="free"),
    "NEG": Kernel(F32_I),
    "EXP": Kernel(F32, "free"),
    "LOG": Kernel(F32),
    "SQRT": Kernel(F32),
    "RSQRT": Kernel(F32),
    "SQUARE": Kernel(F32),
    "SIN": Kernel(F32),
    "COS": Kernel(F32),
    "FLOOR": Kernel(F32),
    "CEIL": Kernel(F32),
    "ROUND": Kernel(F32),
    "SIGN": Kernel(F32),
    "ATAN2": Kernel(F32),
    "CUMSUM": Kernel(F32_I, data=(0,)),
    # comparison and logic
    "EQUAL": Kernel(F32_I | BOOL, max_rank=4),
    "NOT_EQUAL": Kernel(F32_I | BOOL, max_rank=4),
    "GREATER": Kernel(F32_I, max_rank=4),
    "GREATER_EQUAL": Kernel(F32_I, max_rank=4),
    "LESS": Kernel(F32_I, max_rank=4),
    "LESS_EQUAL": Kernel(F32_I, max_rank=4),
    "LOGICAL_AND": Kernel(BOOL, max_rank=4),
    "LOGICAL_OR": Kernel(BOOL, max_rank=4),
    "LOGICAL_NOT": Kernel(BOOL),
    "SELECT_V2": Kernel(MOVES, "same", data=(1, 2), max_rank=5, int16="same"),
    # activations
    "RELU": Kernel(F32, "free", int16="free"),
    "RELU6": Kernel(F32, "free", int16="free"),
    "RELU_N1_TO_1": Kernel(F32, "free"),
    "RELU_0_TO_1": Kernel(F32, "free"),
    "LEAKY_RELU": Kernel(F32, "free", int16="free"),
    "PRELU": Kernel(F32, "free"),
    "ELU": Kernel(F32, "free"),
    "GELU": Kernel(F32, "free"),
    "HARD_SWISH": Kernel(F32, "free"),
    "LOGISTIC": Kernel(F32, "fixed", int16="fixed"),
    "TANH": Kernel(F32, "fixed", int16="fixed"),
    "SOFTMAX": Kernel(F32, "fixed", max_rank=6, int16="fixed"),
    "LOG_SOFTMAX": Kernel(F32, "fixed"),
    # weights
    "CONV_2D": Kernel(F32, "free", weights=(1, 2), max_rank=4, int4=True, int16="free"),
    "DEPTHWISE_CONV_2D": Kernel(F32, "free", weights=(1, 2), max_rank=4, int4=True, int16="free"),
    "TRANSPOSE_CONV": Kernel(F32, "free", data=(1, 2, 3), weights=(1, 3), max_rank=4, int16="free"),
    "CONV_3D": Kernel(F32, max_rank=5),
    "FULLY_CONNECTED": Kernel(F32, "free", weights=(1, 2), max_rank=6, int4=True, int16="free"),
    "BATCH_MATMUL": Kernel(F32, "free", max_rank=5, int16="free"),
    # windows and normalizations
    "AVERAGE_POOL_2D": Kernel(F32, "same", max_rank=4, int16="same"),
    "MAX_POOL_2D": Kernel(F32 | BYTES, "same", max_rank=4, int16="same"),
    "L2_POOL_2D": Kernel(F32, max_rank=4),
    "L2_NORMALIZATION": Kernel(F32, "fixed", max_rank=4),
    "LOCAL_RESPONSE_NORMALIZATION": Kernel(F32, max_rank=4),
    # reductions
    "MEAN": Kernel(F32_I, "free", data=(0,), max_rank=6, int16="free"),
    "SUM": Kernel(F32_I, "free", data=(0,), max_rank=6, int16="free"),
    "REDUCE_MAX": Kernel(F32_I | BYTES | {"int16"}, "same", data=(0,), max_rank=6, int16="same"),
    "REDUCE_MIN": Kernel(F32_I | BYTES | {"int16"}, "same", data=(0,), max_rank=6, int16="same"),
    "REDUCE_PROD": Kernel(F32_I, data=(0,)),
    "ARG_MAX": Kernel(F32_I32 | BYTES, "same", data=(0,)),
    "ARG_MIN": Kernel(F32_I32 | BYTES, "same", data=(0,)),
    "TOPK_V2": Kernel(F32_I | BYTES, "same", data=(0,)),
    # moves
    "RESHAPE": Kernel(MOVES | {"float16", "float64", "uint16", "uint32", "uint64"}, "same", data=(0,), int16="same"),
    "TRANSPOSE": Kernel(MOVES, "same", data=(0,), max_rank=6, int16="same"),
    "CONCATENATION": Kernel(MOVES, "same", max_rank=6, int16="same"),
    "SPLIT": Kernel(MOVES - {"int64", "bool"}, "same", data=(1,), max_rank=6, int16="same"),
    "SPLIT_V": Kernel(MOVES - {"bool"}, "same", data=(0,), int16="same"),
    "SLICE": Kernel(MOVES, "same", data=(0,), max_rank=5, int16="same"),
    "STRIDED_SLICE": Kernel(MOVES, "same", data=(0,), max_rank=5, int16="same"),
    "REVERSE_V2": Kernel(MOVES, "same", data=(0,), max_rank=8),
    "PAD": Kernel(MOVES - {"bool"}, "same", data=(0,), max_rank=5, int16="same"),
    "PADV2": Kernel(MOVES - {"bool"}, "same", data=(0, 2), max_rank=5, int16="same"),
    "MIRROR_PAD": Kernel(MOVES - {"bool", "int16"}, "same", data=(0,), int16="same"),
    "TILE": Kernel(MOVES - {"int16"}, "same", data=(0,), int16="same"),
    "BROADCAST_TO": Kernel(
        MOVES | {"float16", "float64", "uint32", "uint64"}, "same", data=(0,), max_rank=8, int16="same"
    ),
    "GATHER": Kernel(MOVES, "same", data=(0,), int16="same"),
    "GATHER_ND": Kernel(MOVES, "same", data=(0,), int16="same"),
    "SCATTER_ND": Kernel(MOVES - {"bool", "int16"}, data=(1,)),
    "ONE_HOT": Kernel(F32_I | BOOL | BYTES, data=(2, 3)),
    "DEPTH_TO_SPACE": Kernel(F32_I | BYTES, "same", max_rank=4),
    "SPACE_TO_DEPTH": Kernel(F32_I | BYTES, "same", max_rank=4),
    "RESIZE_BILINEAR": Kernel(F32, "same", data=(0,), max_rank=4),
    "RESIZE_NEAREST_NEIGHBOR": Kernel(F32 | BYTES | {"int16"}, "same", data=(0,), max_rank=4, int16="same"),
    "DYNAMIC_UPDATE_SLICE": Kernel(F32_I | BOOL | {"int8"}, "same", data=(0, 1)),
    "REVERSE_SEQUENCE": Kernel(F32_I | {"uint8", "int16"}, data=(0,)),
    "NON_MAX_SUPPRESSION_V4": Kernel(F32, data=(1,), max_rank=2),
    "WHERE": Kernel(BOOL),
    "SHAPE": Kernel(MOVES),
    # bits
    "BITCAST": Kernel(frozenset({*MOVES, "uint16", "uint32", "uint64", "float16", "float64"})),
    "BITWISE_XOR": Kernel(WORDS, max_rank=4),
    "RIGHT_SHIFT": Kernel(WORDS, max_rank=4),
    # conversions, which the builder emits itself
    "CAST": Kernel(MOVES | {"float16", "float64", "uint16", "uint32"}),
    "QUANTIZE": Kernel(F32),
    "DEQUANTIZE": Kernel(F32),
}


def _convolution(plain: int, hybrid: int, hybrid_per_channel: int, int8: int) -> Callable[[Operator], int]:
    def rule(operator: Operator) -> int:
        data, weights = operator.inputs[0], operator.inputs[1]
        if weights is not None and weights.dtype == "int4":
            return 7
        if (
            data is not None
            and weights is not None
            and operator.code == "CONV_2D"
            and data.shape[3] != weights.shape[3]
        ):
            return 6  # grouped
        if data is not None and data.dtype == "int16":
            return 4 if operator.code == "CONV_2D" else 5
        if data is None or weights is None or weights.dtype != "int8":
            dilated = any(operator.options.get(f"dilation_{side}_factor", 1) != 1 for side in "wh")
            return 2 if dilated and operator.code == "DEPTHWISE_CONV_2D" else plain
        if data.dtype == "int8":
            return int8
        per_channel = weights.quantization is not None and weights.quantization.per_channel
        return hybrid_per_channel if per_channel else hybrid

    return rule


def _fully_connected(operator: Operator) -> int:
    data, weights = operator.inputs[0], operator.inputs[1]
    per_channel = weights is not None and weights.quantization is not None and weights.quantization.per_channel
    hybrid = data is not None and weights is not None and data.dtype == "float32" and weights.dtype == "int8"
    if weights is not None and weights.dtype == "int4":
        return 10
    if data is not None and data.dtype == "int16":
        return 7
    if per_channel and hybrid:
        return 12
    if hybrid and operator.options.get("asymmetric_quantize_inputs"):
        return 9
    if len(operator.inputs) < 3 or operator.inputs[2] is None:
        return 6
    if operator.options.get("keep_num_dims"):
        return 5
    if data is not None and data.dtype == "int8":
        return 4
    return 3 if hybrid else 1


def _transpose_conv(operator: Operator) -> int:
    if operator.options.get("fused_activation_function"):
        return 4
    if len(operator.inputs) == 4:
        return 3
    return 2 if _dtype(operator, 1) == "int8" else 1


def _transpose(operator: Operator) -> int:
    rank = len(operator.outputs[0].shape)
    if rank > 5:
        return 6
    by_dtype = _by_dtype(2, bool=3, int16=5)(operator)
    return max(by_dtype, 4) if rank > 4 else by_dtype


def _cast(operator: Operator) -> int:
    types = {_dtype(operator, 0), operator.outputs[0].dtype}
    for version, marks in ((5, {"float64", "float16"}), (4, {"uint16"}), (3, {"int8"}), (2, {"uint32"})):
        if types & marks:
            return version
    return 1


def _dequantize(operator: Operator) -> int:
    tensor = operator.inputs[0]
    if tensor is not None and tensor.dtype == "int4":
        return 6
    if tensor is not None and tensor.quantization is not None and tensor.quantization.per_channel:
        return 5
    return {"int8": 2, "float16": 3, "int16": 3}.get(_dtype(operator, 0), 1)


def _mul(operator: Operator) -> int:
    if _dtype(operator, 0) in ("int16", "int64"):
        return 4 if _dtype(operator, 0) == "int16" else 5
    q = [t.quantization for t in (*operator.inputs, *operator.outputs) if t is not None]
    if any(row is None for row in q):
        return 1
    one, two, out = (float(row.scale[0]) for row in q if row is not None)
    return 3 if one * two / out >= 1 else 2


def _resize(operator: Operator) -> int:
    if _dtype(operator, 0) == "int16":
        return 4
    nearest = operator.code == "RESIZE_NEAREST_NEIGHBOR"
    if operator.options.get("half_pixel_centers") or (nearest and operator.options.get("align_corners")):
        return 3
    return 2 if _dtype(operator, 0) == "int8" else 1


def _by_dtype(int8: int = 1, *, position: int = 0, **dtypes: int) -> Callable[[Operator], int]:
    return lambda operator: {"int8": int8, **dtypes}.get(_dtype(operator, position), 1)


def _abs(operator: Operator) -> int:
    """Quantized int16 came one version before int16 that stands for itself."""
    tensor = operator.inputs[0]
    quantized = tensor is not None and tensor.quantization is not None
    return _by_dtype(2, int16=3 if quantized else 4, int32=5)(operator)


def _by_rank(versions: tuple[tuple[int, int], ...], int8: int, **dtypes: int) -> Callable[[Operator], int]:
    """`versions`: (more axes than, version), the highest first; else by dtype."""

    def rule(operator: Operator) -> int:
        tensor = operator.inputs[0]
        for rank, version in versions:
            if tensor is not None and len(tensor.shape) > rank:
                return version
        return _by_dtype(int8, **dtypes)(operator)

    return rule


def _by_broadcast(beyond_four: int, int8: int, **dtypes: int) -> Callable[[Operator], int]:
    def rule(operator: Operator) -> int:
        shapes = [t.shape for t in operator.inputs if t is not None]
        if _dtype(operator, 0) not in dtypes and shapes[0] != shapes[1] and max(map(len, shapes)) > 4:
            return beyond_four
        return _by_dtype(int8, **dtypes)(operator)

    return rule


def _dtype(operator: Operator, position: int) -> str:
    tensor = operator.inputs[position]
    return "" if tensor is None else tensor.dtype


_TWO = _by_dtype(2)
_THREE_FOR_INT16 = _by_dtype(2, int16=3)

_TWO_FOR_INT8: Final = (
    "ARG_MAX", "ARG_MIN", "AVERAGE_POOL_2D", "DEPTH_TO_SPACE", "EQUAL", "GELU", "GREATER", "GREATER_EQUAL",
    "L2_NORMALIZATION", "LESS", "LESS_EQUAL", "LOGISTIC", "LOG_SOFTMAX", "MAX_POOL_2D", "MEAN", "MIRROR_PAD",
    "NOT_EQUAL", "REDUCE_PROD", "RELU", "RELU6", "RSQRT", "SOFTMAX", "SPACE_TO_DEPTH",
    "SQUARED_DIFFERENCE", "SUM", "TANH", "TOPK_V2",
)  # fmt: skip

_THREE: Final = (
    "AVERAGE_POOL_2D", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MIRROR_PAD", "RELU", "RELU6", "SOFTMAX", "TANH",
)  # fmt: skip
"""Versions for int8 and int16."""

_VERSIONS: Final[dict[str, Callable[[Operator], int]]] = {
    "ABS": _abs,
    "ADD": _by_dtype(2, int16=3, int64=4),
    "BATCH_MATMUL": _THREE_FOR_INT16,
    "BROADCAST_TO": lambda operator: 3 if _dtype(operator, 0) in ("int8", "int16") else 2,
    "CAST": _cast,
    "CONCATENATION": _by_dtype(2, int16=3),
    "CONV_2D": _convolution(1, 2, 5, 3),
    "DEPTHWISE_CONV_2D": _convolution(1, 4, 6, 3),
    "DEQUANTIZE": _dequantize,
    "DIV": _by_broadcast(2, 1),
    "EXP": _by_dtype(2, int16=2),
    "FLOOR_DIV": _by_dtype(float32=2),
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _by_dtype(2, bool=3, int16=4),
    "GATHER_ND": _by_dtype(bool=5, int16=3),
    "LEAKY_RELU": _by_dtype(1, int16=2),
    "LOG": _TWO,
    "MAXIMUM": _by_broadcast(3, 2, int16=4),
    "MINIMUM": _by_broadcast(3, 2, int16=4),
    "MUL": _mul,
    "PAD": _by_rank(((4, 4),), 2, int16=3),
    "PADV2": _by_rank(((4, 4),), 2, int16=3),
    "REDUCE_MAX": _by_dtype(2, int16=3),
    "REDUCE_MIN": _by_dtype(2, int16=3),
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "REVERSE_V2": _by_dtype(3, bool=2),
    "SIGN": _by_dtype(int32=2),
    "SLICE": _by_rank(((4, 5),), 2, int16=4),
    "SPLIT": _by_dtype(2, position=1, int16=4, int32=3),
    "SPLIT_V": _TWO,
    "STRIDED_SLICE": _by_rank(((4, 4),), 2, bool=3),
    "SUB": _by_broadcast(3, 2, int16=5, int64=4),
    "TILE": _by_dtype(3),
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _transpose_conv,
    **dict.fromkeys(_TWO_FOR_INT8, _TWO),
    **dict.fromkeys(_THREE, _THREE_FOR_INT16),
}


def version(operator: Operator) -> int:
    """The lowest version of an operator that has the kernel it needs."""
    rule = _VERSIONS.get(operator.code)
    return 1 if rule is None else rule(operator)
