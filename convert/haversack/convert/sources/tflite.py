"""Reading `.tflite` files, float or quantized."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from haversack.convert.errors import SourceError
from haversack.convert.sources.tensorflow import TF2ONNX_OPSET, first_line, tensorflow, tidy
from haversack.convert.sources.tensorflow_names import plain, unique


def read_tflite(path: Path) -> ir.Model:
    """Read a TFLite file; quantized tensors come as QuantizeLinear/DequantizeLinear.

    Inputs and outputs have their names in the file's signature where it has one, else the tensors' own.

    Raises:
        SourceError: TensorFlow is absent, the file is damaged or has weights behind its FlatBuffer, or an operator has
            no ONNX counterpart.
    """
    named, tensor_inputs, tensor_outputs, inputs, outputs = _interface(path)
    with tensorflow(path.name), tempfile.TemporaryDirectory() as folder:
        import tf2onnx.convert

        read = path
        if named is not None:
            read = Path(folder, "named.tflite")
            read.write_bytes(named)
        try:
            proto, _ = tf2onnx.convert.from_tflite(
                str(read), input_names=tensor_inputs, output_names=tensor_outputs, opset=TF2ONNX_OPSET
            )
        except Exception as error:
            raise SourceError(f"{path.name} cannot be said in ONNX: {first_line(error)}") from None
        model = tidy(proto, tensor_inputs, tensor_outputs, path.name)
    for value, name in zip((*model.graph.inputs, *model.graph.outputs), (*inputs, *outputs), strict=True):
        value.name = name
    return model


def _interface(path: Path) -> tuple[bytes | None, list[str], list[str], list[str], list[str]]:
    """The main graph's inputs and outputs: their tensors' names, and the names a user knows them by.

    And the file with a name for every tensor where it has some without, as ours have: tf2onnx goes by names.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
        unnamed = [
            (g, n, t) for g, graph in enumerate(model.subgraphs) for n, t in enumerate(graph.tensors) if not t.name
        ]
        for graph_number, number, tensor in unnamed:
            tensor.name = f"tensor_{graph_number}_{number}".encode()
        graph = model.subgraphs[0]
        tensor_inputs = [_tensor_name(graph, index) for index in graph.inputs]
        tensor_outputs = [_tensor_name(graph, index) for index in graph.outputs]
        signature = model.signatureDefs[0] if model.signatureDefs else None
        inputs = _known_as(graph.inputs, tensor_inputs, signature.inputs if signature else ())
        outputs = _known_as(graph.outputs, tensor_outputs, signature.outputs if signature else ())
    except Exception as error:  # the generated reader checks nothing: any error means a damaged file
        raise SourceError(f"{path.name} is a damaged TFLite file: {first_line(error)}; export it again") from None
    if any(buffer.offset > 1 for buffer in model.buffers):
        raise SourceError(
            f"{path.name} holds weights behind its FlatBuffer, as files beyond 2 GB do, and tf2onnx does not find them "
            "there; convert the model that it was made from"
        )
    named = _packed(model) if unnamed else None
    return named, tensor_inputs, tensor_outputs, inputs, outputs


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor_name(graph: Any, index: int) -> str:
    return str(graph.tensors[index].name.decode())


def _known_as(indices: Sequence[int], tensors: Sequence[str], signature: Sequence[Any]) -> list[str]:
    named = {entry.tensorIndex: entry.name.decode() for entry in signature}
    return unique([named.get(index, plain(name)) for index, name in zip(indices, tensors, strict=True)])
