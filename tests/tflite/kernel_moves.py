"""What the kernels that move data compute, at one rank."""

from __future__ import annotations

import math

import numpy as np
from kernel_case import MOST_AXES, Array, Case, i32, scalar, shape_of


def selection(rank: int) -> list[Case]:
    full = shape_of(rank)
    pattern = np.arange(math.prod(full)).reshape(full) % 3 == 0
    thin = pattern[tuple(slice(0, 1) if n % 2 else slice(None) for n in range(rank))]
    forms = {"same": (pattern, full, full), "condition": (thin, full, full)}
    if rank > 1:
        forms |= {
            "vector": (pattern[(0,) * (rank - 1)], full, full),
            "broadcast": (pattern, full[1:], (*full[:-1], 1)),
            "scalars": (pattern, (), ()),
        }
    return [
        Case([x, y], lambda x, y, c=condition: np.where(c, x, y), control={0: condition}, form=form, wide=(0, 1))
        for form, (condition, x, y) in forms.items()
    ]


def reshape(rank: int) -> list[Case]:
    full = shape_of(rank)
    flat = (math.prod(full),)
    return [
        Case([full], lambda x: x.reshape(flat), {"new_shape": flat}, wide=(0,), form="flatten"),
        Case([flat], lambda x: x.reshape(full), control={1: i32(*full)}, wide=(0,), form="unflatten"),
    ]


def transpose(rank: int) -> list[Case]:
    orders = {tuple(reversed(range(rank))), (*range(1, rank), 0), (0, *range(2, rank), 1)[:rank]}
    return [
        Case([shape_of(rank)], lambda x, p=p: x.transpose(p), control={1: i32(*p)}, form=str(p), wide=(0,))
        for p in sorted(orders)
    ]


def concatenation(rank: int) -> list[Case]:
    full = shape_of(rank)
    return [
        Case(
            [full] * count,
            lambda *x, a=axis: np.concatenate(x, a),
            {"axis": axis},
            form=f"{count} axis {axis}",
            wide=(0, 1),
        )
        for count in (2, 5)
        for axis in sorted({0, rank - 1})
    ]


def split(rank: int) -> list[Case]:
    return [
        Case(
            [shape_of(rank)],
            lambda x, a=axis: tuple(np.split(x, x.shape[a], a)),
            {"num_splits": shape_of(rank)[axis]},
            {0: scalar(axis)},
            form=f"axis {axis}",
            wide=(0,),
        )
        for axis in sorted({0, rank - 1})
    ]


def split_v(rank: int) -> list[Case]:
    return [
        Case(
            [shape_of(rank)],
            lambda x, a=axis: tuple(np.split(x, [1], a)),
            {"num_splits": 2},
            {1: i32(1, shape_of(rank)[axis] - 1), 2: scalar(axis)},
            form=f"axis {axis}",
            wide=(0,),
        )
        for axis in sorted({0, rank - 1})
    ]


def block(rank: int) -> list[Case]:
    begin = [n % 2 for n in range(rank)]
    size = [full - first for full, first in zip(shape_of(rank), begin, strict=True)]
    rows = tuple(slice(b, b + s) for b, s in zip(begin, size, strict=True))
    return [Case([shape_of(rank)], lambda x: x[rows], control={1: i32(*begin), 2: i32(*size)}, wide=(0,))]


def strided(rank: int) -> list[Case]:
    full = shape_of(rank)
    back = Case(
        [full],
        lambda x: x[..., ::-1],
        {"begin_mask": 2**rank - 1, "end_mask": 2**rank - 1},
        {1: i32(*[0] * rank), 2: i32(*full), 3: i32(*[1] * (rank - 1), -1)},
        form="backwards",
        wide=(0,),
    )
    steps = [1 + (size > 2) for size in full]
    rows = tuple(slice(0, None, step) for step in steps)
    return [
        Case([full], lambda x: x[rows], control={1: i32(*[0] * rank), 2: i32(*full), 3: i32(*steps)}, wide=(0,)),
        back,
    ]


def reverse(rank: int) -> list[Case]:
    """One axis: of several, runtimes before LiteRT 1.0 reverse only some."""
    return [
        Case([shape_of(rank)], lambda x, a=axis: np.flip(x, a), control={1: i32(axis)}, form=f"axis {axis}", wide=(0,))
        for axis in sorted({0, rank - 1})
    ]


def pads(rank: int) -> Array:
    return np.array([(n % 2, (n + 1) % 3) for n in range(rank)], np.int32)


def pad(rank: int) -> list[Case]:
    return [Case([shape_of(rank)], lambda x: np.pad(x, pads(rank)), control={1: pads(rank)}, wide=(0,))]


def pad_value(rank: int) -> list[Case]:
    table = pads(rank)
    reference = lambda x, v: np.pad(x, table, constant_values=v)  # noqa: E731
    return [Case([shape_of(rank), ()], reference, control={1: table}, constants=frozenset({1}), wide=(0, 1))]


def mirror(rank: int) -> list[Case]:
    table = np.array([(n % 2, 1) for n in range(rank)], np.int32)
    return [
        Case(
            [shape_of(rank)],
            lambda x, m=mode: np.pad(x, table, mode=m),
            {"mode": number},
            {1: table},
            form=mode,
            wide=(0,),
        )
        for number, mode in enumerate(("reflect", "symmetric"))
    ]


def tile(rank: int) -> list[Case]:
    counts = [1 + n % 2 for n in range(rank)]
    return [Case([shape_of(rank)], lambda x: np.tile(x, counts), control={1: i32(*counts)}, wide=(0,))]


def broadcast(rank: int) -> list[Case]:
    full = shape_of(rank)
    forms = {"ones": tuple(1 if n % 2 else s for n, s in enumerate(full)), "suffix": full[1:], "scalar": ()}
    return [
        Case([given], lambda x: np.broadcast_to(x, full), control={1: i32(*full)}, form=form, wide=(0,))
        for form, given in forms.items()
    ]


def update(rank: int) -> list[Case]:
    full = shape_of(rank)
    place = tuple(slice(1, 2) if n % 2 else slice(0, size) for n, size in enumerate(full))

    def reference(x: Array, part: Array) -> Array:
        result = x.copy()
        result[place] = part
        return result

    part = tuple(len(range(*rows.indices(size))) for rows, size in zip(place, full, strict=True))
    return [Case([full, part], reference, control={2: i32(*(rows.start for rows in place))}, wide=(0, 1))]


def gather(rank: int) -> list[Case]:
    found = []
    for axis in sorted({0, rank - 1}):
        for indices in (scalar(1), i32(1, 0, 1), i32(1, 0, 0, 1).reshape(2, 2)):
            if rank - 1 + indices.ndim > MOST_AXES:
                continue
            reference = lambda x, a=axis, i=indices: np.take(x, i, a)  # noqa: E731
            form = f"axis {axis} indices {indices.ndim}"
            found.append(Case([shape_of(rank)], reference, {"axis": axis}, {1: indices}, form=form, wide=(0,)))
    return found


def members(rank: int, depth: int) -> Array:
    return np.stack([np.arange(4) * (n + 1) % shape_of(rank)[n] for n in range(depth)], -1).astype(np.int32)


def gather_nd(rank: int) -> list[Case]:
    return [
        Case(
            [shape_of(rank)],
            lambda x, d=depth: x[tuple(members(rank, d).T)],
            control={1: members(rank, depth)},
            form=f"depth {depth}",
            wide=(0,),
        )
        for depth in sorted({1, rank})
    ]


def scatter_nd(rank: int) -> list[Case]:
    """`rank` is that of the result; indices that repeat add up."""
    found = []
    for depth in sorted({1, rank}):

        def reference(updates: Array, depth: int = depth) -> Array:
            result = np.zeros(shape_of(rank), updates.dtype)
            np.add.at(result, tuple(members(rank, depth).T), updates)
            return result

        control = {0: members(rank, depth), 2: i32(*shape_of(rank))}
        found.append(
            Case([(4, *shape_of(rank)[depth:])], reference, control=control, form=f"depth {depth}", high=2, low=0)
        )
    return found


def one_hot(rank: int) -> list[Case]:
    """`rank` is that of the result."""
    indices = np.arange(math.prod(shape_of(rank - 1)), dtype=np.int32).reshape(shape_of(rank - 1)) % 5
    return [
        Case(
            [(), ()],
            lambda on, off, a=axis: np.where(np.moveaxis(np.eye(5, dtype=bool)[indices][..., :4], -1, a), on, off),
            {"axis": axis},
            {0: indices, 1: scalar(4)},
            constants=frozenset({0, 1}),
            form=f"axis {axis}",
            wide=(0, 1),
        )
        for axis in sorted({0, rank - 1})
    ]


def reverse_sequence(rank: int) -> list[Case]:
    full = (4, 6, *shape_of(rank)[2:])
    lengths = (6, 1, 3, 4)

    def reference(x: Array) -> Array:
        return np.stack([np.concatenate([row[:n][::-1], row[n:]]) for row, n in zip(x, lengths, strict=True)])

    return [Case([full], reference, {"seq_dim": 1, "batch_dim": 0}, {1: i32(*lengths)}, wide=(0,))]
