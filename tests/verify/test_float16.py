"""float16 on Core ML: layers that leave the contract are found by measurement and compute in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from haversack.convert import convert
from haversack.convert.errors import VerificationError
from haversack.convert.verify.contract import FLOAT16
from haversack.runtimes.engines import open_engine

WIDTH = 32


def classifier(path: Path, *, offset: float) -> Path:
    """Two dense layers and a softmax, which only sees how logits differ: `offset` shifts all of them alike."""
    random = np.random.default_rng(3)
    body = random.normal(0, 1 / np.sqrt(WIDTH), (WIDTH, WIDTH)).astype(np.float32)
    head = random.normal(offset, 2 / np.sqrt(WIDTH), (4, WIDTH)).astype(np.float16).astype(np.float32)
    body = body.astype(np.float16).astype(np.float32)  # no rounding of weights, only of arithmetic
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["h"], "body", transB=1),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w2"], ["z"], "head", transB=1),
        helper.make_node("Softmax", ["z"], ["y"], "softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [
            numpy_helper.from_array(body, "w1"),
            numpy_helper.from_array(head, "w2"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def furthest(package: Path, model: Path, inputs: np.ndarray) -> float:
    """Largest relative error of the saved package, by onnxruntime on the source."""
    session = onnxruntime.InferenceSession(str(model))
    engine = open_engine(package)
    wanted = np.concatenate([session.run(None, {"x": row[None]})[0] for row in inputs])
    found = np.concatenate([engine.run({"x": row[None]})["y"] for row in inputs])
    return float(np.abs(wanted - found).max() / np.abs(wanted).max())


@pytest.fixture
def inputs() -> np.ndarray:
    return np.random.default_rng(4).normal(0, 1, (64, WIDTH)).astype(np.float32)


def test_large_logits_stay_float32(tmp_path: Path, inputs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    # The sum of 32 rectified values is about 13: logits of 13 · 30 have a float16 step of 2^-2, and a probability moves
    # by up to a quarter of the step.
    model = classifier(tmp_path / "m.onnx", offset=30.0)
    made = convert(model, to="coreml", compress="fp16", inputs={"x": inputs}, output=tmp_path / "m.mlpackage")
    note = next(note for note in made.variant.notes if "compute in float32" in note)
    assert made.verified
    assert furthest(tmp_path / "m.mlpackage", model, inputs) <= FLOAT16
    assert not note.startswith("4 of")  # some of it still computes in float16

    # Without the repair the very same conversion fails, so the test would notice its absence.
    def fails(*arguments: object) -> None:
        raise arguments[4]  # type: ignore[misc]

    monkeypatch.setattr("haversack.convert.verify.float16.repair", fails)
    with pytest.raises(VerificationError, match="relative error"):
        convert(model, to="coreml", compress="fp16", inputs={"x": inputs}, output=tmp_path / "n.mlpackage")
    assert not (tmp_path / "n.mlpackage").exists()


def test_a_model_that_keeps_the_contract_is_left_in_float16(tmp_path: Path, inputs: np.ndarray) -> None:
    model = classifier(tmp_path / "m.onnx", offset=0.0)
    made = convert(model, to="coreml", compress="fp16", inputs={"x": inputs}, output=tmp_path / "m.mlpackage")
    assert made.verified
    assert not any("compute in float32" in note for note in made.variant.notes)
