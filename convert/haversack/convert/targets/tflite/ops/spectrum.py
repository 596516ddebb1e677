"""Fourier transforms as products with constant matrices: exact for the sizes of audio frames, and fast as matrices."""

from __future__ import annotations

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers
from haversack.runtimes.engines import Array


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


def _product(b: Builder, x: Tensor, matrix: Array) -> Tensor:
    flat = steps.reshape(b, x, (x.size // matrix.shape[0], matrix.shape[0]))
    weights = b.const(np.ascontiguousarray(matrix.T), "float32")
    return b.op("FULLY_CONNECTED", [b.cast(flat, "float32"), weights], (flat.shape[0], matrix.shape[1]))


@lowers("DFT")
def dft(
    b: Builder,
    x: Tensor,
    length: Tensor | None = None,
    axis: Tensor | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    """One FULLY_CONNECTED along the axis; onesided and inverse gives real numbers, as opset 20 says."""
    rank = len(x.shape)
    place = steps.axis_of(-2 if axis is None else int(b.known(axis, "axis").reshape(-1)[0]), rank)
    given = x.shape[place]
    bins = b.result.shape[place]
    if length is not None:
        size = int(b.known(length, "dft_length").reshape(-1)[0])
    else:
        size = bins if inverse and onesided else given
    count = min(given, size // 2 + 1 if inverse and onesided else size)
    if count < given:
        x = steps.slice_axes(b, x, [0] * rank, [count if n == place else m for n, m in enumerate(x.shape)])
    order = [n for n in range(rank - 1) if n != place] + [place, rank - 1]
    moved = steps.transpose(b, x, order)
    if inverse and onesided:
        matrix = _from_half(size, count)
    else:
        matrix = _matrix(size, bins, count, bool(inverse), x.shape[-1] == 2, False)
    made = _product(b, moved, matrix)
    shape = (*moved.shape[:-2], bins, b.result.shape[-1])
    y = steps.transpose(b, steps.reshape(b, made, shape), np.argsort(order).tolist())
    return b.cast(y, x.nominal)


@lowers("STFT")
def stft(
    b: Builder,
    signal: Tensor,
    frame_step: Tensor,
    window: Tensor | None = None,
    frame_length: Tensor | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """Frames by one GATHER, windowed, then transformed as in DFT."""
    step = int(b.known(frame_step, "frame_step").reshape(-1)[0])
    if frame_length is not None:
        size = int(b.known(frame_length, "frame_length").reshape(-1)[0])
    else:
        size = signal.shape[1] if window is None else window.size
    frames, bins = b.result.shape[1:3]
    channels = signal.shape[2] if len(signal.shape) == 3 else 1
    if onesided and channels == 2:
        raise b.refuse("half a spectrum of a complex signal", "set onesided to 0")
    places = np.arange(frames)[:, None] * step + np.arange(size)
    flat = steps.reshape(b, signal, (*signal.shape[:2], channels))
    framed = steps.gather(b, flat, b.const(places.astype(np.int32)), 1)
    if window is not None:
        framed = steps.binary(b, "MUL", framed, steps.reshape(b, window, (size, 1)))
    made = _product(b, framed, _matrix(size, bins, size, False, channels == 2, False))
    return b.cast(steps.reshape(b, made, (signal.shape[0], frames, bins, 2)), signal.nominal)
