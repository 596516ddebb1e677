"""What no other point beats: the choice that is left to the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Point = TypeVar("Point")


def front(points: Sequence[Point], measures: Callable[[Point], Sequence[float | None]]) -> list[Point]:
    """The points that no other is at least as good as in everything and better in something (Pareto's optimum).

    Args:
        points: Any things.
        measures: What counts of each, smaller is better. What one of two points lacks (None) is not compared between
            them: a point without a latency is not beaten for it.

    Returns:
        The points that are left, in the order given. Of several that are equal in everything the first.
    """
    left = []
    for index, point in enumerate(points):
        own = measures(point)
        beaten = any(
            _beats(measures(other), own, earlier=position < index)
            for position, other in enumerate(points)
            if position != index
        )
        if not beaten:
            left.append(point)
    return left


def _beats(other: Sequence[float | None], own: Sequence[float | None], *, earlier: bool) -> bool:
    pairs = [(a, b) for a, b in zip(other, own, strict=True) if a is not None and b is not None]
    if not pairs or len(pairs) < sum(each is not None for each in own):
        return False
    return all(a <= b for a, b in pairs) and (earlier or any(a < b for a, b in pairs))
