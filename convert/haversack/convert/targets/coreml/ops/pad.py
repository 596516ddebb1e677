"""Padding.

MIL's `pad` writes constants into floating-point tensors, and reflects or repeats the last two axes of them. Everything
else is a join with constants, or a gather by indices that are known at conversion.
"""

from __future__ import annotations

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers

NUMPY_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


@lowers("Pad")
def pad(
    b: Builder, x: Value, pads: Value, fill: Value | None = None, axes: Value | None = None, *, mode: str = "constant"
) -> Var | Value:
    """Negative pads cut."""
    where = list(range(x.rank)) if axes is None else [axis % x.rank for axis in b.integers(axes, "axes")]
    amounts = b.integers(pads, "pads")
    around = [(0, 0)] * x.rank
    for position, axis in enumerate(where):
        around[axis] = (amounts[position], amounts[position + len(where)])
    var = _cut(b, b.numeric(x), around)
    more = [(max(0, before), max(0, after)) for before, after in around]
    if not any(amount for pair in more for amount in pair):
        return b.like(var, x) if var is not b.numeric(x) else x
    if mode == "constant":
        value = 0 if fill is None else b.array(fill, "constant value").item()
        return b.like(_constant(b, var, more, value, floating=x.floating), x)
    if mode not in NUMPY_MODES:
        b.refuse(f"the mode {mode!r} is unknown", "use constant, reflect, edge or wrap")
    return b.like(_repeated(b, var, more, mode, floating=x.floating), x)


def _cut(b: Builder, x: Var, around: list[tuple[int, int]]) -> Var:
    shape = [int(size) for size in x.shape]
    begin = [max(0, -before) for before, _ in around]
    end = [size - max(0, -after) for size, (_, after) in zip(shape, around, strict=True)]
    if begin == [0] * len(shape) and end == shape:
        return x
    return b.op("slice_by_index", x=x, begin=begin, end=end, stride=[1] * len(shape))


def _constant(b: Builder, x: Var, more: list[tuple[int, int]], value: float, *, floating: bool) -> Var:
    if floating:
        flat = [amount for pair in more for amount in pair]
        return b.op("pad", x=x, pad=flat, mode="constant", constant_val=float(value))
    for axis, (before, after) in enumerate(more):
        shape = [int(size) for size in x.shape]
        parts = [
            np.full([*shape[:axis], amount, *shape[axis + 1 :]], int(value), np.int32) for amount in (before, after)
        ]
        joined = [b.constant(parts[0])] * bool(before) + [x] + [b.constant(parts[1])] * bool(after)
        if len(joined) > 1:
            x = b.op("concat", values=joined, axis=axis, interleave=False)
    return x


def _repeated(b: Builder, x: Var, more: list[tuple[int, int]], mode: str, *, floating: bool) -> Var:
    shape = [int(size) for size in x.shape]
    last_two = len(shape) >= 2 and not any(amount for pair in more[:-2] for amount in pair)
    small = all(max(pair) < size for pair, size in zip(more, shape, strict=True))
    if floating and last_two and small and mode in ("reflect", "edge"):
        flat = [amount for pair in more[-2:] for amount in pair]
        return b.op("pad", x=x, pad=flat, mode="reflect" if mode == "reflect" else "replicate", constant_val=0.0)
    for axis, pair in enumerate(more):
        if any(pair):
            indices = np.pad(np.arange(shape[axis]), pair, mode=NUMPY_MODES[mode])  # type: ignore[call-overload]
            x = b.op("gather", x=x, indices=indices, axis=axis, batch_dims=0)
    return x
