"""The front against its definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from haversack.convert.planning.front import front

points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=12)


def beats(a: tuple, b: tuple) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


@given(points)
def test_what_is_left_is_what_nothing_beats(rows: list) -> None:
    left = front(rows, lambda row: row)
    assert sorted(set(left)) == sorted(row for row in set(rows) if not any(beats(other, row) for other in rows))
    assert len(left) == len(set(left)), "of equal points one is kept"


@given(points)
def test_everything_else_is_beaten_by_something_on_it(rows: list) -> None:
    left = front(rows, lambda row: row)
    for row in rows:
        assert row in left or any(beats(other, row) for other in left)


def test_a_point_is_not_beaten_for_what_it_lacks() -> None:
    assert front([(1, 1.0), (2, None)], lambda row: row) == [(1, 1.0)]
    assert front([(1, None), (2, 0.5)], lambda row: row) == [(1, None), (2, 0.5)], (
        "the first has no latency to beat with"
    )
