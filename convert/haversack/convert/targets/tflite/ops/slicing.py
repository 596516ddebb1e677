"""Slice and Pad."""

from __future__ import annotations

import numpy as np

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers

_MIRROR_REFLECT = 0


@lowers("Slice")
def slice_(
    b: Builder, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps_: Tensor | None = None
) -> Tensor:
    """SLICE or STRIDED_SLICE; negative steps take the same elements forwards and reverse them."""
    if not all(t is None or t.constant for t in (starts, ends, axes, steps_)):
        return _computed(b, x, starts, ends, axes, steps_)
    begins, stops = ([int(n) for n in b.known(t, "a bound").reshape(-1)] for t in (starts, ends))
    places = range(len(begins)) if axes is None else [int(n) for n in b.known(axes, "axes").reshape(-1)]
    widths = [1] * len(begins) if steps_ is None else [int(n) for n in b.known(steps_, "steps").reshape(-1)]
    rows = [range(n) for n in x.shape]
    for begin, stop, place, width in zip(begins, stops, places, widths, strict=True):
        axis = steps.axis_of(place, len(x.shape))
        if width < 0:  # ONNX starts at the first element then, Python before it
            begin = max(begin, -x.shape[axis])
        rows[axis] = range(x.shape[axis])[begin:stop:width]
    if any(len(row) == 0 for row in rows):
        return b.const(np.zeros([len(row) for row in rows], x.nominal))
    reverse = [axis for axis, row in enumerate(rows) if row.step < 0 and len(row) > 1]
    forward = [row if row.step > 0 else row[::-1] for row in rows]
    y = _forward(b, x, forward)
    for axis in reverse:  # the kernel reverses neighbouring axes only
        y = b.op("REVERSE_V2", [y, b.ints([axis])], y.shape)
    return y


def _forward(b: Builder, x: Tensor, rows: list[range]) -> Tensor:
    shape = [len(row) for row in rows]
    whole = [row == range(size) for row, size in zip(rows, x.shape, strict=True)]
    if all(whole):
        return x
    if not any(whole) and all(row.step == 1 or len(row) == 1 for row in rows):
        return steps.slice_axes(b, x, [row[0] for row in rows], shape)
    # Axes that are kept have no bounds, so that the same operator serves when their size changes at run time.
    begin, end = (
        [0 if kept else bound for kept, bound in zip(whole, bounds, strict=True)]
        for bounds in ([row[0] for row in rows], [row[-1] + 1 for row in rows])
    )
    mask = sum(1 << axis for axis, kept in enumerate(whole) if kept)
    operands = [x, b.ints(begin), b.ints(end), b.ints([row.step for row in rows])]
    return b.op("STRIDED_SLICE", operands, shape, begin_mask=mask, end_mask=mask)


def _computed(
    b: Builder, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None, widths: Tensor | None
) -> Tensor:
    """STRIDED_SLICE with bounds of every axis put together at run time; it clamps them as ONNX does."""
    rank = len(x.shape)
    if 0 in b.result.shape:
        raise b.refuse("a slice that holds nothing, found so at run time", "make its bounds initializers")
    first, last = (_clamped(b, t) for t in (starts, ends))
    width = b.const(np.ones(starts.shape, np.int32)) if widths is None else steps.index(b, widths)
    if axes is None:
        places = b.const(np.arange(starts.size, dtype=np.int32))
    elif axes.constant:
        places = b.const((axes.value().astype(np.int64) % rank).astype(np.int32))
    else:
        places = steps.binary(b, "FLOOR_MOD", steps.index(b, axes), b.const(rank, "int32"))
    if places.constant and places.value().tolist() == list(range(rank)):  # the bounds of every axis, in order
        return b.op("STRIDED_SLICE", [x, first, last, width], b.result.shape)
    column = steps.reshape(b, places, (starts.size, 1))

    def scattered(values: Tensor) -> Tensor:
        return b.op("SCATTER_ND", [column, values, b.ints([rank])], (rank,))

    ones = scattered(b.const(np.ones(starts.shape, np.int32)))
    untouched = steps.binary(b, "SUB", b.const(1, "int32"), ones)
    begin = scattered(first)
    end = steps.binary(b, "ADD", scattered(last), steps.binary(b, "MUL", untouched, b.ints(x.shape)))
    step = steps.binary(b, "ADD", scattered(width), untouched)
    return b.op("STRIDED_SLICE", [x, begin, end, step], b.result.shape)


def _clamped(b: Builder, bound: Tensor) -> Tensor:
    """A bound as int32: what does not fit is outside of every axis anyway."""
    if bound.constant:
        return b.const(np.clip(bound.value().astype(np.int64), -(2**31), 2**31 - 1).astype(np.int32))
    if bound.dtype == "int64":
        bound = steps.scalar(b, "MINIMUM", steps.scalar(b, "MAXIMUM", bound, -(2**31)), 2**31 - 1)
    return steps.index(b, bound)


def _computed_pads(b: Builder, x: Tensor, pads: Tensor, value: Tensor | None, axes: Tensor | None, mode: str) -> Tensor:
    """PADV2 or MIRROR_PAD whose table of pads is put together at run time."""
    rank = len(x.shape)
    if mode not in ("constant", "reflect") or x.nominal == "bool" or (mode == "reflect" and rank > 4):
        raise b.refuse("pads is computed at run time", "make pads an initializer")
    count = pads.size // 2
    table = steps.transpose(b, steps.reshape(b, steps.index(b, pads), (2, count)), (1, 0))
    if axes is not None:
        places = (
            b.const((axes.value().astype(np.int64) % rank).astype(np.int32))
            if axes.constant
            else steps.binary(b, "FLOOR_MOD", steps.index(b, axes), b.const(rank, "int32"))
        )
        table = b.op("SCATTER_ND", [steps.reshape(b, places, (count, 1)), table, b.ints([rank, 2])], (rank, 2))
    if mode == "reflect":
        return b.op("MIRROR_PAD", [x, table], b.result.shape, mode=_MIRROR_REFLECT)
    number = b.const(0, x.nominal) if value is None else steps.reshape(b, value, ())
    return b.op("PADV2", [x, table, number], b.result.shape)


@lowers("Pad")
def pad(
    b: Builder,
    x: Tensor,
    pads: Tensor,
    value: Tensor | None = None,
    axes: Tensor | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """PAD, PADV2 or MIRROR_PAD; `edge` and `wrap` by slices joined; negative pads cut first."""
    rank = len(x.shape)
    if not all(t is None or t.constant for t in (pads, axes)) or (value is not None and not value.constant):
        return _computed_pads(b, x, pads, value, axes, mode)
    table = [int(n) for n in b.known(pads, "pads").reshape(-1)]
    places = range(rank) if axes is None else [int(n) for n in b.known(axes, "axes").reshape(-1)]
    edges = [(0, 0)] * rank
    for n, place in enumerate(places):
        edges[steps.axis_of(place, rank)] = (table[n], table[n + len(table) // 2])
    if any(side < 0 for edge in edges for side in edge):
        begin = [max(0, -before) for before, _ in edges]
        size = [n - max(0, -a) - max(0, -z) for n, (a, z) in zip(x.shape, edges, strict=True)]
        x = steps.slice_axes(b, x, begin, size)
        edges = [(max(0, before), max(0, after)) for before, after in edges]
    if mode == "constant":
        return _constant(b, x, edges, value)
    if mode == "reflect" and rank <= 4 and not _beyond_reflection(x, edges):
        return b.op("MIRROR_PAD", [x, b.const(np.array(edges, np.int32))], b.result.shape, mode=_MIRROR_REFLECT)
    return _gathered(b, x, edges, mode)


def _beyond_reflection(x: Tensor, edges: list[tuple[int, int]]) -> bool:
    """Whether a pad reaches beyond one reflection, which MIRROR_PAD does not."""
    return any(max(edge) >= n for n, edge in zip(x.shape, edges, strict=True))


def _constant(b: Builder, x: Tensor, edges: list[tuple[int, int]], value: Tensor | None) -> Tensor:
    number = 0.0 if value is None else b.known(value, "the padding value").reshape(-1)[0]
    if x.nominal == "bool":
        padded = steps.pad(b, b.cast(x, "int32"), edges, float(number) or None)
        return b.cast(padded, "bool")
    if not number:
        return steps.pad(b, x, edges)
    if b.mode == "integer" and x.quantization is not None:
        q = x.quantization
        limits = np.iinfo(x.dtype)
        level = np.clip(np.rint(number / q.scale[0]) + q.zero_point[0], limits.min, limits.max)
        shape = [n + before + after for n, (before, after) in zip(x.shape, edges, strict=True)]
        inputs = [x, b.const(np.array(edges, np.int32)), Tensor((), x.dtype, np.array(level, x.dtype), q)]
        return b.op("PADV2", inputs, shape)
    return steps.pad(b, x, edges, number)


def _gathered(b: Builder, x: Tensor, edges: list[tuple[int, int]], mode: str) -> Tensor:
    """Padding by copies of the tensor's own elements: one GATHER an axis."""
    scheme = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}.get(mode)
    if scheme is None:
        raise b.refuse(f"padding by {mode!r}", "pad by constant, edge, reflect or wrap")
    for axis, edge in enumerate(edges):
        if any(edge):
            rows = np.pad(np.arange(x.shape[axis]), edge, mode=scheme)  # type: ignore[call-overload]
            x = steps.gather(b, x, b.ints(rows.tolist()), axis)
    return x
