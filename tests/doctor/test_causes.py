"""One cause a test, planted in a model of a few nodes, or in the data; beside each a case without it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from haversack.convert import diagnose
from haversack.convert.diagnosis import Cause, Diagnosis


def kinds(found: Diagnosis) -> set[str]:
    return {cause.kind for cause in found.causes} | {also.partition(":")[0] for c in found.causes for also in c.also}


def cause(found: Diagnosis, kind: str) -> Cause:
    return next(each for each in found.causes if each.kind == kind)


def drawn(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def chain(write, w1: np.ndarray, w2: np.ndarray, activation: str = "Relu"):
    """Two dense layers, regression: outputs are compared by noise."""
    return write(
        [
            ("Gemm", ("x", "w1", "b1"), "h", {"transB": 1}),
            (activation, ("h",), "a", None),
            ("Gemm", ("a", "w2", "b2"), "y", {"transB": 1}),
            ("Reshape", ("y", "shape"), "out", None),
        ],
        {"x": [1, w1.shape[1]]},
        {"out": [1, 1, len(w2)]},
        w1=w1,
        b1=np.zeros(len(w1), np.float32),
        w2=w2,
        b2=np.zeros(len(w2), np.float32),
        shape=np.array([1, 1, len(w2)], np.int64),
    )


def inputs(seed: int, count: int, width: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    return {"x": drawn(seed, count, width, scale=scale)}


def test_weights_with_one_scale_of_which_one_channel_is_large(write) -> None:
    w1 = drawn(0, 24, 16, scale=0.2)
    w2 = drawn(1, 12, 24, scale=0.2)
    w2[3] *= 200  # its own output is 200 times larger: what one scale a tensor leaves to the others is nothing
    model = chain(write, w1, w2)
    found = diagnose(model, calibration=inputs(2, 64, 16), weights="per-tensor", max_drop=0.01)
    told = [each for each in found.causes if each.kind == "outlier channel of the weights"]
    assert [each.where for each in told] == ["gemm_y"]
    assert told[0].numbers["channel"] == 3
    assert any(trial.repair == "one scale a channel for the weights of gemm_y" for trial in found.trials)


def test_a_range_that_cuts_off_what_matters(write) -> None:
    # One pixel of 16,384 is bright, and the output is that one: the range of least squared error gives it up.
    x = drawn(3, 128, 1, 128, 128, scale=0.05)
    each = np.arange(128)
    x[each, 0, each, 37 * each % 128] = np.linspace(1, 4, 128)
    model = write(
        [
            ("Relu", ("x",), "r", None),
            ("GlobalMaxPool", ("r",), "m", None),
            ("Flatten", ("m",), "f", None),
            ("Gemm", ("f", "w", "b"), "y", {"transB": 1}),
            ("Reshape", ("y", "shape"), "out", None),
        ],
        {"x": [1, 1, 128, 128]},
        {"out": [1, 1, 12]},
        w=drawn(4, 12, 1),
        b=np.zeros(12, np.float32),
        shape=np.array([1, 1, 12], np.int64),
    )
    found = diagnose(model, calibration={"x": x}, max_drop=0.01)
    told = cause(found, "saturated activation")
    assert told.where == "x"
    assert told.numbers["reach"] > told.numbers["highest"] + 0.1
    assert told.loss is not None
    best = next(trial for trial in found.trials if trial.repair == f"minmax range for {told.where}")
    assert best.harm is not None
    assert best.harm.loss < 0.5 * found.harm.loss
    assert "saturated activation" not in kinds(diagnose(model, calibration={"x": x}, ranges="minmax", max_drop=0.0))


def test_clipping_is_measured_apart_from_rounding(outlier) -> None:
    found = diagnose(outlier.model, calibration=outlier.calibration, evaluation=outlier.evaluation)
    sign = next(each for each in found.tensors if each.name == "relu1/Relu")
    if sign.clipped:
        assert sign.seen_high > sign.high
    assert sum(sign.counts) > 0
    assert sign.spread is not None
    assert int(np.argmax(sign.spread.high)) == 3


@pytest.mark.parametrize("factor", [0.05, 1.0])
def test_calibration_of_another_range(digits, factor) -> None:
    with np.load(digits.calibration) as data:
        images = data["image"] * np.float32(factor)
    found = diagnose(digits.model, calibration={"image": images}, evaluation=digits.evaluation)
    assert found.healthy == (factor == 1.0)
    if factor != 1.0:
        assert {"dead calibration", "calibration of another kind"} & kinds(found)
        first = next(c for c in found.causes if c.kind in ("dead calibration", "calibration of another kind"))
        assert first.numbers["evaluation"] > 8 * first.numbers["calibration"]
        assert any("--preprocess" in each for each in found.advice)
        assert not found.repaired


def test_a_tensor_that_calibration_never_excites(write) -> None:
    w1, w2 = drawn(5, 24, 16, scale=0.3), drawn(6, 12, 24, scale=0.3)
    model = chain(write, w1, w2)
    found = diagnose(model, calibration={"x": np.zeros((20, 16), np.float32)}, evaluation=inputs(8, 40, 16, 3.0))
    assert not found.healthy
    assert "dead calibration" in kinds(found)
    assert "zero on every calibration sample" in cause(found, "dead calibration").evidence


def test_halves_that_do_not_agree(write) -> None:
    w1, w2 = drawn(9, 24, 16, scale=0.3), drawn(10, 12, 24, scale=0.3)
    x = drawn(11, 16, 16, scale=0.1)
    x[3] *= 400  # one sample of sixteen
    found = diagnose(chain(write, w1, w2), calibration={"x": x}, evaluation=inputs(12, 40, 16, 0.1), max_drop=0.1)
    few = cause(found, "too few samples")
    assert few.numbers["ratio"] > 10
    assert any("calibrate with 64 samples instead of 16" in each for each in found.advice)


def test_a_sigmoid_that_hides_the_loss() -> None:
    from haversack.convert.diagnosis import Harm
    from haversack.convert.doctor.chart import Chart
    from haversack.convert.doctor.data_causes import masked

    class Exam:
        harm = Harm(0.3, "of the signal", 5.0)
        bench = type("B", (), {"outputs": (type("J", (), {"name": "logits"})(),)})()

    hidden = masked(Chart(Exam(), None, squashed=Harm(0.001, "of the signal", 30.0)))  # type: ignore[arg-type]
    assert hidden is not None
    assert hidden.kind == "masked output"
    assert masked(Chart(Exam(), None, squashed=Harm(0.2, "of the signal", 7.0))) is None  # type: ignore[arg-type]


def test_weights_that_are_not_finite(digits, tmp_path) -> None:
    model = onnx.load(digits.model)
    held = next(each for each in model.graph.initializer if each.name == "conv2/convolution/merged_input:0")
    array = numpy_helper.to_array(held).copy()
    array[0, 0, 0, 0] = np.nan
    held.CopyFrom(numpy_helper.from_array(array, held.name))
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    found = diagnose(path, calibration=digits.calibration)
    assert [(each.kind, each.where) for each in found.causes] == [("broken weights", "Conv_1")]
    assert "the float model itself is broken" in found.verdict
    assert not found.trials


@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_float16_overflow(digits, tmp_path, factor) -> None:
    from benchmarks import planted

    model = planted.outlier_channel(onnx.load(digits.model), "Conv", "Conv_1", 3, factor)
    path = tmp_path / "overflow.onnx"
    onnx.save(model, path)
    found = diagnose(path, compress="fp16", calibration=digits.calibration, evaluation=digits.evaluation)
    assert found.healthy == (factor == 1.0)
    if factor > 1:
        assert cause(found, "float16 overflow").where in ("Conv", "relu1/Relu")
        assert found.repaired


def test_weights_of_few_bits(digits) -> None:
    found = diagnose(
        digits.model, compress="palette1", calibration=digits.calibration, evaluation=digits.evaluation, max_drop=0.5
    )
    assert not found.healthy
    assert "coarse weights" in kinds(found)
    assert found.repaired
    assert '"arithmetic": "float32"' in found.plan
