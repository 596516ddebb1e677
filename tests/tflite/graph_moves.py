"""What moves elements about in random graphs: shapes, orders of axes, indices, selections, constants."""

from __future__ import annotations

import numpy as np
from graph_strategies import ALL, Sketch, Value


def reshape(g: Sketch) -> None:
    """Reshape with zeros and -1, by a constant or a computed shape; Flatten."""
    x = g.operand(ALL)
    if g.flag():
        g.node("Flatten", x, axis=g.integer(-x.rank if g.opset >= 11 else 0, x.rank))
        return
    sizes: list[int] = []
    rest = x.array.size
    while rest > 1 and len(sizes) < 4:
        n = g.one_of([d for d in range(1, rest + 1) if rest % d == 0])
        sizes.append(n)
        rest //= n
    sizes += [rest] if rest != 1 or g.flag() else []
    if g.flag() and sizes:
        sizes[g.integer(0, len(sizes) - 1)] = -1
    for axis, n in enumerate(sizes):
        if axis < x.rank and n == x.shape[axis] and g.flag():
            sizes[axis] = 0
    g.node("Reshape", x, g.ints(sizes))


def shape_arithmetic(g: Sketch) -> None:
    """A shape computed at run time: the product of some sizes, the rest as -1."""
    x = g.operand(ALL, 2)
    made = g.node("Shape", x)
    part = made and g.node("Gather", made[0], g.ints([g.axis(x.rank)]), axis=0)
    joined = part and g.node("Concat", part[0], g.ints([-1]), axis=0)
    if joined:
        g.node("Reshape", x, joined[0])
    elif g.flag():
        g.node("Size", x)


def squeeze(g: Sketch) -> None:
    """Squeeze and Unsqueeze."""
    x = g.operand(ALL, high=4)
    if g.flag():
        ones = [axis - (x.rank if g.flag() else 0) for axis, n in enumerate(x.shape) if n == 1 and g.flag()]
        g.node_with_axes("Squeeze", x, ones or None, 13)
        return
    count = g.integer(1, 2)
    g.node_with_axes("Unsqueeze", x, sorted(set(g.integers(-x.rank - count, x.rank + count - 1, count))), 13)


def transpose(g: Sketch) -> None:
    """Any permutation, or the default."""
    x = g.operand(ALL, 1)
    order = g.shuffled(range(x.rank))
    g.node("Transpose", x, **({"perm": order} if g.flag() else {}))


def expand(g: Sketch) -> None:
    """Expand, to a shape that may have fewer axes, and Tile."""
    x = g.operand(ALL, high=4)
    if g.flag():
        g.node("Tile", x, g.ints(g.integers(1, 3, x.rank)))
        return
    shape = [g.integer(1, 3) if n == 1 else g.one_of([n, 1]) for n in x.shape]
    g.node("Expand", x, g.ints([*g.integers(1, 2, g.integer(0, 1)), *shape]))


def concat(g: Sketch) -> None:
    """Of one to three values; now and then the same one twice."""
    x = g.operand(ALL, 1)
    axis = g.axis(x.rank)
    others = [x] if g.flag() else []
    for _ in range(g.integer(0, 2)):
        shape = list(x.shape)
        shape[axis] = g.integer(1, 3)
        fits = [v for v in g.values if v.dtype == x.dtype and v.rank == x.rank and _alike(v, x, axis)]
        others.append(g.one_of(fits) if fits and g.flag() else g.leaf(x.dtype, tuple(shape)))
    g.node("Concat", x, *others, axis=axis)


def _alike(v: Value, x: Value, axis: int) -> bool:
    return all(n == m for a, (n, m) in enumerate(zip(v.shape, x.shape, strict=True)) if a != axis % x.rank)


def split(g: Sketch) -> None:
    """Equal parts, or given ones."""
    x = g.operand(ALL, 1)
    axis = g.axis(x.rank)
    size = x.shape[axis]
    count = g.integer(1, min(size, 3))
    sizes = [1] * (count - 1) + [size - count + 1]
    if g.flag():
        given = {"num_outputs": count} if g.opset >= 18 else {}
        g.node("Split", x, outputs=count, axis=axis, **given)
    elif g.opset < 13:
        g.node("Split", x, outputs=count, axis=axis, split=sizes)
    else:
        g.node("Split", x, g.ints(sizes), outputs=count, axis=axis)


def slice_(g: Sketch) -> None:
    """Bounds beyond the axis and counted from its end, steps of either sign."""
    x = g.operand(ALL, 1)
    axes = g.axes(x.rank) or [0]
    starts, ends, widths = [], [], []
    for axis in axes:
        n, width = x.shape[axis], g.one_of([1, 2, -1, -2, 3]) if g.opset >= 10 else 1
        begin, end = sorted((g.integer(-n - 1, n), g.integer(-n - 1, n + 1)), key=lambda at, n=n: at % (n + 2))
        if width < 0:
            begin, end = end, g.one_of([begin, -n - 1, -(2**31)])
        starts.append(begin)
        ends.append(g.one_of([end, 2**31 - 1]) if width > 0 else end)
        widths.append(width)
    if g.opset < 10:
        g.node("Slice", x, axes=axes, starts=starts, ends=ends)
    else:
        operands = [g.ints(starts), g.ints(ends), g.ints(axes)]
        g.node("Slice", x, *operands, *([g.ints(widths)] if any(w != 1 for w in widths) else []))


def pad(g: Sketch) -> None:
    """Every mode, negative pads, some axes only."""
    x = g.operand(ALL, 1)
    mode = g.one_of(["constant", "reflect", "edge", "wrap"])
    axes = g.axes(x.rank) if g.opset >= 18 and g.flag() else list(range(x.rank))
    low = -1 if mode == "constant" else 0
    pads = g.integers(low, 2, 2 * len(axes))
    if g.opset < 11:
        g.node("Pad", x, mode=mode, pads=pads, **({"value": 1.5} if mode == "constant" and g.flag() else {}))
        return
    value = g.leaf(x.dtype, (), constant=True) if mode == "constant" and g.flag() else None
    partial = [g.ints(axes)] if len(axes) < x.rank else []
    g.node("Pad", x, g.ints(pads), *([value] if value or partial else []), *partial, mode=mode)


def _indices(g: Sketch, n: int, shape: tuple[int, ...]) -> Value:
    """Indices of an axis, counted from either end (from opset 11 on)."""
    random = np.random.default_rng(g.integer(0, 1 << 16))
    low = -n if g.opset >= 11 else 0
    array = random.integers(low, n, shape).astype(g.one_of(["int64", "int32"]))
    return g.hold(array) if g.flag() else g.feed(array)


def gather(g: Sketch) -> None:
    """Gather, GatherElements, GatherND."""
    x = g.operand(ALL, 1)
    op = g.one_of(["Gather", "GatherElements", "GatherND"])
    axis = g.axis(x.rank)
    if op == "Gather":
        g.node(op, x, _indices(g, x.shape[axis], g.shape(high=2)), axis=axis)
    elif op == "GatherElements":
        shape = [g.integer(1, n) for n in x.shape]
        g.node(op, x, _indices(g, x.shape[axis], tuple(shape)), axis=axis)
    else:
        batch = g.integer(0, x.rank - 1) if g.opset >= 12 else 0
        depth = g.integer(1, x.rank - batch)
        low = min(x.shape[batch : batch + depth])
        indices = _indices(g, low, (*x.shape[:batch], *g.shape(high=2), depth))
        g.node(op, x, *([g.hold(indices.array, "int64")]), **({"batch_dims": batch} if batch else {}))


def scatter(g: Sketch) -> None:
    """ScatterElements and ScatterND at places that differ, or that add up."""
    x = g.operand(("float32", "int32", "int64", "bool"), 1)
    reduction = g.one_of(["none", "add", "mul", "max", "min"]) if x.dtype != "bool" else "none"
    given = {"reduction": reduction} if reduction != "none" else {}
    random = np.random.default_rng(g.integer(0, 1 << 16))
    if g.flag():
        axis = g.axis(x.rank)
        count = g.integer(1, x.shape[axis])
        rows = random.permutation(x.shape[axis])[:count] - (x.shape[axis] if g.flag() else 0)
        shape = [g.integer(1, n) for n in x.shape]
        shape[axis] = count
        indices = np.broadcast_to(rows.reshape([-1 if a == axis % x.rank else 1 for a in range(x.rank)]), shape)
        g.node("ScatterElements", x, g.hold(indices, "int64"), g.leaf(x.dtype, tuple(shape)), axis=axis, **given)
        return
    depth = g.integer(1, x.rank)
    total = int(np.prod(x.shape[:depth]))
    count = g.integer(1, total)
    places = random.integers(0, total, count) if reduction == "add" else random.permutation(total)[:count]
    columns = np.stack(np.unravel_index(places, x.shape[:depth]), -1)
    indices = g.hold(columns, "int64") if g.flag() else g.feed(columns.astype(np.int64))
    g.node("ScatterND", x, indices, g.leaf(x.dtype, (count, *x.shape[depth:])), **given)


def one_hot(g: Sketch) -> None:
    """Indices outside of the depth give no hot place."""
    indices = g.operand(("int64", "int32"), high=3)
    values = g.leaf(g.one_of(["float32", "int32", "int64"]), (2,))
    g.node("OneHot", indices, g.hold(np.array(g.integer(1, 5), np.int64)), values, axis=g.axis(indices.rank + 1))


def triangle(g: Sketch) -> None:
    """Trilu and EyeLike."""
    if g.flag():
        x = g.operand(("float32", "int32", "int64", "bool"), 2)
        g.node("Trilu", x, *([g.hold(np.array(g.integer(-3, 3), np.int64))] if g.flag() else []), upper=int(g.flag()))
    else:
        g.node("EyeLike", g.operand(("float32", "int32"), 2, 2), k=g.integer(-2, 2))


def filled(g: Sketch) -> None:
    """ConstantOfShape, Range and Dropout."""
    op = g.one_of(["ConstantOfShape", "Range", "Dropout"])
    if op == "ConstantOfShape":
        g.node(op, g.ints(list(g.shape(high=3))))
    elif op == "Range":
        dtype = g.one_of(["float32", "int32", "int64"])
        start, count, delta = g.integer(-3, 3), g.integer(1, 5), g.one_of([1, 2, -1])
        g.node(op, *(g.hold(np.array(n, dtype)) for n in (start, start + count * delta, delta)))
    else:
        g.node(op, g.operand(("float32",)), outputs=2 if g.opset >= 12 and g.flag() else 1)


def compress(g: Sketch) -> None:
    """Compress by a known condition."""
    x = g.operand(("float32", "int64", "bool"), 1)
    axis = g.axis(x.rank) if g.flag() else None
    size = x.array.size if axis is None else x.shape[axis]
    condition = g.leaf("bool", (g.integer(1, size),), constant=True)
    g.node("Compress", x, condition, **({} if axis is None else {"axis": axis}))


MOVES = (
    reshape, reshape, shape_arithmetic, squeeze, transpose, transpose, expand, concat, split, slice_, slice_, pad,
    gather, gather, scatter, one_hot, triangle, filled, compress,
)  # fmt: skip
