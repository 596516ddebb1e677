"""Fourier transforms as products with constant matrices: exact for the sizes of audio frames, and fast as matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.around import Around
from haversack.convert.hub.passes.rewriting import constant, is_constant
from haversack.convert.hub.restate import CannotRestateError
from haversack.convert.hub.shapes import static_shape
from haversack.runtimes.engines import Array


def dft(make: Around, node: ir.Node) -> ir.Value:
    """One matrix product along the axis; onesided and inverse gives real numbers, as opset 20 says."""
    x = node.inputs[0]
    assert x is not None
    shape, made = static_shape(x) or (), static_shape(node.outputs[0]) or ()
    inverse, onesided = bool(node.attributes.get_int("inverse", 0)), bool(node.attributes.get_int("onesided", 0))
    rank = len(shape)
    axis = _number(node, 2, "the axis")
    place = (-2 if axis is None else axis) % rank
    given, bins = shape[place], made[place]
    size = _number(node, 1, "dft_length") or (bins if inverse and onesided else given)
    count = min(given, size // 2 + 1 if inverse and onesided else size)
    if count < given:
        x = make("Slice", x, *(make.const(np.array([n], np.int64)) for n in (0, count, place)))
    order = [n for n in range(rank - 1) if n != place] + [place, rank - 1]
    moved = make("Transpose", x, perm=order)
    if inverse and onesided:
        matrix = _from_half(size, count)
    else:
        matrix = _matrix(size, bins, count, inverse, shape[-1] == 2, False)
    y = _product(make, moved, matrix, [*(shape[n] for n in order[:-2]), bins, made[-1]])
    return make("Transpose", y, perm=np.argsort(order).tolist())


def stft(make: Around, node: ir.Node) -> ir.Value:
    """Frames by one Gather, windowed, then transformed as in DFT."""
    signal, window = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    assert signal is not None
    shape, (batch, frames, bins, _) = static_shape(signal) or (), static_shape(node.outputs[0]) or ()
    step, size = _number(node, 1, "frame_step"), _number(node, 3, "frame_length")
    assert step is not None
    size = size or (shape[1] if window is None else (static_shape(window) or (0,))[0])
    channels = shape[2] if len(shape) == 3 else 1
    if node.attributes.get_int("onesided", 1) and channels == 2:
        raise CannotRestateError("half a spectrum of a complex signal", "set onesided to 0")
    places = np.arange(frames)[:, None] * step + np.arange(size)
    flat = make("Reshape", signal, make.const(np.array([*shape[:2], channels], np.int64)), allowzero=1)
    framed = make("Gather", flat, make.const(places.astype(np.int64)), axis=1)
    if window is not None:
        framed = make("Mul", framed, make("Reshape", window, make.const(np.array([size, 1], np.int64)), allowzero=1))
    return _product(make, framed, _matrix(size, bins, size, False, channels == 2, False), [batch, frames, bins, 2])


def _number(node: ir.Node, position: int, name: str) -> int | None:
    value = node.inputs[position] if position < len(node.inputs) else None
    if value is None:
        return None
    if not is_constant(value):
        raise CannotRestateError(f"{name} is computed at run time", f"make {name} constant")
    known = constant(value)
    assert known is not None
    return int(known.reshape(-1)[0])


def _matrix(size: int, bins: int, count: int, inverse: bool, complex_input: bool, real_output: bool) -> Array:
    """From (real, imaginary) of `size` points, one after the other, to the same of `bins`: [count * c, bins * 2]."""
    turns = np.outer(np.arange(count), np.arange(bins)) % size  # exact before it becomes an angle
    angle = 2 * np.pi * turns / size * (1 if inverse else -1)
    real, imaginary = np.cos(angle), np.sin(angle)
    if inverse:
        real, imaginary = real / size, imaginary / size
    rows = [np.stack([real, imaginary], -1)]
    if complex_input:
        rows.append(np.stack([-imaginary, real], -1))
    if real_output:
        rows = [row[..., :1] for row in rows]
    parts = rows[0].shape[-1]
    return np.stack(rows, 1).reshape(count * len(rows), bins * parts)


def _from_half(size: int, count: int) -> Array:
    """From the first half of a spectrum to real points: what is left out is the conjugate of what is there."""
    matrix = _matrix(size, size, count, True, True, True)
    twice = np.array([1.0 if n == 0 or 2 * n == size else 2.0 for n in range(count)])
    return np.asarray(matrix * np.repeat(twice, 2)[:, None])


def _product(make: Around, x: ir.Value, matrix: Array, shape: Sequence[int]) -> ir.Value:
    """The last two axes of `x` as one, times the matrix, in the form of the hub's dense layers."""
    dtype = make.node.outputs[0].dtype
    assert dtype is not None
    flat = make("Reshape", x, make.const(np.array([-1, matrix.shape[0]], np.int64)))
    if dtype == ir.DataType.FLOAT16:  # 65,504 is soon reached by a sum
        flat = make("Cast", flat, to=ir.DataType.FLOAT)
    word = np.float64 if dtype == ir.DataType.DOUBLE else np.float32
    weights = make.const(np.ascontiguousarray(matrix.T.astype(word)))
    kind = ir.DataType.DOUBLE if dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    y = make("Gemm", flat, weights, to=kind, transB=1)
    if dtype == ir.DataType.FLOAT16:
        y = make("Cast", y, to=dtype)
    return make("Reshape", y, make.const(np.array(shape, np.int64)), allowzero=1)
