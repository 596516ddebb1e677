"""What the framework that trained a model calls its layers.

The hub keeps the names of the file, in which exporters leave, more or less of it, what a layer was called:

| exporter                  | a layer is known by                                                                   |
|---------------------------|---------------------------------------------------------------------------------------|
| torch.onnx, both          | its weights' name, `layer1.0.conv1.weight`; gone where they were transposed or folded |
| torch.onnx by TorchScript | its node's name, `/layer1/layer1.0/conv1/Conv`                                        |
| torch.onnx by dynamo      | the node's metadata `pkg.torch.onnx.name_scopes`, `['', 'layer1', 'layer1.0', ...]`   |
| Keras, by tf2onnx         | its weights' name, `conv2d/convolution/ReadVariableOp:0`, its node's or its bias'     |

Where a batch normalization was folded, that may be what a layer is called after: the layer before it is meant.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from haversack.convert.compress.mixed import planned_layers
from haversack.convert.compress.operators import weight_axis
from haversack.convert.compress.unpacking import unpack_weights

WITH_BIAS = ("Conv", "ConvTranspose", "Gemm")

SCOPES = "pkg.torch.onnx.name_scopes"

_GENERATED = re.compile(r"::|^val_\d+$|const_fold_opt|^Conv(__?\d+)?(_|/|$)")
"""Names that exporters give to what they have computed anew."""

_FOLDED = re.compile(r"(:0)?((_scaled|_transposed|_weights_fused_bn|_bias_fused_bn)*)$")
"""What is added to the name of weights into which something was folded."""


@dataclass(frozen=True)
class Trained:
    """A layer as the training framework has it.

    Attributes:
        name: Of its weights (PyTorch: `layer1.0.conv1.weight`), or a path that begins with its own (Keras).
        elements: How many weights it has.
    """

    name: str
    elements: int


def trained_layers(model: ir.Model, path: Path, format_: str) -> dict[str, Trained]:
    """The layers that a plan may name, as they were called in training.

    Args:
        model: The hub graph.
        path: The file that it was read from.
        format_: Of that file.
    """
    layers = planned_layers(unpack_weights(model))
    weights = {name: _weight(node) for name, node in layers.items()}
    lost = format_ == "onnx" and any(_GENERATED.search(str(value.name)) for value in weights.values())
    scopes = _scopes(path) if lost else {}
    return {
        name: Trained(_name(layers[name], str(value.name), scopes), _elements(value)) for name, value in weights.items()
    }


def _weight(node: ir.Node) -> ir.Value:
    return next(
        value
        for index, value in enumerate(node.inputs)
        if value is not None and value.const_value is not None and weight_axis(node, index) is not None
    )


def _elements(value: ir.Value) -> int:
    assert value.const_value is not None
    return int(value.const_value.size)


def _name(node: ir.Node, weight: str, scopes: Mapping[str, str]) -> str:
    name = str(node.name)
    if not _GENERATED.search(weight):
        return _FOLDED.sub("", weight)
    if name.startswith("/"):  # each part says the path from the module above, `layer1.0` for `0` in `layer1`
        return ".".join(part.rpartition(".")[2] for part in name.split("/")[1:-1]) + ".weight"
    if name in scopes:
        return scopes[name]
    bias = node.inputs[2] if len(node.inputs) > 2 and node.op_type in WITH_BIAS else None
    if _GENERATED.search(name) and bias is not None and not _GENERATED.search(str(bias.name)):
        return _FOLDED.sub("", str(bias.name))
    return name


def _scopes(path: Path) -> dict[str, str]:
    """By node, the weights of the module that it came from."""
    import onnx

    from haversack.convert.sources.onnx import read_graph

    proto = onnx.ModelProto()
    proto.ParseFromString(read_graph(path))
    found = {}
    for node in proto.graph.node:
        for entry in node.metadata_props:
            modules = _words(entry.value)[:-1] if entry.key == SCOPES else []
            if modules:
                found[node.name] = f"{modules[-1]}.weight" if modules[-1] else "weight"
    return found


def _words(text: str) -> list[str]:
    try:
        words = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return []
    return [str(word) for word in words] if isinstance(words, list) else []
