"""Recurrent layers against onnxruntime, whose gates, and whose outputs of a reverse layer, stand in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

S, B, F, H = 5, 2, 3, 4
RNG = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def onnx_recurrent(op: str, inputs: list[np.ndarray], outputs: int, **attributes: Any) -> list[np.ndarray]:
    """Run ONNX's RNN, GRU or LSTM; empty inputs are left out."""
    feeds = {f"i{n}": value for n, value in enumerate(inputs) if value.size}
    names = [f"i{n}" if value.size else "" for n, value in enumerate(inputs)]
    results = [f"o{n}" for n in range(outputs)]
    node = helper.make_node(op, names, results, hidden_size=H, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in results],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(results, feeds))


NONE = np.zeros(0, np.float32)


def executed(sequence: np.ndarray, direction: str) -> np.ndarray:
    """Bring ONNX's outputs, in the order of the input, into the order in which the layer made them."""
    return sequence[::-1] if direction == "reverse" else sequence


# Five steps of a contracting recurrence: a few dozen float32 roundings of values of about 1.
TOLERANCE = 2e-6


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("reset_after", [False, True])
def test_gru(evaluate: Any, direction: str, reset_after: bool) -> None:
    x, h = normal(S, B, F), normal(B, H)
    w, r = {g: normal(H, F) for g in "zro"}, {g: normal(H, H) for g in "zro"}
    bi, bh = {g: normal(H) for g in "zro"}, {g: normal(H) for g in "zro"}
    wanted = onnx_recurrent(
        "GRU",
        [
            x,
            np.concatenate([w[g] for g in "zro"])[None],
            np.concatenate([r[g] for g in "zro"])[None],
            np.concatenate([bi[g] for g in "zro"] + [bh[g] for g in "zro"])[None],
            NONE,
            h[None],
        ],
        2,
        direction=direction,
        linear_before_reset=int(reset_after),
    )
    order = "roz"
    found = evaluate(
        lambda mb, x, h: mb.gru(
            x=x, initial_h=h,
            weight_ih=np.concatenate([w[g] for g in order]), weight_hh=np.concatenate([r[g] for g in order]),
            input_bias=np.concatenate([bi[g] for g in order]), bias=np.concatenate([bh[g] for g in order]),
            direction=direction, output_sequence=True, reset_after=reset_after,
        ),
        {"x": x, "h": h},
        "iOS18",
    )  # fmt: skip
    np.testing.assert_allclose(found[0], executed(wanted[0][:, 0], direction), atol=TOLERANCE)
    np.testing.assert_allclose(found[1], wanted[1][0], atol=TOLERANCE)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_lstm(evaluate: Any, direction: str, peephole: bool, whole: bool) -> None:
    ways = 2 if direction == "bidirectional" else 1
    x, h, c = normal(S, B, F), normal(B, ways * H), normal(B, ways * H)
    w, r, b = ([{g: normal(*s) for g in "iofz"} for _ in range(ways)] for s in ((H, F), (H, H), (H,)))
    p = [{g: normal(H) for g in "iof"} for _ in range(ways)]
    zeros = np.zeros(4 * H, np.float32)

    def stacked(values: list[dict[str, np.ndarray]], order: str) -> np.ndarray:
        return np.stack([np.concatenate([v[g] for g in order]) for v in values])

    split = [np.stack(np.split(v, ways, axis=1)) for v in (h, c)]
    bias = np.stack([np.concatenate([row, zeros]) for row in stacked(b, "iofz")])
    wanted = onnx_recurrent(
        "LSTM",
        [x, stacked(w, "iofz"), stacked(r, "iofz"), bias, NONE, *split, stacked(p, "iof") if peephole else NONE],
        3,
        direction=direction,
    )
    order = "ifoz"
    parameters: dict[str, Any] = {}
    for way, suffix in zip(range(ways), ("", "_back"), strict=False):
        parameters[f"weight_ih{suffix}"] = stacked(w, order)[way]
        parameters[f"weight_hh{suffix}"] = stacked(r, order)[way]
        parameters[f"bias{suffix}"] = stacked(b, order)[way]
        if peephole:
            parameters[f"peephole{suffix}"] = stacked(p, "ifo")[way]
    found = evaluate(
        lambda mb, x, h, c: mb.lstm(
            x=x, initial_h=h, initial_c=c, direction=direction, output_sequence=whole, **parameters
        ),
        {"x": x, "h": h, "c": c},
    )
    sequence = executed(wanted[0].transpose(0, 2, 1, 3).reshape(S, B, ways * H), direction)
    last_h, last_c = (v.transpose(1, 0, 2).reshape(B, ways * H) for v in wanted[1:])
    np.testing.assert_allclose(found[0], sequence if whole else last_h[None], atol=TOLERANCE)
    np.testing.assert_allclose(found[1], last_h, atol=TOLERANCE)
    np.testing.assert_allclose(found[2], last_c, atol=TOLERANCE)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_rnn(evaluate: Any, direction: str) -> None:
    x, h, w, r, b = normal(S, B, F), normal(B, H), normal(H, F), normal(H, H), normal(H)
    bias = np.concatenate([b, np.zeros_like(b)])[None]
    wanted = onnx_recurrent("RNN", [x, w[None], r[None], bias, NONE, h[None]], 2, direction=direction)
    found = evaluate(
        lambda mb, x, h: mb.rnn(
            x=x, initial_h=h, weight_ih=w, weight_hh=r, bias=b, direction=direction, output_sequence=True
        ),
        {"x": x, "h": h},
    )
    np.testing.assert_allclose(found[0], executed(wanted[0][:, 0], direction), atol=TOLERANCE)
    np.testing.assert_allclose(found[1], wanted[1][0], atol=TOLERANCE)
