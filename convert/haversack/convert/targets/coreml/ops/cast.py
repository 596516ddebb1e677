"""Changes of element type."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers


@lowers("Cast")
def cast(b: Builder, x: Value, *, to: int, saturate: int = 1) -> Value | Var:  # noqa: ARG001  (float8 only)
    """Float to integer truncates towards zero; a narrower integer keeps the low bits."""
    if ir.DataType(to).name.startswith(("STRING", "FLOAT8", "FLOAT4", "COMPLEX", "UINT64")):
        b.refuse(f"Core ML has no {ir.DataType(to).name} tensors", "keep its input's type")
    wanted = ir.DataType(to).numpy()
    if x.array is not None:
        if x.dtype == np.float16 and wanted == np.float32:
            # The float16 elements stay: the builder widens them where, and only where, they are computed with.
            return x
        return x.array.astype(wanted)
    if (x.dtype == np.uint32 and (wanted.kind == "f" or wanted.itemsize > 4)) or (wanted == np.uint32 and x.floating):
        b.refuse("Core ML cannot tell a large uint32 from a negative int32", "use int32")
    var = b.var(x)
    if wanted.kind == "b":
        return b.op("not_equal", x=b.numeric(x), y=0.0 if x.floating else 0) if x.dtype.kind != "b" else x
    if wanted.kind == "f":
        if wanted == np.float16 and x.dtype.itemsize > 2:
            return b.cast(var, "fp16")
        return b.cast(var, b.float_name)
    if wanted.kind not in "iu":
        b.refuse(f"Core ML has no {ir.DataType(to).name} tensors", "keep its input's type")
    integers = b.cast(var, "int32")
    narrower = wanted.itemsize < 4 and x.dtype.kind in "iu" and not np.can_cast(x.dtype, wanted)
    return wrapped(b, integers, wanted) if narrower else integers


def wrapped(b: Builder, x: Var, dtype: np.dtype[Any]) -> Var:
    """What int32 elements are in a type of fewer bits: modulo 2^bits, into [-2^(bits-1), 2^(bits-1)) if signed."""
    bits = dtype.itemsize * 8
    low = -(1 << bits - 1) if dtype.kind == "i" else 0
    return b.op("add", x=b.op("mod", x=b.op("sub", x=x, y=low), y=1 << bits), y=low)


@lowers("CastLike")
def cast_like(b: Builder, x: Value, like: Value, *, saturate: int = 1) -> Value | Var:
    """Cast to the type of `like`."""
    return cast(b, x, to=int(ir.DataType.from_numpy(like.dtype)), saturate=saturate)


@lowers("Identity")
def identity(b: Builder, x: Value) -> Value:  # noqa: ARG001
    """The same value under another name."""
    return x
