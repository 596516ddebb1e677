"""Channels-first to channels-last as one exact optimisation.

TFLite's convolutions, pools and their like read and write channels-last data; the hub is channels-first. `assign`
gives each operator a state, channels-first or channels-last, so that what must be transposed costs as little as
possible:

    minimise  Σ over tensors t      w(t) · [some reader's state ≠ the state in which t is made]
            + Σ over Transposes x   w(input of x) · [the memory orders of its two sides differ]

where w(t) is the bytes of t: a tensor pays once however many readers it has. Between labellings of equal bytes the
fewer Transposes win, then the fewer Reshapes; then an operator is channels-last unless channels-first saves
something. Constants are transposed offline, and a tensor whose two orders differ by axes of size 1 only needs a
Reshape.

`layout_rules` says which operators are pinned and which are free, `layout_frames` what the two states mean for each
tensor, `layout_labels` turns the problem into a minimum s-t cut, `mincut` solves it and `layout_rewrite` carries it
out. The labelling is optimal for the frames chosen; these are unique but where two spatial parts meet in orders that
do not fit each other, and there the operator between them keeps the logical order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from haversack.convert.report import Transposed
from haversack.convert.targets.tflite.layout_frames import Frames
from haversack.convert.targets.tflite.layout_labels import Labels, size
from haversack.convert.targets.tflite.layout_perms import Perm, identity
from haversack.convert.targets.tflite.layout_reasons import Reasons
from haversack.convert.targets.tflite.layout_rewrite import Rewriter
from haversack.convert.targets.tflite.layout_rules import Transposes
from haversack.convert.targets.tflite.mincut import SINK, SOURCE

CHANNELS_LAST = "haversack.channels_last"
"""The domain of operators that read input 0 and write output 0 as (N, spatial axes…, C). Their weights, attributes and
other inputs stay as ONNX defines them."""


@dataclass(frozen=True)
class Place:
    """Where a hub tensor is in the new graph.

    Attributes:
        name: Of the new graph's value.
        permutation: `new_array = hub_array.transpose(permutation)`; None where the order is the same.
    """

    name: str
    permutation: Perm | None


@dataclass(frozen=True)
class Layout:
    """A graph whose spatial operators are channels-last.

    Attributes:
        model: The new graph. Operators of the domain `CHANNELS_LAST` are no ONNX operators.
        places: Every activation of the hub graph and where it is now. Two hub tensors may share one place: both sides
            of a Transpose that is gone.
        transposes: What remains, by the name of the new graph's value that holds the result.
        inputs: Graph inputs whose order changed (only with `channels-last`), and how.
        outputs: The same of graph outputs.
    """

    model: ir.Model
    places: Mapping[str, Place]
    transposes: Mapping[str, Transposed]
    inputs: Mapping[str, Perm]
    outputs: Mapping[str, Perm]

    @property
    def bytes(self) -> int:
        """Bytes that the remaining Transposes move in one run."""
        return sum(transposition.bytes for transposition in self.transposes.values())


def assign(model: ir.Model, io_layout: Literal["keep", "channels-last"] = "keep") -> Layout:
    """Move the spatial operators to channels-last at the least cost.

    Args:
        model: A hub graph with static shapes and named values; it is not changed. A node with a shape that is not
            static keeps its logical order, spatial ones too.
        io_layout: `keep` the order of inputs and outputs, or move those near spatial operators to
            `channels-last`.

    Returns:
        The new graph and what became of each tensor.
    """
    model = model.clone()
    graph = model.graph
    names = {value: value.name or "" for value in (*graph.inputs, *(v for node in graph for v in node.outputs))}
    shared = [value.name for value in graph.outputs]
    frames = Frames(graph)
    labels = Labels(graph, frames, free_ends=io_layout == "channels-last")
    _, sides = labels.solve()

    def state(term: int) -> int:
        return 1 if sides[term] else 0

    assert sides[SOURCE]
    assert not sides[SINK]
    reasons = Reasons(labels, sides)
    ends = {value: state(term) for value, term in (*labels.inputs.items(), *labels.outputs.items())}
    why = {value: reasons.of(value) for value in frames.frames}
    orders_in = [_order(frames.frame(value)[ends[value]]) for value in graph.inputs]
    orders_out = [_order(frames.frame(value)[ends[value]]) for value in graph.outputs]
    own = {node: reasons.own(node, kind) for node, kind in frames.kinds.items() if isinstance(kind, Transposes)}
    rewriter = Rewriter(graph, frames, lambda node, slot: state(labels.of(node, slot)), CHANNELS_LAST)
    rewriter.run(ends, labels.captured)
    assert [value.name for value in graph.outputs] == shared
    if any(node.domain == CHANNELS_LAST for node in graph):
        model.opset_imports[CHANNELS_LAST] = 1
    places = {}
    for value, name in names.items():
        copies = rewriter.copies.get(value)
        perm, held = next(iter(copies.items())) if copies else (identity(0), value)
        places[name] = Place(held.name or "", _order(perm))
    remaining = [(value, copy, why.get(value) or "a constant in blocks") for value, copy in rewriter.transposes]
    remaining += [(value, node.outputs[0], own[node]) for node, value in rewriter.kept]
    transposes = {
        copy.name or "": Transposed(names.get(value, value.name or ""), size(value), reason)
        for value, copy, reason in remaining
    }
    return Layout(
        model,
        places,
        transposes,
        {value.name or "": perm for value, perm in zip(graph.inputs, orders_in, strict=True) if perm is not None},
        {value.name or "": perm for value, perm in zip(graph.outputs, orders_out, strict=True) if perm is not None},
    )


def _order(perm: Perm) -> Perm | None:
    return None if perm == identity(len(perm)) else perm
