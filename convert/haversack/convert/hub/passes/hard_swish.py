"""Hard swish, spelled out in arithmetic by exporters, as the operator that targets have a kernel for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.polynomials import Monomial, below, close, find, polynomial
from haversack.convert.hub.passes.rewriting import nodes, replace, scalar

GATE: dict[Monomial, float] = {(1,): 1 / 6, (0,): 0.5}
"""`x / 6 + 1 / 2`, which the gate clips to [0, 1]."""


def hard_swish(model: ir.Model) -> bool:
    """Name `x * clip(x / 6 + 1 / 2, 0, 1)`, in any of its spellings, HardSwish.

    Given:
        a = Add(x, 3)
        b = Clip(a, 0, 6)              or HardSigmoid<alpha=1/6>(x) for b / 6
        c = Mul(x, b)
        y = Div(c, 6)                  or Mul by 1/6, or either of them on x or b

    Result:
        y = HardSwish(x)

    Where nothing else reads a, b and c.
    """
    changed = False
    for node in nodes(model, "Clip", "HardSigmoid"):
        bounds = _bounds(node)
        for x in below(node.inputs[0]) if bounds is not None else ():
            whole = _whole(node, x, *bounds) if bounds is not None else None
            if whole is not None:
                replace(whole, "HardSwish", [x])
                changed = True
                break
    return changed


def _whole(node: ir.Node, x: ir.Value, high: float, slope: float, offset: float) -> ir.Node | None:
    """The last node of the hard swish of `x` whose gate, times `high`, is the result of `node`."""
    inside = polynomial(node.inputs[0], {x: (1,)})
    if inside is None:
        return None
    line = {monomial: coefficient * slope / high for monomial, coefficient in inside.items()}
    line[0,] = line.get((0,), np.array(0.0)) + offset / high
    if not close(line, GATE, x):
        return None
    gate = node.outputs[0]
    return find(gate, x, {x: (1, 0), gate: (0, 1)}, lambda terms: close(terms, {(1, 1): 1 / high}, x))


def _bounds(node: ir.Node) -> tuple[float, float, float] | None:
    """The upper bound of a gate whose lower one is 0, and the slope and offset that it applies to its input first."""
    if node.op_type == "HardSigmoid":
        alpha, beta = (node.attributes.get_float(name, given) for name, given in (("alpha", 0.2), ("beta", 0.5)))
        return 1.0, alpha, beta
    low, high = (scalar(value) for value in (*node.inputs[1:3], None, None)[:2])
    return (high, 1.0, 0.0) if low == 0 and high is not None and high > 0 else None
