"""The saved package: names, types, bytes, and what is refused as a whole."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.helper import make_node, make_tensor_value_info

from haversack.convert.errors import UnsupportedError, UsageError
from haversack.convert.targets import Options, open_target
from haversack.convert.targets.coreml import TARGET
from haversack.convert.targets.coreml.names import identifier
from haversack.runtimes.engines import open_engine

RNG = np.random.default_rng(12)
X = RNG.normal(size=(2, 40)).astype(np.float32)
W = RNG.normal(size=(40, 30)).astype(np.float32)


def dense(build, names=("x", "y")) -> onnx.ModelProto:
    source, result = names
    nodes = [make_node("MatMul", [source, "w"], ["m"]), make_node("Relu", ["m"], [result])]
    return build(nodes, {source: X}, [result], {"w": W})


def tree(package: Path) -> dict[str, str]:
    return {
        file.relative_to(package).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in package.rglob("*")
        if file.is_file()
    }


def specification(package: Path):
    from haversack.convert.targets.coreml import sdk

    proto = sdk.load().proto.Model_pb2.Model()
    proto.ParseFromString((package / "Data/com.apple.CoreML/model.mlmodel").read_bytes())
    return proto


def test_the_target_is_found_by_its_name() -> None:
    assert open_target("coreml") is TARGET


def test_two_runs_give_the_same_bytes(bench, build) -> None:
    first, second = (bench.write(dense(build)).path for _ in range(2))
    assert tree(first) == tree(second)
    assert set(tree(first)) == {
        "Manifest.json",
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
    }


def test_another_process_gives_the_same_bytes(bench, build, tmp_path) -> None:
    package = bench.write(dense(build)).path
    onnx.save(dense(build), tmp_path / "model.onnx")
    code = (
        "import sys, pathlib, onnx_ir as ir\n"
        "from haversack.convert.targets import Options\n"
        "from haversack.convert.targets.coreml import TARGET\n"
        "TARGET.write(ir.load(sys.argv[1]), 'fp32', pathlib.Path(sys.argv[2]), Options())\n"
        "heavy = {'tensorflow', 'torch', 'sklearn', 'scipy', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    again = tmp_path / "again.mlpackage"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.onnx"), str(again)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""  # no warning, no progress bar
    assert tree(package) == tree(again)


def test_the_manifest_is_one_that_coremltools_reads(bench, build, tmp_path) -> None:
    """coremltools rewrites the manifest of a package that it opens, so it is given a copy."""
    import shutil

    from haversack.convert.targets.coreml import sdk

    package = bench.write(dense(build)).path
    copy = tmp_path / "copy.mlpackage"
    shutil.copytree(package, copy)
    model = sdk.load().models.MLModel(str(copy), skip_model_load=True)
    assert model.get_spec() == specification(package)
    manifest = json.loads((package / "Manifest.json").read_text())
    assert manifest["rootModelIdentifier"] in manifest["itemInfoEntries"]


def test_no_date_and_no_versions_in_the_package(bench, build) -> None:
    proto = specification(bench.write(dense(build)).path)
    assert not proto.description.metadata.userDefined
    assert not proto.mlProgram.attributes


@pytest.mark.parametrize(("target", "version"), [("iOS15", 6), ("iOS16", 7), ("iOS17", 8), ("iOS18", 9)])
def test_deployment_target(bench, build, target, version) -> None:
    written = bench.write(dense(build), deployment_target=target)
    assert specification(written.path).specificationVersion == version
    assert written.min_runtime == target


def test_an_unknown_deployment_target_is_a_usage_error(bench, build) -> None:
    with pytest.raises(UsageError, match="iOS15, iOS16, iOS17, iOS18"):
        bench.write(dense(build), deployment_target="iOS12")


def test_each_constant_is_stored_once(bench, build) -> None:
    nodes = [make_node("MatMul", ["x", "w"], ["a"]), make_node("MatMul", ["z", "w"], ["b"])]
    nodes += [make_node("Add", ["a", "b"], ["c"]), make_node("MatMul", ["x", "copy"], ["d"])]
    nodes += [make_node("Add", ["c", "d"], ["y"])]
    model = build(nodes, {"x": X, "z": X}, ["y"], {"w": W, "copy": W.copy()})
    written = bench.write(model)
    weights = (written.path / "Data/com.apple.CoreML/weights/weight.bin").read_bytes()
    assert weights.count(W.tobytes()) == 1


def test_legal_names_are_kept_and_others_are_mapped(bench, build) -> None:
    engine = open_engine(bench.write(dense(build, ("image", "probabilities"))).path)
    assert [spec.name for spec in (*engine.inputs, *engine.outputs)] == ["image", "probabilities"]
    written = bench.write(dense(build, ("a:0", "0/out")))
    engine = open_engine(written.path)
    assert [spec.name for spec in (*engine.inputs, *engine.outputs)] == ["a_0", "_0_out"]
    assert [note for note in written.notes if "'a:0' is called 'a_0'" in note]
    assert [(tap.value, tap.tensor) for tap in written.layers[0].inputs] == [("a:0", "a_0")]
    assert [(tap.value, tap.tensor) for tap in written.layers[-1].outputs] == [("0/out", "_0_out")]


def test_identifiers_are_legal_and_unique() -> None:
    taken: set[str] = set()
    names = ["x", "a:0", "a_0", "a/0", "tensor", "v3", "3d", "", "int32"]
    made = [identifier(name, taken) for name in names]
    assert made == ["x", "a_0", "a_0_1", "a_0_2", "tensor_", "v3_", "_3d", "_", "int32_"]


def test_output_order_and_aliases(bench) -> None:
    """An output that is an input, one that is two outputs at once, and one that another node reads."""
    nodes = [
        make_node("Relu", ["x"], ["r"]),
        make_node("Identity", ["x"], ["same"]),
        make_node("Identity", ["r"], ["again"]),
        make_node("Neg", ["r"], ["n"]),
    ]
    written = bench.agree(nodes, {"x": X}, ["n", "same", "r", "again"])
    assert [spec.name for spec in open_engine(written.path).outputs] == ["n", "same", "r", "again"]


def test_an_unused_input_stays(bench) -> None:
    written = bench.agree([make_node("Relu", ["x"], ["y"])], {"x": X, "z": X})
    assert [spec.name for spec in open_engine(written.path).inputs] == ["x", "z"]


def test_a_package_is_replaced_whole_and_a_refusal_leaves_it(bench, build) -> None:
    path = bench.write(dense(build)).path
    before = tree(path)
    (path / "stray").write_text("left over")
    TARGET.write(ir.from_proto(dense(build)), "fp32", path, Options())
    assert tree(path) == before
    bad = build([make_node("Det", ["x"], ["y"])], {"x": np.zeros((2, 2, 2), np.float32)}, ["y"])
    with pytest.raises(UnsupportedError):
        TARGET.write(ir.from_proto(bad), "fp32", path, Options())
    assert tree(path) == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_edges_that_core_ml_cannot_have_are_all_named(bench, build) -> None:
    nodes = [
        make_node("NonZero", ["x"], ["n"]),
        make_node("Bernoulli", ["x"], ["b"]),
        make_node("Unsqueeze", ["x", "axes"], ["wide"]),
    ]
    outputs = [make_tensor_value_info("n", onnx.TensorProto.INT64, [2, "k"]), "b", "wide"]
    model = build(nodes, {"x": X}, outputs, {"axes": np.array([0, 1, 2, 3], np.int64)})
    text = "\n".join(bench.blockers(model))
    for expected in ("n (output)", "NonZero", "Bernoulli", "wide (output): it has 6"):
        assert expected in text


def test_symbolic_inputs_are_refused(bench) -> None:
    text = '<ir_version: 10, opset_import: ["": 21]> g (float[N, 4] x) => (float[N, 4] y) {y = Relu(x)}'
    source, result = bench.blockers(onnx.parser.parse_model(text))
    assert "x (input)" in source
    assert "not static" in source
    assert "y (output)" in result


def test_options_that_core_ml_does_not_have_are_refused(bench, build) -> None:
    assert "io-dtype" in bench.blockers(dense(build), io_dtype="int8")[0]
    assert "io-layout" in bench.blockers(dense(build), io_layout="channels-last")[0]


def test_the_model_is_not_changed(build) -> None:
    model = ir.from_proto(dense(build))
    before = ir.to_proto(model).SerializeToString()
    assert TARGET.preflight(model, "fp16", Options()) == []
    assert ir.to_proto(model).SerializeToString() == before
