"""Running a recurrent cell over a sequence: what RNN, GRU and LSTM have in common where MIL's own ops do not fit.

The input's share of every gate is one matrix product over all steps. What is left for a step is the product with the
hidden state and a few elementwise ops; short sequences are written out step by step, longer ones run by a `while_loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops.control import while_loop

UNROLLED = 16
"""Up to this many steps are written out: a step is about ten ops."""

State = tuple[Var, ...]
Cell = Callable[[Var, State], State]
"""From the input's share of the gates `[batch, gates * hidden]` and the state `[batch, hidden]` to the next state; its
first variable is the step's output."""


@dataclass(frozen=True)
class Recurrence:
    """What the three operators have in common.

    Attributes:
        x: The input, `[steps, batch, features]`.
        hidden: Size of the hidden state.
        lengths: How many steps of each batch entry count, int32 `[batch, 1]`; None where all do.
        initial: The state before the first step, one `[directions, batch, hidden]` variable each.
        backward: Whether each direction runs from the last step to the first.
        batch_first: Whether the batch is the first axis of the node's inputs and outputs (`layout` 1).
    """

    x: Var
    hidden: int
    lengths: Var | None
    initial: State
    backward: tuple[bool, ...]
    batch_first: bool


def read(
    b: Builder,
    x: Value,
    r: Value,
    lengths: Value | None,
    initial: Sequence[Value | None],
    direction: str,
    layout: int,
) -> Recurrence:
    """Bring the common inputs of a recurrent node into one form."""
    data = b.transpose(b.var(x), [1, 0, 2]) if layout else b.var(x)
    count, batch, _ = data.shape
    backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    hidden = r.shape[-1]
    states = []
    for value in initial:
        if value is None:
            states.append(b.constant(np.zeros((len(backward), batch, hidden), np.float32)))
        else:
            states.append(b.transpose(b.var(value), [1, 0, 2]) if layout else b.var(value))
    if lengths is not None and lengths.array is not None and np.all(lengths.array == count):
        lengths = None
    column = None if lengths is None else b.reshape(b.var(lengths), (batch, 1))
    return Recurrence(data, hidden, column, tuple(states), backward, bool(layout))


def direction_of(b: Builder, var: Var, n: int) -> Var:
    """Weights or a state of one direction, without the axis of directions."""
    if var.shape[0] == 1:
        return b.reshape(var, var.shape[1:])
    begin, end = [n] + [0] * (len(var.shape) - 1), [n + 1, *var.shape[1:]]
    part = b.op("slice_by_index", x=var, begin=begin, end=end, stride=[1] * len(var.shape))
    return b.reshape(part, var.shape[1:])


def dense(b: Builder, x: Var, weights: Var) -> Var:
    """`x @ weights.T`."""
    return b.op("matmul", x=x, y=weights, transpose_x=False, transpose_y=True)


def parts(b: Builder, x: Var, axis: int, sizes: Sequence[int]) -> Sequence[Var]:
    """`x` cut along an axis."""
    return b.op("split", x=x, split_sizes=list(sizes), axis=axis) if len(sizes) > 1 else (x,)


def joined(b: Builder, given: Recurrence, outputs: Sequence[Var], finals: Sequence[State]) -> tuple[Var, ...]:
    """The node's outputs: that of every step, then the final states.

    Args:
        b: The builder.
        given: What was read.
        outputs: Of each direction, `[steps, batch, hidden]`.
        finals: The state after the last step of each direction, `[batch, hidden]` each.
    """
    count, batch, hidden = outputs[0].shape
    if given.batch_first:
        moved = [b.reshape(b.transpose(y, [1, 0, 2]), (batch, count, 1, hidden)) for y in outputs]
        results = [_concat(b, moved, 2)]
    else:
        results = [_concat(b, [b.reshape(y, (count, 1, batch, hidden)) for y in outputs], 1)]
    for place in range(len(given.initial)):
        state = _concat(b, [b.reshape(each[place], (1, batch, hidden)) for each in finals], 0)
        results.append(b.transpose(state, [1, 0, 2]) if given.batch_first else state)
    return tuple(results)


def _concat(b: Builder, values: Sequence[Var], axis: int) -> Var:
    return values[0] if len(values) == 1 else b.op("concat", values=list(values), axis=axis, interleave=False)


def run(b: Builder, given: Recurrence, shares: Sequence[Var], cells: Sequence[Cell]) -> tuple[Var, ...]:
    """Run every direction and put the node's outputs together."""
    outputs, finals = [], []
    for n, backward in enumerate(given.backward):
        state = tuple(direction_of(b, var, n) for var in given.initial)
        how = _unrolled if given.x.shape[0] <= UNROLLED else _looped
        collected, final = how(b, given, shares[n], cells[n], state, backward=backward)
        outputs.append(collected)
        finals.append(final)
    return joined(b, given, outputs, finals)


def project(b: Builder, given: Recurrence, weights: Var, bias: Var | None) -> Var:
    """The input's share of every gate at every step, `[steps, batch, gates * hidden]`."""
    share = dense(b, given.x, weights)
    return share if bias is None else b.op("add", x=share, y=bias)


def _advance(b: Builder, given: Recurrence, cell: Cell, share: Var, state: State, time: Var | int) -> tuple[Var, State]:
    """One step; a batch entry whose sequence has ended gives zeros and keeps its state."""
    after = cell(share, state)
    if given.lengths is None:
        return after[0], after
    running = b.cast(b.op("greater", x=given.lengths, y=time), b.float_name)
    ended = b.op("sub", x=1.0, y=running)
    output = b.op("mul", x=after[0], y=running)
    kept = [
        b.op("add", x=b.op("mul", x=new, y=running), y=b.op("mul", x=old, y=ended))
        for new, old in zip(after, state, strict=True)
    ]
    return output, tuple(kept)


def _unrolled(
    b: Builder, given: Recurrence, share: Var, cell: Cell, state: State, *, backward: bool
) -> tuple[Var, State]:
    count, batch, width = share.shape
    outputs = []
    rows = parts(b, share, 0, [1] * count)
    for time in range(count - 1, -1, -1) if backward else range(count):
        output, state = _advance(b, given, cell, b.reshape(rows[time], (batch, width)), state, time)
        outputs.append(b.reshape(output, (1, batch, given.hidden)))
    return _concat(b, outputs[::-1] if backward else outputs, 0), state


def _looped(
    b: Builder, given: Recurrence, share: Var, cell: Cell, state: State, *, backward: bool
) -> tuple[Var, State]:
    count, batch, width = share.shape
    floats = np.dtype(np.float32)

    def proceed(time: Value, *_: Value) -> Var:
        return b.op("less", x=time, y=count)

    def step(time: Value, *carried: Value) -> list[Var]:
        at = b.reshape(b.op("sub", x=count - 1, y=time) if backward else b.var(time), (1,))
        row = b.reshape(b.op("gather", x=share, indices=at, axis=0, batch_dims=0), (batch, width))
        before = tuple(b.var(value) for value in carried[:-1])
        output, after = _advance(b, given, cell, row, before, at)
        updates = b.reshape(output, (1, batch, given.hidden))
        held = b.op("scatter", data=carried[-1], indices=at, updates=updates, axis=0, mode="update")
        return [b.op("add", x=time, y=1), *after, held]

    start = [Value("", (), np.dtype(np.int32), array=np.array(0, np.int32))]
    start += [Value("", (batch, given.hidden), floats, var=var) for var in state]
    shape = (count, batch, given.hidden)
    start.append(Value("", shape, floats, array=np.zeros(shape, np.float32)))
    _, *after, collected = while_loop(b, start, proceed, step)
    return collected, tuple(after)
