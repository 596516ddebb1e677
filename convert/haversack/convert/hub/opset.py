"""Bringing a graph to the pinned opset, from below and from above."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from haversack.convert.errors import SourceError
from haversack.convert.hub import IR_VERSION, OPSET
from haversack.convert.hub.skeleton import restore, skeleton


def to_pinned(model: ir.Model) -> ir.Model:
    """Bring `model` to the pinned opset, its model-local functions inlined.

    Args:
        model: A graph whose nodes and values are named uniquely; it may be changed.

    Returns:
        The model at `hub.OPSET`: the same object, or a new one that shares the weights.

    Raises:
        SourceError: The model's opset is unknown, or its nodes do not fit the opset that it declares.
        UnsupportedError: A newer node can neither be said at the pinned opset nor be expanded.
    """
    model = _inlined(model)
    version = model.opset_imports.setdefault("", OPSET)
    if version < OPSET:
        model = _raised(model, version)
    elif version > OPSET:
        from haversack.convert.hub.opset_down import lower

        lower(model, version)
    model.opset_imports[""] = OPSET
    model.graph.opset_imports[""] = OPSET
    model.ir_version = IR_VERSION
    return model


def _inlined(model: ir.Model) -> ir.Model:
    if not model.functions:
        return model
    own = model.opset_imports
    if any(own.get(d, v) != v for f in model.functions.values() for d, v in f.opset_imports.items()):
        # A function may be written for another opset than its caller; onnx converts it while inlining.
        import onnx.inliner

        proto, weights = skeleton(model)
        try:
            proto = onnx.inliner.inline_local_functions(proto, convert_version=True)
        except Exception as error:
            raise SourceError(f"the model's own functions cannot be inlined: {_first_line(error)}") from None
        return restore(ir.from_proto(proto), weights)
    try:
        InlinePass()(model)
    except Exception as error:
        raise SourceError(f"the model's own functions cannot be inlined: {_first_line(error)}") from None
    return model


def _raised(model: ir.Model, version: int) -> ir.Model:
    import onnx.version_converter

    model.ir_version = IR_VERSION  # below IR version 4 the converter looks for initializers among the inputs only
    proto, weights = skeleton(model)
    try:
        proto = onnx.version_converter.convert_version(proto, OPSET)
    except Exception as error:  # RuntimeError, ConvertError and others of the C++ side
        raise SourceError(
            f"the model cannot be brought from opset {version} to {OPSET}: {_first_line(error)}"
        ) from None
    raised = restore(ir.from_proto(proto), weights)
    if version < 11:
        # Up to opset 10, Resize and Upsample meant y = floor(x / scale); the converter leaves opset 11's default,
        # half_pixel, which is another picture for every mode but 2x nearest.
        for graph in raised.graphs():
            for node in graph:
                if node.op_type == "Resize" and node.domain == "":
                    node.attributes["coordinate_transformation_mode"] = ir.AttrString(
                        "coordinate_transformation_mode", "asymmetric"
                    )
                    node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "floor")
    return raised


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
