"""Layer normalisation, spelled out in arithmetic by exporters, as one operator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.passes.polynomials import FLOATS, Monomial, Polynomial, below, close, find, polynomial
from haversack.convert.hub.passes.rewriting import constant, initializer, insert, nodes, replace, scalar
from haversack.runtimes.engines import Array

SQUARED_DIFFERENCE: dict[Monomial, float] = {(2, 0): 1.0, (1, 1): -2.0, (0, 2): 1.0}
"""`(x - mean) ** 2`, multiplied out."""


def layer_norm(model: ir.Model) -> bool:
    """Name the normalisation by a mean and a variance over constant axes LayerNormalization.

    Given:
        m = ReduceMean<keepdims=1>(x, axes)
        d = Sub(x, m)
        v = ReduceMean<keepdims=1>(d * d, axes)
        s = Sqrt(v + epsilon)                  or Pow with 1/2 or -1/2
        y = d / s * f + o                      or any other spelling, f and o are constants along the axes or left out

    Result:
        y = LayerNormalization<epsilon>(x, f, o)

    Where nothing else reads the values between x and y. Axes that are not the last ones are moved there and back by
    Transposes.
    """
    changed = False
    for node in nodes(model, "Sqrt", "Pow"):
        exponent = 0.5 if node.op_type == "Sqrt" else scalar(node.inputs[1])
        if exponent in (0.5, -0.5):
            changed = _fuse(node, 1 if exponent == 0.5 else -1) or changed
    return changed


def _fuse(node: ir.Node, exponent: int) -> bool:
    found = _statistics(node.inputs[0])
    if found is None:
        return False
    x, mean, axes, epsilon = found
    if x.shape is None or x.dtype not in FLOATS:
        return False
    dims = [x.shape[axis] for axis in axes]
    sizes = [dim for dim in dims if isinstance(dim, int)]
    if len(sizes) != len(dims):
        return False
    symbols = {x: (1, 0, 0), mean: (0, 1, 0), node.outputs[0]: (0, 0, exponent)}
    along = partial(_parameters, rank=len(x.shape), axes=axes, sizes=sizes)
    whole = find(node.outputs[0], x, symbols, lambda terms: along(terms) is not None)
    parameters = None if whole is None else along(polynomial(whole.outputs[0], symbols))
    if whole is None or parameters is None:
        return False
    _write(whole, x, axes, epsilon, parameters)
    return True


def _statistics(value: ir.Value | None) -> tuple[ir.Value, ir.Value, list[int], float] | None:
    """Of a variance plus epsilon: what it is the variance of, the mean, the axes (ascending) and epsilon."""
    for variance in below(value, 2):
        axes = _mean_axes(variance)
        terms = polynomial(value, {variance: (1,)}) if axes else None
        if axes is None or terms is None:
            continue
        epsilon = np.asarray(terms.pop((0,), 0))
        producer = variance.producer()
        if not close(terms, {(1,): 1}, variance) or epsilon.size != 1 or epsilon < 0 or producer is None:
            continue
        squares = producer.inputs[0]
        for mean in below(squares, 4):
            maker = mean.producer()
            x = maker.inputs[0] if maker is not None and _mean_axes(mean) == axes else None
            if x is not None and close(polynomial(squares, {x: (1, 0), mean: (0, 1)}), SQUARED_DIFFERENCE, x):
                return x, mean, axes, float(epsilon.reshape(()))
    return None


def _mean_axes(value: ir.Value) -> list[int] | None:
    """The axes, ascending, of a ReduceMean over constant ones that keeps them."""
    node = value.producer()
    if node is None or node.op_type != "ReduceMean" or node.domain != "" or not node.attributes.get_int("keepdims", 1):
        return None
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if given is None or not given.size or value.shape is None:
        return None
    return sorted(int(axis) % len(value.shape) for axis in given.reshape(-1))


def _parameters(
    terms: Polynomial | None, *, rank: int, axes: Sequence[int], sizes: Sequence[int]
) -> tuple[Array, Array | None] | None:
    """The factor and the offset of `factor * (x - mean) / deviation + offset`, in the shape of the axes."""
    if terms is None or not {(1, 0, -1), (0, 1, -1)} <= terms.keys() <= {(1, 0, -1), (0, 1, -1), (0, 0, 0)}:
        return None
    factor, drop = (_along(np.asarray(terms[m]), rank, axes, sizes) for m in ((1, 0, -1), (0, 1, -1)))
    # The same constants on both, in float64: they may differ by its roundings.
    if factor is None or drop is None or not np.allclose(factor, -drop, rtol=1e-12, atol=0):
        return None
    if (0, 0, 0) not in terms:
        return factor, None
    offset = _along(np.asarray(terms[0, 0, 0]), rank, axes, sizes)
    return None if offset is None else (factor, offset)


def _along(values: Array, rank: int, axes: Sequence[int], sizes: Sequence[int]) -> Array | None:
    """Spread constants that broadcast along `axes` alone to one for each place there."""
    if values.ndim > rank:
        return None
    full = values.reshape((1,) * (rank - values.ndim) + values.shape)
    kept = [full.shape[axis] for axis in axes]
    if full.size != np.prod(kept) or any(k not in (1, size) for k, size in zip(kept, sizes, strict=True)):
        return None
    return np.broadcast_to(full.reshape(kept), sizes)


def _write(
    whole: ir.Node, x: ir.Value, axes: Sequence[int], epsilon: float, parameters: tuple[Array, Array | None]
) -> None:
    graph = whole.graph
    assert graph is not None
    assert x.shape is not None
    assert x.dtype is not None
    dtype = x.dtype.numpy()
    names = (f"{whole.name}/{name}" for name in ("scale", "bias"))
    held = [
        initializer(graph, name, each.astype(dtype))
        for name, each in zip(names, parameters, strict=True)
        if each is not None
    ]
    rank = len(x.shape)
    order = [axis for axis in range(rank) if axis not in axes] + list(axes)
    attributes = {"axis": rank - len(axes), "epsilon": epsilon}
    if order == sorted(order):
        replace(whole, "LayerNormalization", [x, *held], **attributes)
        return
    moved = insert(whole, "Transpose", [x], f"{whole.name}/axes_last", like=x, perm=order)
    moved.shape = ir.Shape([x.shape[axis] for axis in order])
    normal = insert(whole, "LayerNormalization", [moved, *held], f"{whole.name}/norm", like=moved, **attributes)
    replace(whole, "Transpose", [normal], perm=[order.index(axis) for axis in range(rank)])
