"""Orders of axes: a permutation `p` says that axis `i` of the array in memory is axis `p[i]` of the ONNX tensor.

This is `numpy.transpose`'s convention: `stored = logical.transpose(p)`. Axes of size 1 do not show in memory, so two
permutations that differ only in where these stand are the same bytes, and a Reshape leads from one to the other.
"""

from __future__ import annotations

from collections.abc import Sequence

Perm = tuple[int, ...]


def identity(rank: int) -> Perm:
    """The logical order itself."""
    return tuple(range(rank))


def channels_last(rank: int) -> Perm:
    """Axis 1 moved to the end: `(0, 2, 3, 1)` for rank 4."""
    return (0, *range(2, rank), 1)


def inverse(perm: Perm) -> Perm:
    """Where each logical axis stands: `inverse(p)[p[i]] == i`."""
    places = [0] * len(perm)
    for place, axis in enumerate(perm):
        places[axis] = place
    return tuple(places)


def compose(first: Perm, then: Perm) -> Perm:
    """The one permutation that does `x.transpose(first).transpose(then)`."""
    return tuple(first[axis] for axis in then)


def permuted(shape: Sequence[int], perm: Perm) -> tuple[int, ...]:
    """The shape in memory of a tensor of logical shape `shape`."""
    return tuple(shape[axis] for axis in perm)


def visible(shape: Sequence[int], perm: Perm) -> Perm:
    """`perm` without the axes of size 1: two permutations with the same result are the same bytes in memory."""
    return tuple(axis for axis in perm if shape[axis] != 1)


def same_bytes(shape: Sequence[int], one: Perm, other: Perm) -> bool:
    """Whether a tensor of `shape` holds the same bytes in both orders."""
    return visible(shape, one) == visible(shape, other)
