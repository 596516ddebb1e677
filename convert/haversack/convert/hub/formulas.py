"""A size as a function of other sizes, found from what all of them are at several bindings of a symbolic graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

Sizes = tuple[int, ...]
"""One size, at each of the bindings that were looked at."""


@dataclass(frozen=True)
class Formula:
    """product of `factors` * `scale` + `offset`; the division of the scale is exact.

    Attributes:
        factors: One or two sizes that are known.
        scale: A positive ratio.
        offset: An integer.
    """

    factors: tuple[Sizes, ...]
    scale: Fraction = Fraction(1)
    offset: int = 0


def formula(wanted: Sizes, known: Iterable[Sizes]) -> Formula | None:
    """The simplest formula that gives `wanted` at every binding; None where there is none.

    In order: a known size d, r * d, r * d1 * d2, r * d + c, with a ratio r and an integer c. A formula with one
    unknown number must hold at two bindings at least, one with two at three, or it would prove nothing.

    Args:
        wanted: The size at each binding, not the same at all of them.
        known: Sizes to compute it from, those to prefer first; none is the same at all bindings.
    """
    sizes = list(dict.fromkeys(known))
    if wanted in sizes:
        return Formula((wanted,))
    for factors in [*((a,) for a in sizes), *((a, b) for n, a in enumerate(sizes) for b in sizes[n:])]:
        products = [1] * len(wanted)
        for factor in factors:
            products = [product * size for product, size in zip(products, factor, strict=True)]
        scale = _slope((0, *products), (0, *wanted))
        if scale is not None and len(set(products)) > 1:
            return Formula(factors, scale)
    for size in sizes:
        scale = _slope(size, wanted)
        if scale is not None and len(set(size)) > 2:
            offset = wanted[0] - scale * size[0]
            if offset.denominator == 1:
                return Formula((size,), scale, int(offset))
    return None


def _slope(x: Sizes, y: Sizes) -> Fraction | None:
    """Of the rising line through all points."""
    other = next(n for n, size in enumerate(x) if size != x[0])
    slope = Fraction(y[other] - y[0], x[other] - x[0])
    straight = all(slope * (a - x[0]) == b - y[0] for a, b in zip(x, y, strict=True))
    return slope if straight and slope > 0 else None
