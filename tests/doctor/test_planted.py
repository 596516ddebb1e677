"""Failures that were planted: each is named, and its repair brings accuracy back; a healthy model hears no alarm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from haversack.convert import convert, diagnose
from haversack.convert.compress.plan import Plan
from haversack.convert.diagnosis import Diagnosis
from haversack.convert.doctor import told


def examined(case, **options) -> Diagnosis:
    return diagnose(case.model, calibration=case.calibration, evaluation=case.evaluation, **options)


def accuracies(case, found: Diagnosis, folder: Path) -> tuple[float, float]:
    """Top-1 of the float model by onnxruntime and of the repaired artifact by LiteRT, measured here."""
    from ai_edge_litert.interpreter import Interpreter

    plan = folder / "repaired.json"
    plan.write_text(found.plan, encoding="utf-8")
    path = folder / "repaired.tflite"
    convert(case.model, to="tflite", plan=plan, calibration=case.calibration, output=path)
    with np.load(case.evaluation) as data:
        images, labels = data["image"], data["label"]
    session = ort.InferenceSession(str(case.model))
    own = np.concatenate([session.run(None, {"image": each[None]})[0] for each in images]).argmax(axis=1)
    engine = Interpreter(str(path))
    engine.allocate_tensors()
    where, out = engine.get_input_details()[0]["index"], engine.get_output_details()[0]["index"]
    ours = []
    for each in images:
        engine.set_tensor(where, each[None])
        engine.invoke()
        ours.append(int(engine.get_tensor(out).argmax()))
    return float((own == labels).mean()), float((np.array(ours) == labels).mean())


def test_an_outlier_channel_is_named_and_its_repair_is_delivered(outlier, tmp_path) -> None:
    found = examined(outlier)
    assert not found.healthy
    assert found.before is not None
    assert found.before.drop > 2
    first = found.causes[0]
    assert (first.kind, first.where) == ("outlier channel", "relu1/Relu")
    assert first.numbers["channel"] == 3
    assert first.loss is not None
    assert first.loss > 0.5 * found.harm.loss
    assert found.repaired
    own, repaired = accuracies(outlier, found, tmp_path)
    assert repaired >= own - 0.01
    kept = next(trial for trial in found.trials if trial.kept)
    assert kept.bytes <= 64
    assert not kept.speed


def test_a_shared_scale_over_unlike_inputs_is_named_and_its_repair_is_delivered(concat, tmp_path) -> None:
    found = examined(concat)
    assert found.before is not None
    assert found.before.drop > 20
    first = found.causes[0]
    assert (first.kind, first.where) == ("shared scale", "join (Concat)")
    assert "branch_large" in first.evidence
    assert "branch_small" in first.evidence
    assert first.numbers["ratio"] > 500
    assert found.repaired
    own, repaired = accuracies(concat, found, tmp_path)
    assert repaired >= own - 0.01
    split = next(trial for trial in found.trials if trial.repair == "join, Conv_1 in float")
    assert split.harm is not None
    assert split.harm.loss < 0.01 * found.harm.loss


@pytest.mark.slow
@pytest.mark.parametrize("target", ["tflite", "onnx", "coreml"])
def test_a_head_of_boxes_and_scores_is_named_and_its_repair_is_delivered(detector, target) -> None:
    found = examined(detector, metric="benchmarks.planted:detected", to=target)
    assert found.before is not None
    assert found.after is not None
    assert found.before.drop > 5
    first = found.causes[0]
    assert (first.kind, first.where) == ("wide-range head", "detections")
    assert found.repaired
    assert found.after.drop <= 1
    plan = Plan.from_json(found.plan)
    assert "concat_detections" in plan.floats
    assert plan.arithmetic == "int8"
    before, after = found.artifacts
    assert after.verification.verified
    assert after.accuracy is not None
    assert after.accuracy.drop <= 1
    assert before.accuracy is not None
    assert before.accuracy.drop > 5


@pytest.mark.slow
def test_without_labels_or_a_metric_the_head_is_seen_by_its_channels(detector) -> None:
    found = diagnose(detector.model, calibration=detector.calibration)
    assert found.before is None
    assert not found.healthy
    assert found.causes[0].kind == "wide-range head"
    assert found.repaired


def test_a_healthy_model_hears_no_alarm(digits) -> None:
    found = examined(digits)
    assert found.healthy
    assert not found.causes
    assert not found.trials
    assert not found.plan
    assert "no repair is needed" in found.verdict
    assert "The largest loss alone" in told.text(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kws_saved_model", "resnet8.h5"])
def test_healthy_real_models_hear_no_alarm(name, shared_data) -> None:
    pytest.importorskip("tensorflow", reason="reading Keras and SavedModel files needs the extra tensorflow")
    kws = name.startswith("kws")
    found = diagnose(
        shared_data / "mlperf_tiny" / name,
        calibration=shared_data / ("kws_calibration.npz" if kws else "cifar10_calibration.zip"),
        evaluation=shared_data / ("kws_evaluation.npz" if kws else "cifar10_evaluation.zip"),
        preprocess=None if kws else "raw-0-255",
    )
    assert found.healthy
    assert not found.trials


def test_the_same_again_is_the_same(outlier) -> None:
    first, second = examined(outlier), examined(outlier)
    assert first == second
    assert json.loads(first.plan)["methods"]
