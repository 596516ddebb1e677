"""RNN, GRU and LSTM against onnxruntime, and against onnx's own cases where onnxruntime has no kernel."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx.helper import make_node

from haversack.convert.errors import UnsupportedError
from haversack.convert.hub.load import to_hub
from haversack.convert.targets import Options
from haversack.convert.targets.tflite import TARGET, extract
from haversack.convert.targets.tflite.ops.recurrence import unrolled_steps

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
HIDDEN, FEATURES, BATCH = 5, 3, 2
SHORT, LONG = 3, 9  # written out, and run by a WHILE

# Each step feeds the next: rounding of 1e-7 a step grows with the steps, by no more than a factor of 1 a step where the
# gates saturate; ten steps of a sum of ten products stay below 1e-5 of the largest magnitude, as for one operator.


def weights(op: str, directions: int, random: np.random.Generator, **more: Any) -> dict[str, Any]:
    gates = GATES[op]
    shapes = {
        "w": (directions, gates * HIDDEN, FEATURES),
        "r": (directions, gates * HIDDEN, HIDDEN),
        "b": (directions, 2 * gates * HIDDEN),
        "h": (directions, BATCH, HIDDEN),
        "c": (directions, BATCH, HIDDEN),
        "p": (directions, 3 * HIDDEN),
    }
    made = {name: random.standard_normal(shape).astype(np.float32) / 2 for name, shape in shapes.items()}
    return {**made, **more}


def outputs(op: str) -> list[str]:
    return ["y", "y_h", "y_c"][: 3 if op == "LSTM" else 2]


@pytest.mark.parametrize("steps", [SHORT, LONG])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_directions(op: str, direction: str, steps: int, bench: Any, random: np.random.Generator) -> None:
    held = weights(op, 2 if direction == "bidirectional" else 1, random)
    x = random.standard_normal((steps, BATCH, FEATURES)).astype(np.float32)
    inputs = ["x", "w", "r", "b", "", "h"] + (["c", "p"] if op == "LSTM" else [])
    constants = {name: held[name] for name in inputs[1:] if name}
    node = make_node(op, inputs, outputs(op), hidden_size=HIDDEN, direction=direction)
    bench.agree([node], {"x": x}, outputs(op), constants)
    graph, _ = extract.read(bench.data)
    assert ("WHILE" in {operator.code for operator in graph.operators}) == (steps == LONG)


@pytest.mark.parametrize("steps", [SHORT, LONG])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_sequence_lengths(op: str, direction: str, steps: int, bench: Any, random: np.random.Generator) -> None:
    """After the end of its sequence a batch entry gives zeros and keeps its state, in both directions."""
    held = weights(op, 2 if direction == "bidirectional" else 1, random)
    x = random.standard_normal((steps, BATCH, FEATURES)).astype(np.float32)
    inputs = ["x", "w", "r", "b", "n", "h"] + (["c"] if op == "LSTM" else [])
    feeds = {"x": x, "n": np.array([2, steps], np.int32)}
    constants = {name: held[name] for name in inputs[1:] if name != "n"}
    node = make_node(op, inputs, outputs(op), hidden_size=HIDDEN, direction=direction)
    bench.agree([node], feeds, outputs(op), constants)


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("GRU", {"linear_before_reset": 1}),
    ("LSTM", {"input_forget": 1}),
    *((op, {"clip": 0.3}) for op in GATES),
    ("RNN", {"activations": ["Relu"]}),
    ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.3]}),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]}),
    ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [0.7], "activation_beta": [0.9]}),
    ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.2]}),
    ("RNN", {"activations": ["Softsign"]}),
    ("GRU", {"activations": ["HardSigmoid", "Softplus"], "activation_alpha": [0.3], "activation_beta": [0.4]}),
    ("LSTM", {"activations": ["HardSigmoid", "Elu", "Tanh"], "activation_alpha": [0.3, 0.8], "activation_beta": [0.4]}),
    ("LSTM", {"activations": ["sigmoid", "relu", "softsign"]}),
]


@pytest.mark.parametrize("steps", [SHORT, LONG])
@pytest.mark.parametrize(("op", "attributes"), VARIANTS, ids=lambda value: str(value))
def test_variants(op: str, attributes: dict[str, Any], steps: int, bench: Any, random: np.random.Generator) -> None:
    held = weights(op, 1, random)
    x = random.standard_normal((steps, BATCH, FEATURES)).astype(np.float32)
    constants = {name: held[name] for name in "wrb"}
    node = make_node(op, ["x", "w", "r", "b"], outputs(op), hidden_size=HIDDEN, **attributes)
    bench.agree([node], {"x": x}, outputs(op), constants)


@pytest.mark.parametrize("op", GATES)
def test_computed_weights(op: str, bench: Any, random: np.random.Generator) -> None:
    """Weights that are inputs are carried into the loop."""
    held = weights(op, 1, random)
    x = random.standard_normal((LONG, BATCH, FEATURES)).astype(np.float32)
    node = make_node(op, ["x", "w", "r", "b"], ["", "y_h"], hidden_size=HIDDEN)
    bench.agree([node], {"x": x, **{name: held[name] for name in "wrb"}}, ["y_h"])


def test_a_second_run_begins_anew(bench: Any, random: np.random.Generator) -> None:
    """No state, no constant of the loop survives a run."""
    from ai_edge_litert.interpreter import Interpreter

    held = weights("LSTM", 1, random)
    x = random.standard_normal((LONG, BATCH, FEATURES)).astype(np.float32)
    node = make_node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=HIDDEN)
    bench.agree([node], {"x": x}, ["y"], {name: held[name] for name in "wrb"})
    interpreter = Interpreter(model_content=bench.data, num_threads=1)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner("serving_default")
    first = runner(x=x)["y"].copy()
    runner(x=x[::-1].copy())
    np.testing.assert_array_equal(runner(x=x)["y"], first)


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_of_realistic_size(op: str, bench: Any, graph_of: Any, random: np.random.Generator) -> None:
    """64 units, 50 steps: one WHILE, so that the file is little more than the weights."""
    size, features = 64, 40
    constants = {
        "w": random.standard_normal((1, GATES[op] * size, features)).astype(np.float32) / 6,
        "r": random.standard_normal((1, GATES[op] * size, size)).astype(np.float32) / 8,
        "b": random.standard_normal((1, 2 * GATES[op] * size)).astype(np.float32),
    }
    x = random.standard_normal((50, 1, features)).astype(np.float32)
    node = make_node(op, ["x", "w", "r", "b"], ["y"], hidden_size=size)
    written = bench.agree([node], {"x": x}, ["y"], constants)
    stored = constants["w"].nbytes + constants["r"].nbytes
    assert len(bench.data) < stored + 4 * 50 * size + 6000  # the zeros that outputs are written into, and the graph
    assert written.min_runtime == "TensorFlow Lite 2.9.0"
    bench.layers_agree(graph_of([node], {"x": x}, ["y"], constants), {"x": x}, "fp32")


def test_short_sequences_are_written_out() -> None:
    assert unrolled_steps(0) == 4
    assert unrolled_steps(4 * 64 * (64 + 40) * 4) == 11
    assert unrolled_steps(1 << 30) == 32


def test_unknown_activation_is_refused(graph_of: Any, tmp_path: Path, random: np.random.Generator) -> None:
    held = weights("RNN", 1, random)
    x = random.standard_normal((SHORT, BATCH, FEATURES)).astype(np.float32)
    node = make_node("RNN", ["x", "w", "r"], ["y"], "cell", hidden_size=HIDDEN, activations=["Swish"])
    model = graph_of([node], {"x": x}, ["y"], {name: held[name] for name in "wr"})
    with pytest.raises(UnsupportedError, match="Swish") as refused:
        TARGET.write(model, "fp32", tmp_path / "m.tflite", Options())
    assert [blocker.node for blocker in refused.value.blockers] == ["cell"]
    assert not (tmp_path / "m.tflite").exists()


@pytest.mark.parametrize("op", GATES)
def test_backend_cases(op: str, tmp_path: Path, run: Any) -> None:
    """onnx's own cases, `layout` 1 among them, which onnxruntime has not; float32 cells of few terms: 1e-5."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators overflow and divide by zero on purpose
        from onnx.backend.test.case.node import collect_testcases

        collected = collect_testcases(None)
    cases = [case for case in collected if [node.op_type for node in case.model.graph.node] == [op]]
    assert len(cases) >= 4
    for case in cases:
        arrays, expected = case.data_sets[0]
        feeds = {info.name: array for info, array in zip(case.model.graph.input, arrays, strict=True)}
        TARGET.write(to_hub(ir.from_proto(case.model)), "fp32", tmp_path / "m.tflite", Options())
        for xnnpack in (True, False):
            found = run((tmp_path / "m.tflite").read_bytes(), feeds, xnnpack)
            for info, array in zip(case.model.graph.output, expected, strict=True):
                np.testing.assert_allclose(found[info.name], array, rtol=1e-5, atol=1e-5, err_msg=case.name)
