"""What the onnxruntime that ships in an app or a page does not do, although the one that is installed here does.

onnxruntime-mobile: the full Maven, CocoaPods and Swift packages from `packages.AT_LEAST` on: opset 21 of ONNX and 4 of
`ai.onnx.ml` (tried: 1.20 has no kernel for 5's TreeEnsemble), tensors of numbers at the edges.
onnxruntime-web: `haversack.runtimes.engines.browser.unsupported`, which is measured in Chromium.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import onnx
import onnx_ir as ir

from haversack.convert.errors import Blocker

Runtime = Literal["onnxruntime-mobile", "onnxruntime-web"]

NUMBERS = frozenset(
    {
        *("bool", "double", "float", "float16"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }
)
"""Element types that the engines here give back, by ONNX's names."""

LABELS = "label a classifier's outputs by the class's index, and name the classes in the app"


@dataclass(frozen=True)
class Limits:
    """What a runtime takes.

    Attributes:
        name: With its version.
        opsets: The newest opset of each domain.
        edges: Element types of inputs and outputs.
        missing: By operator and the opset of its definition, the types of its required inputs that have no kernel.
        size_of_shape: Why Size of a Shape is refused; empty where it is not.
    """

    name: str
    opsets: Mapping[str, int]
    edges: Collection[str]
    missing: Mapping[tuple[str, int], Collection[tuple[str, ...]]] = field(default_factory=dict)
    size_of_shape: str = ""


def limits(runtime: Runtime) -> Limits:
    """The limits of one runtime."""
    if runtime == "onnxruntime-mobile":
        from haversack.convert.targets.ort.packages import AT_LEAST

        return Limits(f"onnxruntime {AT_LEAST}", {"": 21, "ai.onnx.ml": 4}, NUMBERS)
    # Imported by name, because it is needed for this one target.
    web = importlib.import_module("haversack.runtimes.engines.browser.unsupported")
    edges = web.INPUT_OUTPUT_TYPES - {"string"}
    return Limits(web.RUNTIME, {"": web.MAX_OPSET, "ai.onnx.ml": 5}, edges, web.MISSING, web.SIZE_OF_SHAPE)


def beyond(model: ir.Model, limit: Limits) -> list[Blocker]:
    """Everything in a model that a runtime does not take, whether or not the installed onnxruntime does."""
    found = []
    for domain, newest in limit.opsets.items():
        version = model.opset_imports.get(domain, 1)
        if version > newest:
            label = domain or "ai.onnx"
            remedy = f"write the model at opset {newest} of {label}"
            found.append(Blocker(label, "opset", f"{limit.name} stops at opset {newest}, and it is {version}", remedy))
    for kind, values in (("input", model.graph.inputs), ("output", model.graph.outputs)):
        found += [blocker for value in values if (blocker := _edge(kind, value, limit)) is not None]
    for graph in model.graphs():
        for node in graph:
            reason = _missing(node, model.opset_imports.get("", 1), limit)
            if reason is not None:
                found.append(Blocker(str(node.name), node.op_type, *reason))
    return found


def _edge(kind: str, value: ir.Value, limit: Limits) -> Blocker | None:
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        holds = {"SequenceType": "a sequence", "OptionalType": "an optional"}.get(
            type(value.type).__name__, "no tensor"
        )
        return Blocker(
            str(value.name), kind, f"{limit.name} passes tensors only, and it is {holds}", "make it a tensor"
        )
    if value.dtype is None or (name := _name(value.dtype)) in limit.edges:
        return None
    remedy = LABELS if name == "string" else f"cast it to another type inside of the model, before it is an {kind}"
    return Blocker(str(value.name), kind, f"{name} cannot be an {kind} of {limit.name} here", remedy)


def _missing(node: ir.Node, opset: int, limit: Limits) -> tuple[str, str] | None:
    """Why the runtime has no kernel for a node, and the remedy."""
    if node.domain not in ("", "ai.onnx"):
        return None
    source = node.inputs[0].producer() if node.op_type == "Size" and node.inputs and node.inputs[0] else None
    if limit.size_of_shape and source is not None and source.op_type == "Shape":
        return f"{limit.name}: {limit.size_of_shape}", "replace it by a constant, the rank"
    if not any(op == node.op_type for op, _ in limit.missing):
        return None
    schema = onnx.defs.get_schema(node.op_type, min(opset, onnx.defs.onnx_opset_version()))
    lacking = limit.missing.get((node.op_type, schema.since_version), ())
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    given = [
        value.dtype
        for value, formal in zip(node.inputs, schema.inputs, strict=False)
        if value is not None and formal.option != optional
    ]
    types = tuple("" if dtype is None else _name(dtype) for dtype in given)
    if types not in lacking:
        return None
    return f"{limit.name} has no kernel for it with {', '.join(types)}", "cast its inputs to float or int32"


def _name(dtype: ir.DataType) -> str:
    """ONNX's own name of an element type, as in `tensor(name)`."""
    return {"FLOAT": "float", "DOUBLE": "double"}.get(dtype.name, dtype.name.lower())
