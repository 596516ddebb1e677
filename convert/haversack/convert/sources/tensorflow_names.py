"""Names of a TensorFlow graph's tensors and operators as the user knows them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import onnx_ir as ir

_CALL = "StatefulPartitionedCall/"
_NUMBER = re.compile(r"__\d+(?=$|:|_)")
_ROLE = re.compile(r"_(prequant|quantize|dequant)\d*$")


def plain(name: str) -> str:
    """A tensor's name as the user knows it: without TensorFlow's output index and the prefixes its exporters add."""
    return name.split(":")[0].removeprefix("serving_default_")


def unique(names: Sequence[str]) -> list[str]:
    """The names, each later one of two that are alike with a number."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        result.append(f"{name}_{count}" if count else name)
    return result


def shorten(model: ir.Model) -> None:
    """Give what tf2onnx wrote the names of the layers, in place; inputs and outputs of the graph keep theirs.

    - `StatefulPartitionedCall/conv2d/BiasAdd:0` is called `conv2d/BiasAdd`.
    - Of `a;b;c`, as the TFLite converter names what it fused, the first is left.
    - tf2onnx tells what it inserts apart by a number that counts on from model to model (`Relu__10`), so that a model
      read twice has other names. Here the name says the place and the operator: `conv2d/BiasAdd/Transpose`.
    """
    taken = {value.name for graph in model.graphs() for value in (*graph.inputs, *graph.outputs)}
    taken |= {name for graph in model.graphs() for name in graph.initializers}
    kept = set(taken)
    nodes = [node for graph in model.graphs() for node in graph]
    named: set[str | None] = set()
    for generated in (False, True):  # names that mean something go first
        for node in nodes:
            if bool(_NUMBER.search(node.name or "")) is generated:
                node.name = _free(_short(node.name or "", node.op_type), named)
        for node in nodes:
            for value in node.outputs:
                if value.name and value.name not in kept and bool(_NUMBER.search(value.name)) is generated:
                    value.name = _free(_short(value.name, node.op_type), taken)


def name_after_outputs(model: ir.Model) -> None:
    """Name nodes that are called by their operator alone (`Conv_1`) after what they compute, in place."""
    nodes = [node for graph in model.graphs() for node in graph]
    taken = {node.name for node in nodes}
    for node in nodes:
        nameless = re.compile(rf"{node.op_type}(_\d+)?")
        if nameless.fullmatch(node.name or "") and not nameless.fullmatch(node.outputs[0].name or ""):
            node.name = _free(node.outputs[0].name or node.op_type, taken)


def _short(name: str, op: str) -> str:
    generated = bool(_NUMBER.search(name))
    name = _NUMBER.sub("", name).removeprefix(_CALL).removesuffix(":0")
    if ";" in name:
        role = _ROLE.search(name)
        name = name.split(";")[0] + (role.group() if role else "")
    if not generated or name == op or name.endswith(f"/{op}"):
        return name or op
    return f"{name}/{op}" if name else op


def _free(name: str, taken: set[str | None]) -> str:
    free = next(candidate for candidate in _numbered(name) if candidate not in taken)
    taken.add(free)
    return free


def _numbered(name: str) -> Iterator[str]:
    yield name
    count = 0
    while True:
        count += 1
        yield f"{name}_{count}"
