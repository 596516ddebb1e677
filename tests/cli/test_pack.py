"""`haversack pack`, and what is done with its bundle: inspect, run, bench."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from .conftest import Done, haversack, names


@pytest.fixture(autouse=True)
def _calibrated(calibration: Path) -> None:
    """Calibration data lies beside the model."""


def pack(model: Path, data: Path | None, *words: object) -> Done:
    given = [] if data is None else ["--calibration", model.parent / "calibration.npz", "--evaluation", data]
    return haversack("pack", model, *given, "-o", model.parent / "made.haversack", *words)


def test_pack_makes_verified_variants_that_the_runtime_runs(model: Path, data: Path) -> None:
    done = pack(
        model, data, "--json", "--training-data", "noise", "--code-commit", "abc", "--hyperparameters", "rate=0.1"
    )
    assert done.code == 0, done.err
    made = json.loads(done.out)
    rows = {(v["target"], v["compression"]): v for v in made["variants"]}
    assert set(rows) == {(t, c) for t in ("tflite", "coreml", "onnx") for c in ("fp32", "fp16", "int8")}
    assert all(row["verification"]["verified"] for row in rows.values())
    # Latency is measured where a device's own engine runs, and never where it is only emulated.
    assert all((row["latency"] is None) == (row["target"] == "coreml") for row in rows.values())
    assert made["source_accuracy"]["value"] == pytest.approx(0.9)  # as the labels were made
    assert rows["tflite", "fp32"]["accuracy"]["difference"] == 0.0
    from haversack.runtimes import load, open_bundle

    with open_bundle(made["path"]) as bundle:
        origin = bundle.manifest.provenance
        assert (origin.training_data, origin.code_commit, origin.hyperparameters) == ("noise", "abc", {"rate": "0.1"})
        assert origin.calibration_sha256 is not None
        ids = [variant.id for variant in bundle.manifest.variants]
        # A float variant is held to its contract, of the output's peak over the golden vectors.
        peak = max(np.abs(outputs["scores"]).max() for _, outputs in bundle.golden("onnx-fp16"))
        assert bundle.variant("onnx-fp16").tolerance.absolute == pytest.approx(1e-2 * peak)
    sample = np.load(data)["x"][:1]
    outputs = {}
    for variant in ids:
        with load(made["path"], variant=variant, verify=True) as loaded:  # runs the golden vectors
            assert loaded.check().ok
            outputs[variant] = loaded({"x": sample})["scores"]
    assert np.abs(outputs["tflite-fp32"] - outputs["onnx-fp32"]).max() < 1e-5

    shown = haversack("inspect", made["path"])
    assert "tflite" in shown.out
    assert "training data" in shown.out
    told = haversack("run", made["path"], "--input", data, "--output", model.parent / "y.npz", "--json")
    assert told.code == 0, told.err
    assert np.load(model.parent / "y.npz")["scores"].shape == (40, 5)
    assert len(json.loads(told.out)["outputs"][0]["top"]) == 40
    timed = haversack("bench", made["path"], "--runs", "10", "--seconds", "1", "--json")
    assert timed.code == 0, timed.err
    bench = json.loads(timed.out)
    assert len(bench["rows"]) == 6
    assert len(bench["notes"]) == 3
    assert all(row["cold_start_ms"] > row["first_call_ms"] > 0 for row in bench["rows"])


def test_the_manifest_has_the_same_bytes_every_time(model: Path, data: Path) -> None:
    from zipfile import ZipFile

    manifests = []
    for _ in range(2):
        assert pack(model, data, "--to", "tflite,onnx", "--force").code == 0
        with ZipFile(model.parent / "made.haversack") as archive:
            manifests.append(archive.read("manifest.json"))
    assert manifests[0] == manifests[1]


def test_without_calibration_it_says_what_it_would_need(model: Path) -> None:
    done = pack(model, None, "--to", "tflite")
    assert done.code == 0
    assert "int8-weights" in done.out
    assert "--calibration DATA" in done.out
    assert "--evaluation DATA" in done.out


def test_what_a_target_refuses_is_skipped_with_its_reason(model: Path, data: Path) -> None:
    done = pack(model, data, "--to", "coreml,onnx", "--recipes", "fp32,int8-dynamic", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert [(skip["target"], skip["compression"]) for skip in made["skipped"]] == [("coreml", "int8-dynamic")]
    assert "int8-weights" in made["skipped"][0]["reason"]


def test_a_budget_that_nothing_fits_names_the_numbers_and_writes_nothing(model: Path, data: Path) -> None:
    done = pack(model, data, "--to", "tflite", "--max-size", "100")
    assert done.code == 1
    assert "no variant fits 100 bytes" in done.line
    assert "fp32 " in done.line
    assert "made.haversack" not in names(model.parent)


def test_a_budget_that_something_fits(model: Path, data: Path) -> None:
    done = pack(model, data, "--to", "tflite", "--max-drop", "0", "--json")
    assert done.code == 0
    assert json.loads(done.out)["within"]["tflite/fp32"] is True


def test_without_labels_agreement_stands_in_and_is_said_to(model: Path, data: Path) -> None:
    np.savez(model.parent / "bare.npz", x=np.load(data)["x"])
    done = pack(model, model.parent / "bare.npz", "--to", "onnx", "--recipes", "fp32", "--max-drop", "1", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    (row,) = made["variants"]
    assert (row["accuracy"]["against"], row["accuracy"]["value"]) == ("source", 1.0)
    assert made["source_accuracy"] is None
    told = pack(model, model.parent / "bare.npz", "--to", "onnx", "--recipes", "fp32", "--force")
    assert "stands in for an accuracy" in told.out
    nothing = haversack("pack", model, "--max-drop", "1", cwd=model.parent)
    assert nothing.code == 2
    assert "--evaluation DATA" in nothing.line


def test_calibration_and_evaluation_must_not_share_samples(model: Path, data: Path) -> None:
    from haversack.runtimes import open_bundle

    held, own = np.load(data)["x"], np.load(model.parent / "calibration.npz")["x"]
    np.savez(model.parent / "mixed.npz", x=np.concatenate([own[:5], held[7:8], own[5:], held[9:11]]))
    words = ["pack", model, "--to", "onnx", "--recipes", "fp32", "--calibration", model.parent / "mixed.npz",
             "--evaluation", data, "-o", model.parent / "made.haversack"]  # fmt: skip
    done = haversack(*words, "--json")
    assert done.code == 0, done.err
    (told,) = json.loads(done.out)["notes"]
    assert told.startswith("3 of 35 calibration samples are evaluation samples too")
    assert "number 5 of mixed.npz, 35 samples is number 7 of data.npz" in told
    with open_bundle(model.parent / "made.haversack") as bundle:
        assert "without 3 " in str(bundle.manifest.provenance.calibration)
    # A set that is mostly the other one was given by mistake.
    same = haversack("pack", model, "--calibration", data, "--evaluation", data, "-o", model.parent / "same.haversack")
    assert same.code == 2
    assert "40 of 40 calibration samples are evaluation samples too" in same.line
    assert "--allow-overlap" in same.line
    assert "same.haversack" not in names(model.parent)
    assert haversack(*words, "--allow-overlap", "--force").code == 0


METRICS = """
import numpy as np

def margin(outputs, labels):
    scores = outputs["scores"]
    return scores[np.arange(len(labels)), labels] - scores.mean(axis=1)
margin.unit = ""
"""


@pytest.mark.slow
def test_metrics_are_named_and_judged(model: Path, data: Path) -> None:
    (model.parent / "mine.py").write_text(METRICS, encoding="utf-8")
    common = ["pack", model, "--to", "tflite", "--recipes", "fp32,fp16", "--evaluation", data, "--json", "--force",
              "-o", model.parent / "made.haversack"]  # fmt: skip
    for metric, unit in (("auc", "points"), ("mse", ""), ("cosine", "points"), ("mine:margin", "")):
        done = haversack(*common, "--metric", metric, "--max-drop", "0.01", cwd=model.parent)
        assert done.code == 0, done.err
        made = json.loads(done.out)
        found = made["variants"][1]["accuracy"]
        assert (found["metric"], found["unit"], found["against"]) == (metric, unit, "labels")
        assert made["source_accuracy"]["metric"] == metric
        assert found["difference_low"] <= found["difference"] <= found["difference_high"]
        assert found["verdict"].endswith(("within 0.01", "within 0.01 points"))
        shown = haversack("inspect", model.parent / "made.haversack")
        assert f"{metric} " in shown.out
    wrong = haversack(*common[:-4], "--metric", "f1")
    assert wrong.code == 2
    assert "unknown metric 'f1'" in wrong.line
    few = haversack(*common[:-4], "--metric", "top5", "-o", model.parent / "five.haversack")
    assert few.code == 2  # five classes
    assert "top5" in few.line


@pytest.mark.slow
def test_budgets_are_judged_one_by_one(model: Path, data: Path) -> None:
    done = pack(model, data, "--to", "tflite", "--max-wire", "20KB", "--max-latency", "5s", "--max-drop", "100",
                "--confident", "--json")  # fmt: skip
    assert done.code == 0, done.err
    made = json.loads(done.out)
    for judged in made["budgets"].values():
        assert [(each["budget"], each["met"]) for each in judged] == [
            ("max_drop", True), ("max_wire", True), ("max_latency", True)
        ]  # fmt: skip
        assert "this machine" in judged[-1]["measured"]
    emulated = pack(model, data, "--to", "coreml,onnx", "--recipes", "fp32", "--max-latency", "5s", "--force", "--json")
    assert emulated.code == 0, emulated.err
    (told,) = json.loads(emulated.out)["notes"]
    assert told.startswith("--max-latency is about this machine, where coreml is only emulated")
    over = pack(model, data, "--to", "tflite", "--max-latency", "1us", "--max-wire", "1KB", "--force")
    assert over.code == 1
    assert "no variant fits 1,000 bytes with brotli and 1 µs on this machine; measured: fp32 " in over.err
    assert "outside the budget: 1,000 bytes with brotli allowed, measured " in over.out
    bound = pack(model, data, "--to", "tflite", "--recipes", "fp32", "--max-drop", "1", "--confident", "--force")
    assert bound.code == 1  # 40 samples prove nothing to a point, though nothing changed
    assert "drop 0.00 [at most " in bound.line


@pytest.mark.slow
def test_another_devices_latency_is_taken_from_its_bench(model: Path, data: Path) -> None:
    assert pack(model, data, "--to", "tflite", "--recipes", "fp32,int8").code == 0
    timed = haversack("bench", model.parent / "made.haversack", "--runs", "5", "--seconds", "0.1", "--json")
    bench = json.loads(timed.out)
    assert all(len(row["sha256"]) == 64 for row in bench["rows"])
    for row, milliseconds in zip(bench["rows"], (7.0, 3.0), strict=True):
        row["latency"]["p50"] = milliseconds
    (model.parent / "pi4.json").write_text(json.dumps(bench), encoding="utf-8")
    words = ["--to", "tflite", "--recipes", "fp32,int8", "--bench", model.parent / "pi4.json", "--force", "--json"]
    done = pack(model, data, *words, "--max-latency", "4ms@pi4")
    assert done.code == 0, done.err
    assert json.loads(done.out)["within"] == {"tflite/fp32": False, "tflite/int8": True}
    refused = pack(model, data, "--max-latency", "4ms@pi4")
    assert refused.code == 2
    assert "--bench" in refused.line


def test_run_refuses_inputs_that_do_not_fit(model: Path) -> None:
    assert haversack("convert", model, "-o", model.parent / "m.tflite", "--no-verify").code == 0
    np.savez(model.parent / "wrong.npz", x=np.zeros((2, 4), np.float32))
    done = haversack("run", model.parent / "m.tflite", "--input", model.parent / "wrong.npz")
    assert done.code == 2
    assert "expected float32 [n, 3, 8, 8]" in done.line
    assert haversack("run", model.parent / "m.tflite", "--input", "nothing.npz").code == 2


def test_run_on_an_image_needs_to_know_how(model: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(model.parent / "picture.png")
    assert haversack("convert", model, "-o", model.parent / "m.onnx", "--no-verify").code == 0
    words = ["run", model.parent / "m.onnx", "--input", model.parent / "picture.png"]
    refused = haversack(*words)
    assert refused.code == 2
    assert "--preprocess" in refused.line
    done = haversack(*words, "--preprocess", "unit", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["samples"] == 1
