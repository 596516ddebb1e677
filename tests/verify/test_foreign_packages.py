"""`inspect` and `verify` on Core ML packages that Haversack did not make: other names, damage, compressed weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from haversack.convert import inspect, verify_artifact
from haversack.convert.cli import main
from haversack.convert.errors import UsageError, VerificationError
from haversack.convert.measured import REFERENCE_EVALUATED
from haversack.convert.targets.coreml import sdk

RNG = np.random.default_rng(0)
FIRST = RNG.normal(size=(64, 32)).astype(np.float32) / 8
SECOND = RNG.normal(size=(16, 64)).astype(np.float32) / 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two inputs of one shape and one of another; two outputs: `hidden` and `scores`."""
    nodes = [
        helper.make_node("Sub", ["a", "b"], ["d"]),
        helper.make_node("Gemm", ["d", "w1"], ["h"], transB=1),
        helper.make_node("Mul", ["h", "gain"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["r"]),
        helper.make_node("Gemm", ["r", "w2"], ["scores"], transB=1),
    ]
    sizes = {"a": [1, 32], "b": [1, 32], "gain": [1, 64], "hidden": [1, 64], "scores": [1, 16]}
    ends = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes.items()}
    weights = [numpy_helper.from_array(FIRST, "w1"), numpy_helper.from_array(SECOND, "w2")]
    graph = helper.make_graph(
        nodes, "g", [ends["a"], ends["gain"], ends["b"]], [ends["hidden"], ends["scores"]], weights
    )
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]), path)
    return path


def package(path: Path, names: Mapping[str, str], order: Sequence[str], *, compressed: bool = False) -> Path:
    """The same computation as coremltools writes it, without Haversack: inputs and outputs named as `names` says."""
    coremltools = sdk.load()
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.mil import types

    sizes = {"a": (1, 32), "b": (1, 32), "gain": (1, 64)}
    specs = [mb.TensorSpec(shape=sizes[name], dtype=types.fp32) for name in order]

    def body(*given: Any) -> Any:
        value = dict(zip(order, given, strict=True))
        weights = FIRST
        if compressed:
            scale = np.abs(FIRST).max(axis=1, keepdims=True) / 127
            weights = mb.constexpr_blockwise_shift_scale(
                data=np.rint(FIRST / scale).astype(np.int8), scale=scale.astype(np.float32)
            )
        hidden = mb.linear(x=mb.sub(x=value["a"], y=value["b"]), weight=weights)
        hidden = mb.mul(x=hidden, y=value["gain"], name=names.get("hidden", "hidden"))
        return hidden, mb.linear(x=mb.relu(x=hidden), weight=SECOND, name=names.get("scores", "scores"))

    target = coremltools.target.iOS18 if compressed else coremltools.target.iOS16
    program = mb.program(input_specs=specs, opset_version=target)(_named(body, [names.get(n, n) for n in order]))
    made = coremltools.convert(
        program,
        convert_to="mlprogram",
        compute_precision=coremltools.precision.FLOAT32,
        minimum_deployment_target=target,
        skip_model_load=True,
    )
    made.save(str(path))
    return path


def _named(body: Any, names: list[str]) -> Any:
    """`body` as a function of parameters with these names, which coremltools calls the inputs by."""
    scope: dict[str, Any] = {"body": body}
    arguments = ", ".join(names)
    exec(f"def program({arguments}):\n    return body({arguments})", scope)
    return scope["program"]


def test_the_same_names_in_another_order(model: Path, tmp_path: Path) -> None:
    checked = verify_artifact(package(tmp_path / "p.mlpackage", {}, ["b", "gain", "a"]), model)
    assert checked.verification.verified
    assert checked.verification.label == REFERENCE_EVALUATED
    assert not checked.verification.notes


def test_other_names_are_matched_by_order_and_shape_and_that_is_said(model: Path, tmp_path: Path) -> None:
    names = {"a": "first", "b": "other", "gain": "factor", "scores": "logits"}
    checked = verify_artifact(package(tmp_path / "p.mlpackage", names, ["a", "b", "gain"]), model)
    assert checked.verification.verified
    assert [note.split(":")[0] for note in checked.verification.notes] == [
        "Input 'a' is called 'first' in the artifact",
        "Input 'gain' is called 'factor' in the artifact",
        "Input 'b' is called 'other' in the artifact",
        "Output 'scores' is called 'logits' in the artifact",
    ]


def test_a_wrong_match_fails_and_says_how_it_matched(model: Path, tmp_path: Path) -> None:
    names = {"a": "second", "b": "first"}
    with pytest.raises(VerificationError, match="output hidden differs") as caught:
        verify_artifact(package(tmp_path / "p.mlpackage", names, ["b", "gain", "a"]), model)
    assert "Input 'a' is called 'first' in the artifact: matched by order and shape." in str(caught.value)


def test_changed_weights_name_the_first_output_that_diverges(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the second product's weights, so that `hidden` still agrees and `scores` does not."""
    path = package(tmp_path / "p.mlpackage", {}, ["a", "b", "gain"])
    file = path / "Data/com.apple.CoreML/weights/weight.bin"
    content = file.read_bytes()
    place = content.index(SECOND.tobytes())
    changed = SECOND.copy()
    changed[3] *= 1.5
    file.write_bytes(content[:place] + changed.tobytes() + content[place + changed.nbytes :])
    assert main(["verify", str(path), "--against", str(model)]) == 1
    said = capsys.readouterr().err
    assert "output scores differs from the source" in said
    assert REFERENCE_EVALUATED in said


def test_a_package_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "m.onnx"
    loaded = onnx.load(model)
    loaded.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(loaded, other)
    path = package(tmp_path / "p.mlpackage", {}, ["a", "b", "gain"])
    with pytest.raises(VerificationError, match=r"input gain is \[1, 64\] in the artifact, \[1, 1\] in the model"):
        verify_artifact(path, other)


def test_inspection_lists_operations_precision_and_weights(tmp_path: Path) -> None:
    found = inspect(package(tmp_path / "p.mlpackage", {}, ["a", "b", "gain"], compressed=True)).package
    assert found is not None
    assert found.ops == {"linear": 2, "mul": 1, "relu": 1, "sub": 1}
    assert found.precision == {"float32": 5}
    assert found.system == "iOS18"
    assert [tensor.name for tensor in found.inputs] == ["a", "b", "gain"]
    assert found.outputs[1].shape == (1, 16)
    first, second = found.layers
    assert (first.op, first.weights, first.elements) == ("linear", "int8, a scale a channel", FIRST.size + 64)
    assert first.bytes == FIRST.size + 64 * 4 + 64 * 4  # int8 weights, a float32 scale and a float32 bias a channel
    assert (second.weights, second.bytes) == ("float32", SECOND.nbytes + 16 * 4)
    assert found.weights == {"float32": second.bytes, "int8, a scale a channel": first.bytes}
    assert found.problem == ""


def test_the_command_prints_the_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = package(tmp_path / "p.mlpackage", {}, ["a", "b", "gain"], compressed=True)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "int8, a scale a channel" in shown
    assert "iOS18 and later" in shown
    assert main(["inspect", str(path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["package"]["layers"]) == 2
    assert before == {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_what_is_no_package_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Path) -> None:
    path = package(tmp_path / "p.mlpackage", {}, ["a", "b", "gain"])
    (path / "Manifest.json").unlink()
    assert main(["inspect", str(path)]) == 2
    said = capsys.readouterr().err
    assert "Manifest.json is missing or damaged" in said
    assert said.count("\n") == 1
    shutil.rmtree(path)
    package(path, {}, ["a", "b", "gain"])
    with pytest.raises(UsageError, match="artifact already"):
        inspect(path, to=["coreml"])
    weights = path / "Data/com.apple.CoreML/weights/weight.bin"
    weights.write_bytes(weights.read_bytes()[:500])
    assert main(["verify", str(path), "--against", str(model)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
