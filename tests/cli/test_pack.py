"""`haversack pack`, and what is done with its bundle: inspect, run, bench."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from .conftest import Done, haversack, names


def pack(model: Path, data: Path | None, *words: object) -> Done:
    given = [] if data is None else ["--calibration", data, "--evaluation", data]
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


def test_a_drop_needs_labels(model: Path, data: Path) -> None:
    np.savez(model.parent / "bare.npz", x=np.load(data)["x"])
    done = haversack("pack", model, "--evaluation", model.parent / "bare.npz", "--max-drop", "1", cwd=model.parent)
    assert done.code == 2
    assert "labels" in done.line


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
