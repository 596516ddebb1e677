"""From any ONNX graph to a legal hub graph."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    NameFixPass,
    RemoveInitializersFromInputsPass,
    RemoveUnusedOpsetsPass,
    TopologicalSortPass,
)
from onnx_ir.passes.common.naming import NameGenerator

from haversack.convert.errors import SourceError
from haversack.convert.hub import opset, shapes
from haversack.convert.hub.passes import simplify
from haversack.convert.hub.passes.explicit_windows import drop_idle_ceil_mode


def to_hub(model: ir.Model) -> ir.Model:
    """Make a legal hub graph of `model`.

    Legal means: the pinned opset; model-local functions inlined and operators without a kernel on any target
    expanded; the rewrites of `hub.passes` run until none changes anything; the type and, where it can be known,
    shape of every value inferred; every node and value named uniquely. Names, order and dtypes of the graph's inputs
    and outputs are the source's.

    Args:
        model: Any ONNX model; it is not changed, and its weights are shared, not copied.

    Returns:
        The hub graph.

    Raises:
        SourceError: The model is malformed (its opset, its functions, its names, a value that nothing computes).
        UnsupportedError: A node of a newer opset can be neither said nor expanded at the pinned one.
    """
    _check_interface(model)
    _check_scopes(model)
    hub = model.clone()
    ClearMetadataAndDocStringPass()(hub)
    RemoveInitializersFromInputsPass()(hub)
    _name(hub)
    hub = opset.to_pinned(hub)
    TopologicalSortPass()(hub)
    _name(hub)
    shapes.infer(hub)
    while drop_idle_ceil_mode(hub):
        shapes.infer(hub)
    hub = simplify(hub)
    RemoveUnusedOpsetsPass()(hub)
    return hub


class _FromOperator(NameGenerator):
    """Names a nameless node after its first output (as most exporters mean it), a nameless value after its node."""

    def generate_node_name(self, node: ir.Node) -> str:
        return node.name or (node.outputs[0].name if node.outputs else "") or node.op_type

    def generate_value_name(self, value: ir.Value) -> str:
        producer = value.producer()
        return value.name or f"{(producer.name or producer.op_type) if producer is not None else 'value'}_output"


def _name(model: ir.Model) -> None:
    NameFixPass(_FromOperator())(model)


def _check_interface(model: ir.Model) -> None:
    names = [value.name for value in model.graph.inputs]
    for kind, values in (("input", names), ("output", [value.name for value in model.graph.outputs])):
        if not all(values):
            raise SourceError(f"the model has an {kind} without a name")
        if len(set(values)) < len(values):
            raise SourceError(f"the model names two {kind}s alike: {', '.join(str(v) for v in values)}")
    if not model.graph.outputs:
        raise SourceError("the model has no output")


def _check_scopes(model: ir.Model) -> None:
    for graph in model.graphs():
        for node in graph:
            for value in node.inputs:
                if value is not None and value.producer() is None and value.graph is None:
                    raise SourceError(f"{node.name or node.op_type} reads {value.name!r}, which nothing computes")
