"""Dimensions that an artifact takes at several sizes, because the user asked for it: `1..8` or `16,32,64`.

A Core ML package declares such sizes: a range, or an enumeration of whole shapes. (A TFLite file takes any size along
its free dimensions, and needs nothing of this.)
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from haversack.convert.errors import UsageError

Size = int | str
"""A size to fix, or the text of several."""

MOST_SHAPES = 128
"""Shapes that Core ML takes in one enumeration (coremltools' guide to flexible input shapes)."""
LOOKED_AT = 6
"""Combinations of enumerated sizes that a lowering compares; all are verified."""
INSIDE = 3
"""Points inside ranges that a lowering compares, besides both ends; one more is verified."""
DRAWS = 20
"""Points that are drawn until one is found that the lowering has not compared."""
SEED = 5


@dataclass(frozen=True)
class Flexible:
    """The sizes of one dimension.

    Attributes:
        sizes: All of them, the default first; of a range its lowest and its highest.
        ranged: Whether those between the two are meant too.
    """

    sizes: tuple[int, ...]
    ranged: bool = False

    def __str__(self) -> str:
        return (".." if self.ranged else ",").join(map(str, self.sizes))

    def holds(self, size: int) -> bool:
        """Whether `size` is one of them."""
        return self.sizes[0] <= size <= self.sizes[1] if self.ranged else size in self.sizes


def parsed(text: str) -> Flexible | None:
    """`1..8` is a range, `16,32,64` an enumeration; None for what is neither."""
    low, dots, high = text.partition("..")
    parts = (low, high) if dots else tuple(text.split(","))
    if len(parts) < 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        return None
    sizes = tuple(dict.fromkeys(map(int, parts)))
    if len(sizes) < 2 or (dots and sizes[0] > sizes[1]):
        return None
    return Flexible(sizes, bool(dots))


def combinations(flexible: Mapping[str, Flexible]) -> list[dict[str, int]]:
    """Every combination of the enumerated sizes, the defaults first; one that is empty where all are ranges.

    Raises:
        UsageError: There are more than `MOST_SHAPES`.
    """
    names = [name for name, sizes in flexible.items() if not sizes.ranged]
    rows = [dict(zip(names, row, strict=True)) for row in itertools.product(*(flexible[name].sizes for name in names))]
    if len(rows) > MOST_SHAPES:
        raise UsageError(
            f"--dim: {len(rows)} combinations of sizes, Core ML takes {MOST_SHAPES}; give fewer, or a range"
        )
    return rows


def points(flexible: Mapping[str, Flexible]) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """The sizes that a lowering compares, and those that verification runs: every enumerated size, all ends of ranges.

    Verification also runs one point inside the ranges that the lowering has not seen.
    """
    rows, ranges = combinations(flexible), {name: sizes.sizes for name, sizes in flexible.items() if sizes.ranged}
    ends = [{name: sizes[end] for name, sizes in ranges.items()} for end in (0, 1)] if ranges else [{}]
    draw = random.Random(SEED)  # of several ranges the points must not rise together, or one could pass for another
    inside = [{name: _between(draw, *sizes) for name, sizes in ranges.items()} for _ in range(INSIDE)]
    some = spread(rows, LOOKED_AT)
    looked = [{**row, **end} for row in (some[0], some[-1]) for end in ends]
    looked += [{**row, **inside[n % INSIDE]} for n, row in enumerate(some)]
    looked += [{**some[n % len(some)], **inside[n]} for n in range(INSIDE)]
    checked = [{**row, **end} for row in rows for end in ends]
    unseen = ({**rows[0], **{name: _between(draw, *sizes) for name, sizes in ranges.items()}} for _ in range(DRAWS))
    checked += [point for point in unseen if point not in looked][:1]
    return _unique(looked), _unique(checked)


def _between(draw: random.Random, low: int, high: int) -> int:
    """A size inside a range, an end where there is nothing inside."""
    return draw.randint(low + 1, high - 1) if high - low > 1 else draw.choice((low, high))


def spread(rows: Sequence[dict[str, int]], most: int) -> list[dict[str, int]]:
    """At most so many of them, evenly, the first and the last included."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(n * (len(rows) - 1) / (most - 1))] for n in range(most)]


def _unique(rows: Sequence[dict[str, int]]) -> list[dict[str, int]]:
    return list({tuple(row.items()): row for row in rows}.values())
