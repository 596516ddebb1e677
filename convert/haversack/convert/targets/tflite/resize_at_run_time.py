"""Lowering a graph so that its inputs can be resized at run time: which dimensions stay free, and why others do not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import onnx_ir as ir

from haversack.convert.errors import Blocker, UnsupportedError
from haversack.convert.targets import Options
from haversack.convert.targets.tflite.fuse import fuse
from haversack.convert.targets.tflite.graph import Vary
from haversack.convert.targets.tflite.lower import Lowered, lower
from haversack.convert.targets.tflite.symbolic import OTHER_OPERATORS, Merge
from haversack.convert.targets.unit_scales import unit_scales

if TYPE_CHECKING:
    from haversack.convert.resizing import Attempt

FAILURES = (ArithmeticError, AssertionError, LookupError, ValueError)
"""What is raised of a graph that cannot be bound or lowered at a size at which none of its constants fits."""


def lowered_once(model: ir.Model, options: Options, *, sizes_vary: Vary = "") -> Lowered:
    """Lower and fuse a graph with static shapes.

    Raises:
        UnsupportedError: The target cannot hold it.
    """
    lowered = lower(unit_scales(model), options, sizes_vary=sizes_vary)
    if lowered.blockers:
        raise UnsupportedError("tflite", lowered.blockers)
    fuse(lowered.graph)
    return lowered


def lowered_for_all(model: ir.Model, options: Options) -> Lowered:
    """Lower and fuse a graph so that it takes the other sizes in `options.resizing` too, as far as that goes.

    A batch that cannot stay free, or would slow the model at a batch of 1, is fixed at 1, and a note says why; another
    dimension is refused.

    Raises:
        UnsupportedError: The target cannot hold the graph, or a dimension that is no batch cannot stay free.
    """
    resizing, first = options.resizing, list[Blocker]()
    for attempt in resizing.attempts() if resizing is not None else ():
        if attempt.points[0] != attempt.default and first[0].reason != OTHER_OPERATORS:
            continue  # this is for what is special at the default size, and that is not
        found = _merged(attempt, model, options)
        if isinstance(found, Lowered):
            found.notes += attempt.notes(first)
            return found
        first = first or found
    given = lowered_once(model, options)
    if resizing is None:
        return given
    if resizing.others:
        raise UnsupportedError("tflite", [replace(blocker, remedy=resizing.remedy) for blocker in first])
    given.notes += resizing.fixed(first)
    return given


def _merged(attempt: Attempt, model: ir.Model, options: Options) -> Lowered | list[Blocker]:
    """One graph for the points of an attempt, or why there is none."""
    resizing = options.resizing
    assert resizing is not None
    try:
        here = model if attempt.points[0] == attempt.default else resizing.at(attempt.points[0])
        made = lowered_once(here, options, sizes_vary=attempt.windows)
        merge = Merge(made.graph)
        models = (resizing.at(point) for point in attempt.points[1:])
        graphs = (lowered_once(other, options, sizes_vary=attempt.windows).graph for other in models)
        if all(merge.add(graph) for graph in graphs):
            merge.rewrite(resizing.weights())
            for tensor in made.graph.tensors():
                tensor.shape = attempt.at_default(merge.shapes.get(id(tensor), [tensor.shape]))
        made.notes += [f"{each.node} ({each.op}): {each.reason}." for each in merge.slower]
        return merge.blockers or (made if resizing.others else merge.slower) or made
    except UnsupportedError as error:
        return list(error.blockers)
    except FAILURES as error:
        reason = f"it cannot be lowered at other sizes ({error})"
        return [Blocker("", "graph", reason, "fix the size")]
