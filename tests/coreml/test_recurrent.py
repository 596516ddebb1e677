"""RNN, GRU and LSTM, by MIL's own ops, written out, and by `while_loop`, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

from haversack.convert.targets.coreml.ops.recurrence import UNROLLED

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
HIDDEN, FEATURES, BATCH = 4, 3, 2


def weights(op: str, directions: int) -> dict[str, np.ndarray]:
    gates, random = GATES[op], np.random.default_rng(0)
    shapes = {
        "w": (directions, gates * HIDDEN, FEATURES),
        "r": (directions, gates * HIDDEN, HIDDEN),
        "b": (directions, 2 * gates * HIDDEN),
        "h": (directions, BATCH, HIDDEN),
        "c": (directions, BATCH, HIDDEN),
        "p": (directions, 3 * HIDDEN),
    }
    return {name: random.standard_normal(shape).astype(np.float32) / 2 for name, shape in shapes.items()}


def case(op: str, steps: int, direction: str, lengths: bool, **attributes):
    held = weights(op, 2 if direction == "bidirectional" else 1)
    x = np.random.default_rng(1).standard_normal((steps, BATCH, FEATURES)).astype(np.float32)
    inputs = ["x", "w", "r", "b", "lengths" if lengths else "", "h"] + (["c", "p"] if op == "LSTM" else [])
    constants = {name: held[name] for name in inputs[1:] if name in held}
    if lengths:
        constants["lengths"] = np.array([steps, steps - 1], np.int32)
    outputs = ["y", "y_h", "y_c"][: 3 if op == "LSTM" else 2]
    node = make_node(op, inputs, outputs, hidden_size=HIDDEN, direction=direction, **attributes)
    return [node], {"x": x}, outputs, constants


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_directions(bench, ops_of, op: str, direction: str, lengths: bool) -> None:
    written = bench.agree(*case(op, 3, direction, lengths))
    assert (op.lower() in ops_of(written.path)) == (op != "GRU" and not lengths)


@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_long_sequences_are_loops(bench, ops_of, op: str, direction: str) -> None:
    written = bench.agree(*case(op, UNROLLED + 1, direction, lengths=True))
    assert ops_of(written.path).count("while_loop") == (2 if direction == "bidirectional" else 1)


@pytest.mark.parametrize("linear_before_reset", [0, 1])
def test_reset_gate(bench, linear_before_reset: int) -> None:
    bench.agree(*case("GRU", 3, "forward", lengths=False, linear_before_reset=linear_before_reset))


@pytest.mark.parametrize(
    ("op", "activations", "parameters"),
    [
        ("RNN", ["Relu"], {}),
        ("RNN", ["LeakyRelu"], {"activation_alpha": [0.3]}),
        ("GRU", ["HardSigmoid", "Softsign"], {"activation_alpha": [0.3], "activation_beta": [0.4]}),
        ("LSTM", ["Sigmoid", "Relu", "Tanh"], {}),
        (
            "LSTM",
            ["HardSigmoid", "Tanh", "ScaledTanh"],
            {"activation_alpha": [0.3, 1.5], "activation_beta": [0.4, 0.5]},
        ),
    ],
)
def test_activations(bench, op: str, activations: list[str], parameters: dict[str, list[float]]) -> None:
    bench.agree(*case(op, 3, "forward", lengths=False, activations=activations, **parameters))


@pytest.mark.parametrize("op", GATES)
def test_clip_bounds_what_goes_into_the_gates(bench, op: str) -> None:
    bench.agree(*case(op, 3, "forward", lengths=False, clip=0.2))


def test_the_last_state_alone_is_read(bench) -> None:
    (node,), fed, _, constants = case("LSTM", 3, "forward", lengths=False)
    node.output[0] = ""
    bench.agree([node], fed, ["y_h", "y_c"], constants)
