"""Convolutions and pools with every attribute written out."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.hub.passes.rewriting import nodes
from haversack.convert.hub.shapes import static_shape

CONVOLUTIONS = ("Conv", "ConvTranspose")
POOLS = ("MaxPool", "AveragePool", "LpPool")


def explicit_windows(model: ir.Model) -> bool:
    """Write out kernel_shape, strides, dilations, pads and group; resolve auto_pad and output_shape to pads.

    Given:
        y = Conv<auto_pad="SAME_UPPER">(x, w)        x is [1, 3, 8, 8], w is [4, 3, 3, 3]

    Result:
        y = Conv<kernel_shape=[3, 3], strides=[1, 1], dilations=[1, 1], pads=[1, 1, 1, 1], group=1>(x, w)

    SAME needs the spatial size of the input; where that is symbolic the node stays as it is until it is bound. The
    formulas are those of the operators' specifications.
    """
    changed = False
    for node in nodes(model, *CONVOLUTIONS, *POOLS):
        kernel = _kernel(node)
        if kernel is None:
            continue
        before = dict(node.attributes)
        _default(node, "kernel_shape", kernel)
        _default(node, "strides", [1] * len(kernel))
        _default(node, "dilations", [1] * len(kernel))
        if node.op_type in CONVOLUTIONS and "group" not in node.attributes:
            node.attributes["group"] = ir.AttrInt64("group", 1)
        if node.op_type == "ConvTranspose":
            _default(node, "output_padding", [0] * len(kernel))
        _resolve_pads(node, kernel)
        changed |= {k: a.value for k, a in before.items()} != {k: a.value for k, a in node.attributes.items()}
    return changed


def _kernel(node: ir.Node) -> list[int] | None:
    if "kernel_shape" in node.attributes:
        return list(node.attributes["kernel_shape"].as_ints())
    weights = static_shape(node.inputs[1]) if node.op_type in CONVOLUTIONS else None
    return list(weights[2:]) if weights is not None else None


def _integers(node: ir.Node, name: str) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else []


def _default(node: ir.Node, name: str, value: list[int]) -> None:
    if name not in node.attributes:
        node.attributes[name] = ir.AttrInt64s(name, value)


def _resolve_pads(node: ir.Node, kernel: list[int]) -> None:
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER") or (node.op_type == "ConvTranspose" and "output_shape" in node.attributes):
        total = _transposed_total(node, kernel) if node.op_type == "ConvTranspose" else _same_total(node, kernel)
        if total is None:
            return
        # SAME_UPPER puts the odd one at the end of a convolution. A transposed one crops instead of padding: there
        # the specification puts the odd one at the end for SAME_UPPER too, and at the start for everything else.
        small, large = [each // 2 for each in total], [each - each // 2 for each in total]
        pads = small + large if auto == "SAME_UPPER" else large + small
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
        node.attributes.pop("output_shape", None)
        node.attributes.pop("ceil_mode", None)  # SAME fixes the size: nothing is left to round
    elif auto == "VALID":
        node.attributes["pads"] = ir.AttrInt64s("pads", [0] * (2 * len(kernel)))
        node.attributes.pop("ceil_mode", None)
    node.attributes.pop("auto_pad", None)
    _default(node, "pads", [0] * (2 * len(kernel)))


def drop_idle_ceil_mode(model: ir.Model) -> bool:
    """Drop `ceil_mode` where all that it could add are windows that start in the padding at the end, in place.

    Those are left out: so says the specification since opset 22, and so does onnxruntime at every opset. Inference
    for the pinned opset counts them, so this comes before anything reads a shape.
    """
    changed = False
    for node in nodes(model, *POOLS):
        explicit = node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        if explicit and node.attributes.get_int("ceil_mode", 0) != 0 and _adds_no_window(node):
            node.attributes.pop("ceil_mode")
            changed = True
    return changed


def _adds_no_window(node: ir.Node) -> bool:
    shape, kernel = _spatial(node.inputs[0]), _kernel(node)
    if shape is None or kernel is None:
        return False
    ones = [1] * len(kernel)
    strides, dilations = (_integers(node, name) or ones for name in ("strides", "dilations"))
    pads = _integers(node, "pads") or [0, 0] * len(kernel)
    for size, k, stride, dilation, before, after in zip(
        shape, kernel, strides, dilations, pads[: len(kernel)], pads[len(kernel) :], strict=True
    ):
        room = size + before + after - ((k - 1) * dilation + 1)
        if room % stride and -(-room // stride) * stride < size + before:
            return False
    return True


def _same_total(node: ir.Node, kernel: list[int]) -> list[int] | None:
    """Padding of every axis so that output = ceil(input / stride)."""
    shape = _spatial(node.inputs[0])
    if shape is None:
        return None
    strides, dilations = node.attributes["strides"].as_ints(), node.attributes["dilations"].as_ints()
    return [
        max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        for size, k, stride, dilation in zip(shape, kernel, strides, dilations, strict=True)
    ]


def _transposed_total(node: ir.Node, kernel: list[int]) -> list[int] | None:
    """Cropping of every axis so that the output has `output_shape`, or input * stride for SAME."""
    shape = _spatial(node.inputs[0])
    if shape is None:
        return None
    strides, dilations = node.attributes["strides"].as_ints(), node.attributes["dilations"].as_ints()
    extra = node.attributes["output_padding"].as_ints()
    if "output_shape" in node.attributes:
        wanted = list(node.attributes["output_shape"].as_ints())[-len(kernel) :]
    else:
        wanted = [size * stride for size, stride in zip(shape, strides, strict=True)]
    total = [
        stride * (size - 1) + more + (k - 1) * dilation + 1 - want
        for size, k, stride, dilation, more, want in zip(shape, kernel, strides, dilations, extra, wanted, strict=True)
    ]
    return total if min(total) >= 0 else None


def _spatial(value: ir.Value | None) -> list[int] | None:
    """The spatial sizes of a channels-first tensor; the batch may be symbolic."""
    if value is None or value.shape is None:
        return None
    sizes = list(value.shape)[2:]
    return [int(size) for size in sizes if isinstance(size, int)] if all(isinstance(s, int) for s in sizes) else None
