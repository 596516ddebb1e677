"""GridSample: elements gathered at computed coordinates."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import reduce

import numpy as np
import onnx_ir as ir

from haversack.convert.hub.around import Around
from haversack.convert.hub.restate import CannotRestateError
from haversack.convert.hub.shapes import static_shape

CUBIC = -0.75
"""The `a` of GridSample's cubic kernel (ONNX's operator spec)."""

_FLOAT = ir.DataType.FLOAT


def grid_sample(make: Around, node: ir.Node) -> ir.Value:
    """A weighted sum of neighbours, each fetched by one GatherND: 1 (nearest), 2, or 4 (cubic) an axis."""
    x, grid = node.inputs[0], node.inputs[1]
    assert x is not None
    size = (static_shape(x) or ())[2:]
    mode = _text(node, "mode", "linear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)  # as opset 16 called them
    if mode == "cubic" and len(size) > 2:
        raise CannotRestateError("cubic sampling of volumes", "use mode 'linear'")
    return _Sampler(make, node, x, size).run(grid, mode)


def _text(node: ir.Node, name: str, default: str) -> str:
    return str(node.attributes.get_string(name, default))


class _Sampler:
    def __init__(self, make: Around, node: ir.Node, x: ir.Value, size: Sequence[int]):
        self.make, self.size, self.x = make, size, x
        self.padding = _text(node, "padding_mode", "zeros")
        self.align = bool(node.attributes.get_int("align_corners", 0))
        self.grid_shape = static_shape(node.inputs[1]) or ()

    def run(self, grid: ir.Value | None, mode: str) -> ir.Value:
        make, count = self.make, len(self.size)
        kind = make.node.outputs[0].dtype
        assert kind is not None
        data = make("Transpose", self.x, perm=[0, *range(2, count + 2), 1])
        data = data if kind == _FLOAT else make("Cast", data, to=_FLOAT)
        grid = grid if grid is not None and grid.dtype == _FLOAT else make("Cast", grid, to=_FLOAT)
        parts = [  # the grid holds (x, y, z), data (z, y, x)
            make("Gather", grid, make.const(np.array([n], np.int64)), to=_FLOAT, axis=count + 1)
            for n in reversed(range(count))
        ]
        places = [self._place(part, n) for part, n in zip(parts, self.size, strict=True)]
        if self.padding != "zeros" and mode != "cubic":
            places = [self._folded(p, n, self.padding) for p, n in zip(places, self.size, strict=True)]
        total: ir.Value | None = None
        for chosen in itertools.product(*(self._taps(place, mode) for place in places)):
            part = self._fetched(data, [place for place, _ in chosen])
            weights = [share for _, share in chosen if share is not None]
            if weights:  # [..., 1] each; the data has channels, so one product with it
                part = self._op("Mul", part, reduce(lambda one, two: self._op("Mul", one, two), weights))
            total = part if total is None else self._op("Add", total, part)
        assert total is not None
        total = total if kind == _FLOAT else make("Cast", total, to=kind)
        return make("Transpose", total, perm=[0, count + 1, *range(1, count + 1)])

    def _op(self, op: str, *inputs: ir.Value | float) -> ir.Value:
        given = [x if isinstance(x, ir.Value) else self.make.const(np.array(x, np.float32)) for x in inputs]
        return self.make(op, *given, to=_FLOAT)

    def _place(self, part: ir.Value, n: int) -> ir.Value:
        """From [-1, 1] to an index: the ends are the centres of the outer elements, or their outer edges."""
        scale, offset = ((n - 1) / 2, (n - 1) / 2) if self.align else (n / 2, (n - 1) / 2)
        return self._op("Add", self._op("Mul", part, scale), offset)

    def _taps(self, place: ir.Value, mode: str) -> list[tuple[ir.Value, ir.Value | None]]:
        """Neighbours along one axis, as whole numbers, with their weights."""
        if mode == "nearest":
            return [(self._op("Round", place), None)]
        low = self._op("Floor", place)
        share = self._op("Sub", place, low)
        if mode == "linear":
            return [(low, self._op("Sub", 1.0, share)), (self._op("Add", low, 1.0), share)]
        distances = (self._op("Add", share, 1.0), share, self._op("Sub", 1.0, share), self._op("Sub", 2.0, share))
        outer = (True, False, False, True)
        return [
            (self._op("Add", low, float(n - 1)), self._cubic(distance, far))
            for n, (distance, far) in enumerate(zip(distances, outer, strict=True))
        ]

    def _cubic(self, d: ir.Value, outer: bool) -> ir.Value:
        """Keys' cubic convolution kernel at a distance within 1, or (outer) between 1 and 2, by Horner's rule."""
        a = CUBIC
        terms = (a, -5 * a, 8 * a, -4 * a) if outer else (a + 2, -(a + 3), 0.0, 1.0)
        y = self._op("Mul", d, terms[0])
        for n, term in enumerate(terms[1:], start=1):
            y = self._op("Add", y, term) if term else y
            y = self._op("Mul", y, d) if n < 3 else y
        return y

    def _folded(self, place: ir.Value, n: int, padding: str) -> ir.Value:
        """A coordinate brought into the axis: clipped to its ends, or mirrored at them as often as needed."""
        if padding == "reflection":
            low, span = (0.0, float(n - 1)) if self.align else (-0.5, float(n))
            if span == 0:
                return self._op("Mul", place, 0.0)
            apart = self._op("Abs", self._op("Sub", place, low))
            turns = self._op("Floor", self._op("Div", apart, 2 * span))
            rest = self._op("Sub", apart, self._op("Mul", turns, 2 * span))
            place = self._op("Add", self._op("Min", rest, self._op("Sub", 2 * span, rest)), low)
        return self._op("Min", self._op("Max", place, 0.0), float(n - 1))

    def _fetched(self, data: ir.Value, places: Sequence[ir.Value]) -> ir.Value:
        """The elements at whole-numbered coordinates; outside of the axes zeros, or what padding says."""
        make, inside, columns = self.make, list[ir.Value](), list[ir.Value]()
        for place, n in zip(places, self.size, strict=True):
            if self.padding == "zeros":
                inside.append(make("Equal", place, self._folded(place, n, "border")))
            folded = self._folded(place, n, "border" if self.padding == "zeros" else self.padding)
            columns.append(make("Cast", folded, to=ir.DataType.INT64))
        shape = (*self.grid_shape[:-1], 1)
        batch = np.arange(shape[0], dtype=np.int64).reshape(-1, *([1] * (len(shape) - 1)))
        entries = make.const(np.ascontiguousarray(np.broadcast_to(batch, shape)))
        index = make("Concat", entries, *columns, to=ir.DataType.INT64, axis=len(self.grid_shape) - 1)
        found = make("GatherND", data, index, to=_FLOAT)
        for kept in inside:
            found = self._op("Mul", found, make("Cast", kept, to=_FLOAT))
        return found
