"""What onnxruntime would reject: every node without a kernel, found by asking it, and what `runtimes.py` knows."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from haversack.convert.errors import Blocker
from haversack.convert.targets.ort.runtimes import Runtime, beyond, limits


def blockers(model: ir.Model, runtime: Runtime = "onnxruntime-mobile") -> list[Blocker]:
    """Every reason why `runtime` cannot run `model`, all at once; empty where it can.

    The installed onnxruntime's CPU provider has the kernels that the packages for apps and pages have, but for what is
    listed in `runtimes.py`. The whole model is tried first; where that fails each node is tried alone, in a model of
    its own.

    Args:
        model: A hub graph.
        runtime: Where it is to run.
    """
    listed = beyond(model, limits(runtime))
    named = {blocker.node for blocker in listed}
    return [*listed, *(blocker for blocker in _without_kernel(model) if blocker.node not in named)]


def _without_kernel(model: ir.Model) -> list[Blocker]:
    reason = rejected(_serialized(model))
    if reason is None:
        return []
    opsets = dict(model.opset_imports)
    found = []
    for node in model.graph:
        why = rejected(_alone(node, opsets, model.ir_version))
        if why is not None:
            found.append(Blocker(str(node.name), node.op_type, f"onnxruntime: {why}", "replace this node"))
    return found or [Blocker(str(model.graph.name or "graph"), "graph", f"onnxruntime: {reason}", "correct the model")]


def _serialized(model: ir.Model) -> bytes:
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def _alone(node: ir.Node, opsets: dict[str, int], ir_version: int) -> bytes:
    """A model of this node only; constants stay constants, everything else it reads becomes an input."""
    proto = ir.to_proto(node)
    graph = onnx.GraphProto(name="node", node=[proto])
    for value in {value.name: value for value in node.inputs if value is not None}.values():
        if value.const_value is not None and not value.is_graph_input():
            tensor = ir.to_proto(value.const_value)
            tensor.name = str(value.name)
            graph.initializer.append(tensor)
        else:
            graph.input.append(ir.to_proto(value))
    graph.output.extend(ir.to_proto(value) for value in node.outputs if value.name)
    imports = [onnx.OperatorSetIdProto(domain=domain, version=version) for domain, version in opsets.items()]
    content: bytes = onnx.ModelProto(ir_version=ir_version, graph=graph, opset_import=imports).SerializeToString()
    return content


def rejected(model: bytes, *, optimised: bool = False) -> str | None:
    """Why onnxruntime does not load a serialized model, as it is or when it optimises it, in one line, or None."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        text = " ".join(str(error).split())
        return text.split(" : ", 3)[-1]
    return None
