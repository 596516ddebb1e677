"""Matrix products."""

from __future__ import annotations

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers


@lowers("MatMul")
def matmul(b: Builder, x: Value, y: Value) -> Var:
    """NumPy's matmul: a vector operand is a row or a column that the result does not keep."""
    left = b.var(x) if x.rank > 1 else b.reshape(b.var(x), (1, *x.shape))
    right = b.var(y) if y.rank > 1 else b.reshape(b.var(y), (*y.shape, 1))
    result = b.op("matmul", x=left, y=right, transpose_x=False, transpose_y=False)
    return b.reshape(result, b.outputs[0].shape)


@lowers("Gemm")
def gemm(
    b: Builder,
    x: Value,
    y: Value,
    c: Value | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803  (ONNX's names are the schema)
    transB: int = 0,  # noqa: N803
) -> Var:
    """alpha·A'·B' + beta·C; with constant weights and a constant bias vector it is MIL's `linear`."""
    columns = b.outputs[0].shape[1]
    vector = c is None or (c.array is not None and c.array.size in (1, columns) and c.shape[:-1] in ((), (1,)))
    if alpha == 1.0 and not transA and vector and (y.array is not None) and (transB or y.stored is None):
        bias = None
        if c is not None and beta != 0.0 and c.array is not None:
            bias = (c.array.reshape(-1) * c.array.dtype.type(beta)).astype(c.array.dtype)
            bias = bias.repeat(columns // bias.size)
        return b.op("linear", x=x, weight=y if transB else _transposed(y), bias=bias)
    result = b.op("matmul", x=x, y=y, transpose_x=bool(transA), transpose_y=bool(transB))
    if alpha != 1.0:
        result = b.op("mul", x=result, y=alpha)
    if c is None or beta == 0.0:
        return result
    addend = b.var(c) if beta == 1.0 else b.op("mul", x=c, y=beta)
    return b.op("add", x=result, y=addend)


def _transposed(value: Value) -> Value:
    assert value.array is not None
    array = value.array.T
    return Value(value.name, array.shape, value.dtype, array=array)
