"""Running a recurrent cell over a sequence: what RNN, GRU and LSTM have in common.

The input's share of every gate is one matrix product over all steps. What is left for a step is the product with the
hidden state and a few elementwise kernels; the steps are written out one after the other (`_unrolled`) or run by a
WHILE. Written out they ran in 0.4 to 0.8 of the WHILE's time (LSTM of 64 units on one x86-64 core: 4 µs against 9 for 4
steps, 20 against 26 for 16), so short sequences are, as long as that adds at most a twentieth of the weights' bytes.

LiteRT's own sequence kernels are not used: their states are variable tensors, which one call leaves to the next, while
an ONNX recurrent node begins every run with its initial state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from haversack.convert.targets.tflite import control, steps
from haversack.convert.targets.tflite.builder import Builder, NoInt8Kernel
from haversack.convert.targets.tflite.graph import Tensor

STEP_BYTES = 450
"""What one more step adds to the file where the steps are written out (measured on LSTM: 430 to 480)."""

UNROLLED_MOST = 32
"""No more steps than this are written out, so that graphs stay small."""

UNROLLED_ALWAYS = 4
"""Up to this many are, whatever the weights: a WHILE with its two subgraphs is no smaller."""

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], State]
"""From the input's share of the gates `[batch, gates * hidden]` and the state `[batch, hidden]` to the next state; its
first tensor is the step's output."""


@dataclass(frozen=True)
class Recurrence:
    """What the three operators have in common.

    Attributes:
        x: The input, `[steps, batch, features]`.
        hidden: Size of the hidden state.
        weights: Bytes of the weights.
        lengths: How many steps of each batch entry count, int32 `[batch, 1]`; None where all do.
        initial: The state before the first step, one `[directions, batch, hidden]` tensor each.
        backward: Whether each direction runs from the last step to the first.
        batch_first: Whether the batch is the first axis of the node's inputs and outputs (`layout` 1).
    """

    x: Tensor
    hidden: int
    weights: int
    lengths: Tensor | None
    initial: State
    backward: tuple[bool, ...]
    batch_first: bool


def read(
    b: Builder,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    lengths: Tensor | None,
    initial: Sequence[Tensor | None],
    direction: str,
    layout: int,
) -> Recurrence:
    """Bring the common inputs of a recurrent node into one form."""
    if b.mode == "integer":
        raise NoInt8Kernel("the scales inside a recurrent cell are not in the model")
    x = b.plain(x)
    if layout:
        x = steps.transpose(b, x, (1, 0, 2))
    count, batch, _ = x.shape
    backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    hidden = r.shape[-1]
    states = []
    for tensor in initial:
        if tensor is None:
            tensor = b.const(np.zeros((len(backward), batch, hidden), np.float32))
        elif layout:
            tensor = steps.transpose(b, tensor, (1, 0, 2))
        states.append(tensor)
    if lengths is not None and lengths.data is not None and np.all(lengths.value() == count):
        lengths = None
    if lengths is not None:
        lengths = steps.reshape(b, b.cast(lengths, "int32"), (batch, 1))
    return Recurrence(x, hidden, (w.size + r.size) * 4, lengths, tuple(states), backward, bool(layout))


def unrolled_steps(weights: int) -> int:
    """Up to how many steps are written out, where the weights of all directions take that many bytes."""
    return max(UNROLLED_ALWAYS, min(UNROLLED_MOST, weights // (20 * STEP_BYTES)))


def per_direction(b: Builder, tensor: Tensor) -> list[Tensor]:
    """Weights or a state of each direction, without the axis of directions."""
    parts = steps.split(b, tensor, 0, [1] * tensor.shape[0])
    return [steps.reshape(b, part, part.shape[1:]) for part in parts]


def project(b: Builder, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """The input's share of every gate at every step, `[steps, batch, gates * hidden]`."""
    count, batch, features = x.shape
    flat = steps.reshape(b, x, (count * batch, features))
    return steps.reshape(b, dense(b, flat, w, bias), (count, batch, w.shape[0]))


def dense(b: Builder, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ w.T + bias`."""
    shape = (x.shape[0], w.shape[0])
    if bias is None or bias.constant:
        return b.op("FULLY_CONNECTED", [x, w, bias], shape)
    return steps.binary(b, "ADD", b.op("FULLY_CONNECTED", [x, w], shape), bias)


def run(b: Builder, given: Recurrence, shares: Sequence[Tensor], cells: Sequence[Step]) -> tuple[Tensor | None, ...]:
    """Run every direction and put the node's outputs together: the output at every step, then the final states."""
    wanted = [result.wanted for result in b.results]
    outputs: list[Tensor] = []
    finals: list[State] = []
    starts = zip(*(per_direction(b, tensor) for tensor in given.initial), strict=True)
    for n, (backward, state) in enumerate(zip(given.backward, starts, strict=True)):
        how = _unrolled if given.x.shape[0] <= unrolled_steps(given.weights) else _looped
        collected, final = how(b, given, shares[n], cells[n], state, backward, wanted[0])
        finals.append(final)
        if collected is not None:
            outputs.append(collected)
    results: list[Tensor | None] = [None]
    if outputs:
        results[0] = _joined(b, outputs, given.batch_first)
    for place in range(len(given.initial)):
        parts = [steps.reshape(b, state[place], (1, *state[place].shape)) for state in finals]
        joined = steps.concat(b, parts, 0)
        results.append(steps.transpose(b, joined, (1, 0, 2)) if given.batch_first else joined)
    return tuple(results)


def _joined(b: Builder, outputs: Sequence[Tensor], batch_first: bool) -> Tensor:
    """`[steps, directions, batch, hidden]`, or `[batch, steps, directions, hidden]`, of one tensor a direction."""
    count, batch, hidden = outputs[0].shape
    if batch_first:
        moved = [steps.transpose(b, y, (1, 0, 2)) for y in outputs]
        return steps.concat(b, [steps.reshape(b, y, (batch, count, 1, hidden)) for y in moved], 2)
    return steps.concat(b, [steps.reshape(b, y, (count, 1, batch, hidden)) for y in outputs], 1)


def _advance(
    b: Builder, given: Recurrence, cell: Step, share: Tensor, state: State, time: Tensor
) -> tuple[Tensor, State]:
    """One step; a batch entry whose sequence has ended gives zeros and keeps its state."""
    after = cell(share, state)
    if given.lengths is None:
        return after[0], after
    running = steps.binary(b, "GREATER", given.lengths, time, "bool")
    output = steps.elementwise(b, "SELECT_V2", [running, after[0], b.const(0, "float32")])
    kept = [steps.elementwise(b, "SELECT_V2", [running, new, old]) for new, old in zip(after, state, strict=True)]
    return output, tuple(kept)


def _unrolled(
    b: Builder, given: Recurrence, share: Tensor, cell: Step, state: State, backward: bool, collect: bool
) -> tuple[Tensor | None, State]:
    count, batch, width = share.shape
    outputs: list[Tensor] = []
    parts = steps.split(b, share, 0, [1] * count)
    for time in range(count - 1, -1, -1) if backward else range(count):
        part = steps.reshape(b, parts[time], (batch, width))
        output, state = _advance(b, given, cell, part, state, b.const(time, "int32"))
        outputs.append(steps.reshape(b, output, (1, batch, given.hidden)))
    return (steps.concat(b, outputs[::-1] if backward else outputs, 0) if collect else None), state


def _looped(
    b: Builder, given: Recurrence, share: Tensor, cell: Step, state: State, backward: bool, collect: bool
) -> tuple[Tensor | None, State]:
    count, batch, width = share.shape
    begin, end, forward = (count - 1, 0, -1) if backward else (0, count - 1, 1)
    size = len(state)

    def proceed(time: Tensor, *_: Tensor) -> Tensor:
        return steps.binary(b, "GREATER_EQUAL" if backward else "LESS_EQUAL", time, b.ints([end]), "bool")

    def step(time: Tensor, *carried: Tensor) -> list[Tensor]:
        part = steps.reshape(b, steps.gather(b, share, time, 0), (batch, width))
        output, after = _advance(b, given, cell, part, carried[:size], time)
        rest = []
        if collect:
            row = steps.reshape(b, output, (1, batch, given.hidden))
            place = steps.binary(b, "MUL", time, b.ints([1, 0, 0]))
            rest = [b.op("DYNAMIC_UPDATE_SLICE", [carried[size], row, place], carried[size].shape)]
        return [steps.binary(b, "ADD", time, b.ints([forward])), *after, *rest]

    collected = [b.const(np.zeros((count, batch, given.hidden), np.float32))] if collect else []
    _, *after = control.while_loop(b, [b.ints([begin]), *state, *collected], proceed, step)
    return (after[size] if collect else None), tuple(after[:size])


def biases(b: Builder, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The two halves of `[2 * gates * hidden]`: of the input's product, and of the hidden state's."""
    if bias is None:
        return None, None
    first, second = steps.split(b, b.plain(bias), 0, [bias.shape[0] // 2] * 2)
    return first, second


def total(b: Builder, one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of two biases, either of which may be left out."""
    if one is None or other is None:
        return one or other
    if one.data is not None and other.data is not None:
        return b.const(one.value() + other.value())
    return steps.binary(b, "ADD", one, other)
