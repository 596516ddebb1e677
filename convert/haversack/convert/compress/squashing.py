"""Where an output is judged: a saturated softmax or sigmoid hides errors."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.compress.scale import FIXED


def before_squashing(value: ir.Value) -> str:
    """The name of the value that an output is squashed from; the output's own where nothing squashes it."""
    producer = value.producer()
    while producer is not None and producer.op_type in (*FIXED, "Reshape", "Identity") and producer.inputs[0]:
        value = producer.inputs[0]
        producer = value.producer()
    return str(value.name)
