"""What a target can hold of a layer's weights and activations, and what its kernels make of it.

Each target has a table, `targets/<target>/precisions.py`: by kind of layer and by precision, how many bits a weight
takes in the file and from which version of the runtime on. Latencies are measured, not promised: `rewards.py` beside
it has what `python -m benchmarks.kernel_rewards` found.

| precision                        | activations   | weights                                                           |
|----------------------------------|---------------|-------------------------------------------------------------------|
| `float32`, `float16`             | float         | the same                                                          |
| `int8`                           | int8          | int8                                                              |
| `int8-int4`                      | int8          | int4                                                              |
| `int8-palette2` … `palette6`     | int8          | a palette of int8 numbers                                         |
| `int16`                          | int16         | int8                                                              |
| `int8-weights`, `int4-weights`,  | float         | as the recipe of that name stores them                            |
| `int4-block32`, `palette4` …     |               |                                                                   |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from haversack.convert.compress.operators import WEIGHTED, constant, weight_axis
from haversack.convert.compress.recipes import STORAGES

Kind = Literal["convolution", "pointwise", "grouped", "depthwise", "convolution-3d", "transposed", "dense", "other"]
"""Kinds of layers that kernels tell apart; `other` has weights too: an embedding, a recurrent layer."""

UNDER_INT8 = ("int8-palette2", "int8-palette3", "int8-palette4", "int8-palette6")
WEIGHTS_ONLY = ("int8-weights", *STORAGES)


@dataclass(frozen=True)
class Held:
    """How a target holds one precision.

    Attributes:
        bits: What a weight takes in the file, scales and palettes left out.
        native: Whether the kernel, or what unpacks weights at load, takes them so; else they are written out.
        min_runtime: The first version of the runtime or system that has it; None where any has.
        note: What the user should know, a clause; empty where there is nothing.
    """

    bits: float
    native: bool = True
    min_runtime: str | None = None
    note: str = ""


Table = Mapping[str, Held]
"""By precision."""


def kind_of(node: ir.Node) -> Kind:
    """Which kind of layer a node of the float hub graph is."""
    weights = node.inputs[1] if node.op_type in WEIGHTED and len(node.inputs) > 1 else None
    shape = None if weights is None or weights.shape is None else weights.shape.numpy()
    if shape is None or node.domain not in ("", "ai.onnx"):
        return "other"
    if node.op_type in ("Gemm", "MatMul"):
        return "dense" if len(shape) == 2 and constant(weights) is not None else "other"
    if len(shape) == 5:
        return "convolution-3d"
    if node.op_type == "ConvTranspose":
        return "transposed"
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    if group > 1:
        return "depthwise" if shape[1] == 1 else "grouped"
    given = ((node.attributes[name], neutral) for name, neutral in _PLAIN if name in node.attributes)
    plain = all(set(attribute.as_ints()) <= {neutral} for attribute, neutral in given)
    return "pointwise" if set(shape[2:]) == {1} and plain else "convolution"


_PLAIN = (("strides", 1), ("dilations", 1), ("pads", 0))


def has_weights(node: ir.Node) -> bool:
    """Whether a node of the float hub graph reads weights that compression knows."""
    return any(
        value is not None and value.dtype == ir.DataType.FLOAT and weight_axis(node, index) is not None
        for index, value in enumerate(node.inputs)
    )


def latency_ratio(target: str, kind: Kind, precision: str) -> float | None:
    """Latency in a precision over float32's, as it was measured; None where nothing was.

    Args:
        target: `tflite`, `onnx` or `coreml` (of which none is known).
        kind: Of the layer.
        precision: As in the table above; a palette under int8 runs in int8's kernels.
    """
    if target == "tflite":
        from haversack.convert.targets.tflite.rewards import RATIOS
    elif target == "onnx":
        from haversack.convert.targets.ort.rewards import RATIOS
    else:
        return None
    return RATIOS.get(kind, {}).get("int8" if precision in UNDER_INT8 else precision)


def names(table: Callable[[Kind], Table], node: ir.Node) -> tuple[str, ...]:
    """The precisions that a target can hold one layer in; `float32` alone for a node without weights."""
    return tuple(table(kind_of(node))) if has_weights(node) else ("float32",)
