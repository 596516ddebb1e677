"""What depends on constants alone, computed once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import constant, initializer, is_constant
from haversack.convert.hub.shapes import static_shape
from haversack.runtimes.engines import Array

KEPT = frozenset({"DequantizeLinear", "DynamicQuantizeLinear"})
"""Forms of stored weights: folding them would undo a compression."""

RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)

GROWTH_BYTES = 1 << 16
"""A folded value may be this large, or as large as the constants it is made of: an Expand of a scalar stays a node."""

WEIGHT_BYTES = 1 << 26
"""A weight that is filled with one number may be this large: a layer without constant weights cannot be lowered."""

_UNFOLDABLE = "haversack.unfoldable"
_COMPUTABLE = frozenset(
    {
        *(ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BOOL),
        *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
    }
)


def fold_constants(model: ir.Model) -> bool:
    """Compute every node whose inputs are constants.

    Given:
        a = Sqrt(c)            c is an initializer
        y = Mul(x, a)

    Result:
        y = Mul(x, a)          a is an initializer

    All such nodes are evaluated at once, in one onnxruntime session with its optimisations off. Left alone are the
    forms in which weights are stored (quantized, or float16 behind a Cast), random operators, subgraphs, and
    values that would be larger than what they are made of and than 64 KiB (64 MiB for the weights of a layer).
    """
    changed = False
    for graph in list(model.graphs()):
        foldable = _foldable(graph)
        if foldable:
            changed |= _fold(model, graph, foldable)
    return changed


def _foldable(graph: ir.Graph) -> list[ir.Node]:
    known: set[ir.Value] = set()
    found = []
    for node in graph:
        if (
            node.domain == ""
            and node.op_type not in KEPT
            and node.op_type not in RANDOM
            and node.op_type not in ("Constant", "Identity")
            and _UNFOLDABLE not in node.meta
            and node.outputs
            and all(value is None or value in known or is_constant(value) for value in node.inputs)
            and not any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
            and all(value is None or value.dtype in _COMPUTABLE for value in node.inputs)
            and all(_may_hold(value, node) for value in node.outputs)
            and not _is_stored_weight(node)
        ):
            found.append(node)
            known.update(node.outputs)
    return found


def _may_hold(value: ir.Value, node: ir.Node) -> bool:
    if value.dtype not in _COMPUTABLE or not isinstance(value.type, ir.TensorType):  # a sequence has a dtype too
        return False
    shape = static_shape(value)
    if shape is None and node.op_type == "Range":
        shape = _range_shape(node)
    if shape is None:
        return False
    size = int(np.prod(shape, dtype=np.int64)) * value.dtype.itemsize
    made_of = sum(_bytes(each) for each in node.inputs if each is not None)
    return size <= max(GROWTH_BYTES, made_of) or (size <= WEIGHT_BYTES and _is_read_as_weight(value))


def _range_shape(node: ir.Node) -> tuple[int, ...] | None:
    """How long a Range between constants is, which onnx's inference does not say where they have an axis."""
    bounds = [constant(value) for value in node.inputs]
    if any(array is None or array.size != 1 for array in bounds):
        return None
    start, limit, delta = (float(array.reshape(-1)[0]) for array in bounds if array is not None)
    return (max(0, math.ceil((limit - start) / delta)),) if delta else None


def _is_read_as_weight(value: ir.Value) -> bool:
    return any(
        use.idx > 0 and use.node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization")
        for use in value.uses()
    )


def _bytes(value: ir.Value) -> int:
    shape = static_shape(value)
    return 0 if shape is None or value.dtype is None else int(np.prod(shape, dtype=np.int64) * value.dtype.itemsize)


def _is_stored_weight(node: ir.Node) -> bool:
    return (
        node.op_type == "Cast"
        and is_constant(node.inputs[0])
        and node.inputs[0] is not None
        and node.inputs[0].dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
        and node.outputs[0].dtype is ir.DataType.FLOAT
    )


def _fold(model: ir.Model, graph: ir.Graph, foldable: Sequence[ir.Node]) -> bool:
    inside = set(foldable)
    wanted = [
        value
        for node in foldable
        for value in node.outputs
        if value.is_graph_output() or any(use.node not in inside for use in value.uses())
    ]
    arrays = _evaluate(model, foldable, wanted) if wanted else []
    if arrays is None:
        if len(foldable) == 1:
            foldable[0].meta[_UNFOLDABLE] = True
            return False
        # One operator without a kernel must not keep the others from being folded.
        changed = [_fold(model, graph, [node]) for node in foldable if _ready(node)]
        return any(changed)
    for value, array in zip(wanted, arrays, strict=True):
        _replace(graph, value, array)
    for node in reversed(foldable):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    return True


def _ready(node: ir.Node) -> bool:
    return all(value is None or is_constant(value) for value in node.inputs)


def _evaluate(model: ir.Model, foldable: Sequence[ir.Node], wanted: Sequence[ir.Value]) -> list[Array] | None:
    """Run the nodes as a graph of their own; None where onnxruntime cannot."""
    import onnx
    import onnxruntime as ort

    from haversack.convert.hub import IR_VERSION, OPSET

    feeds: dict[str, Array] = {}
    graph = onnx.GraphProto(name="constants")
    for node in foldable:
        graph.node.append(ir.to_proto(node))
        for value in node.inputs:
            if value is not None and value.name not in feeds and is_constant(value):
                held = constant(value)
                assert held is not None
                assert value.name is not None
                feeds[value.name] = held
                graph.input.append(ir.serde.serialize_value(value))
    for value in wanted:
        graph.output.append(onnx.ValueInfoProto(name=value.name))
    opset = onnx.OperatorSetIdProto(domain="", version=model.opset_imports.get("", OPSET))
    proto = onnx.ModelProto(ir_version=IR_VERSION, graph=graph, opset_import=[opset])
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return list(session.run([value.name for value in wanted], feeds))
    except (
        Exception
    ):  # no kernel for these types, or values the operator refuses: the node stays, and is reported there
        return None


def _replace(graph: ir.Graph, value: ir.Value, array: Array) -> None:
    name = value.name or "constant"
    if value.is_graph_output():
        held = initializer(graph, f"{name}/value", array)
        node = value.producer()
        assert node is not None
        identity = ir.node("Identity", [held], name=node.name)
        result = identity.outputs[0]
        result.type, result.shape = value.type, value.shape
        graph.insert_after(node, identity)
        value.replace_all_uses_with(result, replace_graph_outputs=True)
        value.name = None
        result.name = name
        return
    value.name = None
    held = initializer(graph, name, array)
    value.replace_all_uses_with(held)
