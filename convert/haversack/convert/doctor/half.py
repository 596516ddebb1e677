"""Float16: what overflows, what vanishes, and what it costs.

Core ML computes in float16; TFLite and ONNX Runtime store weights so and compute in float32. What float16 arithmetic
does is emulated here: every value of the float graph is rounded to float16, sums inside an operator are not. Its
largest finite number is 65504, normal numbers end at 2^-14, the last subnormal is 2^-24 (IEEE 754-2019, binary16).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.editing import Editor
from haversack.convert.compress.float16 import LARGEST
from haversack.convert.diagnosis import Cause
from haversack.convert.doctor.harm import Bench
from haversack.convert.doctor.spreads import Spread
from haversack.runtimes.engines import Array

SMALLEST = 2.0**-24
"""Half of it and less becomes zero."""


def emulated(model: ir.Model, floats: Collection[str] = (), only: Collection[str] | None = None) -> ir.Model:
    """A copy of a float graph whose values and constants are rounded to float16.

    Args:
        model: Not changed.
        floats: Names of nodes that stay float32: what they read and give is not rounded for them.
        only: Names of values: round these alone.
    """
    copy = model.clone()
    editor = Editor(copy.graph)
    values = [value for value in copy.graph.inputs if value.dtype == ir.DataType.FLOAT]
    values += [v for node in copy.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT and v.name]
    for value in values:
        producer = value.producer()
        if (only is not None and str(value.name) not in only) or (producer is not None and producer.name in floats):
            continue
        _round(editor, value, floats)
    if only is None:
        for value in copy.graph.initializers.values():
            tensor = value.const_value
            if (
                tensor is not None
                and value.dtype == ir.DataType.FLOAT
                and not any(u.node.name in floats for u in value.uses())
            ):
                value.const_value = ir.Tensor(half(tensor.numpy()), name=value.name)
    return copy


def half(array: Array) -> Array:
    """Rounded to float16, as float32; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


def _round(editor: Editor, value: ir.Value, floats: Collection[str]) -> None:
    uses = [(use.node, use.idx) for use in value.uses() if use.node.name not in floats]
    down = editor.node(
        "Cast", [value], f"{value.name}_half", ir.DataType.FLOAT16, value.shape, {"to": int(ir.DataType.FLOAT16)}
    )
    up = editor.node(
        "Cast",
        [down.outputs[0]],
        f"{value.name}_dequantized",
        ir.DataType.FLOAT,
        value.shape,
        {"to": int(ir.DataType.FLOAT)},
    )
    for node, index in uses:
        node.replace_input_with(index, up.outputs[0])
    producer = value.producer()
    if value.is_graph_output():
        editor.swap_output(value, up.outputs[0], f"{value.name}_float")
    if producer is None:
        editor.before(None, [down, up])
    else:
        editor.graph.insert_after(producer, [down, up])


def half_causes(model: ir.Model, seen: Mapping[str, Spread], bench: Bench) -> list[Cause]:
    """Values and weights that float16 cannot hold."""
    found = []
    for node in model.graph:
        for value in node.outputs:
            spread = seen.get(str(value.name))
            if spread is None or not spread.samples:
                continue
            if spread.reach > LARGEST:
                found.append(
                    Cause(
                        "float16 overflow",
                        str(node.name),
                        f"{value.name} ({node.op_type}) reaches {spread.reach:.4g}; float16 ends at 65504, and what is "
                        "beyond becomes infinite",
                        bench.harm(emulated(model, only=[str(value.name)])).loss,
                        {"reach": spread.reach},
                        (str(node.name),),
                    )
                )
            elif 0 < spread.reach < SMALLEST:
                found.append(
                    Cause(
                        "float16 underflow",
                        str(node.name),
                        f"{value.name} ({node.op_type}) reaches no further than {spread.reach:.2g}; float16's smallest "
                        f"number is {SMALLEST:.2g}",
                        bench.harm(emulated(model, only=[str(value.name)])).loss,
                        {"reach": spread.reach},
                        (str(node.name),),
                    )
                )
    for value in model.graph.initializers.values():
        array = None if value.const_value is None else value.const_value.numpy()
        if array is None or array.dtype != np.float32 or array.size < 2 or not value.uses():
            continue
        largest = float(np.abs(array[np.isfinite(array)]).max(initial=0.0))
        if largest > LARGEST:
            reader = next(iter(value.uses())).node
            found.append(
                Cause(
                    "float16 overflow",
                    str(reader.name),
                    f"its constant {value.name} reaches {largest:.4g}; float16 ends at 65504",
                    numbers={"reach": largest},
                    nodes=(str(reader.name),),
                )
            )
    return found
