"""RNN, GRU and LSTM, by the equations of their ONNX specifications; `recurrence` runs their cells over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from haversack.convert.targets.tflite import steps
from haversack.convert.targets.tflite.builder import Builder
from haversack.convert.targets.tflite.graph import Tensor
from haversack.convert.targets.tflite.ops import lowers, recurrence
from haversack.convert.targets.tflite.ops.gates import Activation, clamp, gate_functions


@lowers("RNN")
def rnn(
    b: Builder,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,  # noqa: ARG001 - R has it
    layout: int = 0,
) -> tuple[Tensor | None, ...]:
    """`H = f(X W' + H R' + b)`."""
    given = recurrence.read(b, x, w, r, lengths, [initial_h], direction, layout)
    count = len(given.backward)
    functions = gate_functions(b, activations, ("Tanh",), count, activation_alpha, activation_beta)
    shares, cells = [], []
    for n, (w_n, r_n, bias_n) in enumerate(_weights(b, w, r, bias)):
        shares.append(recurrence.project(b, given.x, w_n, recurrence.total(b, *recurrence.biases(b, bias_n))))

        def cell(
            share: Tensor, state: recurrence.State, r_n: Tensor = r_n, f: Activation = functions[n][0]
        ) -> recurrence.State:
            return (f(b, clamp(b, steps.binary(b, "ADD", share, recurrence.dense(b, state[0], r_n)), clip)),)

        cells.append(cell)
    return recurrence.run(b, given, shares, cells)


@lowers("GRU")
def gru(
    b: Builder,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,  # noqa: ARG001 - R has it
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor | None, ...]:
    """Gates in the order z, r, h; `H = (1 - z) * h + z * H`."""
    given = recurrence.read(b, x, w, r, lengths, [initial_h], direction, layout)
    count, size = len(given.backward), given.hidden
    functions = gate_functions(b, activations, ("Sigmoid", "Tanh"), count, activation_alpha, activation_beta)
    shares, cells = [], []
    for n, (w_n, r_n, bias_n) in enumerate(_weights(b, w, r, bias)):
        of_input, of_hidden = recurrence.biases(b, bias_n)
        inner: Tensor | None = None  # the bias that the reset gate scales too
        if linear_before_reset and of_hidden is not None:
            gates, inner = steps.split(b, of_hidden, 0, [2 * size, size])
            of_hidden = steps.pad(b, gates, [(0, size)])
        shares.append(recurrence.project(b, given.x, w_n, recurrence.total(b, of_input, of_hidden)))
        r_gates, r_hidden = steps.split(b, r_n, 0, [2 * size, size])

        def cell(
            share: Tensor,
            state: recurrence.State,
            r_gates: Tensor = r_gates,
            r_hidden: Tensor = r_hidden,
            inner: Tensor | None = inner,
            f: Activation = functions[n][0],
            g: Activation = functions[n][1],
        ) -> recurrence.State:
            (hidden,) = state
            x_gates, x_hidden = steps.split(b, share, 1, [2 * size, size])
            gates = steps.binary(b, "ADD", x_gates, recurrence.dense(b, hidden, r_gates))
            update, reset = steps.split(b, f(b, clamp(b, gates, clip)), 1, [size, size])
            if linear_before_reset:
                scaled = steps.binary(b, "MUL", reset, recurrence.dense(b, hidden, r_hidden, inner))
            else:
                scaled = recurrence.dense(b, steps.binary(b, "MUL", reset, hidden), r_hidden)
            new = g(b, clamp(b, steps.binary(b, "ADD", x_hidden, scaled), clip))
            change = steps.binary(b, "MUL", update, steps.binary(b, "SUB", hidden, new))
            return (steps.binary(b, "ADD", new, change),)

        cells.append(cell)
    return recurrence.run(b, given, shares, cells)


@lowers("LSTM")
def lstm(
    b: Builder,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    peepholes: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] = (),
    clip: float = 0.0,
    direction: str = "forward",
    hidden_size: int = 0,  # noqa: ARG001 - R has it
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor | None, ...]:
    """Gates in the order i, o, f, c; `C = f * C + i * c`, `H = o * h(C)`."""
    given = recurrence.read(b, x, w, r, lengths, [initial_h, initial_c], direction, layout)
    count, size = len(given.backward), given.hidden
    functions = gate_functions(b, activations, ("Sigmoid", "Tanh", "Tanh"), count, activation_alpha, activation_beta)
    peeps = recurrence.per_direction(b, peepholes) if peepholes is not None else [None] * count
    shares, cells = [], []
    for n, (w_n, r_n, bias_n) in enumerate(_weights(b, w, r, bias)):
        shares.append(recurrence.project(b, given.x, w_n, recurrence.total(b, *recurrence.biases(b, bias_n))))
        peep = peeps[n]
        row = steps.split(b, b.plain(peep), 0, [size] * 3) if peep is not None else None
        cells.append(_LSTMCell(b, size, r_n, row, functions[n], clip, bool(input_forget)))
    return recurrence.run(b, given, shares, cells)


@dataclass(frozen=True)
class _LSTMCell:
    """One step of an LSTM.

    Attributes:
        b: The builder.
        size: Of the hidden state.
        r: The recurrent weights of all gates.
        peepholes: The weights by which the gates i, o and f see the cell, in this order.
        functions: f of the gates, g of the cell's candidate, h of the cell.
        clip: The bound of what goes into these; 0 for none.
        coupled: Whether the forget gate is `1 - i`.
    """

    b: Builder
    size: int
    r: Tensor
    peepholes: Sequence[Tensor] | None
    functions: Sequence[Activation]
    clip: float
    coupled: bool

    def __call__(self, share: Tensor, state: recurrence.State) -> recurrence.State:
        b, (hidden, cell), (f, g, h) = self.b, state, self.functions
        sums = steps.binary(b, "ADD", share, recurrence.dense(b, hidden, self.r))
        if self.peepholes is None:  # the gates lie side by side, so that one kernel serves all three
            gates, candidate = steps.split(b, sums, 1, [3 * self.size, self.size])
            i, o, forget = steps.split(b, f(b, clamp(b, gates, self.clip)), 1, [self.size] * 3)
        else:
            i, o, forget, candidate = steps.split(b, sums, 1, [self.size] * 4)
            i = self._gate(i, cell, self.peepholes[0])
            forget = self._gate(forget, cell, self.peepholes[2])
        if self.coupled:
            forget = steps.binary(b, "SUB", b.const(1, "float32"), i)
        new = steps.binary(b, "MUL", i, g(b, clamp(b, candidate, self.clip)))
        after = steps.binary(b, "ADD", steps.binary(b, "MUL", forget, cell), new)
        if self.peepholes is not None:
            o = self._gate(o, after, self.peepholes[1])
        return steps.binary(b, "MUL", o, h(b, after)), after

    def _gate(self, sums: Tensor, cell: Tensor, peephole: Tensor) -> Tensor:
        seen = steps.binary(self.b, "ADD", sums, steps.binary(self.b, "MUL", cell, peephole))
        return self.functions[0](self.b, clamp(self.b, seen, self.clip))


def _weights(b: Builder, w: Tensor, r: Tensor, bias: Tensor | None) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    biases = [None] * w.shape[0] if bias is None else recurrence.per_direction(b, bias)
    return list(zip(recurrence.per_direction(b, w), recurrence.per_direction(b, r), biases, strict=True))
