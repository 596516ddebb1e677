"""GridSample: MIL's `resample` where its rules are ONNX's, elsewhere elements gathered at computed coordinates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers

CUBIC = -0.75
"""The `a` of GridSample's cubic kernel (operator specification)."""

NATIVE = {"zeros": "constant", "border": "border"}
"""ONNX's paddings to `resample`'s, which mirrors otherwise."""


@lowers("GridSample")
def grid_sample(
    b: Builder, x: Value, grid: Value, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Var:
    """A weighted sum of neighbours, each fetched by one gather: 1 (nearest), 2 (linear) or 4 (cubic) an axis."""
    size = x.shape[2:]
    if mode == "cubic" and len(size) > 2:
        b.refuse("cubic sampling of volumes", "use the mode 'linear'")
    if len(size) == 2 and mode == "linear" and padding_mode in NATIVE:
        return b.op(
            "resample",
            x=x,
            coordinates=grid,
            sampling_mode="bilinear",
            padding_mode=NATIVE[padding_mode],
            padding_value=0.0,
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=bool(align_corners),
        )
    points = math.prod(grid.shape[1:-1])
    rows = b.reshape(b.var(grid), (grid.shape[0], points, len(size)))
    columns = [
        b.op("slice_by_index", x=rows, begin=[0, 0, n], end=[grid.shape[0], points, n + 1], stride=[1, 1, 1])
        for n in reversed(range(len(size)))  # the grid holds (x, y, z), data (z, y, x)
    ]
    sampler = Sampler(b, x, padding_mode if mode == "cubic" or padding_mode == "zeros" else "border", align_corners)
    places = [
        place_of(b, b.reshape(column, (grid.shape[0], points)), n, align_corners)
        for column, n in zip(columns, size, strict=True)
    ]
    if padding_mode != "zeros" and mode != "cubic":
        places = [folded(b, place, n, padding_mode, align_corners) for place, n in zip(places, size, strict=True)]
    total = sampler.weighted([taps(b, place, mode) for place in places])
    return b.reshape(total, b.outputs[0].shape)


Tap = tuple[Var, "Var | None"]
"""A neighbour along one axis: its index, a whole number as a float, and its weight (None for 1)."""


class Sampler:
    """Fetches elements of `[batch, channels, *size]` at computed indices `[batch, points]`.

    Args:
        b: The builder.
        x: The data.
        padding_mode: What lies beyond an axis: `zeros`, `border` or `reflection`.
        align_corners: Whether a reflection is about the centre of the outer elements.
    """

    def __init__(self, b: Builder, x: Value, padding_mode: str, align_corners: int = 0):
        self.b, self.padding_mode, self.align = b, padding_mode, align_corners
        self.size = x.shape[2:]
        self.flat = b.reshape(b.var(x), (x.shape[0], x.shape[1], math.prod(self.size)))

    def weighted(self, axes: Sequence[Sequence[Tap]]) -> Var:
        """The sum over all combinations of the axes' neighbours: `[batch, channels, points]`."""
        b, total = self.b, None
        for chosen in itertools.product(*axes):
            weight = None
            for _, share in chosen:
                if share is not None:
                    weight = share if weight is None else b.op("mul", x=weight, y=share)
            value = self.fetched([place for place, _ in chosen])
            if weight is not None:
                value = b.op("mul", x=value, y=b.op("expand_dims", x=weight, axes=[1]))
            total = value if total is None else b.op("add", x=total, y=value)
        return total

    def fetched(self, places: Sequence[Var]) -> Var:
        """The elements at whole-numbered coordinates, one array of them an axis."""
        b = self.b
        inside: Var = None
        index: Var = None
        for place, n in zip(places, self.size, strict=True):
            if self.padding_mode == "zeros":
                above = b.op("greater_equal", x=place, y=0.0)
                kept = b.op("logical_and", x=above, y=b.op("less_equal", x=place, y=float(n - 1)))
                inside = kept if inside is None else b.op("logical_and", x=inside, y=kept)
            mode = "border" if self.padding_mode == "zeros" else self.padding_mode
            column = b.cast(folded(b, place, n, mode, self.align), "int32")
            index = column if index is None else b.op("add", x=b.op("mul", x=index, y=n), y=column)
        if self.flat.shape[0] == 1:
            found = b.op("gather", x=self.flat, indices=b.reshape(index, (index.shape[1],)), axis=2, batch_dims=0)
        else:
            found = b.op("gather", x=self.flat, indices=index, axis=2, batch_dims=1)
        if inside is None:
            return found
        return b.op("mul", x=found, y=b.op("expand_dims", x=b.cast(inside, b.float_name), axes=[1]))


def place_of(b: Builder, part: Var, n: int, align: int) -> Var:
    """From [-1, 1] to an index: the ends are the centres of the outer elements, or their outer edges."""
    scale, offset = ((n - 1) / 2, (n - 1) / 2) if align else (n / 2, (n - 1) / 2)
    return b.op("add", x=b.op("mul", x=part, y=scale), y=offset)


def taps(b: Builder, place: Var, mode: str) -> list[Tap]:
    """Neighbours along one axis."""
    if mode == "nearest":
        return [(b.op("round", x=place), None)]
    low = b.op("floor", x=place)
    share = b.op("sub", x=place, y=low)
    rest = b.op("sub", x=1.0, y=share)
    if mode == "linear":
        return [(low, rest), (b.op("add", x=low, y=1.0), share)]
    distances = [b.op("add", x=share, y=1.0), share, rest, b.op("add", x=rest, y=1.0)]
    weights = [_cubic(b, d, outer=outer) for d, outer in zip(distances, (True, False, False, True), strict=True)]
    return [(b.op("add", x=low, y=float(n - 1)), weight) for n, weight in enumerate(weights)]


def _cubic(b: Builder, d: Var, *, outer: bool) -> Var:
    """Keys' cubic convolution kernel at a distance within 1, or (outer) between 1 and 2, by Horner's rule."""
    a = CUBIC
    first, *terms = (a, -5 * a, 8 * a, -4 * a) if outer else (a + 2, -(a + 3), 0.0, 1.0)
    y = b.op("mul", x=d, y=first)
    for n, term in enumerate(terms):
        y = b.op("add", x=y, y=term) if term else y
        y = b.op("mul", x=y, y=d) if n < 2 else y
    return y


def folded(b: Builder, place: Var, n: int, padding_mode: str, align: int) -> Var:
    """A coordinate brought into the axis: clipped to its ends, or mirrored at them as often as needed."""
    if padding_mode == "reflection":
        low, span = (0.0, float(n - 1)) if align else (-0.5, float(n))
        if span == 0:
            return b.op("mul", x=place, y=0.0)
        apart = b.op("abs", x=b.op("sub", x=place, y=low))
        turn = b.op("mod", x=apart, y=2 * span)
        place = b.op("add", x=b.op("minimum", x=turn, y=b.op("sub", x=2 * span, y=turn)), y=low)
    return b.op("minimum", x=b.op("maximum", x=place, y=0.0), y=float(n - 1))
