"""Sizes as formulas of other sizes: what is found gives back every size, and what has no formula has none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haversack.convert.hub.formulas import Formula, formula

BATCH = (1, 7, 13)
WIDTH = (32, 37, 43)


def value(found: Formula, at: int) -> int:
    return int(math.prod(sizes[at] for sizes in found.factors) * found.scale + found.offset)


@pytest.mark.parametrize(
    ("wanted", "factors"),
    [
        (BATCH, (BATCH,)),
        (tuple(4 * n for n in BATCH), (BATCH,)),
        (tuple(n * w for n, w in zip(BATCH, WIDTH, strict=True)), (BATCH, WIDTH)),
        (tuple(6 * n * w for n, w in zip(BATCH, WIDTH, strict=True)), (BATCH, WIDTH)),
        (tuple(w * w for w in WIDTH), (WIDTH, WIDTH)),
        (tuple(2 * w - 1 for w in WIDTH), (WIDTH,)),
    ],
)
def test_what_shapes_are_made_of_is_found(wanted: tuple[int, ...], factors: tuple[tuple[int, ...], ...]) -> None:
    found = formula(wanted, [BATCH, WIDTH])
    assert found is not None
    assert found.factors == factors
    assert [value(found, at) for at in range(3)] == list(wanted)


@pytest.mark.parametrize("wanted", [tuple(-(-w // 2) for w in WIDTH), (5, 5, 6), (3, 1, 2)])
def test_what_is_no_formula_is_none(wanted: tuple[int, ...]) -> None:
    """Rounded halves, and numbers that fall where every known size grows."""
    assert formula(wanted, [BATCH, WIDTH]) is None


def test_two_bindings_prove_no_line() -> None:
    assert formula((9, 12), [(4, 5)]) is None
    assert formula((8, 10), [(4, 5)]) == Formula(((4, 5),), 2)


@given(
    st.lists(st.integers(1, 40), min_size=3, max_size=4, unique=True),
    st.integers(1, 6),
    st.integers(0, 9),
)
def test_a_line_is_found_and_exact(sizes: list[int], slope: int, offset: int) -> None:
    wanted = tuple(slope * size + offset for size in sizes)
    found = formula(wanted, [tuple(sizes)])
    assert found is not None
    assert [value(found, at) for at in range(len(sizes))] == list(wanted)
