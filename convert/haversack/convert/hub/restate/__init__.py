"""Operators said by simpler ones, for the targets that have no counterpart of them.

einsum.py       Einsum
fourier.py      DFT, STFT
grid_sample.py  GridSample

The hub keeps such an operator whole: onnxruntime runs it natively, and one node stays one layer for verification. A
lowered target restates what it has no lowering for when it lowers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib import import_module

import onnx_ir as ir

from haversack.convert.errors import Blocker
from haversack.convert.hub.around import Around

INTERNAL = "/restated"
"""How the names of values end that only a restated graph has."""

Rule = Callable[[Around, ir.Node], ir.Value]
"""Inserts what says a node; gives the value that the node's output was. All inputs and outputs have static shapes."""

_RULES = {
    "DFT": ("fourier", "dft"),
    "Einsum": ("einsum", "einsum"),
    "GridSample": ("grid_sample", "grid_sample"),
    "STFT": ("fourier", "stft"),
}
"""Operator to the file and function that restates it."""

OPERATORS = frozenset(_RULES)
"""What can be restated."""


class CannotRestateError(Exception):
    """The form of an operator that has no restatement.

    Attributes:
        reason: Why, as a clause.
        remedy: The smallest edit of the model that would help.
    """

    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


def restated(model: ir.Model, operators: Collection[str]) -> tuple[ir.Model, list[Blocker]]:
    """Say the nodes with an operator among `operators` by simpler ones, those in subgraphs too.

    Args:
        model: A hub graph with static shapes; it is not changed.
        operators: Names out of `OPERATORS`.

    Returns:
        `model` itself where it has no such node, else a copy whose new values have names that end in `INTERNAL`; and a
        blocker for each node that cannot be restated.
    """
    from haversack.convert.hub.shapes import infer

    if not any(_is_one(node, operators) for graph in model.graphs() for node in graph):
        return model, []
    model = model.clone()
    blockers = []
    for graph in list(model.graphs()):
        for node in [node for node in graph if _is_one(node, operators)]:
            if not all(
                v is None or (v.shape is not None and v.shape.is_static()) for v in (*node.inputs, *node.outputs)
            ):
                continue  # the target says what it thinks of shapes that are not static
            file, function = _RULES[node.op_type]
            rule: Rule = getattr(import_module(f"{__name__}.{file}"), function)
            make = Around(node, INTERNAL)
            try:
                make.become(rule(make, node))
            except CannotRestateError as error:
                blockers.append(Blocker(node.name or "", node.op_type, error.reason, error.remedy))
    return infer(model), blockers


def _is_one(node: ir.Node, operators: Collection[str]) -> bool:
    return node.domain == "" and node.op_type in operators
