"""A fault planted in one layer's weights must fail verification, and that layer must be named, on every target."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from haversack.convert.compress.recipes import Recipe
from haversack.convert.errors import VerificationError
from haversack.convert.measured import LayerError
from haversack.convert.pipeline import STATIC_TARGETS, Work, make
from haversack.convert.targets import Options, Written, open_target
from haversack.convert.verify.contract import contract
from haversack.convert.verify.execute import silent
from haversack.convert.verify.judge import Subject, judge

from .conftest import Case, network

SUFFIX = {"tflite": ".tflite", "coreml": ".mlpackage", "onnx": ".onnx"}
LAYERS = ("stem", "deep", "point", "dense")


def judged(case: Case, target: str, recipe: str, plant: str | None):  # type: ignore[no-untyped-def]
    """Make an artifact, plant a fault in a layer's weights, and verify."""
    work = Work.begin(case.model)
    work.calibration = work.open(case.arrays)
    samples = work.samples(case.arrays)
    graph = work.compressed(Recipe(recipe), static=target in STATIC_TARGETS).model
    opened = open_target(target)
    written = opened.write(graph, recipe, case.model.parent / f"made{SUFFIX[target]}", Options())
    if plant is not None:
        spoil(written, graph, plant, recipe)
    reference = work.reference(samples)
    outputs = work.compressed_outputs(Recipe(recipe), samples, None)
    subject = Subject(written.path, target, recipe, graph, written.layers, Options(), contract(recipe))
    return judge(subject, reference, outputs)


def spoil(written: Written, graph, layer: str, recipe: str) -> None:  # type: ignore[no-untyped-def]
    """Change the weights of one layer inside the artifact's bytes, wherever and in whatever order it keeps them."""
    held = {name: value.const_value for name, value in graph.graph.initializers.items()}
    # A recipe leaves the smallest weights as they are, and a float16 package holds those too in float16.
    form = {"int8": f"{layer}_w_quantized", "fp16": f"{layer}_w_fp16"}.get(recipe, "")
    weights = held.get(form, held.get(f"{layer}_w")).numpy()
    files = [written.path] if written.path.is_file() else [f for f in written.path.rglob("*") if f.is_file()]
    orders = [weights, weights.astype(np.float16)]
    if weights.ndim == 4:
        orders += [order.transpose(axes) for order in orders for axes in ((0, 2, 3, 1), (1, 2, 3, 0))]
    for file in files:
        content = file.read_bytes()
        for order in orders:
            old = np.ascontiguousarray(order).tobytes()
            if content.count(old) != 1:
                continue
            # The sign of every weight: as large a fault as can be that changes neither size nor range.
            new = np.ascontiguousarray(-order).tobytes()
            file.write_bytes(content.replace(old, new))
            return
    raise AssertionError(f"the weights of {layer} are not in the artifact")


@pytest.mark.parametrize("target", ["tflite", "coreml", "onnx"])
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int8"])
def test_a_right_artifact_passes(case: Case, target: str, recipe: str) -> None:
    verification = judged(case, target, recipe, None).verification
    assert verification.verified
    assert verification.samples == 24
    assert (verification.layers > 0) == (recipe == "int8")


@pytest.mark.parametrize("target", ["tflite", "coreml", "onnx"])
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_planted_layer_is_named(case: Case, target: str, recipe: str, layer: str) -> None:
    with pytest.raises(VerificationError) as failure:
        judged(case, target, recipe, layer)
    said = str(failure.value)
    if recipe == "int8":
        assert f"layer {layer} (" in said
        assert "LSB from the model" in said
    else:
        # A Relu that the target fuses is part of its convolution; where it is not, the convolution comes first.
        assert f"first diverging layer: {layer} (" in said


def test_nothing_is_published_when_verification_fails(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from haversack import convert
    from haversack.convert.targets.tflite import TFLite

    write = TFLite.write

    def faulty(self, model, recipe, path, options):  # type: ignore[no-untyped-def]
        written = write(self, model, recipe, path, options)
        spoil(written, model, "dense", recipe)
        return written

    monkeypatch.setattr(TFLite, "write", faulty)
    before = set(case.model.parent.iterdir())
    with pytest.raises(VerificationError, match="first diverging layer: dense"):
        convert.convert(case.model, to="tflite", output=case.model.parent / "made.tflite")
    with pytest.raises(VerificationError, match="first diverging layer: dense"):
        convert.pack(case.model, to=["tflite"], recipes=["fp32"], output=case.model.parent / "made.haversack")
    assert set(case.model.parent.iterdir()) == before


def test_a_reading_that_changes_the_model_is_found(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source file is executed by its own runtime, so that even a fault in reading it cannot pass."""
    import haversack.convert.work as reading
    from haversack.convert.sources import read

    def faulty(path: Path):  # type: ignore[no-untyped-def]
        source = read(path)
        spoiled = network()
        tensor = next(w for w in spoiled.graph.initializer if w.name == "dense_b")
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1, "dense_b"))
        other = path.with_name("spoiled.onnx")
        onnx.save(spoiled, other)
        return dataclasses.replace(source, model=read(other).model)

    monkeypatch.setattr(reading, "read", faulty)
    work = reading.Work.begin(case.model)
    with pytest.raises(VerificationError, match="does not compute what onnxruntime"):
        work.reference(work.samples(case.arrays))


def test_every_int8_layer_is_judged(case: Case) -> None:
    """No operator of an int8 TFLite artifact escapes: as many layers are judged as the file has operators."""
    from ai_edge_litert.interpreter import Interpreter

    work = Work.begin(case.model)
    work.calibration = work.open(case.arrays)
    recipe = Recipe("int8")
    path = case.model.parent / "made.tflite"
    made = make(
        work, open_target("tflite"), recipe, work.compressed(recipe, static=True), path, Options(),
        work.samples(case.arrays), silent,
    )  # fmt: skip
    operators = Interpreter(str(path))._get_ops_details()
    assert made.variant.verification.layers == len([op for op in operators if op["op_name"] != "DELEGATE"])
    worst = made.variant.verification.worst_layer
    assert isinstance(worst, LayerError)
    assert worst.error <= worst.limit <= 2
