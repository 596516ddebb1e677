"""Activations that exporters spell out in arithmetic, as the one kernel that LiteRT has for them."""

from __future__ import annotations

import numpy as np

from haversack.convert.targets.tflite.graph import Graph, Operator, Tensor

SIXTH_TOLERANCE = 1e-6
"""Exporters round 1/6 to float32 (6e-9 off), some to seven decimals (7e-8 off)."""


def hard_swish(graph: Graph) -> None:
    """Given x · clip(x + 3, 0, 6) / 6 in any of its spellings, result HARD_SWISH(x).

    The spellings: the sixth is taken of the gate or of the product, as a MUL or a DIV; or the gate is HardSigmoid's
    clip(x / 6 + 1/2, 0, 1). Float only: the hub quantizes a HardSwish, not its parts.
    """
    made = graph.producers()
    for operator in graph.operators:
        source = _hard_swish_source(operator, made)
        if source is not None and source.shape == operator.outputs[0].shape:
            operator.code, operator.inputs, operator.options = "HARD_SWISH", [source], {}


def _hard_swish_source(operator: Operator, made: dict[int, Operator]) -> Tensor | None:
    if operator.outputs[0].dtype != "float32":
        return None
    product = _sixth_of(operator)
    if product is not None:
        inner = made.get(id(product))
        if inner is not None and inner.code == "MUL":
            for x, gate in (inner.inputs, inner.inputs[::-1]):
                if x is not None and _clipped_sum(gate, made) is x:
                    return x
    if operator.code == "MUL":
        for x, gate in (operator.inputs, operator.inputs[::-1]):
            if x is None or gate is None:
                continue
            scaled = made.get(id(gate))
            inside = None if scaled is None else _sixth_of(scaled)
            if (inside is not None and _clipped_sum(inside, made) is x) or _hard_sigmoid(gate, made) is x:
                return x
    return None


def _with_constant(operator: Operator | None, code: str, number: float) -> Tensor | None:
    """The other operand of `code` where one is the scalar `number`."""
    if operator is None or operator.code != code or len(operator.inputs) != 2:
        return None
    pairs = [operator.inputs] if code == "DIV" else [operator.inputs, operator.inputs[::-1]]
    for tensor, constant in pairs:
        if constant is not None and constant.data is not None and constant.size == 1 and tensor is not None:
            value = float(np.asarray(constant.value()).reshape(-1)[0])
            if abs(value - number) <= SIXTH_TOLERANCE and not tensor.constant:
                return tensor
    return None


def _sixth_of(operator: Operator) -> Tensor | None:
    divided = _with_constant(operator, "DIV", 6)
    return divided if divided is not None else _with_constant(operator, "MUL", 1 / 6)


def _clipped_sum(tensor: Tensor | None, made: dict[int, Operator]) -> Tensor | None:
    """The x of RELU6(x + 3)."""
    clip = made.get(id(tensor))
    if clip is None or clip.code != "RELU6" or clip.inputs[0] is None:
        return None
    return _with_constant(made.get(id(clip.inputs[0])), "ADD", 3)


def _hard_sigmoid(tensor: Tensor, made: dict[int, Operator]) -> Tensor | None:
    """The x of MINIMUM(MAXIMUM(x / 6 + 1/2, 0), 1)."""
    step: Tensor | None = tensor
    for code, number in (("MINIMUM", 1), ("MAXIMUM", 0), ("ADD", 0.5), ("MUL", 1 / 6)):
        step = _with_constant(made.get(id(step)), code, number)
        if step is None:
            return None
    return step
