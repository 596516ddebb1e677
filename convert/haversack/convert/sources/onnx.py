"""Reading `.onnx` files: large weights stay in the file, or in those beside it, and are mapped."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import onnx_ir as ir

from haversack.convert.errors import SourceError
from haversack.convert.hub.mapped import Mapped
from haversack.convert.sources.classifiers import restate_outputs
from haversack.convert.sources.onnx_wire import without_weights
from haversack.runtimes.engines import Array

RESTATED, NOTES = "haversack.restated", "haversack.notes"
"""Where `ir.Model.meta` keeps what `restate_outputs` gives."""

HELD_BYTES = 1 << 20
"""A file up to this size is parsed as it is."""


def read_onnx(path: Path) -> ir.Model:
    """Read an ONNX file; large weights, and those in files beside it, are mapped, not copied.

    The files must stay as they are for as long as the model is used.

    Raises:
        SourceError: It is no ONNX model, or its external data is missing, too short, or outside the model's folder.
    """
    import onnx

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(read_graph(path))
    except Exception:  # google.protobuf's DecodeError, whose module is an implementation detail
        raise SourceError(f"{path.name} is not an ONNX model: it cannot be parsed; export it again") from None
    if not proto.HasField("graph") or proto.ir_version < 1 or not (proto.graph.node or proto.graph.output):
        raise SourceError(f"{path.name} is not an ONNX model: it holds no graph; export it again")
    restated, notes = restate_outputs(proto, path.name)
    try:
        model: ir.Model = ir.from_proto(proto)
    except Exception as error:
        reason = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
        raise SourceError(f"{path.name} is a malformed ONNX model: {reason}") from None
    model.meta[RESTATED], model.meta[NOTES] = restated, notes
    mapped = Mapped()
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                # The array stays mapped to the file; a plain tensor is what everything after this can serialize.
                array = _attached(value.const_value, path, mapped)
                value.const_value = ir.Tensor(array, dtype=value.const_value.dtype, name=value.name)
    return model


def read_graph(path: Path) -> bytes:
    """A file's ModelProto, in which the large weights of the file are external data in the file itself."""
    if path.stat().st_size <= HELD_BYTES:
        return path.read_bytes()
    try:
        return without_weights(Mapped().file(path), path.resolve().name)
    except ValueError:
        return path.read_bytes()  # The parser says what is wrong with it.


def _attached(tensor: ir.ExternalTensor, path: Path, mapped: Mapped) -> Array:
    """Check where a tensor's data lies, and map it."""
    folder = path.resolve().parent
    location = Path(tensor.location)
    file = folder / location
    what = f"{path.name}: the data of {tensor.name!r}"
    if location.is_absolute() or ".." in location.parts:
        raise SourceError(f"{what} lies outside the model's folder ({tensor.location}); put it beside the model")
    if not file.exists():
        raise SourceError(f"{what} is missing: put {tensor.location} beside the model")
    # A link could lead out of the folder, and so could one in a folder on the way.
    if file.resolve() != file or not stat.S_ISREG(file.lstat().st_mode):
        raise SourceError(f"{what} must be a plain file, and {tensor.location} is a link or a device; copy it there")
    needed = (tensor.offset or 0) + tensor.nbytes
    if tensor.offset is not None and tensor.offset < 0:
        raise SourceError(f"{what} starts before its file does; export the model again")
    if (tensor.length is not None and tensor.length < tensor.nbytes) or file.stat().st_size < needed:
        raise SourceError(f"{what} is cut short: {tensor.location} ends before byte {needed}; export the model again")
    if tensor.dtype.bitwidth >= 8 and tensor.nbytes:
        dtype = tensor.dtype.numpy().newbyteorder("<")
        held: Array = np.frombuffer(mapped.file(file), dtype, tensor.size, tensor.offset or 0)
        return held.reshape(tensor.shape.numpy())
    tensor.base_dir = str(folder)  # several elements a byte are unpacked into a copy
    array: Array = tensor.numpy()
    return array
