"""Whether an output says anything: a comparison of nothing is one that every artifact passes.

A softmax of large logits is 0 and 1 whatever the rounding before it, a network fed with noise may give the same for
every sample, and against a peak of 1e-31 an artifact that gives zeros is exact. Such an output is *mute*: the report
says so, and where it comes out of a softmax or a sigmoid, what goes into that is compared instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import VerificationError
from haversack.convert.targets import Layer
from haversack.convert.verify.compare import Distance, distance
from haversack.convert.verify.contract import RELATIVE_FLOOR
from haversack.convert.verify.layers import Inner, as_artifact
from haversack.convert.verify.probes import open_probe
from haversack.runtimes.engines import Array

if TYPE_CHECKING:
    from haversack.convert.verify.edges import Edges
    from haversack.convert.verify.judge import Subject

SQUASHING = frozenset({"Softmax", "Sigmoid"})
"""Operators that send large differences of their input to the same 0 or 1."""


def mute(model: ir.Model, outputs: Mapping[str, Array], samples: int) -> dict[str, str]:
    """The outputs whose comparison says nothing, each with the reason as a clause about it.

    Args:
        model: The hub graph, whose outputs these are.
        outputs: What the source gives, all samples joined along axis 0.
        samples: How many.

    Raises:
        VerificationError: An output has no finite value at all: there is nothing to hold an artifact to.
    """
    reasons = {}
    for value in model.graph.outputs:
        assert value.name is not None
        reason = _reason(value, outputs[value.name], samples)
        if reason:
            reasons[value.name] = reason
    return reasons


def _reason(value: ir.Value, array: Array, samples: int) -> str:
    if array.size == 0:
        return "holds no elements"
    if array.dtype.kind not in "fiub":
        return ""
    finite = np.isfinite(array)
    if not finite.any():
        raise VerificationError(
            f"the source gives only NaN or infinity at output {value.name}, so nothing can be held to it; "
            "repair its weights, give inputs it is meant for (--inputs DATA), or say --no-verify"
        )
    magnitudes = np.abs(np.where(finite, array, 0).astype(np.float64))
    if array.dtype.kind == "f" and 0 < magnitudes.max() < RELATIVE_FLOOR:
        return f"is nowhere larger than {magnitudes.max():.1e}"
    if samples > 1 and array.size % samples == 0:
        rows = array.reshape(samples, -1)
        if np.array_equal(rows, np.broadcast_to(rows[0], rows.shape), equal_nan=array.dtype.kind == "f"):
            return "is the same for every sample"
    producer = value.producer()
    if producer is not None and producer.op_type in SQUASHING:
        within = np.minimum(magnitudes, np.abs(1 - magnitudes))
        if within.max() < RELATIVE_FLOOR:
            return f"lies within {RELATIVE_FLOOR:g} of 0 or 1 on every sample"
    if not finite.all():
        return f"is NaN or infinite in {1 - finite.mean():.1%} of its values"
    return ""


def before_squashing(
    subject: Subject, edges: Edges, samples: Sequence[Mapping[str, Array]], output: str
) -> tuple[Layer, Distance] | None:
    """How far an artifact is from the model at the input of the softmax or sigmoid that gives `output`.

    Args:
        subject: The artifact, its graph and the map between them.
        edges: The opened artifact, which knows how to feed it.
        samples: Inputs of the model.
        output: The graph output.

    Returns:
        The layer that gives that input, and the distance over all samples; None where the output comes out of another
        operator, or the artifact has no counterpart of the input.
    """
    value = next(value for value in subject.model.graph.outputs if value.name == output)
    producer = value.producer()
    if producer is None or producer.op_type not in SQUASHING or producer.inputs[0] is None:
        return None
    wanted = producer.inputs[0].name
    for layer in subject.layers:
        tap = next((tap for tap in layer.outputs if tap.value == wanted), None)
        if tap is not None:
            break
    else:
        return None
    probe, inner = open_probe(subject.path), Inner.of(subject.model, [layer])
    expected, found = [], []
    for sample in samples:
        expected.append(as_artifact(inner.run(sample)[tap.value], tap).reshape(-1))
        found.append(np.asarray(probe.values(edges.feeds(sample), layer)[tap.tensor]).reshape(-1))
    return layer, distance(np.concatenate(expected), np.concatenate(found))
