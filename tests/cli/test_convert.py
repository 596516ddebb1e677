"""`haversack convert`, `verify`, `inspect`: real files in a real process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .conftest import haversack, names, small_model

SUFFIX = {"tflite": ".tflite", "coreml": ".mlpackage", "onnx": ".onnx"}


@pytest.mark.parametrize("target", ["tflite", "coreml", "onnx"])
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int8", "int8-weights"])
def test_every_target_and_recipe_is_verified(model: Path, data: Path, target: str, recipe: str) -> None:
    output = model.parent / f"made{SUFFIX[target]}"
    done = haversack("convert", model, "-o", output, "--compress", recipe, "--calibration", data, "--json")
    assert done.code == 0, done.err
    variant = json.loads(done.out)["variant"]
    proof = variant["verification"]
    assert (variant["target"], variant["compression"], proof["verified"]) == (target, recipe, True)
    assert (proof["label"] == "reference-evaluated") == (target == "coreml")
    assert proof["samples"] == 40
    assert variant["accuracy"]["samples"] == 40
    assert output.exists()
    # What was published runs outside Haversack, in the vendor's own interpreter, and computes what the model computes.
    if recipe == "fp32" and target != "coreml":
        sample = np.load(data)["x"][:1]
        assert np.abs(run_alone(output, sample) - run_onnx(model, sample)).max() < 1e-5


def run_onnx(path: Path, sample: np.ndarray) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": sample})[0]


def run_alone(path: Path, sample: np.ndarray) -> np.ndarray:
    if path.suffix == ".onnx":
        return run_onnx(path, sample)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_without_verification_every_output_says_so(model: Path) -> None:
    done = haversack("convert", model, "--to", "tflite", "--no-verify", "--json", cwd=model.parent)
    assert done.code == 0
    assert json.loads(done.out)["variant"]["verification"]["verified"] is False
    told = haversack("convert", model, "--to", "tflite", "--no-verify", "--force", cwd=model.parent)
    assert "verified no" in " ".join(told.out.split())


def test_made_up_inputs_are_said_to_be(model: Path) -> None:
    done = haversack("convert", model, "--to", "onnx", "-o", model.parent / "made.onnx")
    assert "synthetic inputs" in done.out


def test_channels_last_and_int8_edges(model: Path, data: Path) -> None:
    output = model.parent / "edges.tflite"
    done = haversack(
        "convert", model, "-o", output, "--compress", "int8", "--calibration", data, "--io-layout", "channels-last",
        "--io-dtype", "int8",
    )  # fmt: skip
    assert done.code == 0, done.err
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(output))
    interpreter.allocate_tensors()
    given, gives = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert (given["shape"].tolist(), given["dtype"], gives["dtype"]) == ([1, 8, 8, 3], np.int8, np.int8)


def test_the_same_input_gives_the_same_bytes(model: Path, data: Path) -> None:
    made = []
    for name in ("one.tflite", "two.tflite"):
        words = [
            "convert",
            model,
            "-o",
            model.parent / name,
            "--compress",
            "int8",
            "--calibration",
            data,
            "--no-verify",
        ]
        assert haversack(*words).code == 0
        made.append((model.parent / name).read_bytes())
    assert made[0] == made[1]


def test_verify_accepts_what_was_made_and_names_the_layer_that_was_damaged(model: Path, data: Path) -> None:
    output = model.parent / "made.tflite"
    assert haversack("convert", model, "-o", output).code == 0
    assert haversack("verify", output, "--against", model, "--inputs", data).code == 0
    damaged = output.read_bytes()
    import onnx

    weights = onnx.numpy_helper.to_array(next(w for w in small_model().graph.initializer if w.name == "w3"))
    place = damaged.index(weights.tobytes())
    changed = weights.copy()
    changed[0] += 1
    output.write_bytes(damaged[:place] + changed.tobytes() + damaged[place + changed.nbytes :])
    done = haversack("verify", output, "--against", model, "--inputs", data)
    assert done.code == 1
    assert "first diverging layer: dense" in done.line


def test_a_metric_is_measured_on_the_inputs_and_verified_again(model: Path, data: Path) -> None:
    artifact = model.parent / "m.tflite"
    made = haversack("convert", model, "-o", artifact, "--inputs", data, "--metric", "auc", "--json")
    assert made.code == 0, made.err
    first = json.loads(made.out)["variant"]["accuracy"]
    again = haversack("verify", artifact, "--against", model, "--inputs", data, "--metric", "auc", "--json")
    assert json.loads(again.out)["accuracy"] == first
    assert (first["metric"], first["against"], first["samples"]) == ("auc", "labels", 40)
    bare = haversack("verify", artifact, "--against", model, "--metric", "auc")
    assert bare.code == 2
    assert "--metric auc needs labels" in bare.line
    assert haversack("convert", model, "-o", model.parent / "n.tflite", "--metric", "f1").code == 2
    told = haversack("verify", artifact, "--against", model, "--inputs", data)
    assert "proven within" in told.out or "cannot tell" in told.out
    assert "McNemar p 1" in told.out


def test_verify_needs_the_right_model(model: Path, tmp_path: Path) -> None:
    import onnx

    other = tmp_path / "other.onnx"
    onnx.save(small_model(seed=1), other)
    assert haversack("convert", model, "-o", tmp_path / "made.onnx").code == 0
    done = haversack("verify", tmp_path / "made.onnx", "--against", other)
    assert done.code == 1
    assert "differs from the source" in done.line


def test_inspect_tells_what_a_model_is(model: Path) -> None:
    done = haversack("inspect", model, "--json", "--to", "tflite,coreml,onnx")
    found = json.loads(done.out)
    assert done.code == 0
    assert found["model"]["ops"] == {"Conv": 2, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "Relu": 2}
    assert found["model"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 3, 8, 8]}]
    # 8·3·3·3 + 8 + 16·8·3·3 + 16 + 5·16 + 5
    assert found["model"]["parameters"] == 216 + 8 + 1152 + 16 + 80 + 5
    assert [(row["target"], row["blockers"]) for row in found["preflights"]] == [
        ("tflite", []),
        ("coreml", []),
        ("onnx", []),
    ]


def test_the_python_interface_in_a_worker(model: Path, data: Path) -> None:
    from haversack import convert

    arrays = dict(np.load(data))
    made = convert.convert(
        model, to="tflite", compress="int8", calibration=arrays, output=model.parent / "made.tflite", isolate=True
    )
    assert made.verified
    assert Path(made.path).exists()
    assert made.variant.accuracy is not None
    here = convert.convert(model, to="tflite", compress="int8", calibration=arrays, output=model.parent / "here.tflite")
    assert Path(here.path).read_bytes() == Path(made.path).read_bytes()
    checked = convert.verify_artifact(made.path, model, compress="int8", calibration=arrays)
    assert checked.verification.layers > 0


def test_importing_is_instant() -> None:
    script = (
        "import sys, haversack.convert; print(len([m for m in sys.modules if m.split('.')[0] in ('numpy', 'onnx')]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def cost(*words: object) -> tuple[float, float]:
    """CPU seconds and peak MiB of a command and all its processes."""
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, capture_output=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, Path(sys.executable).with_name("haversack"), *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


def test_a_fresh_process_stays_within_its_budget(model: Path) -> None:
    """The figures the project promises: 0.3 CPU-s for --help; 2 CPU-s and 250 MB for a conversion, worker included."""
    assert min(cost("--help")[0] for _ in range(3)) < 0.3
    runs = [
        cost("convert", model, "--to", "tflite", "--no-verify", "-o", model.parent / f"{n}.tflite") for n in range(3)
    ]
    assert min(seconds for seconds, _ in runs) < 2.0
    assert max(peak for _, peak in runs) < 250
    assert {"0.tflite", "1.tflite", "2.tflite"} <= names(model.parent)


def test_help_shows_examples() -> None:
    for command in ("inspect", "convert", "pack", "verify", "run", "bench", "demo"):
        done = haversack(command, "--help")
        assert done.code == 0
        assert f"haversack {command} " in done.out.partition("Example")[2]
    assert haversack("--version").out.startswith("haversack ")
    assert haversack().code == 2
