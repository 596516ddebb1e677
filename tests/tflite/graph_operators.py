"""What random graphs compute with: one function a family of operators, with attributes at their edges.

A function picks operands and adds nodes to the sketch. It need not see to it that a node is valid for the drawn opset:
the sketch drops what onnxruntime rejects.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import numpy as np
from graph_strategies import ALL, NUMBERS, Sketch, Value

Form = Callable[[Sketch], Any]
FLOATS = ("float32", "float32", "float16")
SIGNED = ("float32", "float16", "int32", "int64", "int8")
INTEGERS = ("int32", "int64", "int8", "uint8")
WIDE = (-4, 4)
SPREAD = 0.1
"""What a normalization divides by is above this: dividing by less enlarges rounding errors beyond any tolerance."""

STEPS = """Identity Neg Abs Relu Sign Floor Ceil Round ThresholdedRelu Shrink IsNaN IsInf Hardmax Not
BitwiseNot""".split()  # noqa: SIM905
LOGIC = """And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual BitwiseAnd BitwiseOr BitwiseXor
Where""".split()  # noqa: SIM905
REDUCTIONS = """ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare""".split()  # noqa: SIM905

UNARY: dict[str, tuple[tuple[float, float], dict[str, tuple[float, float]]]] = {
    **dict.fromkeys(("Atan", "Cos", "Erf", "Exp", "HardSwish", "Mish", "Sigmoid", "Sin", "Softplus"), (WIDE, {})),
    **dict.fromkeys(("Softsign", "Tanh", "Asinh", "Sinh", "Cosh"), (WIDE, {})),
    **dict.fromkeys(("Acos", "Asin", "Atanh"), ((-0.9, 0.9), {})),
    "Acosh": ((1.1, 4), {}),
    "Celu": (WIDE, {"alpha": (0.5, 2)}),
    "Elu": (WIDE, {"alpha": (0.5, 2)}),
    "HardSigmoid": (WIDE, {"alpha": (0.1, 1), "beta": (0, 1)}),
    "LeakyRelu": (WIDE, {"alpha": (0, 2)}),
    "Log": ((0.1, 4), {}),
    "Reciprocal": ((0.25, 4), {}),
    "Selu": (WIDE, {"alpha": (1, 2), "gamma": (1, 2)}),
    "Sqrt": ((0.1, 4), {}),
    "Tan": ((-1.2, 1.2), {}),
}
"""Smooth functions: where their operand lies, and the ranges of their attributes."""


def smooth(g: Sketch) -> None:
    """A smooth function of one value."""
    op = g.one_of(sorted(UNARY))
    bounds, ranges = UNARY[op]
    given = {name: g.integer(int(low * 8), int(high * 8)) / 8 for name, (low, high) in ranges.items() if g.flag()}
    g.node(op, g.operand(FLOATS, bounds=bounds), **given)


def gelu(g: Sketch) -> None:
    """Gelu, both ways."""
    g.node("Gelu", g.operand(FLOATS), approximate=g.one_of(["none", "tanh"]))


def step(g: Sketch) -> None:
    """A function with jumps, or one that copies: of exact values."""
    op = g.one_of(STEPS)
    dtypes = {"Not": ("bool",), "BitwiseNot": INTEGERS, "Identity": ALL, "Neg": SIGNED, "Abs": SIGNED, "Sign": SIGNED}
    value = g.operand(dtypes.get(op, FLOATS), 1 if op == "Hardmax" else 0, exact=True)
    given: dict[str, Any] = {"axis": g.axis(value.rank)} if op == "Hardmax" and g.flag() else {}
    if op == "ThresholdedRelu":
        given = {"alpha": g.integer(-8, 8) / 8}
    if op == "Shrink":
        given = {"bias": g.integer(-8, 8) / 8, "lambd": g.integer(0, 8) / 8}
    if op == "IsInf":
        given = {"detect_negative": int(g.flag()), "detect_positive": int(g.flag())}
    g.node(op, value, domain_exact=True, **given)


def arithmetic(g: Sketch) -> None:
    """Two operands, broadcast."""
    op = g.one_of(["Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Mod", "BitShift"])
    if op == "Div":
        x = g.operand((*NUMBERS, "uint8"))
        return _pair(g, op, x, g.partner(x, (0.25, 4) if x.dtype.startswith("f") else (1, 4)))
    if op == "Pow":
        x = g.operand(("float32", "float16", "int32"), bounds=(0.25, 4))
        powers = [2.0, 1.0, 3.0] if x.dtype == "int32" else [2.0, 0.5, 1.0, -1.0, 3.0]
        exponent = g.hold(np.array(g.one_of(powers), x.dtype)) if g.flag() else g.partner(x, (0, 2))
        return _pair(g, op, x, exponent, swap=False)
    if op == "PRelu":
        x = g.operand(FLOATS)
        return _pair(g, op, x, g.leaf(x.dtype, g.broadcastable(x.shape), constant=None), swap=False)
    if op == "Mod":
        x = g.operand(("float32", "int32", "int64", "int8", "uint8"), exact=True)
        modulus = g.partner(x, (1, 4), exact=True)
        fmod = 1 if x.dtype == "float32" else int(g.flag())
        g.node(op, x, modulus, fmod=fmod)
        return None
    if op == "BitShift":
        x = g.operand(("uint8",))
        g.node(op, x, g.partner(x, (0, 3)), direction=g.one_of(["LEFT", "RIGHT"]))
        return None
    x = g.operand((*NUMBERS, "int8", "uint8"))
    return _pair(g, op, x, g.partner(x))


def _pair(g: Sketch, op: str, x: Value, y: Value, swap: bool = True) -> None:
    g.node(op, *((y, x) if swap and op in ("Add", "Mul", "Sub") and g.flag() else (x, y)))


def variadic(g: Sketch) -> None:
    """One to four operands."""
    op = g.one_of(["Max", "Min", "Sum", "Mean"])
    x = g.operand(NUMBERS if op in ("Max", "Min") else FLOATS)
    g.node(op, x, *(g.partner(x) for _ in range(g.integer(0, 3))))


def logic(g: Sketch) -> None:
    """Comparisons, logic, bits and selection."""
    op = g.one_of(LOGIC)
    if op == "Where":
        x = g.operand(ALL)
        condition = g.leaf("bool", g.broadcastable(x.shape)) if g.flag() else g.operand(("bool",))
        g.node(op, condition, x, g.partner(x))
        return
    kinds = {"And": ("bool",), "Or": ("bool",), "Xor": ("bool",), "Equal": ALL}
    x = g.operand(INTEGERS if op.startswith("Bitwise") else kinds.get(op, NUMBERS), exact=True)
    g.node(op, x, g.partner(x, exact=True))


def clip(g: Sketch) -> None:
    """Bounds that are given, left out, crossed or computed."""
    x = g.operand()
    low, high = g.integer(-4, 2), g.integer(-1, 6)
    if g.opset < 11:
        g.node("Clip", x, **({"min": float(low)} if g.flag() else {}), **({"max": float(high)} if g.flag() else {}))
        return
    bounds = [g.hold(np.array(n, x.dtype)) if g.flag() else None for n in (low, high)]
    g.node("Clip", x, *bounds)


def cast(g: Sketch) -> None:
    """To any type; from floats to integers only where the number is exact."""
    to = g.one_of(sorted(set(ALL)))
    bounds = (0, 4) if to == "uint8" else WIDE
    x = g.operand((*ALL, "uint16", "int16", "float64"), exact=not to.startswith("float"), bounds=bounds)
    types = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10}
    g.node("Cast", x, to=types[to])


def reduction(g: Sketch) -> None:
    """Any reduction over any axes, none, or an empty list of them."""
    op = g.one_of(REDUCTIONS)
    positive = op in ("ReduceL2", "ReduceLogSum")
    dtypes = NUMBERS if op in ("ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "ReduceMean") else FLOATS
    x = g.operand(dtypes, bounds=(0.1, 4) if positive else WIDE)
    since = 13 if op == "ReduceSum" else 18
    axes = g.axes(x.rank) if g.flag() else None
    given: dict[str, Any] = {"keepdims": int(g.flag())} if g.flag() else {}
    if g.opset >= since and g.flag():
        given["noop_with_empty_axes"] = int(g.flag())
    g.node_with_axes(op, x, axes, since, **given)


def arg_reduction(g: Sketch) -> None:
    """ArgMax and ArgMin, ties included."""
    x = g.operand((*FLOATS, "int32", "int8", "uint8"), 1, exact=True)
    given: dict[str, Any] = {"keepdims": int(g.flag())}
    if g.flag():
        given["axis"] = g.axis(x.rank)
    if g.opset >= 12 and g.flag():
        given["select_last_index"] = 1
    g.node(g.one_of(["ArgMax", "ArgMin"]), x, **given)


def running_sum(g: Sketch) -> None:
    """CumSum."""
    x = g.operand(("float32", "int32", "int64"), 1)
    axis = g.hold(np.array(g.axis(x.rank), g.one_of(["int32", "int64"])))
    g.node("CumSum", x, axis, exclusive=int(g.flag()), reverse=int(g.flag()))


def top_k(g: Sketch) -> None:
    """TopK, ties included."""
    x = g.operand(("float32", "int32", "int64"), 1, exact=True)
    axis = g.axis(x.rank)
    k = g.integer(1, x.shape[axis])
    if g.opset < 10:
        g.node("TopK", x, outputs=2, axis=axis, k=k)
    elif g.opset < 11:
        g.node("TopK", x, g.ints([k]), outputs=2, axis=axis)
    else:
        g.node("TopK", x, g.ints([k]), outputs=2, axis=axis, largest=int(g.flag()))


def softmax(g: Sketch) -> None:
    """Softmax and LogSoftmax, before opset 13 over all axes from one on."""
    x = g.operand(FLOATS, 1)
    g.node(g.one_of(["Softmax", "LogSoftmax"]), x, **({"axis": g.axis(x.rank)} if g.flag() else {}))


def normalized(g: Sketch) -> None:
    """Normalizations over axes of any place, of vectors that are neither zero nor all but constant."""
    op = g.one_of(["LayerNormalization", "LpNormalization", "MeanVarianceNormalization", "RMSNormalization"])
    if op == "MeanVarianceNormalization":
        x = g.operand(("float32",), 2)
        axes = g.axes(x.rank) or [0]
        if np.min(np.std(x.array, axis=tuple(axes))) > SPREAD:
            g.node(op, x, axes=axes)
        return
    x = g.operand(("float32",), 1)
    axis = g.axis(x.rank)
    if op == "LpNormalization":
        if np.min(np.abs(x.array).max(axis)) > SPREAD:
            g.node(op, x, axis=axis, p=g.integer(1, 2))
        return
    parts = [
        g.leaf(x.dtype, x.shape[axis % x.rank :]) for _ in range(1 if op == "RMSNormalization" else g.integer(1, 2))
    ]
    g.node(op, x, *parts, axis=axis, epsilon=g.one_of([1e-5, 1e-2]))


def product(g: Sketch) -> None:
    """MatMul of any ranks, vectors too, and Gemm."""
    inner = g.integer(1, 4)
    dtype = g.one_of(["float32", "float32", "float16", "int32"])
    if g.flag():
        stack = g.shape(0, 2)
        x = g.pick(lambda v: v.dtype == dtype and v.rank >= 1, lambda: g.leaf(dtype, (*stack, g.integer(1, 4), inner)))
        columns = () if g.integer(0, 4) == 0 else (g.integer(1, 4),)
        ahead = g.broadcastable(x.shape[:-2]) if columns else ()
        g.node("MatMul", x, g.leaf(dtype, (*ahead, x.shape[-1], *columns)))
        return
    x = g.operand(("float32", "float16"), 2, 2)
    given = {"transA": int(g.flag()), "transB": int(g.flag())}
    rows, inner = x.shape[::-1] if given["transA"] else x.shape
    n = g.integer(1, 4)
    weights = g.leaf(x.dtype, (n, inner) if given["transB"] else (inner, n))
    bias = g.leaf(x.dtype, g.broadcastable((rows, n)) if g.flag() else (n,))
    scales = {"alpha": g.one_of([1.0, 0.5, -2.0]), "beta": g.one_of([1.0, 0.5, 0.0])}
    g.node("Gemm", x, weights, *([bias] if g.opset < 11 or g.flag() else []), **given, **scales)


def einsum(g: Sketch) -> None:
    """Two operands, any letters kept."""
    x = g.operand(("float32",), 1, 4)
    letters = string.ascii_lowercase[: x.rank]
    shared = [c for c in letters if g.flag()] or [letters[0]]
    sizes = dict(zip(letters, x.shape, strict=True)) | {"z": g.integer(1, 3)}
    other = g.shuffled([*shared, "z"])
    kept = g.shuffled(c for c in [*letters, "z"] if g.flag())
    y = g.leaf("float32", tuple(sizes[c] for c in other))
    g.node("Einsum", x, y, equation=f"{letters},{''.join(other)}->{''.join(kept)}")


def quantize(g: Sketch) -> None:
    """To integers and back, or integer products."""
    if g.flag():
        x = g.operand(("float32",), 1, exact=True)
        zero = g.hold(np.array(g.integer(0, 5), g.one_of(["uint8", "int8"])))
        scale = g.hold(np.array(g.one_of([1 / 16, 3 / 16]), np.float32))  # multiples of 1/16 over it are no ties
        made = g.node("QuantizeLinear", x, scale, zero, domain_exact=True)
        if made and g.flag():
            g.node("DequantizeLinear", made[0], scale, zero, domain_exact=True)
        return
    x = g.leaf(g.one_of(["uint8", "int8"]), (g.integer(1, 3), g.integer(1, 4)))
    y = g.leaf(g.one_of(["uint8", "int8"]), (x.shape[1], g.integer(1, 3)))
    g.node("MatMulInteger", x, y, g.hold(np.array(2, x.dtype)), g.hold(np.array(1, y.dtype)))


FORMS: tuple[Form, ...] = (
    smooth, smooth, smooth, gelu, step, step, step, arithmetic, arithmetic, arithmetic, variadic, logic, logic, logic,
    clip, cast, reduction, reduction, arg_reduction, running_sum, top_k, softmax, normalized, product, product, einsum,
    quantize,
)  # fmt: skip
