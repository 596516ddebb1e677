"""Recurrent layers over sequences x [S, B, I].

Gate order in the weights is MIL's: LSTM input, forget, output, cell; GRU reset, output, update. A `reverse` layer reads
its sequence backwards and gives its outputs in the order in which it made them, the last element's first (ONNX and
PyTorch put them back in the order of the input; Keras' `go_backwards` does not). Only a `bidirectional` LSTM puts its
backward half in the order of the input. So say the tests that coremltools states for Core ML.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.ops.activation import logistic
from haversack.runtimes.engines.coreml.registry import op
from haversack.runtimes.errors import EngineError

# MIL names no parameters for these: hard_sigmoid has ONNX's and Keras' slope 0.2, scaled_tanh is scaled by 1.
ACTIVATIONS: dict[str, Callable[[Array], Any]] = {
    "sigmoid": logistic,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.clip(np.float32(0.2) * x + np.float32(0.5), 0, 1),
    "sigmoid_hard": lambda x: np.clip(np.float32(0.2) * x + np.float32(0.5), 0, 1),
    "scaled_tanh": np.tanh,
}


def _activation(name: str) -> Callable[[Array], Any]:
    if name not in ACTIVATIONS:
        raise EngineError(f"the recurrent activation {name} is not known")
    return ACTIVATIONS[name]


def _ordered(x: Array, direction: str) -> Array:
    if direction not in ("forward", "reverse"):
        raise EngineError(f"the direction {direction} is not known here")
    return x if direction == "forward" else x[::-1]


def _sequence(steps: list[Array], whole: bool) -> Array:
    """Return every step in the order of execution, or the last one, with a leading axis."""
    return np.stack(steps) if whole else steps[-1][None]


@op("rnn")
def rnn(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> Any:
    """Return h_t = activation(W_ih x_t + W_hh h_{t-1} + b): the sequence or its last step, and the last step."""
    function = _activation(activation)
    hidden, steps = initial_h, []
    for item in _ordered(x, direction):
        gates = item @ weight_ih.T + hidden @ weight_hh.T
        hidden = function(gates if bias is None else gates + bias)
        steps.append(hidden)
    return _sequence(steps, output_sequence), hidden


@op("gru")
def gru(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Array | None = None,
) -> Any:
    """Run a gated recurrent unit.

    r and z are recurrent_activation of W_i x + b + W_h h; o = activation(W_io x + b_o + r * W_ho h);
    h = (1 - z) * o + z * h. `bias` belongs to the hidden side, `input_bias` (iOS 18) to the input side. Without
    `reset_after` the reset gate multiplies h before the matrix, with it the product after.
    """
    gate, function = _activation(recurrent_activation), _activation(activation)
    size = initial_h.shape[-1]
    w_r, w_o, w_z = np.split(weight_ih, 3)
    r_r, r_o, r_z = np.split(weight_hh, 3)
    zeros = np.zeros(3 * size, np.float32)
    b_r, b_o, b_z = np.split(zeros if bias is None else bias, 3)
    i_r, i_o, i_z = np.split(zeros if input_bias is None else input_bias, 3)
    hidden, steps = initial_h, []
    for item in _ordered(x, direction):
        reset = gate(item @ w_r.T + i_r + hidden @ r_r.T + b_r)
        update = gate(item @ w_z.T + i_z + hidden @ r_z.T + b_z)
        if reset_after:
            new = function(item @ w_o.T + i_o + reset * (hidden @ r_o.T + b_o))
        else:
            new = function(item @ w_o.T + i_o + (reset * hidden) @ r_o.T + b_o)
        hidden = (1 - update) * new + update * hidden
        steps.append(hidden)
    return _sequence(steps, output_sequence), hidden


@op("lstm")
def lstm(
    x: Array,
    initial_h: Array,
    initial_c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    peephole: Array | None = None,
    weight_ih_back: Array | None = None,
    weight_hh_back: Array | None = None,
    bias_back: Array | None = None,
    peephole_back: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> Any:
    """Run a long short-term memory, in one direction or both; returns the sequence, the last h and the last c."""
    functions = (_activation(recurrent_activation), _activation(cell_activation), _activation(activation))
    if direction != "bidirectional":
        weights = (weight_ih, weight_hh, bias, peephole)
        steps, h, c = _lstm(_ordered(x, direction), initial_h, initial_c, weights, functions, clip)
        return _sequence(steps, output_sequence), h, c
    if weight_ih_back is None or weight_hh_back is None:
        raise EngineError("a bidirectional lstm needs weight_ih_back and weight_hh_back")
    size = initial_h.shape[-1] // 2
    forward = _lstm(
        x, initial_h[:, :size], initial_c[:, :size], (weight_ih, weight_hh, bias, peephole), functions, clip
    )
    back_weights = (weight_ih_back, weight_hh_back, bias_back, peephole_back)
    backward = _lstm(x[::-1], initial_h[:, size:], initial_c[:, size:], back_weights, functions, clip)
    sequences = (
        _sequence(forward[0], output_sequence),
        _sequence(backward[0][::-1] if output_sequence else backward[0], output_sequence),
    )
    return (
        np.concatenate(sequences, axis=-1),
        np.concatenate([forward[1], backward[1]], axis=-1),
        np.concatenate([forward[2], backward[2]], axis=-1),
    )


def _lstm(
    x: Array,
    hidden: Array,
    cell: Array,
    weights: tuple[Array, Array, Array | None, Array | None],
    functions: tuple[Callable[[Array], Any], ...],
    clip: float | None,
) -> tuple[list[Array], Array, Array]:
    """Run one direction.

    A peephole lets the gates see the cell, the output gate the new one. `clip` limits the new cell.
    """
    gate, candidate, output = functions
    weight_ih, weight_hh, bias, peephole = weights
    peep_i, peep_f, peep_o = np.split(peephole, 3) if peephole is not None else (None, None, None)
    steps = []
    for item in x:
        gates = item @ weight_ih.T + hidden @ weight_hh.T
        if bias is not None:
            gates = gates + bias
        i, f, o, z = np.split(gates, 4, axis=-1)
        if peep_i is not None and peep_f is not None:
            i, f = i + peep_i * cell, f + peep_f * cell
        cell = gate(f) * cell + gate(i) * candidate(z)
        if clip is not None:
            cell = np.clip(cell, -np.float32(clip), np.float32(clip))
        if peep_o is not None:
            o = o + peep_o * cell
        hidden = gate(o) * output(cell)
        steps.append(hidden)
    return steps, hidden, cell
