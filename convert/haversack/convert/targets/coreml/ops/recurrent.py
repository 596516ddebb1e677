"""RNN, GRU and LSTM, by the equations of their ONNX specifications.

MIL's `rnn` and `lstm` are used where weights are constants, every sequence has the same length and the activations are
ones they know; elsewhere the cell is written out (`recurrence`). MIL's `gru` is never used: its documentation says that
the reset gate scales the product, and its iOS 18 version made that an option, off by default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers, recurrence
from haversack.convert.targets.coreml.ops.gates import NATIVE, Activation, clamp, gate_functions
from haversack.convert.targets.coreml.ops.recurrence import Recurrence, State, dense, direction_of, parts
from haversack.runtimes.engines import Array


def _native(b: Builder, given: Recurrence, names: Sequence[str], clip: float, *weights: Value | None) -> bool:
    """Whether MIL's own op computes it: constants, no lengths, no bounds, and activations that it knows."""
    known = all(value is None or value.array is not None for value in weights)
    plain = given.lengths is None and not clip and all(name.lower() in NATIVE for name in names)
    return known and plain and not (b.half and b.ios < 17)  # iOS 17 brought float16


def _rows(value: Value, n: int, order: Sequence[int]) -> Array:
    """A direction's constant weights, its gates' blocks in another order."""
    assert value.array is not None
    blocks = np.split(value.array[n], len(order))
    return np.concatenate([blocks[place] for place in order])


def _bias(bias: Value | None, n: int, order: Sequence[int]) -> Array | None:
    """The sum of a direction's two constant biases, its gates in another order."""
    if bias is None or bias.array is None:
        return None
    blocks = np.split(bias.array[n].reshape(2, -1).sum(0), len(order))
    return np.concatenate([blocks[place] for place in order])


def _in_order(b: Builder, sequence: Var, backward: bool) -> Var:
    """MIL's reverse layers give their steps in the order they made them, ONNX's in the order of the input."""
    return b.op("reverse", x=sequence, axes=[0]) if backward else sequence


def _biases(b: Builder, bias: Value | None, n: int) -> tuple[Var | None, Var | None]:
    """The halves of `[2 * gates * hidden]`: of the input's product, and of the hidden state's."""
    if bias is None:
        return None, None
    half = bias.shape[1] // 2
    first, second = parts(b, direction_of(b, b.var(bias), n), 0, [half, half])
    return first, second


def _total(b: Builder, one: Var | None, other: Var | None) -> Var | None:
    return one if other is None else other if one is None else b.op("add", x=one, y=other)


@lowers("RNN")
def rnn(
    b: Builder,
    x: Value,
    w: Value,
    r: Value,
    bias: Value | None = None,
    lengths: Value | None = None,
    initial_h: Value | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,  # noqa: ARG001  (R has it)
    layout: int = 0,
) -> tuple[Var, ...]:
    """`H = f(X W' + H R' + b)`."""
    given = recurrence.read(b, x, r, lengths, [initial_h], direction, layout)
    count = len(given.backward)
    functions = gate_functions(b, activations, ("Tanh",), count, activation_alpha, activation_beta)
    names = list(activations) or ["Tanh"] * count
    if _native(b, given, names, clip, w, r, bias):
        made = [
            b.op(
                "rnn",
                x=given.x,
                initial_h=direction_of(b, given.initial[0], n),
                weight_ih=_rows(w, n, [0]),
                weight_hh=_rows(r, n, [0]),
                bias=_bias(bias, n, [0]),
                direction="reverse" if backward else "forward",
                output_sequence=True,
                activation=names[n].lower(),
            )
            for n, backward in enumerate(given.backward)
        ]
        sequences = [_in_order(b, y, backward) for (y, _), backward in zip(made, given.backward, strict=True)]
        return recurrence.joined(b, given, sequences, [(h,) for _, h in made])
    shares, cells = [], []
    for n in range(count):
        shares.append(recurrence.project(b, given, direction_of(b, b.var(w), n), _total(b, *_biases(b, bias, n))))
        cells.append(_rnn_cell(b, r, n, functions[n][0], clip))
    return recurrence.run(b, given, shares, cells)


def _rnn_cell(b: Builder, r: Value, n: int, f: Activation, clip: float) -> recurrence.Cell:
    def cell(share: Var, state: State) -> State:
        recurrent = dense(b, state[0], direction_of(b, b.var(r), n))
        return (f(b, clamp(b, b.op("add", x=share, y=recurrent), clip)),)

    return cell


@lowers("GRU")
def gru(
    b: Builder,
    x: Value,
    w: Value,
    r: Value,
    bias: Value | None = None,
    lengths: Value | None = None,
    initial_h: Value | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,  # noqa: ARG001
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Var, ...]:
    """Gates in the order z, r, h; `H = (1 - z) * h + z * H`."""
    given = recurrence.read(b, x, r, lengths, [initial_h], direction, layout)
    size = given.hidden
    functions = gate_functions(
        b, activations, ("Sigmoid", "Tanh"), len(given.backward), activation_alpha, activation_beta
    )
    shares, cells = [], []
    for n in range(len(given.backward)):
        of_input, of_hidden = _biases(b, bias, n)
        inner: Var | None = None  # the bias that the reset gate scales too
        if linear_before_reset and of_hidden is not None:
            gates, inner = parts(b, of_hidden, 0, [2 * size, size])
            of_hidden = b.op("concat", values=[gates, b.constant(np.zeros(size, np.float32))], axis=0, interleave=False)
        total = _total(b, of_input, of_hidden)
        shares.append(recurrence.project(b, given, direction_of(b, b.var(w), n), total))
        r_gates, r_hidden = parts(b, direction_of(b, b.var(r), n), 0, [2 * size, size])
        scaled = _reset_after(b, r_hidden, inner) if linear_before_reset else _reset_before(b, r_hidden)
        cells.append(_gru_cell(b, size, r_gates, scaled, functions[n], clip))
    return recurrence.run(b, given, shares, cells)


Scaled = Callable[[Var, Var], Var]


def _reset_before(b: Builder, weights: Var) -> Scaled:
    return lambda reset, hidden: dense(b, b.op("mul", x=reset, y=hidden), weights)


def _reset_after(b: Builder, weights: Var, bias: Var | None) -> Scaled:
    def scaled(reset: Var, hidden: Var) -> Var:
        product = dense(b, hidden, weights)
        return b.op("mul", x=reset, y=product if bias is None else b.op("add", x=product, y=bias))

    return scaled


def _gru_cell(
    b: Builder, size: int, r_gates: Var, scaled: Scaled, functions: Sequence[Activation], clip: float
) -> recurrence.Cell:
    f, g = functions

    def cell(share: Var, state: State) -> State:
        (hidden,) = state
        x_gates, x_hidden = parts(b, share, 1, [2 * size, size])
        gates = b.op("add", x=x_gates, y=dense(b, hidden, r_gates))
        update, reset = parts(b, f(b, clamp(b, gates, clip)), 1, [size, size])
        new = g(b, clamp(b, b.op("add", x=x_hidden, y=scaled(reset, hidden)), clip))
        return (b.op("add", x=new, y=b.op("mul", x=update, y=b.op("sub", x=hidden, y=new))),)

    return cell


@lowers("LSTM")
def lstm(
    b: Builder,
    x: Value,
    w: Value,
    r: Value,
    bias: Value | None = None,
    lengths: Value | None = None,
    initial_h: Value | None = None,
    initial_c: Value | None = None,
    peepholes: Value | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,  # noqa: ARG001
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Var, ...]:
    """Gates in the order i, o, f, c; `C = f * C + i * c`, `H = o * h(C)`."""
    given = recurrence.read(b, x, r, lengths, [initial_h, initial_c], direction, layout)
    count = len(given.backward)
    defaults = ("Sigmoid", "Tanh", "Tanh")
    functions = gate_functions(b, activations, defaults, count, activation_alpha, activation_beta)
    names = list(activations) or list(defaults) * count
    if _native(b, given, names, clip, w, r, bias, peepholes) and not input_forget and names[:3] == names[-3:]:
        return _native_lstm(b, given, names, w, r, bias, peepholes)
    shares, cells = [], []
    for n in range(count):
        total = _total(b, *_biases(b, bias, n))
        shares.append(recurrence.project(b, given, direction_of(b, b.var(w), n), total))
        peep = None if peepholes is None else parts(b, direction_of(b, b.var(peepholes), n), 0, [given.hidden] * 3)
        weights = direction_of(b, b.var(r), n)
        cells.append(_lstm_cell(b, given.hidden, weights, peep, functions[n], clip, coupled=bool(input_forget)))
    return recurrence.run(b, given, shares, cells)


def _native_lstm(
    b: Builder, given: Recurrence, names: Sequence[str], w: Value, r: Value, bias: Value | None, peepholes: Value | None
) -> tuple[Var, ...]:
    """MIL's gates are in the order i, f, o, z, and both directions lie side by side."""
    order, size, count = [0, 2, 1, 3], given.hidden, len(given.backward)
    zeros = np.zeros(4 * size, np.float32)
    weights = {}
    for n, suffix in enumerate(("", "_back")[:count]):
        total = _bias(bias, n, order)
        weights[f"weight_ih{suffix}"], weights[f"weight_hh{suffix}"] = _rows(w, n, order), _rows(r, n, order)
        weights[f"bias{suffix}"] = zeros if total is None else total
        if peepholes is not None:
            weights[f"peephole{suffix}"] = _rows(peepholes, n, [0, 2, 1])
    batch = given.x.shape[1]
    sides = [b.reshape(b.transpose(state, [1, 0, 2]), (batch, count * size)) for state in given.initial]
    sequence, *finals = b.op(
        "lstm",
        x=given.x,
        initial_h=sides[0],
        initial_c=sides[1],
        **weights,
        direction="bidirectional" if count > 1 else "reverse" if given.backward[0] else "forward",
        output_sequence=True,
        recurrent_activation=names[0].lower(),
        cell_activation=names[1].lower(),
        activation=names[2].lower(),
    )
    outputs = parts(b, _in_order(b, sequence, count == 1 and given.backward[0]), 2, [size] * count)
    states = zip(*(parts(b, final, 1, [size] * count) for final in finals), strict=True)
    return recurrence.joined(b, given, outputs, list(states))


def _lstm_cell(
    b: Builder,
    size: int,
    weights: Var,
    peepholes: Sequence[Var] | None,
    functions: Sequence[Activation],
    clip: float,
    *,
    coupled: bool,
) -> recurrence.Cell:
    """One step; with `coupled` the forget gate is `1 - i`. Peepholes (of i, o and f) let the gates see the cell."""
    f, g, h = functions

    def gate(sums: Var, cell: Var, place: int) -> Var:
        if peepholes is not None:
            sums = b.op("add", x=sums, y=b.op("mul", x=cell, y=peepholes[place]))
        return f(b, clamp(b, sums, clip))

    def step(share: Var, state: State) -> State:
        hidden, cell = state
        sums = b.op("add", x=share, y=dense(b, hidden, weights))
        of_i, of_o, of_f, candidate = parts(b, sums, 1, [size] * 4)
        i = gate(of_i, cell, 0)
        forget = b.op("sub", x=1.0, y=i) if coupled else gate(of_f, cell, 2)
        new = b.op("mul", x=i, y=g(b, clamp(b, candidate, clip)))
        after = b.op("add", x=b.op("mul", x=forget, y=cell), y=new)
        return b.op("mul", x=gate(of_o, after, 1), y=h(b, after)), after

    return step
