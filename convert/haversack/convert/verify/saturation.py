"""What an int8 ONNX artifact computes on CPUs whose products saturate, beside what was measured on this one."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.verify.execute import Samples

EMULATED_SAMPLES = 8
"""Samples on which saturating products are emulated; every one holds thousands of sums a layer."""

EMULATED_WEIGHTS = 4_000_000
"""Models of more weights than this are not emulated: it would take longer than all the rest."""


def portable(model: ir.Model, samples: Samples) -> tuple[str, ...]:
    """What x86 CPUs whose int8 products saturate would compute of an ONNX artifact, by emulation, in a sentence."""
    weights = sum(
        value.const_value.size for value in model.graph.initializers.values() if value.const_value is not None
    )
    if weights > EMULATED_WEIGHTS:
        return ()
    from haversack.convert.compress.methods.portability import saturated

    found = saturated(model, samples.spread(EMULATED_SAMPLES))
    return tuple(found.notes) if found.layers else ()
