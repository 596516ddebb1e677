"""Random graphs for the laws of layout: hypothesis draws them, operator by operator of `layout_operators`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from layout_operators import AFTER_ROUNDING, FREE, SPATIAL, Sketch, conv, unary


@st.composite
def between_convolutions(draw: st.DrawFn, rule: Callable[[Sketch, str], str | None]) -> tuple[Sketch, list[str]]:
    """A convolution, one rule, and another convolution where one fits."""
    s = Sketch(draw)
    shape = (draw(st.sampled_from([1, 2])), 2, *draw(st.sampled_from([(3, 4), (2, 2), (1, 3), (4,), (2, 1, 2)])))
    x = conv(s, s.input(shape))
    assert x is not None
    y = rule(s, x)
    if y is None or not s.shapes[y]:
        return s, [x]
    if len(s.shapes[y]) in (3, 4, 5) and y not in s.inexact:
        y = conv(s, y) or y
    return s, [y]


@st.composite
def sketches(draw: st.DrawFn) -> tuple[Sketch, list[str]]:
    s = Sketch(draw)
    rank = draw(st.sampled_from([4, 4, 4, 3, 5]))
    size = st.sampled_from([1, 2, 3, 4] if rank < 5 else [1, 2])
    shape = (draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2, 4])), *[draw(size) for _ in range(rank - 2)])
    last = s.input(shape)
    if draw(st.booleans()):
        s.input((shape[0], *shape[2:], shape[1]))
    for _ in range(draw(st.integers(draw(st.sampled_from([1, 6])), 14))):
        x = draw(st.sampled_from([last, last, *s.shapes]))
        if s.kinds.get(x):
            continue
        if not s.shapes[x]:
            rules = [unary]
        elif x in s.inexact:
            rules = AFTER_ROUNDING
        elif 3 <= len(s.shapes[x]) <= 5 and draw(st.booleans()):
            rules = SPATIAL
        else:
            rules = FREE
        y = draw(st.sampled_from(rules))(s, x)
        if y is not None and np.prod(s.shapes[y]) < 3000:
            last = y
    made = [name for node in s.nodes for name in node.output if name not in s.kinds]
    outputs = list(dict.fromkeys([*(draw(st.lists(st.sampled_from(made), max_size=2)) if made else []), *made[-1:]]))
    return s, outputs


@st.composite
def crossroads(draw: st.DrawFn) -> tuple[Sketch, list[str]]:
    """Images of one cube's side in every axis but the batch, so that any Transpose may lead into any operator.

    Convolutions read what Transposes turned, which no exporter writes and every labelling must survive.
    """
    s = Sketch(draw)
    names = [s.input((1, 2, 2, 2)), s.input((1, 2, 2, 2))]
    for _ in range(draw(st.integers(4, 50))):
        x, y = draw(st.sampled_from(names[-4:])), draw(st.sampled_from(names))
        way = draw(st.sampled_from(["conv", "conv", "turn", "turn", "add", "relu", "pinned", "concat"]))
        if way == "conv":
            names.append(s.add("Conv", [x, s.small((2, 2, 1, 1))], s.shapes[x]))
        elif way == "turn":
            perm = draw(st.sampled_from([[0, 2, 3, 1], [0, 3, 1, 2], [0, 2, 3, 1], [0, 3, 1, 2], [0, 2, 1, 3]]))
            names.append(s.add("Transpose", [x], s.shapes[x], perm=perm))
        elif way == "add":
            names.append(s.add("Add", [x, y], s.shapes[x]))
        elif way == "relu":
            names.append(s.add("Relu", [x], s.shapes[x]))
        elif way == "pinned":
            names.append(s.add("Einsum", [x], s.shapes[x], equation="nchw->nchw"))
        else:
            axis = draw(st.integers(1, 3))
            joined = s.add("Concat", [x, y], tuple(4 if i == axis else d for i, d in enumerate(s.shapes[x])), axis=axis)
            names.append(s.add("Slice", [joined, s.ints([1]), s.ints([3]), s.ints([axis])], s.shapes[x]))
    made = names[2:]
    return s, list(dict.fromkeys([*draw(st.lists(st.sampled_from(made), max_size=2)), made[-1]]))
