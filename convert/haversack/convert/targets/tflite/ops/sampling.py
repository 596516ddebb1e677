"""GridSample: elements gathered at computed coordinates. Data is channels-last, the grid is as ONNX has it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers

CUBIC = -0.75
"""The `a` of GridSample's cubic kernel (ONNX's operator spec)."""


@lowers("GridSample")
def grid_sample(
    b: Builder, x: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Tensor:
    """A weighted sum of neighbours, each fetched by one GATHER_ND: 1 (nearest), 2, or 4 (cubic) an axis."""
    size, count = x.shape[1:-1], len(x.shape) - 2
    if mode == "cubic" and count > 2:
        raise b.refuse("cubic sampling of volumes", "use mode 'linear'")
    grid = b.cast(grid, "float32")
    parts = steps.split(b, grid, len(grid.shape) - 1, [1] * count)[::-1]  # the grid holds (x, y, z), data (z, y, x)
    places = [_place(b, part, n, align_corners) for part, n in zip(parts, size, strict=True)]
    if padding_mode != "zeros" and mode != "cubic":
        places = [_folded(b, p, n, padding_mode, align_corners) for p, n in zip(places, size, strict=True)]
    taps = [_taps(b, place, mode) for place in places]
    y: Tensor | None = None
    for chosen in itertools.product(*taps):
        weight: Tensor | None = None
        for _, share in chosen:
            if share is not None:
                weight = share if weight is None else steps.binary(b, "MUL", weight, share)
        value = _fetched(b, x, [place for place, _ in chosen], padding_mode, align_corners)
        part = value if weight is None else steps.binary(b, "MUL", value, weight)
        y = part if y is None else steps.binary(b, "ADD", y, part)
    assert y is not None
    return y


def _place(b: Builder, part: Tensor, n: int, align: int) -> Tensor:
    """From [-1, 1] to an index: the ends are the centres of the outer elements, or their outer edges."""
    scale, offset = ((n - 1) / 2, (n - 1) / 2) if align else (n / 2, (n - 1) / 2)
    return steps.scalar(b, "ADD", steps.scalar(b, "MUL", part, scale), offset)


def _taps(b: Builder, place: Tensor, mode: str) -> list[tuple[Tensor, Tensor | None]]:
    """Neighbours along one axis, as whole numbers, with their weights."""
    if mode == "nearest":
        return [(steps.unary(b, "ROUND", place), None)]
    low = steps.unary(b, "FLOOR", place)
    share = steps.binary(b, "SUB", place, low)
    one = b.const(1, "float32")
    if mode == "linear":
        return [(low, steps.binary(b, "SUB", one, share)), (steps.scalar(b, "ADD", low, 1), share)]
    distances = [
        steps.scalar(b, "ADD", share, 1),
        share,
        steps.binary(b, "SUB", one, share),
        steps.binary(b, "SUB", b.const(2, "float32"), share),
    ]
    weights = [_cubic(b, d, outer) for d, outer in zip(distances, (True, False, False, True), strict=True)]
    return [(steps.scalar(b, "ADD", low, n - 1), weight) for n, weight in enumerate(weights)]


def _cubic(b: Builder, d: Tensor, outer: bool) -> Tensor:
    """Keys' cubic convolution kernel at a distance within 1, or (outer) between 1 and 2, by Horner's rule."""
    a = CUBIC
    terms = (a, -5 * a, 8 * a, -4 * a) if outer else (a + 2, -(a + 3), 0.0, 1.0)
    y = steps.scalar(b, "MUL", d, terms[0])
    for n, term in enumerate(terms[1:], start=1):
        y = steps.scalar(b, "ADD", y, term) if term else y
        y = steps.binary(b, "MUL", y, d) if n < 3 else y
    return y


def _folded(b: Builder, place: Tensor, n: int, padding_mode: str, align: int) -> Tensor:
    """A coordinate brought into the axis: clipped to its ends, or mirrored at them as often as needed."""
    if padding_mode == "reflection":
        low, span = (0.0, float(n - 1)) if align else (-0.5, float(n))
        if span == 0:
            return steps.scalar(b, "MUL", place, 0)
        apart = steps.unary(b, "ABS", steps.scalar(b, "SUB", place, low))
        turn = steps.binary(b, "FLOOR_MOD", apart, b.const(2 * span, "float32"))
        mirrored = steps.binary(b, "SUB", b.const(2 * span, "float32"), turn)
        place = steps.scalar(b, "ADD", steps.binary(b, "MINIMUM", turn, mirrored), low)
    return steps.scalar(b, "MINIMUM", steps.scalar(b, "MAXIMUM", place, 0), n - 1)


def _fetched(b: Builder, x: Tensor, places: Sequence[Tensor], padding_mode: str, align: int) -> Tensor:
    """The elements at whole-numbered coordinates; outside of the axes zeros, or what padding says."""
    size = x.shape[1:-1]
    inside: Tensor | None = None
    columns = []
    for place, n in zip(places, size, strict=True):
        if padding_mode == "zeros":
            kept = steps.binary(b, "GREATER_EQUAL", place, b.const(0, "float32"), "bool")
            below = steps.binary(b, "LESS_EQUAL", place, b.const(n - 1, "float32"), "bool")
            kept = steps.binary(b, "LOGICAL_AND", kept, below)
            inside = kept if inside is None else steps.binary(b, "LOGICAL_AND", inside, kept)
            padding = "border"
        else:
            padding = padding_mode
        columns.append(b.cast(_folded(b, place, n, padding, align), "int32"))
    shape = columns[0].shape
    batch = np.arange(shape[0], dtype=np.int32).reshape(-1, *([1] * (len(shape) - 1)))
    index = steps.concat(b, [b.const(np.broadcast_to(batch, shape)), *columns], len(shape) - 1)
    found = b.op("GATHER_ND", [x, index], (*shape[:-1], x.shape[-1]))
    if inside is None:
        return found
    return steps.binary(b, "MUL", found, b.cast(inside, "float32"))
