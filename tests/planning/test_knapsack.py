"""The solver against trying every choice."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haversack.convert.planning.knapsack import InfeasibleError, choose

numbers = st.integers(0, 60)
layers = st.lists(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=4), min_size=1, max_size=5)


def best(rows: list, bound: float, second: float | None) -> int | None:
    """The least weight of any choice within the bounds, by trying all."""
    found = None
    for choice in itertools.product(*rows):
        weight, cost, other = (sum(entry[place] for entry in choice) for place in range(3))
        if cost <= bound and (second is None or other <= second):
            found = weight if found is None else min(found, weight)
    return found


@settings(max_examples=120, deadline=None)
@given(layers, st.integers(0, 200), st.one_of(st.none(), st.integers(0, 200)))
def test_the_choice_is_the_best_there_is(rows: list, bound: int, second: int | None) -> None:
    columns = [[[entry[place] for entry in row] for row in rows] for place in range(3)]
    others = [] if second is None else [(columns[2], float(second))]
    expected = best(rows, bound, second)
    try:
        indices = choose(columns[0], columns[1], float(bound), others)
    except InfeasibleError:
        assert expected is None
        return
    picked = [row[index] for row, index in zip(rows, indices, strict=True)]
    assert sum(entry[0] for entry in picked) == expected
    assert sum(entry[1] for entry in picked) <= bound
    assert second is None or sum(entry[2] for entry in picked) <= second


def test_what_costs_without_end_is_never_chosen() -> None:
    assert choose([[1.0, 5.0]], [[float("inf"), 2.0]], 3.0) == [1]
    with pytest.raises(InfeasibleError):
        choose([[1.0]], [[float("inf")]], 3.0)


def test_costs_as_small_as_divergences_are_told_apart() -> None:
    assert choose([[1.0, 2.0], [1.0, 2.0]], [[3e-5, 1e-5], [3e-5, 1e-5]], 4.1e-5) in ([0, 1], [1, 0])
