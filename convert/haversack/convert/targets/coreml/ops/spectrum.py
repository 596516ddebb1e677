"""Fourier transforms as products with constant matrices: exact, and fast as matrices for the sizes of audio frames."""

from __future__ import annotations

import math

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers
from haversack.runtimes.engines import Array


def _matrix(size: int, bins: int, count: int, *, inverse: bool, parts: tuple[int, int]) -> Array:
    """From `count` points of `parts[0]` numbers (real, imaginary), one after the other, to `bins` of `parts[1]`.

    The points' factors are exp(∓2πi·point·bin/size), over `size` in the inverse.
    """
    turns = np.outer(np.arange(count), np.arange(bins)) % size  # exact before it becomes an angle
    angle = 2 * np.pi * turns / size * (1 if inverse else -1)
    real, imaginary = np.cos(angle), np.sin(angle)
    if inverse:
        real, imaginary = real / size, imaginary / size
    rows = [np.stack([real, imaginary], -1), np.stack([-imaginary, real], -1)]
    given, made = parts
    return np.stack([row[..., :made] for row in rows[:given]], 1).reshape(count * given, bins * made)


def _from_half(size: int, count: int) -> Array:
    """From the first half of a spectrum to real points: what is left out is the conjugate of what is there."""
    matrix = _matrix(size, size, count, inverse=True, parts=(2, 1))
    twice = np.array([1.0 if n == 0 or 2 * n == size else 2.0 for n in range(count)])
    return np.asarray(matrix * np.repeat(twice, 2)[:, None])


def _product(b: Builder, x: Var, matrix: Array) -> Var:
    flat = b.reshape(x, (math.prod(x.shape) // matrix.shape[0], matrix.shape[0]))
    return b.op("matmul", x=flat, y=matrix.astype(np.float32), transpose_x=False, transpose_y=False)


@lowers("DFT")
def dft(
    b: Builder,
    x: Value,
    length: Value | None = None,
    axis: Value | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Var:
    """One product along the axis; onesided and inverse gives real numbers, as opset 20 says."""
    wanted = b.outputs[0].shape
    place = (-2 if axis is None else b.integers(axis, "axis")[0]) % x.rank
    given, bins = x.shape[place], wanted[place]
    size = b.integers(length, "length")[0] if length is not None else bins if inverse and onesided else given
    count = min(given, size // 2 + 1 if inverse and onesided else size)
    var = b.var(x)
    if count < given:
        end = [count if n == place else m for n, m in enumerate(x.shape)]
        var = b.op("slice_by_index", x=var, begin=[0] * x.rank, end=end, stride=[1] * x.rank)
    order = [n for n in range(x.rank - 1) if n != place] + [place, x.rank - 1]
    moved = b.transpose(var, order)
    if inverse and onesided:
        matrix = _from_half(size, count)
    else:
        matrix = _matrix(size, bins, count, inverse=bool(inverse), parts=(x.shape[-1], 2))
    shaped = b.reshape(_product(b, moved, matrix), (*moved.shape[:-2], bins, wanted[-1]))
    return b.transpose(shaped, [order.index(n) for n in range(x.rank)])


@lowers("STFT")
def stft(
    b: Builder,
    signal: Value,
    frame_step: Value,
    window: Value | None = None,
    frame_length: Value | None = None,
    *,
    onesided: int = 1,
) -> Var:
    """Frames by one gather, windowed, then transformed as in DFT."""
    step = b.integers(frame_step, "frame step")[0]
    if frame_length is not None:
        size = b.integers(frame_length, "frame length")[0]
    else:
        size = signal.shape[1] if window is None else window.shape[0]
    frames, bins = b.outputs[0].shape[1:3]
    channels = signal.shape[2] if signal.rank == 3 else 1
    if onesided and channels == 2:
        b.refuse("half a spectrum of a complex signal", "set onesided to 0")
    places = np.arange(frames)[:, None] * step + np.arange(size)
    flat = b.reshape(b.var(signal), (*signal.shape[:2], channels))
    framed = b.op("gather", x=flat, indices=places, axis=1, batch_dims=0)
    if window is not None:
        framed = b.op("mul", x=framed, y=b.reshape(b.var(window), (size, 1)))
    made = _product(b, framed, _matrix(size, bins, size, inverse=False, parts=(channels, 2)))
    return b.reshape(made, (signal.shape[0], frames, bins, 2))
