"""An output that says nothing is called that, and what goes into it is compared instead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from haversack import convert
from haversack.convert.errors import DataError, VerificationError
from haversack.convert.pipeline import Work
from haversack.convert.targets.ort import OrtTarget
from haversack.convert.targets.tflite import TFLite


def dense(folder: Path, *, last: str, weights: np.ndarray, factor: float = 1.0) -> Path:
    """`y = last(factor * (x @ weights))`."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="dense"),
        helper.make_node("Mul", ["m", "factor"], ["scaled"], name="scale"),
        helper.make_node(last, ["scaled"], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.float32(factor).reshape(()), "factor")],
    )
    path = folder / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(8, 4)).astype(np.float32)


def said_of(path: Path, **options: object) -> tuple[str, ...]:
    made = convert.convert(path, to="tflite", output=path.with_suffix(".tflite"), **options)  # type: ignore[arg-type]
    return made.variant.verification.notes


def test_an_informative_output_needs_no_note(tmp_path: Path, weights: np.ndarray) -> None:
    assert said_of(dense(tmp_path, last="Softmax", weights=weights)) == ()


@pytest.mark.parametrize(
    ("last", "factor", "reason"),
    [("Relu", 1e-12, "nowhere larger than"), ("Relu", 0.0, "same for every sample"), ("Softmax", 1e6, "of 0 or 1")],
)
def test_a_mute_output_is_named(tmp_path: Path, weights: np.ndarray, last: str, factor: float, reason: str) -> None:
    (note,) = said_of(dense(tmp_path, last=last, weights=weights, factor=factor))
    assert "output y" in note
    assert reason in note


@pytest.mark.parametrize("target", ["tflite", "onnx"])
def test_a_fault_that_a_saturated_softmax_hides_is_found(
    tmp_path: Path, weights: np.ndarray, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of a million, one per mille off, have the same softmax; the contract of fp32 is 1e-4."""
    path = dense(tmp_path, last="Softmax", weights=weights, factor=1e6)
    kind = {"tflite": TFLite, "onnx": OrtTarget}[target]
    write = kind.write

    def faulty(self, model, recipe, path, options):  # type: ignore[no-untyped-def]
        copy = model.clone()
        for value in copy.graph.initializers.values():
            array = value.const_value.numpy()
            if array.dtype == np.float32 and array.ndim == 2:
                value.const_value = ir.tensor(array * np.float32(1.001), name=value.name)
        return write(self, copy, recipe, path, options)

    monkeypatch.setattr(kind, "write", faulty)
    with pytest.raises(VerificationError, match="goes into its last operator"):
        convert.convert(path, to=target, output=tmp_path / f"made.{target}")


def test_a_source_of_nan_is_refused(tmp_path: Path, weights: np.ndarray) -> None:
    path = dense(tmp_path, last="Relu", weights=np.full_like(weights, np.nan))
    with pytest.raises(VerificationError, match="only NaN or infinity at output y"):
        said_of(path)
    assert not path.with_suffix(".tflite").exists()


def test_int8_of_a_source_with_some_nan_is_refused(tmp_path: Path, weights: np.ndarray) -> None:
    path = dense(tmp_path, last="Log", weights=weights)  # of negative numbers
    inputs = {"x": np.random.default_rng(4).normal(size=(20, 8)).astype(np.float32)}
    with pytest.raises(VerificationError, match="output y of the source holds NaN"):
        said_of(path, compress="int8", calibration=inputs)


def test_a_label_without_a_class_is_refused(tmp_path: Path, weights: np.ndarray) -> None:
    path = dense(tmp_path, last="Softmax", weights=weights)
    inputs = np.random.default_rng(4).normal(size=(20, 8)).astype(np.float32)
    with pytest.raises(DataError, match="a label is 4, and the model has 4 classes, 0 to 3"):
        said_of(path, inputs={"x": inputs, "label": np.arange(20) % 5})


def test_the_companion_is_executed_too(tmp_path: Path, weights: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `.ort` beside an `.onnx` is an artifact as well: a wrong one is not published."""
    path = dense(tmp_path, last="Softmax", weights=weights)
    other = tmp_path / "other"
    other.mkdir()
    convert.convert(dense(other, last="Softmax", weights=-weights), to="onnx", output=other / "made.onnx")
    write = OrtTarget.write

    def faulty(self, model, recipe, path, options):  # type: ignore[no-untyped-def]
        written = write(self, model, recipe, path, options)
        written.companions[0].write_bytes((other / "made.ort").read_bytes())
        return written

    monkeypatch.setattr(OrtTarget, "write", faulty)
    before = set(tmp_path.iterdir())
    with pytest.raises(VerificationError, match="differs from the source"):
        convert.convert(path, to="onnx", output=tmp_path / "made.onnx")
    assert set(tmp_path.iterdir()) == before


def test_a_model_without_inputs_says_so(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "constant",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.ones(2, np.float32), "w")],
    )
    path = tmp_path / "constant.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(DataError, match="the model has no inputs"):
        Work.begin(path).samples(None)
