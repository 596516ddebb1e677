"""A model's inputs and outputs in the package: their names, shapes and element types.

Core ML has float32, float16 and int32 there (MLMultiArray), at least one axis and one element. What the hub has beside
that becomes the nearest of these, with a note: float64 is float32; int64, bool and narrower integers are int32, equal
in value; a scalar is one axis of one element.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from haversack.convert.image_inputs import Image, described
from haversack.convert.targets.coreml.builder import MAX_RANK, Builder, Value, Var
from haversack.convert.targets.coreml.names import identifier

TYPES = frozenset(
    ("BOOL", "FLOAT", "FLOAT16", "DOUBLE", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32")
)
"""ONNX element types that MIL holds, as they are or as its nearest wider or widest one; inside a graph also uint32, as
the int32 of the same bits."""


def problem(value: ir.Value) -> tuple[str, str] | None:
    """Why Core ML cannot have `value` as a model input or output, and what to do; None where it can."""
    if value.dtype is None or value.shape is None:
        return "its type or shape is unknown", "give it a type and a static shape"
    if not is_static(value):
        return f"its shape {value.shape} is not static", "fix its dimensions"
    if value.dtype.name not in TYPES or value.dtype == ir.DataType.UINT32:
        return f"Core ML has no {value.dtype.name} tensors", "use float32, int32 or bool"
    if len(value.shape) > MAX_RANK:
        return f"it has {len(value.shape)} axes; Core ML stops at {MAX_RANK}", "merge axes"
    if 0 in value.shape.numpy():
        return "it has no elements", "remove it"
    return None


def is_static(value: ir.Value) -> bool:
    """Whether every dimension of `value` is known."""
    return value.shape is not None and all(isinstance(size, int) for size in value.shape)


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Its static shape."""
    return tuple(value.shape.numpy()) if value.shape is not None else ()


def dtype_of(value: ir.Value) -> np.dtype[Any]:
    """Its element type."""
    return value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)


class Edge:
    """One input or output of the package.

    Args:
        b: The builder, which is told what differs from the model.
        value: The hub's input or output; `problem` has nothing against it.
        what: `input` or `output`.
        taken: Identifiers in use; the new one is added.
        image: What an image becomes this input by; None for a tensor.

    Attributes:
        name: Its name in the package.
        kind: Its MIL element type.
        shape: Its shape there.
    """

    def __init__(self, b: Builder, value: ir.Value, what: str, taken: set[str], image: Image | None = None):
        self.value, self.image = value, image
        hub_name, dtype = str(value.name), dtype_of(value)
        self.name = identifier(hub_name, taken)
        if self.name != hub_name:
            b.note(f"{what} {hub_name!r} is called {self.name!r} in the package: Core ML does not accept its name.")
        self.kind = {"float32": "fp32", "float16": "fp16", "float64": "fp32"}.get(str(dtype), "int32")
        if self.kind == "fp16" and b.ios < 16:
            self.kind = "fp32"
            b.note(f"{what} {hub_name!r} is float32 in the package: inputs and outputs are float16 from iOS 16 on.")
        if str(dtype) not in ("float32", "float16", "int32"):
            called = {"fp32": "float32"}.get(self.kind, self.kind)
            b.note(f"{what} {hub_name!r} is {called} in the package: Core ML has no {dtype} inputs and outputs.")
        self.shape = shape_of(value) or (1,)
        if image is not None:
            self.shape = tuple(self.shape[axis] for axis in image.permutation or range(len(self.shape)))
            for sentence in described({hub_name: image}):
                b.note(sentence)
        if not shape_of(value):
            b.note(f"{what} {hub_name!r} has the shape [1] in the package: Core ML has no scalar inputs and outputs.")

    def placeholder(self, b: Builder) -> Any:
        """The input as a parameter of the program."""
        return b.mil.placeholder(shape=list(self.shape), dtype=getattr(b.types, self.kind), name=self.name)

    def image_type(self, b: Builder) -> Any:
        """An image input as coremltools describes it in the package; the program scales it."""
        assert self.image is not None
        layout = getattr(b.coremltools.colorlayout, self.image.color.upper())
        return b.coremltools.ImageType(name=self.name, shape=self.shape, color_layout=layout, channel_first=True)

    def read(self, b: Builder, var: Var) -> Value:
        """The hub value that an input holds."""
        dtype, shape = dtype_of(self.value), shape_of(self.value)
        if self.image is not None:  # in float32: 255 levels times a scale keep too few bits in float16
            scale, bias = self.image.numbers()
            if (scale != 1).any():
                var = b.raw("mul", x=var, y=b.constant(scale, exact=True))
            if bias.any():
                var = b.raw("add", x=var, y=b.constant(bias, exact=True))
            if self.image.permutation is not None:
                var = b.mil.transpose(x=var, perm=b.constant(np.argsort(self.image.permutation)))
        if dtype == np.bool_:
            var = b.cast(var, "bool")
        if not shape:
            var = b.mil.squeeze(x=var, axes=b.constant([0]))
        return Value(str(self.value.name), shape, dtype, var=var)

    def write(self, b: Builder, value: Value, taken: set[str]) -> Var:
        """The variable that an output is, made from the hub value that it returns."""
        mil = b.mil
        var = value.var
        if var is None:  # a program returns what an operation computes
            b.half = self.kind == "fp16"
            var = mil.identity(x=b.var(value))
        if not shape_of(self.value):
            var = mil.expand_dims(x=var, axes=b.constant([0]))
        if b.kind(var) != self.kind:
            return mil.cast(x=var, dtype=b.constant(self.kind), name=self.name)
        if var.op is None or var.name in taken:
            return mil.identity(x=var, name=self.name)
        var.set_name(self.name)
        return var
