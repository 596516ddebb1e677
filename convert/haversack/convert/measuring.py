"""What is measured of variants once all are made: latency side by side, bytes over the wire where a budget asks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from haversack.convert import latency
from haversack.convert.packed import Made
from haversack.convert.report import Variant
from haversack.convert.verify.execute import Samples
from haversack.convert.wire import brotli_size


def timed(made: Sequence[Made], samples: Samples | None) -> list[Made]:
    """Measure the latency of all variants interleaved, but not where the engine here is not the one out there.

    The Core ML evaluator's speed says nothing, and a web variant is verified by onnxruntime, several times faster than
    its WebAssembly build.
    """
    assert samples is not None
    sample = samples.feeds[0]
    real = [each for each in made if not each.edges.engine.emulated and each.variant.target != "web"]
    calls = [functools.partial(each.edges.engine.run, each.edges.feeds(sample)) for each in real]
    times = dict(zip(map(id, real), latency.interleaved(calls) if calls else [], strict=True))
    timed = []
    for each in made:
        taken = times.get(id(each))
        if taken is None:
            timed.append(each)
            continue
        engine = each.edges.engine
        measured = latency.summary(taken, threads=1, engine=f"{engine.name} {engine.version}")
        timed.append(dataclasses.replace(each, variant=dataclasses.replace(each.variant, latency=measured)))
    return timed


SLOWER = 1.1
"""So many times float32's latency is worth a note: less is what two measurements of one file differ by."""


def compared(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """Say of variants that run slower than the same target's float32, as was measured, that they do.

    For the report alone: a manifest is hashed, and says nothing that another run measures otherwise.
    """
    floats = {
        each.target: each.latency.p50 for each in variants if each.compression == "fp32" and each.latency is not None
    }
    told = []
    for each in variants:
        ratio = None if each.latency is None or each.target not in floats else each.latency.p50 / floats[each.target]
        if ratio is not None and ratio > SLOWER:
            note = f"runs slower than float32 here: {ratio:.1f} times its median latency"
            each = dataclasses.replace(each, notes=(*each.notes, note))
        told.append(each)
    return tuple(told)


def weighed(each: Made) -> Made:
    """The same with its size over the wire, which a budget or an objective asks for however long it takes."""
    if each.variant.brotli_bytes is not None:
        return each
    wire = brotli_size(each.written.model, most=None)
    if each.variant.parts:  # the other parts are small, or the same for every model
        parts = tuple(dataclasses.replace(p, brotli_bytes=wire) if p.name == "model" else p for p in each.variant.parts)
        return dataclasses.replace(each, variant=dataclasses.replace(each.variant, parts=parts))
    return dataclasses.replace(each, variant=dataclasses.replace(each.variant, brotli_bytes=wire))
