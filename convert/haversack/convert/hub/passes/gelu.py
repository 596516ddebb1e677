"""GELU, spelled out in arithmetic by exporters, as the operator that targets have a kernel for."""

from __future__ import annotations

import math
from functools import partial

import onnx_ir as ir

from haversack.convert.hub.passes.polynomials import Monomial, below, close, find, polynomial
from haversack.convert.hub.passes.rewriting import nodes, replace

ROOT = math.sqrt(2 / math.pi)
ARGUMENTS: dict[str, tuple[dict[Monomial, float], ...]] = {
    "Erf": ({(1,): math.sqrt(0.5)}, {(1,): -math.sqrt(0.5)}),
    "Tanh": ({(1,): ROOT, (3,): ROOT * 0.044715}, {(1,): -ROOT, (3,): -ROOT * 0.044715}),
}
"""What erf and tanh are taken of, plainly and negated (the same as 1 - erfc of it), by powers of x (Hendrycks and
Gimpel, Gaussian Error Linear Units, 2016)."""


def gelu(model: ir.Model) -> bool:
    """Name `x / 2 * (1 + erf(x / sqrt(2)))`, in any of its spellings, Gelu, and its approximation by tanh likewise.

    Given:
        a = Div(x, 1.41421)            or Mul by 0.70711
        b = Erf(a)
        c = Add(b, 1)                  or Sub(1, b) where a is negated
        d = Mul(x, c)
        y = Mul(d, 0.5)                or on x, b or c

    Result:
        y = Gelu(x)

    Given:
        t = Tanh(0.79788 * (x + 0.044715 * x ** 3))
        y = 0.5 * x * (1 + t)

    Result:
        y = Gelu<approximate="tanh">(x)

    Where nothing else reads the values between x and y.
    """
    changed = False
    for node in nodes(model, *ARGUMENTS):
        for x in below(node.inputs[0]):
            whole = _whole(node, x)
            if whole is not None:
                replace(whole, "Gelu", [x], **({"approximate": "tanh"} if node.op_type == "Tanh" else {}))
                changed = True
                break
    return changed


def _whole(node: ir.Node, x: ir.Value) -> ir.Node | None:
    """The last node of the GELU of `x` that `node` is part of."""
    inside = polynomial(node.inputs[0], {x: (1,)})
    for wanted, sign in zip(ARGUMENTS[node.op_type], (1, -1), strict=True):
        if close(inside, wanted, x):
            curve = node.outputs[0]
            whole: dict[Monomial, float] = {(1, 0): 0.5, (1, 1): 0.5 * sign}
            return find(curve, x, {x: (1, 0), curve: (0, 1)}, partial(close, wanted=whole, like=x))
    return None
