"""PyTorch exports and Keras networks through the Core ML target, by fp32 and fp16, against onnxruntime.

Everything here is reference-evaluated: Haversack's evaluator executes the saved package, not an Apple device.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install haversack[torch]")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install haversack[tensorflow]")

from benchmarks import keras_applications, pytorch_exports
from haversack.convert import convert
from haversack.convert.measured import REFERENCE_EVALUATED
from haversack.runtimes.engines import open_engine

LIMITS = {"fp32": 1e-4, "fp16": 1e-2}
"""What the recipes promise (`verify/contract.py`): largest difference over largest magnitude."""

SPREAD = 0.1
"""A comparison proves something where the output's standard deviation is above this share of its mean magnitude."""

PYTORCH = ("nn.TransformerEncoder", "own attention", "U-Net", "ViT", "LSTM and GRU tagger")
DETECTOR = "detector with NMS"


def exported(name: str, exporter: str, folder: Path) -> tuple[Path, list[dict[str, np.ndarray]]]:
    """The ONNX file of a PyTorch network, and inputs of its kind."""
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install haversack[torch]")
    pytest.importorskip("onnxscript", reason="PyTorch's exporter needs onnxscript: pip install haversack[torch]")
    networks, exports = pytorch_exports.module("architectures"), pytorch_exports.module("exports")
    assert {*PYTORCH, DETECTOR} == set(networks.NETWORKS)
    exports.export(networks, name, folder / "m.onnx", exporter)
    return folder / "m.onnx", [{"input": networks.sample(name, seed=seed).numpy()} for seed in range(3)]


def compared(source: Path, package: Path, feeds: list[dict[str, np.ndarray]], limit: float) -> None:
    """Assert that the evaluator gives what onnxruntime does: names, order, shapes, and values within the limit."""
    engine, reference = open_engine(package), open_engine(source)
    assert [each.name for each in engine.outputs] == [each.name for each in reference.outputs]
    for feed in feeds:
        expected = reference.run(feed)
        found = engine.run({spec.name: feed[spec.name].astype(spec.dtype) for spec in engine.inputs})
        for key, want in expected.items():
            assert found[key].shape == want.shape, key
            if want.dtype.kind == "i":
                np.testing.assert_array_equal(found[key], want, err_msg=key)
                continue
            assert want.std() > SPREAD * np.abs(want).mean(), key
            assert np.abs(found[key] - want).max() <= limit * np.abs(want).max(), key


@pytest.mark.slow
@pytest.mark.parametrize("name", PYTORCH)
def test_pytorch_networks(name: str, tmp_path: Path) -> None:
    source, feeds = exported(name, "dynamo", tmp_path)
    for recipe, limit in LIMITS.items():
        package = tmp_path / f"{recipe}.mlpackage"
        made = convert(source, to="coreml", compress=recipe, output=package)
        assert made.variant.verification.verified
        assert made.variant.verification.label == REFERENCE_EVALUATED
        assert not any("compute in float32" in note for note in made.variant.notes)
        compared(source, package, feeds, limit)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["dynamo", "script"])
def test_a_detector_gives_as_many_rows_as_it_selects(exporter: str, tmp_path: Path) -> None:
    source, feeds = exported(DETECTOR, exporter, tmp_path)
    made = convert(source, to="coreml", output=tmp_path / "m.mlpackage")
    assert made.variant.verification.verified
    assert sum("as many rows as are selected" in note for note in made.variant.notes) == 1
    compared(source, tmp_path / "m.mlpackage", feeds, LIMITS["fp32"])
    assert len({len(open_engine(source).run(feed)["scores"]) for feed in feeds}) > 1, "the number of rows varies"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small"])
def test_keras_networks(name: str, tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="TensorFlow is not installed: pip install haversack[tensorflow]")
    network = keras_applications.export(name, tmp_path)
    ((key, images),) = network.inputs.items()
    for recipe, limit in LIMITS.items():
        package = tmp_path / f"{recipe}.mlpackage"
        made = convert(network.onnx, to="coreml", compress=recipe, output=package, inputs=network.inputs)
        assert made.variant.verification.verified
        compared(network.onnx, package, [{key: image[None]} for image in images[:2]], limit)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["coreml", "tflite"])
def test_a_detector_in_float16_selects_the_same_rows_but_for_rounding(target: str, tmp_path: Path) -> None:
    """Rows whose scores round to the other side of a neighbour or of the threshold are counted, others compared."""
    source, feeds = exported(DETECTOR, "dynamo", tmp_path)
    inputs = {"input": np.concatenate([feed["input"] for feed in feeds])}
    path = tmp_path / ("m.mlpackage" if target == "coreml" else "m.tflite")
    proof = convert(source, to=target, compress="fp16", output=path, inputs=inputs).variant.verification
    assert proof.verified
    assert [output.name for output in proof.outputs] == ["boxes", "scores", "classes"]
    assert all(output.max_relative <= LIMITS["fp16"] for output in proof.outputs)
