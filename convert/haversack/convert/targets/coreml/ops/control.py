"""If, Loop and Scan: MIL's `cond` and `while_loop`, whose blocks read the variables around them.

What a Loop or Scan stacks up is a tensor of its full size from the start, into which each iteration writes its row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from haversack.convert.errors import Blocker, UnsupportedError
from haversack.convert.targets.coreml.builder import INT32, Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers
from haversack.convert.targets.regions import Region


@lowers("If")
def if_(
    b: Builder, condition: Value, *, then_branch: Region[Value], else_branch: Region[Value]
) -> Sequence[Value | Var]:
    """`cond`; the branch itself where the condition is known."""
    if condition.array is not None:
        return (then_branch if bool(condition.array.reshape(-1)[0]) else else_branch)()
    predicate = b.reshape(b.var(condition), ())
    wanted, blockers = b.outputs, list[Blocker]()

    def branch(region: Region[Value]) -> Callable[[], tuple[Var, ...]]:
        def emit() -> tuple[Var, ...]:
            try:
                return nested(b, wanted, region)
            except UnsupportedError as error:  # the other branch is examined too
                blockers.extend(error.blockers)
                return tuple(b.mil.const(val=np.zeros(value.shape, np.float32)) for value in wanted)

        return emit

    made = b.raw("cond", pred=predicate, _true_fn=branch(then_branch), _false_fn=branch(else_branch))
    if blockers:
        raise UnsupportedError("coreml", blockers)
    return made if isinstance(made, tuple) else (made,)


def nested(b: Builder, wanted: Sequence[Value], make: Callable[[], Sequence[Value | Var]]) -> tuple[Var, ...]:
    """What `make` gives inside a nested block, as variables of that block of the wanted shapes and types."""
    kinds = [kind_of(b, value) for value in wanted]
    with b.block():
        made = []
        for kind, expected, result in zip(kinds, wanted, make(), strict=True):
            var = b.var(result) if isinstance(result, Value) else result
            if tuple(var.shape) != expected.shape:
                b.refuse(
                    f"its blocks give {list(var.shape)} and {list(expected.shape)}", "give them the same static shape"
                )
            made.append(b.raw("identity", x=b.cast(var, kind)))  # a block returns what it computes itself
    return tuple(made)


def kind_of(b: Builder, value: Value) -> str:
    """MIL's element type of a value that passes from block to block."""
    return b.float_name if value.floating else "bool" if value.dtype.kind == "b" else "int32"


def while_loop(
    b: Builder,
    start: Sequence[Value],
    proceed: Callable[..., Var],
    step: Callable[..., Sequence[Value | Var]],
) -> tuple[Var, ...]:
    """`while proceed(*state): state = step(*state)`.

    Args:
        b: The builder.
        start: The state before the first iteration.
        proceed: Emits a bool scalar.
        step: Emits the next state, of the same shapes and element types.

    Returns:
        The state after the last iteration.
    """
    blockers: list[Blocker] = []

    def values(given: Sequence[Var]) -> list[Value]:
        return [Value("", value.shape, value.dtype, var=var) for value, var in zip(start, given, strict=True)]

    def test(*given: Var) -> Var:
        with b.block():
            return proceed(*values(given))

    def body(*given: Var) -> tuple[Var, ...]:
        try:
            return nested(b, start, lambda: step(*values(given)))
        except UnsupportedError as error:
            blockers.extend(each for each in error.blockers if each not in blockers)
            return given

    state = tuple(b.cast(b.var(value), kind_of(b, value)) for value in start)
    made = b.raw("while_loop", _cond=test, _body=body, loop_vars=state)
    if blockers:
        raise UnsupportedError("coreml", blockers)
    return made if isinstance(made, tuple) else (made,)


@lowers("Loop")
def loop(b: Builder, trips: Value | None, condition: Value | None, *state: Value, body: Region[Value]) -> Sequence[Var]:
    """`while_loop` over an int32 counter, the condition, the state, and the scan outputs so far."""
    size = len(state)
    scans = len(body.graph.outputs) - 1 - size
    forever = condition is None or (condition.array is not None and bool(condition.array.all()))
    conditional = not (forever and body.always(0, 1))
    count = None if trips is None or trips.array is None else int(trips.array.reshape(-1)[0])
    if scans and (conditional or count is None or count < 1):
        b.refuse(
            "how many rows its scan outputs have is known at run time only",
            "make its trip count an initializer of at least 1, and its condition always true",
        )
    limit = None if trips is None else _trips(b, trips)
    going = _held(np.array(True)) if condition is None else condition
    collected = [_empty(value, value.shape) for value in b.outputs[size : size + scans]]

    def proceed(time: Value, going: Value, *_: Value) -> Var:
        again = b.reshape(b.var(going), ())
        if limit is None:
            return again
        below = b.op("less", x=time, y=limit)
        return b.op("logical_and", x=below, y=again) if conditional else below

    def step(time: Value, going: Value, *carried: Value) -> list[Value | Var]:
        number = Value("", (), np.dtype(np.int64), var=b.var(time))
        now = Value("", (), np.dtype(np.bool_), var=b.reshape(b.var(going), ()))
        again, *results = body(number, now, *carried[:size])
        after, rows = results[:size], results[size:]
        held = [_updated(b, total, row, b.var(time)) for total, row in zip(carried[size:], rows, strict=True)]
        still = b.reshape(b.var(again), going.shape) if conditional else going
        return [b.op("add", x=time, y=1), still, *after, *held]

    made = while_loop(b, [_held(np.array(0, np.int32)), going, *state, *collected], proceed, step)[2:]
    return [b.like(var, value) for var, value in zip(made, b.outputs, strict=True)]


@lowers("Scan")
def scan(
    b: Builder,
    *inputs: Value,
    body: Region[Value],
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] = (),
    scan_input_directions: Sequence[int] = (),
    scan_output_axes: Sequence[int] = (),
    scan_output_directions: Sequence[int] = (),
) -> Sequence[Var]:
    """`while_loop` over an int32 counter, the state, and the outputs so far; a step is a row of each scanned input."""
    size = len(inputs) - num_scan_inputs
    state, scanned = inputs[:size], inputs[size:]
    axes = [axis % x.rank for x, axis in zip(scanned, scan_input_axes or [0] * len(scanned), strict=True)]
    moved = [b.transpose(b.numeric(x), _first(x.rank, axis)) for x, axis in zip(scanned, axes, strict=True)]
    count = scanned[0].shape[axes[0]]
    backward = list(scan_input_directions) or [0] * len(scanned)
    stacked = b.outputs[size:]
    out_axes = [a % y.rank for y, a in zip(stacked, scan_output_axes or [0] * len(stacked), strict=True)]
    out_backward = list(scan_output_directions) or [0] * len(stacked)
    collected = [
        _empty(value, (value.shape[axis], *(n for place, n in enumerate(value.shape) if place != axis)))
        for value, axis in zip(stacked, out_axes, strict=True)
    ]

    def place(time: Value, reverse: int) -> Var:
        return b.op("sub", x=count - 1, y=time) if reverse else b.var(time)

    def proceed(time: Value, *_: Value) -> Var:
        return b.op("less", x=time, y=count)

    def step(time: Value, *carried: Value) -> list[Value | Var]:
        given = []
        for x, var, reverse in zip(scanned, moved, backward, strict=True):
            at = b.reshape(place(time, reverse), (1,))
            row = b.reshape(b.op("gather", x=var, indices=at, axis=0, batch_dims=0), var.shape[1:])
            given.append(Value("", tuple(var.shape[1:]), x.dtype, var=b.like(row, x)))
        results = body(*carried[:size], *given)
        held = [
            _updated(b, total, row, place(time, reverse))
            for total, row, reverse in zip(carried[size:], results[size:], out_backward, strict=True)
        ]
        return [b.op("add", x=time, y=1), *results[:size], *held]

    _, *after = while_loop(b, [_held(np.array(0, np.int32)), *state, *collected], proceed, step)
    outputs = after[:size]
    for var, value, axis in zip(after[size:], stacked, out_axes, strict=True):
        order = list(np.argsort(_first(value.rank, axis)))
        outputs.append(b.like(b.transpose(var, [int(n) for n in order]), value))
    return outputs


def _held(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Value:
    return Value("", array.shape, array.dtype, array=array)


def _empty(value: Value, shape: Sequence[int]) -> Value:
    """Zeros for what will be stacked up; booleans as int32, which MIL scatters."""
    return _held(np.zeros(shape, np.int32 if value.dtype.kind == "b" else value.dtype))


def _first(rank: int, axis: int) -> list[int]:
    return [axis, *(place for place in range(rank) if place != axis)]


def _trips(b: Builder, trips: Value) -> Var:
    """The trip count as int32: a loop that only its condition ends is often given the largest int64."""
    if trips.array is not None:
        return b.constant(np.clip(trips.array.reshape(()), 0, INT32.max))
    return b.reshape(b.var(trips), ())


def _updated(b: Builder, total: Value, row: Value, time: Var) -> Var:
    """`total` with `row` at the index `time` of its first axis."""
    if row.shape != total.shape[1:]:
        b.refuse(f"a row of {row.shape} for a result of {total.shape}", "give its rows one static shape")
    where, updates = b.reshape(time, (1,)), b.reshape(b.numeric(row), (1, *row.shape))
    return b.op("scatter", data=total, indices=where, updates=updates, axis=0, mode="update")
