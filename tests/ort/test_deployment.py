"""Which nodes execution providers would take: held against onnxruntime's own tables, checker and kernel list."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from haversack.convert.cli import main
from haversack.convert.deployment import BASIS, Deployment
from haversack.convert.pipeline import convert
from haversack.convert.report import Conversion, decode, encode
from haversack.convert.targets.ort.partitions import _Graph, _partitions, fit, provider_fits
from haversack.convert.targets.ort.providers import PROVIDERS, Provider
from haversack.convert.targets.ort.reduced import _names, reduced_build

HELPERS = Path(onnxruntime.__file__).parent / "tools" / "mobile_helpers"
BY_NAME = {provider.name: provider for provider in PROVIDERS}


def proto_of(nodes, inputs, outputs, arrays=None, opset=21, dtype=TensorProto.FLOAT) -> onnx.ModelProto:
    made = [helper.make_node(op, i, o, name=f"{op}_{n}", **attrs) for n, (op, i, o, attrs) in enumerate(nodes)]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (arrays or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def table(name: str) -> set[str]:
    rows = [line.split("|")[1] for line in (HELPERS / name).read_text().splitlines() if line.startswith("|ai.onnx")]
    rows += [line.split("|")[1] for line in (HELPERS / name).read_text().splitlines() if line.startswith("|com.")]
    return {row.replace("ai.onnx:", "").replace("Argmax", "ArgMax") for row in rows}


@pytest.mark.parametrize(
    ("provider", "file"), [("NNAPI", "nnapi_supported_ops.md"), ("Core ML", "coreml_supported_mlprogram_ops.md")]
)
def test_the_tables_are_those_of_the_installed_onnxruntime(provider, file) -> None:
    assert set(BY_NAME[provider].operators) == table(file)


def test_every_name_in_a_table_is_an_operator() -> None:
    contrib = {"Inverse", "GroupNormalization", "SimplifiedLayerNormalization", "Upsample"}
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()} | contrib
    for provider in PROVIDERS:
        plain = {name for name in provider.operators if ":" not in name}
        assert plain <= known, (provider.name, plain - known)
        assert set(provider.since) <= plain


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_partitions_are_counted_as_onnxruntimes_own_checker_counts_them(data) -> None:
    from onnxruntime.tools.mobile_helpers import usability_checker as checker

    count = data.draw(st.integers(1, 14))
    nodes, names = [], ["x"]
    for n in range(count):
        op = data.draw(st.sampled_from(["Add", "Sub"]))
        pair = [data.draw(st.sampled_from(names)) for _ in range(2)]
        nodes.append((op, pair, [f"v{n}"], {}))
        names.append(f"v{n}")
    model = proto_of(nodes, {"x": (2,)}, [names[-1]])
    graph = _Graph(model)
    mine = _partitions(graph, [node.op_type == "Add" for node in graph.nodes])

    class OnlyAdd:
        def is_op_supported(self, node):
            return node.op_type == "Add"

    theirs = checker.check_partitioning(onnx.shape_inference.infer_shapes(model).graph, OnlyAdd(), False)
    assert mine == theirs.num_partitions
    assert sum(node.op_type == "Add" for node in graph.nodes) == theirs.num_supported_nodes


CONV = {"x": (1, 3, 8, 8)}
WEIGHTS = {"w": np.ones((4, 3, 3, 3), np.float32), "b": np.ones(4, np.float32)}


def reason_of(provider: str, model: onnx.ModelProto) -> str | None:
    found = fit(_Graph(model), BY_NAME[provider])
    return found.left[0].reason if found.left else None


RULES = {
    "NNAPI": [
        (proto_of([("Conv", ["x", "w", "b"], ["y"], {})], CONV, ["y"], WEIGHTS), None),
        (proto_of([("Conv", ["x", "w", "b"], ["y"], {})], {"x": (1, 3, 8)}, ["y"],
                  {**WEIGHTS, "w": np.ones((4, 3, 3), np.float32)}), "only 2D"),
        (proto_of([("Conv", ["x", "w"], ["y"], {})], {**CONV, "w": (4, 3, 3, 3)}, ["y"]), "must be constant"),
        (proto_of([("Relu", ["x"], ["y"], {})], {"x": ("n", 3)}, ["y"]), "not fixed"),
        (proto_of([("Erf", ["x"], ["y"], {})], CONV, ["y"]), "not among its operators"),
        (proto_of([("Gemm", ["x", "w"], ["y"], {})], {"x": (2, 3), "w": (3, 4)}, ["y"]), "transB"),
        (proto_of([("Gemm", ["x", "w"], ["y"], {"transB": 1})], {"x": (2, 3), "w": (4, 3)}, ["y"]), None),
        (proto_of([("DepthToSpace", ["x"], ["y"], {"blocksize": 2, "mode": "CRD"})], {"x": (1, 4, 2, 2)}, ["y"]),
         "DCR"),
        (proto_of([("Split", ["x"], ["y", "z"], {"axis": 1, "num_outputs": 2})], {"x": (1, 3)}, ["y"]), "one size"),
        (proto_of([("Pad", ["x", "p"], ["y"], {"mode": "edge"})], {"x": (3,)}, ["y"], {"p": np.array([1, 0])}), "mode"),
        (proto_of([("Pad", ["x", "p"], ["y"], {})], {"x": (3,)}, ["y"], {"p": np.array([-1, 0])}), "negative"),
    ],
    "Core ML": [
        (proto_of([("Conv", ["x", "w"], ["y"], {})], {**CONV, "w": (4, 3, 3, 3)}, ["y"]), None),
        (proto_of([("Relu", ["x"], ["y"], {})], {"x": (1,) * 6}, ["y"]), "more than 5 axes"),
        (proto_of([("Gemm", ["x", "w"], ["y"], {"alpha": 2.0})], {"x": (2, 3)}, ["y"],
                  {"w": np.ones((3, 4), np.float32)}), "alpha"),
        (proto_of([("AveragePool", ["x"], ["y"], {"kernel_shape": [2]})], {"x": (1, 2, 8)}, ["y"]), "only 2D"),
    ],
    "XNNPACK": [
        (proto_of([("Conv", ["x", "w", "b"], ["y"], {}), ("Relu", ["y"], ["z"], {})], CONV, ["z"], WEIGHTS), None),
        (proto_of([("Relu", ["x"], ["y"], {})], CONV, ["y"]), "not among"),
        (proto_of([("Softmax", ["x"], ["y"], {"axis": 1})], {"x": (2, 3, 4)}, ["y"]), "last"),
        (proto_of([("MatMul", ["x", "w"], ["y"], {})], {"x": ("n", 3)}, ["y"], {"w": np.ones((3, 4), np.float32)}),
         "not fixed"),
    ],
    "WebGPU": [
        (proto_of([("Transpose", ["x"], ["y"], {})], CONV, ["y"]), None),
        (proto_of([("QuantizeLinear", ["x", "s"], ["y"], {})], CONV, [], {"s": np.float32(1)}), "not among"),
        (proto_of([("GridSample", ["x", "g"], ["y"], {})], {**CONV, "g": (1, 2, 2, 2)}, ["y"]), "no kernel"),
        (proto_of([("GridSample", ["x", "g"], ["y"], {})], {**CONV, "g": (1, 2, 2, 2)}, ["y"], opset=18), None),
    ],
    "QNN": [
        (proto_of([("LpNormalization", ["x"], ["y"], {"p": 1})], {"x": (2, 3)}, ["y"]), "p must be 2"),
        (proto_of([("Relu", ["x"], ["y"], {})], {"x": ("n", 3)}, ["y"]), "not fixed"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("provider", "case"), [(name, n) for name, cases in RULES.items() for n in range(len(cases))])
def test_a_condition_of_a_provider(provider, case) -> None:
    model, wanted = RULES[provider][case]
    found = reason_of(provider, model)
    assert (found is None) if wanted is None else (found is not None and wanted in found)


def quantized() -> onnx.ModelProto:
    """Conv → Add → Relu, each between its DequantizeLinear and QuantizeLinear."""
    arrays = {"s": np.float32(0.1), "z": np.uint8(3), "w8": np.ones((4, 3, 3, 3), np.int8), "ws": np.float32(0.02),
              "wz": np.int8(0)}  # fmt: skip
    linear = lambda op, x, y: (op, [x, "s", "z"], [y], {})  # noqa: E731
    nodes = [
        linear("QuantizeLinear", "x", "xq"), linear("DequantizeLinear", "xq", "xd"),
        ("DequantizeLinear", ["w8", "ws", "wz"], ["w"], {}), ("Conv", ["xd", "w"], ["c"], {"pads": [1, 1, 1, 1]}),
        linear("QuantizeLinear", "c", "cq"), linear("DequantizeLinear", "cq", "cd"), ("Add", ["cd", "cd"], ["a"], {}),
        linear("QuantizeLinear", "a", "aq"), linear("DequantizeLinear", "aq", "ad"), ("Erf", ["ad"], ["y"], {}),
    ]  # fmt: skip
    return proto_of(nodes, CONV, ["y"], arrays)


def test_a_quantized_convolution_goes_with_what_quantizes_it() -> None:
    fits = {each.provider: each for each in provider_fits(quantized().SerializeToString())}
    nnapi = fits["NNAPI"]
    assert (nnapi.taken, nnapi.partitions) == (nnapi.nodes - 1, 1)
    assert [(row.op, row.count) for row in nnapi.left] == [("Erf", 1)]
    left = Counter({row.op: row.count for row in fits["XNNPACK"].left})
    assert not left["Conv"]  # it is a QLinearConv there; Add has no such counterpart
    assert left["Add"] == 1
    assert fits["Core ML"].left[0].op in ("DequantizeLinear", "QuantizeLinear")
    assert {row.op for row in fits["WebGPU"].left} == {"QuantizeLinear"}
    assert {each.basis for each in fits.values()} == {BASIS}
    assert all(each.source for each in fits.values())


def test_control_flow_stays_on_the_cpu() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 21]> g (float[2] x, bool c) => (float[2] y) {
            y = If (c) <
                then_branch = a () => (float[2] z) { z = Abs(x) }, else_branch = b () => (float[2] z) { z = Neg(x) }
            >
        }""")
    for each in provider_fits(proto.SerializeToString()):
        assert [(row.op, row.reason) for row in each.left] == [("If", "control flow stays on the CPU")]


def test_a_kernel_that_is_open_is_for_the_version_it_starts_at() -> None:
    provider = Provider("P", "", "", {"Relu": ()}, {"Relu": ((6, 12), (13, None))})
    assert fit(_Graph(proto_of([("Relu", ["x"], ["y"], {})], CONV, ["y"], opset=13)), provider).taken == 1
    assert fit(_Graph(proto_of([("Relu", ["x"], ["y"], {})], CONV, ["y"], opset=12)), provider).taken == 1
    assert fit(_Graph(proto_of([("Relu", ["x"], ["y"], {})], CONV, ["y"], opset=14)), provider).taken == 0


def test_the_reduced_build_keeps_the_kernels_of_its_config() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    config = 'ai.onnx;13;Gather{"inputs": {"0": ["float"], "1": ["int64_t"]}},Relu\ncom.microsoft;1;QGemm\n'
    assert _names(config.splitlines()[0].split(";")[2]) == ["Gather", "Relu"]
    found = reduced_build(config, "m.config")
    every = [kernel for kernel in state.get_all_opkernel_def() if kernel.provider == "CPUExecutionProvider"]
    kept = [k for k in every if (k.domain, k.op_name) in {("", "Gather"), ("", "Relu"), ("com.microsoft", "QGemm")}]
    kept = [k for k in kept if k.domain or k.version_range[0] <= 13 <= k.version_range[1]]
    assert (found.operators, found.kernels, found.kernels_full) == (3, len(kept), len(every))
    assert 3 <= found.kernels < 20
    assert "--disable_ml_ops" in found.flags
    assert "--disable_ml_ops" not in reduced_build("ai.onnx.ml;1;Scaler\n", "m").flags


@pytest.fixture
def small(tmp_path) -> Path:
    path = tmp_path / "small.onnx"
    model = proto_of([("Conv", ["x", "w", "b"], ["c"], {}), ("Relu", ["c"], ["y"], {})], CONV, ["y"], WEIGHTS)
    onnx.save(model, path)
    return path


def test_a_conversion_says_how_it_gets_onto_devices(small, tmp_path) -> None:
    made = convert(small, to="onnx", output=tmp_path / "out.onnx")
    found = made.variant.deployment
    assert found is not None
    assert {each.provider: (each.taken, each.partitions) for each in found.providers} == {
        **dict.fromkeys(("NNAPI", "XNNPACK", "Core ML", "WebGPU", "QNN"), (2, 1))
    }
    managers = {each.manager for each in found.packages}
    assert managers == {"Maven", "CocoaPods", "Swift package", "npm"}
    assert not any("/" in each.name or "://" in each.holds for each in found.packages)
    assert found.reduced is not None
    assert (tmp_path / found.reduced.config).is_file()
    again = decode(Conversion, json.loads(json.dumps(encode(made))))
    assert again.variant.deployment == found


@pytest.mark.slow  # three fresh processes
def test_the_command_line_says_it_too(small, tmp_path, capsys) -> None:
    assert main(["convert", str(small), "--to", "onnx", "-o", str(tmp_path / "out.onnx")]) == 0
    said = capsys.readouterr().out
    assert "com.microsoft.onnxruntime:onnxruntime-android" in said
    assert "2 of 2 nodes in 1 partition (by documentation, not run here)" in said
    assert main(["inspect", str(small), "--to", "onnx,tflite", "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)["preflights"]
    assert asked[1]["deployment"] is None
    assert decode(Deployment, asked[0]["deployment"]).reduced.kernels > 0
    assert main(["inspect", str(small), "--to", "onnx"]) == 0
    assert "--minimal_build" in capsys.readouterr().out


def test_a_bundle_keeps_it(small, tmp_path) -> None:
    from haversack.convert.inspection import contents
    from haversack.convert.packing import pack

    made = pack(small, to=["onnx"], recipes=["fp32"], output=tmp_path / "m.haversack")
    assert contents(tmp_path / "m.haversack").variants[0].deployment == made.variants[0].deployment is not None
