"""Cuts parts out of a written `.tflite`: what verification needs to look inside.

XNNPACK hides intermediate tensors, so a value inside a file is read by making it an output (`truncate`); an operator is
judged alone by making it a model of its own, which is fed what the hub feeds it (`single`, `layer`). Inputs and outputs
of a cut are named `tensor_<index in the original file>`, are in order, and are as the file stores them: integers stay
integers, axes stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from haversack.convert.targets import Layer
from haversack.convert.targets.tflite.graph import Graph, Operator, Quantization, Tensor
from haversack.convert.targets.tflite.schema import OPERATORS, OPTIONS, TENSOR_TYPES
from haversack.convert.targets.tflite.write import serialize
from haversack.runtimes.engines import Array

_CODES = {number: code for code, (number, _) in OPERATORS.items()}


def read(data: bytes) -> tuple[Graph, list[Tensor]]:
    """Read a `.tflite` that Haversack wrote: operators and options of `schema`.

    Returns:
        The main graph, with those that its control flow runs inside, and its tensors by their index in the file.

    Raises:
        ValueError: It holds what Haversack does not write.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    codes = []
    for place, entry in enumerate(model.operatorCodes):
        number = max(entry.builtinCode, entry.deprecatedBuiltinCode)
        if number not in _CODES:
            raise ValueError(f"operator code {place} is {number}, which Haversack does not write")
        codes.append(_CODES[number])
    return _subgraph(data, model, codes, 0)


def _subgraph(file: bytes, model: Any, codes: Sequence[str], number: int) -> tuple[Graph, list[Tensor]]:
    subgraph = model.subgraphs[number]
    tensors = [_tensor(row, model.buffers, file) for row in subgraph.tensors]
    operators = []
    for place, row in enumerate(_list(subgraph.operators, lambda each: each)):
        code = codes[row.opcodeIndex]
        inputs = [tensors[i] if i >= 0 else None for i in _list(row.inputs)]
        outputs = [tensors[i] for i in _list(row.outputs)]
        options = _options(code, row)
        inner: tuple[Graph, ...] = ()
        if code in ("IF", "WHILE"):
            fields = OPTIONS[OPERATORS[code][1] or ""][1]
            inner = tuple(_subgraph(file, model, codes, options.pop(field.name, 0))[0] for field in fields)
        operators.append(Operator(code, inputs, outputs, options, str(place), inner))
    signatures = model.signatureDefs if number == 0 else []
    names = {int(m.tensorIndex): m.name.decode() for d in signatures for m in (*d.inputs, *d.outputs)}
    graph = Graph(
        [(names.get(i, str(i) if number == 0 else ""), tensors[i]) for i in _list(subgraph.inputs)],
        [(names.get(i, str(i) if number == 0 else ""), tensors[i]) for i in _list(subgraph.outputs)],
        operators,
    )
    return graph, tensors


def truncate(data: bytes, tensors: Sequence[int]) -> bytes:
    """The same model with other outputs.

    Args:
        data: A `.tflite` that Haversack wrote.
        tensors: Indices of the tensors to output. Model inputs and constants cannot be.

    Returns:
        A `.tflite` with the inputs of the model that these depend on.
    """
    graph, found = read(data)
    inputs = [tensor for _, tensor in graph.inputs]
    return _cut(graph, found, inputs, [found[i] for i in tensors])


def single(data: bytes, operator: int) -> bytes:
    """One operator as a model: activations in, activations out, constants kept.

    Args:
        data: A `.tflite` that Haversack wrote.
        operator: Its position in execution order.
    """
    graph, found = read(data)
    chosen = graph.operators[operator]
    return _cut(graph, found, chosen.activations, chosen.outputs)


def layer(data: bytes, which: Layer) -> bytes:
    """The operators of one layer of `Written.layers` as a model: from its input taps to its output taps."""
    graph, found = read(data)
    inputs = [found[int(tap.tensor)] for tap in which.inputs]
    return _cut(graph, found, inputs, [found[int(tap.tensor)] for tap in which.outputs])


def _cut(graph: Graph, tensors: list[Tensor], inputs: Iterable[Tensor], outputs: Sequence[Tensor]) -> bytes:
    index = {id(tensor): place for place, tensor in enumerate(tensors)}
    borders = {id(tensor): tensor for tensor in inputs}
    made = {id(tensor): operator for operator in graph.operators for tensor in operator.outputs}
    needed, used = {id(tensor) for tensor in outputs}, set()
    operators: list[Operator] = []
    for operator in reversed(graph.operators):
        if not any(id(tensor) in needed and id(tensor) not in borders for tensor in operator.outputs):
            continue
        operators.insert(0, operator)
        for tensor in operator.activations:
            needed.add(id(tensor))
            if id(tensor) in borders:
                used.add(id(tensor))
            elif id(tensor) not in made:
                borders[id(tensor)] = tensor
                used.add(id(tensor))
    cut = Graph(
        [(f"tensor_{index[key]}", tensor) for key, tensor in borders.items() if key in used],
        [(f"tensor_{index[id(tensor)]}", tensor) for tensor in outputs],
        operators,
    )
    return serialize(cut)[0]


def _list(values: Any, convert: Callable[[Any], Any] = int) -> list[Any]:
    return [] if values is None else [convert(value) for value in values]


def _tensor(row: Any, buffers: Sequence[Any], file: bytes) -> Tensor:
    types = {number: name for name, number in TENSOR_TYPES.items()}
    dtype, shape = types[row.type], tuple(_list(row.shape))
    held = buffers[row.buffer]
    data = None
    if held.offset > 1:  # it follows the FlatBuffer
        data = _numbers(np.frombuffer(file, np.uint8, held.size, held.offset), dtype, shape)
    elif held.data is not None:
        data = _numbers(np.asarray(held.data, np.uint8), dtype, shape)
    quantization = None
    if row.quantization is not None and row.quantization.scale is not None:
        scale, zero_point = np.asarray(row.quantization.scale), np.asarray(row.quantization.zeroPoint)
        quantization = Quantization(scale, zero_point, int(row.quantization.quantizedDimension))
    return Tensor(shape, dtype, data, quantization)


def _numbers(stored: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    """The inverse of `Tensor.stored`."""
    if dtype != "int4":
        return stored.view(np.dtype(dtype)).reshape(shape)
    import ml_dtypes

    halves = np.stack([stored << 4, stored & 0xF0], -1).view(np.int8) >> 4
    return halves.reshape(-1)[: int(np.prod(shape))].reshape(shape).astype(ml_dtypes.int4)


def _options(code: str, row: Any) -> dict[str, Any]:
    table = OPERATORS[code][1]
    if table is None or row.builtinOptions is None:
        return {}
    options: dict[str, Any] = {}
    for field in OPTIONS[table][1]:
        head, *rest = field.name.split("_")
        value = getattr(row.builtinOptions, head + "".join(part.capitalize() for part in rest))
        if field.kind == "vector":
            if value is not None:
                options[field.name] = _list(value)
        elif value != field.default:
            options[field.name] = value
    return options
