"""The minimum cut against SciPy's maximum flow, and against every possible cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haversack.convert.targets.tflite.mincut import INFINITE, SINK, SOURCE, Network

Edges = list[tuple[int, int, int, int]]


@st.composite
def networks(draw: st.DrawFn, most: int = 40) -> tuple[int, Edges]:
    count = draw(st.integers(2, most))
    node = st.integers(0, count - 1)
    capacity = st.integers(0, 50)
    return count, draw(st.lists(st.tuples(node, node, capacity, capacity), max_size=4 * count))


def build(count: int, edges: Edges) -> Network:
    network = Network()
    for _ in range(count - 2):
        network.node()
    for tail, head, forth, back in edges:
        network.edge(tail, head, forth, back)
    return network


def weight(edges: Edges, side: list[bool]) -> int:
    total = 0
    for tail, head, forth, back in edges:
        total += forth * (side[tail] and not side[head]) + back * (side[head] and not side[tail])
    return total


@given(networks())
@settings(max_examples=200, deadline=None)
def test_the_cut_weighs_scipys_maximum_flow(case: tuple[int, Edges]) -> None:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    count, edges = case
    matrix = np.zeros((count, count), np.int32)
    for tail, head, forth, back in edges:
        if tail != head:
            matrix[tail, head] += forth
            matrix[head, tail] += back
    value, side = build(count, edges).cut()
    assert value == maximum_flow(csr_array(matrix), SOURCE, SINK).flow_value
    assert side[SOURCE]
    assert not side[SINK]
    assert weight(edges, side) == value


@given(networks(most=9))
@settings(max_examples=100, deadline=None)
def test_of_all_minimum_cuts_it_takes_the_largest_source_side(case: tuple[int, Edges]) -> None:
    count, edges = case
    cuts = []
    for rest in itertools.product((False, True), repeat=count - 2):
        side = [True, False, *rest]
        cuts.append((weight(edges, side), side))
    least = min(cut for cut, _ in cuts)
    union = [any(side[node] for cut, side in cuts if cut == least) for node in range(count)]
    assert build(count, edges).cut() == (least, union)


def test_weights_beyond_64_bits_are_exact() -> None:
    network = Network()
    node = network.node()
    network.edge(SOURCE, node, (1 << 90) + 1)
    network.edge(node, SINK, 1 << 90)
    assert network.cut() == (1 << 90, [True, False, True])


def test_what_cannot_be_separated_is_an_error() -> None:
    network = Network()
    network.edge(SOURCE, SINK, INFINITE)
    with pytest.raises(ValueError, match="cannot be separated"):
        network.cut()
    with pytest.raises(ValueError, match="negative"):
        network.edge(SOURCE, SINK, -1)
