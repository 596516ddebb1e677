"""Bringing a graph down from an opset newer than the pinned one."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from haversack.convert.errors import Blocker, SourceError, UnsupportedError
from haversack.convert.hub import OPSET, shapes
from haversack.convert.hub.function_body import expand
from haversack.convert.hub.opset_newer import restate


def lower(model: ir.Model, version: int) -> None:
    """Say every node at the pinned opset, in place.

    A node whose operator at the pinned opset has the same attributes and types stays (an attribute that is newer may
    stand at its default). Otherwise its ONNX function body takes its place.

    Args:
        model: A graph at opset `version`, nodes and values named uniquely.
        version: A newer opset than the pinned one.

    Raises:
        SourceError: onnx does not know that opset.
        UnsupportedError: Nodes that can neither stay nor be expanded, all of them.
    """
    import onnx.defs

    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        raise SourceError(f"the model is at opset {version}; this version reads up to {newest}: export it at {OPSET}")
    shapes.infer(model)
    expand(model, version, lambda node: _obstacle_of(node, version) is not None)
    shapes.infer(model)
    restated = [restate(node) for graph in model.graphs() for node in list(graph) if _obstacle_of(node, version)]
    if any(restated):
        NameFixPass()(model)
        shapes.infer(model)
    blockers = []
    for graph in model.graphs():
        for node in graph:
            obstacle = _obstacle_of(node, version)
            if obstacle is not None:
                remedy = f"export the model at opset {OPSET}, or without this node"
                blockers.append(Blocker(node.name or node.op_type, node.op_type, obstacle, remedy))
            elif node.domain == "":
                _drop_newer_attributes(node)
    if blockers:
        raise UnsupportedError("the hub", blockers)


def _obstacle_of(node: ir.Node, version: int) -> str | None:
    return _obstacle(node, version) if node.domain == "" else None


def _obstacle(node: ir.Node, version: int) -> str | None:
    """Why `node` of opset `version` cannot stay as it is at the pinned opset; None where it can."""
    import onnx.defs

    try:
        new = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return f"opset {version} has no such operator"
    if new.since_version <= OPSET:
        return None
    try:
        old = onnx.defs.get_schema(node.op_type, OPSET, "")
    except onnx.defs.SchemaError:
        return f"the operator is newer than opset {OPSET}"
    for name, attribute in node.attributes.items():
        if name not in old.attributes and not _is_default(attribute, new.attributes.get(name)):
            return f"attribute {name!r} is newer than opset {OPSET}"
    if len(node.inputs) > old.max_input or len(node.outputs) > old.max_output:
        return f"it has more inputs or outputs than opset {OPSET} knows"
    if node.op_type == "Mod" and not node.attributes.get_int("fmod", 0):
        x = node.inputs[0]
        if x is not None and x.dtype is not None and x.dtype.is_floating_point():
            return f"fmod=0 on floating-point values is newer than opset {OPSET}"
    return _type_obstacle(node, old)


def _type_obstacle(node: ir.Node, schema: object) -> str | None:
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}  # type: ignore[attr-defined]
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):  # type: ignore[attr-defined]
        for index, value in enumerate(values):
            if value is None or value.type is None or not formals:
                continue
            formal = formals[min(index, len(formals) - 1)]
            types = allowed.get(formal.type_str, {formal.type_str})
            if isinstance(value.type, ir.TensorType) and _type_string(value.type) not in types:
                return f"{value.type.dtype.name} is newer than opset {OPSET} for it"
    return None


_TYPE_STRINGS = {"float": "float", "float32": "float", "float64": "double"}


def _type_string(type_: ir.TensorType) -> str:
    name = type_.dtype.name.lower()
    return f"tensor({_TYPE_STRINGS.get(name, name)})"


def _is_default(attribute: ir.Attr, formal: object) -> bool:
    default = getattr(formal, "default_value", None)
    if default is None or not default.name:
        return False
    return bool(ir.from_proto(default).value == attribute.value)


def _drop_newer_attributes(node: ir.Node) -> None:
    import onnx.defs

    try:
        known = onnx.defs.get_schema(node.op_type, OPSET, "").attributes
    except onnx.defs.SchemaError:
        return
    for name in [name for name in node.attributes if name not in known]:
        del node.attributes[name]
